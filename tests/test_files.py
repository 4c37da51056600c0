"""Read, write and register: any format in one call."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from image_files import load
from monai.data import MetaTensor, image_writer
from monai.transforms import LoadImage, SaveImage
from monai.transforms.io import array as monai_io
from PIL import Image

from unet_med.data import NiftiWriter, TiffWriter, load_image, register, save_image
from unet_med.data.folder_files import image_files


def test_load_image_is_what_monai_loads(tmp_path, volume):
    save_image(tmp_path / "a.tif", volume, np.diag([0.5, 0.5, 2, 1]), has_channels=False)
    image = load_image(tmp_path / "a.tif")
    theirs = LoadImage(reader="unet_med.data.AutoReader", ensure_channel_first=True)(
        tmp_path / "a.tif"
    )
    assert isinstance(image, MetaTensor)
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image, volume[None])
    assert image.meta.keys() == theirs.meta.keys()
    torch.testing.assert_close(image.affine, theirs.affine)
    with pytest.raises(FileNotFoundError, match="none"):
        load_image(tmp_path / "none.tif")


@pytest.mark.parametrize("name", ["a.tif", "a.nii.gz", "a.png", "a.npy", "a.mha", "a.dcm", "1.2.3"])
def test_a_file_that_may_not_be_read_is_one_bad_image(as_nobody, name):
    """Not an error of the system, which would end the run of a thousand images."""
    folder, nobody = as_nobody
    file = folder / "images" / name
    file.parent.mkdir(mode=0o755)
    file.write_bytes(bytes(200))
    file.chmod(0)
    with nobody(), pytest.raises(ValueError, match=rf"cannot read {file} as .*: "):
        load_image(file)
    file.parent.chmod(0o644)  # whose files are listed, and may not be looked at
    with nobody(), pytest.raises(ValueError, match=rf"cannot read {file} as .*: Permission denied"):
        load_image(file)


@pytest.mark.parametrize("mode", [0o000, 0o644])
def test_a_folder_that_may_not_be_listed_is_one_bad_image(as_nobody, mode):
    cohort, nobody = as_nobody
    for name in ("p1", "p2"):
        (cohort / name).mkdir(mode=0o755)
        (cohort / name / "IM1").write_bytes(bytes(128) + b"DICM")
    (cohort / "p1").chmod(mode)
    with nobody():
        assert image_files(cohort) == [cohort / "p1", cohort / "p2"]
        with pytest.raises(ValueError, match=rf"cannot read {cohort / 'p1'} as .*: Permission"):
            load_image(cohort / "p1")


@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".ome.tif", ".nii", ".nii.gz"])
def test_save_image_takes_any_rank_and_tensors(tmp_path, volume, suffix):
    path = tmp_path / "new" / "folder" / f"a{suffix}"
    affine = torch.diag(torch.tensor([0.5, 0.25, 2, 1]))
    cases = {
        "3d": (torch.from_numpy(volume), False), "channels": (volume[None].repeat(2, 0), True),
        "2d": (volume[..., 0], True), "meta": (MetaTensor(volume[None]), True),
    }  # fmt: skip
    for array, has_channels in cases.values():
        assert save_image(path, array, affine, has_channels=has_channels) == path
        ours, meta = load(path)
        np.testing.assert_array_equal(ours.reshape(array.shape), np.asarray(array))
        assert meta["affine"][0, 0] == 0.5
        assert meta["spatial_unit"] == "um"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_unknown_pixel_size_stays_unknown(tmp_path):
    import nibabel as nib

    save_image(tmp_path / "a.tif", np.zeros((3, 4), np.uint8))
    assert load(tmp_path / "a.tif")[1]["spacing_source"] == "assumed"
    save_image(tmp_path / "a.nii", np.zeros((3, 4), np.uint8))
    assert nib.load(tmp_path / "a.nii").header.get_xyzt_units()[0] == "unknown"


@pytest.mark.parametrize("suffix", [".nii.gz", ".tif", ".ome.zarr"])
@pytest.mark.parametrize("given", ["nothing", "affine", "unit"])
def test_an_image_keeps_the_pixel_size_that_it_states(tmp_path, volume, suffix, given):
    """In mm: with its affine alone it was one in micrometres, and without it had none."""
    affine = np.diag([0.5, 0.25, 2, 1])
    image = load_image(save_image(tmp_path / "a.nii", volume[None], affine, "mm"))
    more = {"nothing": [], "affine": [image.affine], "unit": [image.affine * 1000, "um"]}[given]
    copy = load_image(save_image(tmp_path / f"b{suffix}", image, *more))
    size = {"mm": 1, "um": 1000}[copy.meta["spatial_unit"]]
    np.testing.assert_allclose(copy.affine.diag()[:3], affine.diagonal()[:3] * size, rtol=1e-6)
    bare = load_image(save_image(tmp_path / f"c{suffix}", image, None, None))
    assert bare.affine.equal(torch.eye(4, dtype=torch.float64))


def test_an_image_of_monais_reader_keeps_its_place(tmp_path, volume):
    """It states an affine and no unit; the file lay at the origin, of 1 mm pixels."""
    affine = np.array([[-0.8, 0, 0, 100], [0, 0.9, 0, 90], [0, 0, 3, -50], [0, 0, 0, 1.0]])
    save_image(tmp_path / "a.nii", volume[None], affine, "mm")
    image = LoadImage(ensure_channel_first=True)(tmp_path / "a.nii")
    copy = nib.load(save_image(tmp_path / "b.nii.gz", image))
    np.testing.assert_allclose(copy.affine, affine, rtol=1e-6)
    assert copy.header.get_xyzt_units()[0] == "unknown"


def test_a_sheared_nifti_has_one_place(tmp_path, volume):
    """The qform states no shear: programs that trust it had the image elsewhere."""
    affine = np.diag([0.8, 0.9, 3, 1])
    for shear, code in ((0.0, 1), (0.3, 0)):
        affine[0, 1] = shear
        header = nib.load(save_image(tmp_path / "a.nii", volume[None], affine, "mm")).header
        np.testing.assert_allclose(header.get_sform(), affine, rtol=1e-6)
        assert (int(header["sform_code"]), int(header["qform_code"])) == (1, code)


def test_save_image_refuses_other_suffixes(tmp_path):
    with pytest.raises(ValueError, match=r"a\.jpg: the suffix must be .*\.png"):
        save_image(tmp_path / "a.jpg", np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [(np.uint8, 255), (np.uint16, 60000), (np.int16, 255), (np.int32, 60000), (np.int64, 300)],
)
def test_planes_are_written_as_png(tmp_path, dtype, largest):
    labels = np.arange(12, dtype=dtype).reshape(3, 4)
    labels[2, 3] = largest
    save_image(tmp_path / "a.png", labels)
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), labels.T)
    np.testing.assert_array_equal(load(tmp_path / "a.png")[0], labels)
    for wrong, match in (
        (np.zeros((1, 3, 4, 2), np.uint8), "holds one plane"),
        (np.zeros((3, 3, 4), np.uint8), "holds one plane"),
        (np.full((3, 4), 0.5, np.float32), "whole numbers from 0 to 65535, and these are float32"),
        (np.full((3, 4), 70000), "these are uint32"),
        (np.full((3, 4), 70000, np.int32), "these are uint32"),
        (np.full((3, 4), -1, np.int32), "these are int8"),
    ):
        with pytest.raises(ValueError, match=match):
            save_image(tmp_path / "b.png", wrong)
    assert not (tmp_path / "b.png").exists()


@pytest.fixture
def _monai_tables(monkeypatch):
    monkeypatch.setattr(monai_io, "SUPPORTED_READERS", dict(monai_io.SUPPORTED_READERS))
    monkeypatch.setattr(image_writer, "SUPPORTED_WRITERS", {})  # as in a fresh process


@pytest.mark.usefixtures("_monai_tables")
def test_register_adds_ours_and_keeps_monais(tmp_path, volume):
    register()
    tables = [dict(monai_io.SUPPORTED_READERS), dict(image_writer.SUPPORTED_WRITERS)]
    register()
    assert tables == [monai_io.SUPPORTED_READERS, image_writer.SUPPORTED_WRITERS]
    assert image_writer.resolve_writer("png")[0].__name__ == "PILWriter"
    assert image_writer.resolve_writer("nii.gz")[:2] == (NiftiWriter, image_writer.NibabelWriter)
    assert image_writer.resolve_writer("tif") == (TiffWriter,)

    save_image(tmp_path / "a.tif", volume, np.diag([0.5, 0.5, 2, 1]), has_channels=False)
    image = LoadImage(ensure_channel_first=True)(tmp_path / "a.tif")  # no reader named
    np.testing.assert_array_equal(image[0].numpy(), volume)
    for extension in (".ome.tif", ".nii.gz"):
        options = {"output_dir": tmp_path, "separate_folder": False, "print_log": False}
        SaveImage(output_ext=extension, output_dtype=None, **options)(image)
        ours, meta = load(tmp_path / f"a_trans{extension}")
        np.testing.assert_array_equal(ours, volume)
        assert meta["spatial_unit"] == "um"
