"""Every format through one door: same axes, same metadata; what is written appears whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from monai.data import (
    DataLoader,
    Dataset,
    MetaTensor,
    PersistentDataset,
    decollate_batch,
    image_writer,
)
from monai.transforms import LoadImage, LoadImaged, SaveImage, SaveImaged, Spacingd
from monai.transforms.io import array as monai_io
from PIL import Image
from strategies import image_files

from unet_med.data import (
    AutoReader,
    NiftiWriter,
    SitkReader,
    TiffWriter,
    load_header,
    load_image,
    register,
    save_image,
)
from unet_med.data.array_writer import smallest_label_dtype
from unet_med.data.atomic import atomic_write
from unet_med.transforms import SaveSegmentationd

META_KEYS = {
    "affine", "original_affine", "spatial_shape", "original_channel_dim", "space",
    "spatial_unit", "spacing_source",
}  # fmt: skip


def load(path):
    reader = AutoReader()
    return reader.get_data(reader.read(str(path)))


@pytest.fixture
def volume(rng):
    return rng.integers(0, 4000, (5, 6, 4)).astype(np.int16)  # X, Y, Z


@pytest.fixture
def picture(rng):
    return rng.integers(0, 256, (7, 9)).astype(np.uint8)  # Y, X


# --- reading


def write_as(path, volume, affine):
    """Write `(X, Y, Z)` by other people's code."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(volume.transpose(2, 1, 0))
    image.SetSpacing([affine[k, k] for k in range(3)])
    sitk.WriteImage(image, str(path))


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nii", ".nii.gz"])
def test_medical_formats_agree(tmp_path, volume, suffix):
    affine = np.diag([0.5, 0.25, 2.0, 1.0])
    write_as(tmp_path / f"a{suffix}", volume, affine)
    ours, meta = load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(ours, volume)
    assert ours.dtype == volume.dtype
    np.testing.assert_allclose(meta["affine"], np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)  # RAS
    assert meta["spatial_unit"] == "mm"
    assert set(meta) == META_KEYS


def test_vector_images_give_channels(tmp_path, rng):
    import SimpleITK as sitk

    array = rng.integers(0, 99, (4, 6, 5, 3)).astype(np.uint8)  # Z, Y, X, C
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / "a.mha"))
    ours, meta = load(tmp_path / "a.mha")
    np.testing.assert_array_equal(ours, array.transpose(3, 2, 1, 0))
    assert meta["original_channel_dim"] == 0
    sitk.WriteImage(sitk.GetImageFromArray(array[0], isVector=True), str(tmp_path / "b.mha"))
    np.testing.assert_array_equal(load(tmp_path / "b.mha")[0], array[0].transpose(2, 1, 0))


def write_dicom(folder, volume, series="1.2.3", step=2.0, skip=()):
    import SimpleITK as sitk

    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    folder.mkdir(exist_ok=True)
    for k in range(volume.shape[2]):
        if k in skip:
            continue
        image = sitk.GetImageFromArray(volume[:, :, k].T[None])
        image.SetSpacing([0.5, 0.25, step])
        tags = {
            "0008|0060": "CT", "0020|000e": series, "0020|0032": f"0\\0\\{k * step}",
            "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0013": str(k), "0008|0018": f"{series}.{k + 1}",
        }  # fmt: skip
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}.{k}.dcm"))
        writer.Execute(image)


def test_a_dicom_series_is_one_volume(tmp_path, volume):
    write_dicom(tmp_path / "one", volume)
    ours, meta = load(tmp_path / "one")
    np.testing.assert_array_equal(ours, volume)
    np.testing.assert_allclose(meta["affine"], np.diag([-0.5, -0.25, 2.0, 1.0]))
    write_dicom(tmp_path / "one", volume + 1, series="1.2.4")
    with pytest.raises(ValueError, match=r"holds 2 DICOM series .*series_id"):
        load(tmp_path / "one")
    np.testing.assert_array_equal(SitkReader("1.2.4").get_data([tmp_path / "one"])[0], volume + 1)
    with pytest.raises(ValueError, match="no DICOM series"):
        load(tmp_path)


