"""All formats by one reader: headers, pixel sizes, limits, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from image_files import load, write_by_itk
from monai.data import PersistentDataset
from monai.transforms import LoadImage, LoadImaged
from PIL import Image
from strategies import image_files

from unet_med.data import AutoReader, load_header, load_image, save_image


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

    write_by_itk(tmp_path / "a.mha", volume, np.eye(4))
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
        "four.npy": "a file holds one image", "a.mha": "MetaImage", "b.xyz": r"\.tif .*\.nii\.gz",
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
        write_by_itk(path, array[..., None], np.eye(4))
    else:
        save_image(path, array)
    load(path)
    monkeypatch.setenv("UNET_MED_MAX_BYTES", "1999")
    with pytest.raises(ValueError, match="UNET_MED_MAX_BYTES"):
        load(path)


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
