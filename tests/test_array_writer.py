"""What all writers share: dtypes of labels, names, and a word of what a format cannot hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImage

from unet_med.data import load_image, save_image
from unet_med.data.array_writer import cast, smallest_label_dtype
from unet_med.data.pixel_size import say_left_out


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0, 255], "uint8"), ([0, 256], "uint16"), ([0, 65536], "uint32"), ([-1, 5], "int8"),
     ([-1, 200], "int16"), ([-70000, 0], "int32"), ([0.0, 3.0], "uint8"), ([False, True], "uint8")],
)  # fmt: skip
def test_labels_take_the_smallest_dtype(values, dtype):
    found = smallest_label_dtype(np.array(values))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("values", [[0.5], [np.nan], [2**33]])
def test_what_is_no_label_is_refused(values):
    with pytest.raises(ValueError, match=r"not integers|32 bits"):
        smallest_label_dtype(np.array(values))


@pytest.mark.parametrize("values", [[0, 300], [-1, 0], [0.0, 300.0], [np.nan, 1.0], [np.inf]])
def test_what_a_dtype_cannot_hold_is_not_wrapped_around(values, tmp_path):
    image = MetaTensor(torch.tensor([[values]]), meta={"filename_or_obj": "/x/im.a"})
    options = {"output_ext": ".tif", "separate_folder": False, "print_log": False}
    save = SaveImage(tmp_path, writer="unet_med.data.TiffWriter", output_dtype="uint8", **options)
    with pytest.raises(RuntimeError, match=r"do not fit into uint8: give another output_dtype"):
        save(image)
    assert not list(tmp_path.iterdir())
    assert cast(np.array([0, 255]), "uint8").tolist() == [0, 255]
    assert cast(np.array(values), "float32").dtype == np.float32


WRITERS = {"Tiff": [".tif", ".tiff", ".TIF"], "Nifti": [".nii", ".nii.gz"], "OmeZarr": [".zarr"]}


def saved(writer, folder, **options) -> str:
    """Name of what MONAI's transform writes."""
    image = MetaTensor(torch.ones(1, 8, 9, dtype=torch.uint8), meta={"filename_or_obj": "/x/im.a"})
    save = SaveImage(folder, writer=writer, separate_folder=False, print_log=False, **options)
    save(image)
    [path] = folder.iterdir()
    assert load_image(path).shape == (1, 8, 9)  # the suffix says what is inside
    return path.name


@pytest.mark.parametrize("writer", WRITERS)
def test_names_say_what_is_inside(writer, tmp_path):
    dotted = f"unet_med.data.{writer}Writer"
    for number, suffix in enumerate(WRITERS[writer]):
        name = saved(dotted, tmp_path / str(number), output_ext=suffix)
        assert name == f"im_trans{suffix}"
    if writer != "Nifti":  # MONAI's suffix, where none is given
        with pytest.warns(UserWarning, match=r"not im_trans\.nii\.gz: give SaveImage output_ext="):
            assert saved(dotted, tmp_path / "default") == f"im_trans{WRITERS[writer][0]}"
    with pytest.raises(RuntimeError, match=r"im_trans\.png is no name for .*output_ext="):
        saved(dotted, tmp_path / "png", output_ext=".png")


@pytest.mark.parametrize(
    ("suffix", "said"),
    [(".tif", "TIFF cannot hold the place in space"), (".png", "PNG cannot hold the pixel size")],
)
def test_what_a_format_cannot_hold_is_said_once(
    suffix: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    affine, image = np.diag([0.5, 0.5, 1, 1]), np.zeros((1, 4, 5), np.uint8)
    affine[:2, 3] = 0.04, 0  # less than headers round to
    say_left_out.cache_clear()
    save_image(tmp_path / "a.tif", image, affine)
    save_image(tmp_path / f"b{suffix}", image)  # whose size and place are not known
    assert not caplog.records
    affine[:2, 3] = 40, 0
    for name in "cd":
        save_image(tmp_path / f"{name}.nii", image, affine)
        save_image(tmp_path / f"{name}{suffix}", image, affine)
    assert [each.getMessage() for each in caplog.records] == [
        f"{said} of an image, and leaves it out: .nii.gz holds it"
    ]
    say_left_out.cache_clear()