def test_a_dicom_series_with_a_hole_is_refused(tmp_path, volume):
    write_dicom(tmp_path / "hole", volume, skip=[1])
    with pytest.raises(ValueError, match="2 to 4 mm apart"):
        load(tmp_path / "hole")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_grey_pictures_are_x_y(tmp_path, picture, suffix):
    Image.fromarray(picture).save(tmp_path / f"a{suffix}")
    ours, meta = load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(ours, picture.T)
    np.testing.assert_array_equal(meta["affine"], np.eye(4))
    assert (meta["spatial_unit"], meta["spacing_source"]) == ("um", "assumed")
    assert set(meta) == META_KEYS


def test_png_keeps_its_bits(tmp_path, rng, picture):
    import imagecodecs

    deep = rng.integers(0, 65536, (7, 9)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "grey16.png")
    np.testing.assert_array_equal(load(tmp_path / "grey16.png")[0], deep.T)
    colour = rng.integers(0, 65536, (7, 9, 3)).astype(np.uint16)
    (tmp_path / "rgb16.png").write_bytes(imagecodecs.png_encode(colour))
    ours, _ = load(tmp_path / "rgb16.png")
    np.testing.assert_array_equal(ours, colour.transpose(2, 1, 0))  # Pillow: 8 bits
    assert ours.dtype == np.uint16
    Image.fromarray(picture > 99).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(load(tmp_path / "bits.png")[0], (picture > 99).T)
    labels = Image.fromarray(picture).convert("L")
    labels.putpalette(list(rng.integers(0, 255, 768)))
    labels.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(load(tmp_path / "palette.png")[0], picture.T)
    rgba = rng.integers(0, 256, (7, 9, 4)).astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(load(tmp_path / "rgba.png")[0], rgba.transpose(2, 1, 0))


def same_but_for_pixels(path):
    """Compare what the header tells with what reading tells; return the header's volume."""
    header = load_header(path)
    whole = AutoReader().open(path)
    assert header.array.shape == whole.array.shape
    assert header.spatial_shape == whole.spatial_shape
    assert header.has_channels == whole.has_channels
    np.testing.assert_array_equal(header.affine, whole.affine)
    assert header.spacing_source == whole.spacing_source
    assert not any(header.array.strides)  # no memory
    return header


@given(image_files())
def test_the_header_alone_tells_the_same_shape(tmp_path_factory, case):
    suffix, write = case
    path = tmp_path_factory.mktemp("header") / f"a{suffix}"
    write(path)
    same_but_for_pixels(path)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16", "CMYK"])
