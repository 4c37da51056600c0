"""MGH and MGZ of FreeSurfer: the same voxels in the same place as nibabel has them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unet_med.data import load_header, load_image, load_label
from unet_med.data.formats import result_suffix

COSINES = np.array([[-0.8, 0.36, 0.48], [0.0, -0.8, 0.6], [0.6, 0.48, 0.64]])
SIZES = (1.0, 0.75, 2.5)


def write_mgh(path: Path, array: np.ndarray) -> np.ndarray:
    """Write it askew, by nibabel; its affine."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = COSINES * SIZES, (10.5, -31.25, 7)
    image = nib.MGHImage(array, affine)
    nib.save(image, path)
    return affine


@pytest.mark.parametrize("name", ["orig.mgz", "aseg.mgh", "ORIG.MGZ"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_voxels_and_place_are_those_of_the_file(
    name: str, dtype: type, tmp_path: Path, rng: np.random.Generator
) -> None:
    array = rng.integers(0, 200, (5, 4, 3)).astype(dtype)
    affine = write_mgh(tmp_path / "a.mgz", array)
    if name.endswith("h"):
        (tmp_path / name).write_bytes(gzip.decompress((tmp_path / "a.mgz").read_bytes()))
    else:
        (tmp_path / "a.mgz").rename(tmp_path / name)
    image, head = load_image(tmp_path / name), load_header(tmp_path / name)
    np.testing.assert_array_equal(image[0].numpy(), array)
    np.testing.assert_allclose(image.affine.numpy(), affine, atol=1e-5)
    np.testing.assert_allclose(head.affine, affine, atol=1e-5)
    assert (head.spatial_shape, head.array.dtype) == ((5, 4, 3), np.dtype(dtype))
    assert (head.spatial_unit, head.spacing_source) == ("mm", "header")
    np.testing.assert_array_equal(load_label(tmp_path / name), array)
    assert result_suffix(name) == ".nii.gz"


def test_frames_are_channels(tmp_path: Path, rng: np.random.Generator) -> None:
    array = rng.random((5, 4, 3, 2)).astype(np.float32)
    write_mgh(tmp_path / "a.mgz", array)
    image = load_image(tmp_path / "a.mgz").numpy()
    np.testing.assert_array_equal(image, np.moveaxis(array, 3, 0))
    assert load_header(tmp_path / "a.mgz").array.shape == (2, 5, 4, 3)


def test_a_header_that_is_not_marked_as_good_states_nothing(tmp_path: Path) -> None:
    write_mgh(tmp_path / "a.mgz", np.zeros((5, 4, 3), np.uint8))
    content = bytearray(gzip.decompress((tmp_path / "a.mgz").read_bytes()))
    content[28:30] = b"\0\0"
    (tmp_path / "b.mgh").write_bytes(content)
    head = load_header(tmp_path / "b.mgh")
    assert (head.spacing_source, head.pixel_size) == ("assumed", (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda content: content[:200], "does not begin as an MGH file"),
        (lambda content: content[:300], "cut short, or its header is wrong"),
        (lambda content: content[:4] + struct.pack(">i", -5) + content[8:], r"sides of \[-5, 4, 3"),
        (lambda content: content[:4] + struct.pack(">3i", *[9999] * 3) + content[16:], "declares"),
    ],
)
def test_a_damaged_file_is_refused(damage: object, match: str, tmp_path: Path) -> None:
    write_mgh(tmp_path / "a.mgz", np.zeros((5, 4, 3), np.uint8))
    content = gzip.decompress((tmp_path / "a.mgz").read_bytes())
    (tmp_path / "b.mgh").write_bytes(damage(content))
    with pytest.raises(ValueError, match=match):
        load_header(tmp_path / "b.mgh")


def test_a_wrong_checksum_is_found(tmp_path: Path) -> None:
    write_mgh(tmp_path / "a.mgz", np.zeros((5, 4, 3), np.uint8))
    content = bytearray((tmp_path / "a.mgz").read_bytes())
    content[-6] ^= 1
    (tmp_path / "a.mgz").write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged, copy it anew[^;]*$"):
        load_image(tmp_path / "a.mgz")