def test_the_header_of_a_picture_tells_its_shape(tmp_path, picture, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(picture).convert(mode).save(path)
    assert same_but_for_pixels(path).spatial_shape == (9, 7)


def test_the_header_is_read_without_the_pixels(tmp_path, volume, monkeypatch):
    import SimpleITK as sitk
    import tifffile
    from nibabel.arrayproxy import ArrayProxy

    def refuse(*_, **__):
        raise ValueError("decoded")

    write_as(tmp_path / "a.mha", volume, np.eye(4))
    for name in ("a.tif", "a.nii.gz"):
        save_image(tmp_path / name, volume, has_channels=False)
    for owner, name in (
        (tifffile.TiffPageSeries, "asarray"), (ArrayProxy, "__array__"),
        (sitk.ImageFileReader, "Execute"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, refuse)
    for name in ("a.tif", "a.nii.gz", "a.mha"):
        shape = load_header(tmp_path / name).spatial_shape
        assert shape == volume.shape
        with pytest.raises(ValueError, match="decoded"):
            AutoReader().open(tmp_path / name)


def sizes_of(path, pixel_size):
    """Diagonal of the affine, unit and source that a reader given a pixel size finds."""
    volume = AutoReader(pixel_size=pixel_size).open(path)
    np.testing.assert_array_equal(volume.affine, np.diag(np.diag(volume.affine)))
    return np.diag(volume.affine).tolist(), volume.spatial_unit, volume.spacing_source


def test_a_pixel_size_that_the_file_does_not_say_is_given(tmp_path, picture, volume):
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", volume)
    save_image(tmp_path / "a.tif", volume, has_channels=False)
    assert sizes_of(tmp_path / "a.png", 0.5) == ([0.5, 0.5, 1, 1], "um", "given")
    assert sizes_of(tmp_path / "a.png", [0.5, 0.25]) == ([0.5, 0.25, 1, 1], "um", "given")
    assert sizes_of(tmp_path / "a.npy", 0.5) == ([0.5, 0.5, 0.5, 1], "um", "given")
    assert sizes_of(tmp_path / "a.tif", [0.5, 0.25, 2]) == ([0.5, 0.25, 2, 1], "um", "given")
    image = load_image(tmp_path / "a.png", pixel_size=0.5)
    np.testing.assert_array_equal(image[0], picture.T)
    np.testing.assert_array_equal(image.affine, np.diag([0.5, 0.5, 1, 1]))
    assert load_header(tmp_path / "a.png", pixel_size=[0.5, 0.25]).pixel_size == (0.5, 0.25)


def test_a_file_that_says_its_pixel_size_keeps_it(tmp_path, volume):
    for name, unit in (("a.tif", "um"), ("a.nii.gz", "mm")):
        save_image(tmp_path / name, volume, np.diag([3.0, 3, 7, 1]), unit, has_channels=False)
        found, own_unit, source = sizes_of(tmp_path / name, 0.5)
        np.testing.assert_allclose(found, [3, 3, 7, 1])
        assert own_unit == unit
        assert source != "given"


def test_a_pixel_size_that_is_none_is_refused(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"3 values for the 2 axes of .*a\.png"):
        AutoReader(pixel_size=[1, 1, 1]).open(tmp_path / "a.png")
    for wrong in (0, -1.0, [0.5, float("nan")], float("inf")):
        with pytest.raises(ValueError, match="is not positive"):
            AutoReader(pixel_size=wrong)


def test_npy_is_taken_as_it_is(tmp_path, volume):
    np.save(tmp_path / "a.npy", volume)
    ours, meta = load(tmp_path / "a.npy")
    np.testing.assert_array_equal(ours, volume)
    assert meta["spacing_source"] == "assumed"


def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    frames = [Image.fromarray(picture), Image.fromarray(picture[::-1])]
    frames[0].save(tmp_path / "two.png", save_all=True, append_images=frames[1:])
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "four.npy", np.zeros((2, 2, 2, 2)))
    (tmp_path / "a.mha").write_text("nothing")
    (tmp_path / "b.xyz").write_text("nothing")
    for name, match in {
        "half.png": "as picture", "two.png": "holds 2 pictures", "pickle.npy": "NumPy array",
        "four.npy": "not 2 or 3 spatial axes", "a.mha": "MetaImage", "b.xyz": r"\.tif .*\.nii\.gz",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=match) as caught:
            load(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"none\.png does not exist"):
        load(tmp_path / "none.png")


@pytest.mark.parametrize("suffix", [".png", ".npy", ".mha", ".tif", ".nii"])
def test_every_format_is_checked_for_size(tmp_path, monkeypatch, suffix, rng):
    path = tmp_path / f"a{suffix}"
    array = rng.integers(0, 255, (40, 50)).astype(np.uint8)
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".png":
        Image.fromarray(array).save(path)
    elif suffix == ".mha":
        write_as(path, array[..., None], np.eye(4))
    else:
        save_image(path, array)
    load(path)
    monkeypatch.setenv("UNET_MED_MAX_BYTES", "1999")
    with pytest.raises(ValueError, match="UNET_MED_MAX_BYTES"):
        load(path)


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


def test_from_a_config_of_monai(tmp_path, volume):
    save_image(tmp_path / "a.tif", volume, np.diag([0.5, 0.5, 2, 1]), has_channels=False)
    image = LoadImage(reader="unet_med.data.AutoReader", ensure_channel_first=True)(
        tmp_path / "a.tif"
    )
    np.testing.assert_array_equal(image[0].numpy(), volume)
    assert image.meta["filename_or_obj"] == str(tmp_path / "a.tif")
    with pytest.raises(FileNotFoundError, match="none"):
        LoadImage(reader="unet_med.data.AutoReader")(tmp_path / "none.tif")


@pytest.mark.parametrize(("suffix", "reader"), [(".tif", "TiffReader"), (".nii.gz", "NiftiReader")])
def test_persistent_cache_really_hits(tmp_path, volume, suffix, reader):
    affine = np.diag([0.25, 0.25, 2.0, 1.0])
    path = save_image(tmp_path / f"a{suffix}", volume, affine, has_channels=False)
    calls = []

    class Counting(LoadImaged):
        def __call__(self, data, reader=None):
            calls.append(data)
            return super().__call__(data, reader)

    data = PersistentDataset(
        [{"image": str(path)}],
        Counting("image", reader=f"unet_med.data.{reader}", ensure_channel_first=True),
        cache_dir=tmp_path / "cache",
        track_meta=True,
    )
    first, second = data[0]["image"], data[0]["image"]
    assert len(calls) == 1  # with MONAI's own reader: 2
    assert torch.equal(first, second)
    np.testing.assert_array_equal(second.affine, affine)
    assert second.meta["spatial_unit"] == "um"


# --- writing


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


def test_save_image_refuses_other_suffixes(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: the suffix must be"):
        save_image(tmp_path / "a.png", np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0, 255], "uint8"), ([0, 256], "uint16"), ([0, 65536], "uint32"), ([-1, 5], "int8"),
     ([-1, 200], "int16"), ([-70000, 0], "int32"), ([0.0, 3.0], "uint8"), ([False, True], "uint8")],
)  # fmt: skip
def test_labels_take_the_smallest_dtype(values, dtype):
    cast = smallest_label_dtype(np.array(values))
    assert cast.dtype == dtype
    np.testing.assert_array_equal(cast, values)


@pytest.mark.parametrize("values", [[0.5], [np.nan], [2**33]])
def test_what_is_no_label_is_refused(values):
    with pytest.raises(ValueError, match=r"not integers|32 bits"):
        smallest_label_dtype(np.array(values))


def test_nothing_half_written_is_visible(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def stop_half_way():
        with atomic_write(target) as part:
            part.write_text("half")
            assert target.read_text() == "old"
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop_half_way()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with atomic_write(target) as part:
        part.write_text("new")
    assert target.read_text() == "new"


# --- registration


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


def test_importing_registers_nothing_and_does_not_load_simpleitk():
    code = """
import sys, unet_med.data, unet_med.data.files
from monai.data import image_writer
from monai.transforms.io.array import SUPPORTED_READERS
assert not any("unet" in name for name in SUPPORTED_READERS)
assert not image_writer.SUPPORTED_WRITERS
assert "SimpleITK" not in sys.modules
"""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stderr


# --- segmentations


def segmented(path, **extra):
    """An item as it leaves an evaluator: mask of floats, instances, probabilities."""
    item = LoadImaged("image", reader="unet_med.data.AutoReader", ensure_channel_first=True)(
        {"image": str(path)}
    )
    image = item["image"]
    item["mask"] = (image > image.mean()).float()
    item["instances"] = MetaTensor(image.long() * 0 + 300, meta=image.meta)
    item["probabilities"] = torch.cat([image, 1 - image])
    return item | extra


KEYS = ["mask", "instances", "probabilities"]


@pytest.mark.parametrize(
    ("source", "extension"),
    [("a.b.ome.tif", ".tif"), ("a.b.png", ".tif"), ("a.b.nii.gz", ".nii.gz")],
)
def test_segmentations_lie_beside_each_other(tmp_path, picture, source, extension):
    path = tmp_path / source
    affine = np.diag([0.25, 0.5, 1, 1])
    if source.endswith("png"):
        Image.fromarray(picture).save(path)
    else:
        save_image(path, picture.T, affine)
    save = SaveSegmentationd(KEYS, tmp_path / "out")
    assert isinstance(save, SaveImaged)
    item = segmented(path)
    assert save(item).keys() == item.keys()
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {f"a.b_{key}{extension}" for key in KEYS}
    dtypes = {"mask": "uint8", "instances": "uint16", "probabilities": "float32"}
    for key, dtype in dtypes.items():
        ours, meta = load(tmp_path / "out" / f"a.b_{key}{extension}")
        np.testing.assert_array_equal(ours.reshape(item[key].shape), item[key].numpy())
        assert ours.dtype == dtype
        known = not source.endswith("png")
        torch.testing.assert_close(
            meta["affine"], torch.from_numpy(affine if known else np.eye(4)), check_dtype=False
        )
        assert (meta["spacing_source"] != "assumed") == known


def test_volumes_keep_grid_orientation_and_unit(tmp_path, volume):
    affine = np.array([[0, -0.5, 0, 7], [0.25, 0, 0, -3], [0, 0, -2, 11], [0, 0, 0, 1]])
    save_image(tmp_path / "a.nii.gz", volume, affine, "mm", has_channels=False)
    data = Dataset([{"image": str(tmp_path / "a.nii.gz")}], lambda item: segmented(item["image"]))
    for batch in DataLoader(data, batch_size=1):  # metadata survives collation
        for item in decollate_batch(batch):
            SaveSegmentationd(KEYS, tmp_path)(item)
    ours, meta = load(tmp_path / "a_instances.nii.gz")
    np.testing.assert_array_equal(ours, np.full(volume.shape, 300))
    np.testing.assert_allclose(meta["affine"], affine)
    assert meta["spatial_unit"] == "mm"


def test_name_parts_dtypes_and_missing_keys(tmp_path, picture):
    save_image(tmp_path / "a.tif", picture.T)
    save = SaveSegmentationd(
        ["mask", "logits", "none"], tmp_path, suffixes={"mask": "classes"},
        output_dtype=[np.uint16, "float32", None], allow_missing_keys=True,
    )  # fmt: skip
    save(segmented(tmp_path / "a.tif", logits=torch.full((2, 9, 7), 0.5)))  # a plain tensor
    assert load(tmp_path / "a_classes.tif")[0].dtype == np.uint16
    np.testing.assert_array_equal(load(tmp_path / "a_logits.tif")[0], np.full((2, 9, 7), 0.5))


def test_what_cannot_be_saved_is_refused(tmp_path, picture):
    for folder in ("x", "y"):
        save_image(tmp_path / folder / "a.tif", picture.T, np.eye(4))
    save = SaveSegmentationd("mask", tmp_path / "out")
    save(segmented(tmp_path / "x" / "a.tif"))
    with pytest.raises(ValueError, match=r"a_mask\.tif would be written for"):
        save(segmented(tmp_path / "y" / "a.tif"))
    moved = Spacingd("image", pixdim=(2.0, 2.0))(segmented(tmp_path / "x" / "a.tif"))
    with pytest.raises(ValueError, match=r"\(5, 4\), its source \(9, 7\); undo .*Invertd"):
        SaveSegmentationd("image", tmp_path / "out")(moved)
    with pytest.raises(ValueError, match="names its file"):
        save({"mask": torch.zeros(1, 9, 7)})
    with pytest.raises(ValueError, match="not integers; give a float dtype"):
        save(segmented(tmp_path / "x" / "a.tif", mask=torch.full((1, 9, 7), 0.5)))
