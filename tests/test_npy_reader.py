"""NumPy arrays as images."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import tifffile
from image_files import load

from unet_med import data
from unet_med.planning import fingerprint


@pytest.mark.parametrize("shape", [(9, 9), (4, 9, 7)])
def test_npy_is_read_as_the_tiff_of_it(tmp_path, rng, shape):
    """A square label in either format lies on its image alike, and a result on its array."""
    array = rng.integers(0, 99, shape).astype(np.uint16)  # ([Z,] Y, X)
    np.save(tmp_path / "a.npy", array)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    ours, meta = load(tmp_path / "a.npy")
    np.testing.assert_array_equal(ours, array.T)
    np.testing.assert_array_equal(ours, load(tmp_path / "a.tif")[0])
    assert meta["spacing_source"] == "assumed"
    assert data.load_header(tmp_path / "a.npy").spatial_shape == array.T.shape


def test_beside_a_file_that_states_its_axes_it_is_refused(tmp_path):
    """Programs read a NIfTI as (X, Y, Z), or as (Z, Y, X); a cube fits either way."""
    cube = np.zeros((8, 8, 8), np.uint8)
    cube[1:4, 2:5, 3:7] = 1
    for k in range(2):
        for name in ("images", "labels"):
            (tmp_path / name).mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(cube, np.diag([1, 1, 2, 1])), tmp_path / f"images/{k}.nii")
        np.save(tmp_path / f"labels/{k}.npy", cube)
    said = r"label 0\.npy does not say which of its axes is x.*affine of its image 0\.nii"
    with pytest.raises(ValueError, match=said):
        fingerprint(tmp_path / "images", tmp_path / "labels")
    names = ("result 0.nii", "its truth 0.npy")
    with pytest.raises(ValueError, match=r"its truth 0\.npy does not say which"):
        data.turned_onto(cube, tmp_path / "images/0.nii", tmp_path / "labels/0.npy", names)


def test_what_cellpose_pickles_is_named(tmp_path):
    np.save(tmp_path / "a_seg.npy", {"masks": np.eye(3)}, allow_pickle=True)
    said = r"it holds Python objects, not pixels; of cellpose's _seg\.npy save the masks: File >"
    with pytest.raises(ValueError, match=said):
        load(tmp_path / "a_seg.npy")


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((5, 64, 64, 3), r"shape \(5, 64, 64, 3\), and a file holds one image, \(Y, X\) or \(Z, Y"),
        ((64, 48, 3), r"shape \(64, 48, 3\), as colours have it, .*: save it as PNG or TIFF"),
        ((64, 48, 4), "as colours have it"),
    ],
)
def test_batches_and_colours_are_no_volumes(tmp_path, shape, said):
    """As PanNuke and pictures in NumPy have them; 64 planes of 3 px in width were made of these."""
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    for read in (load, data.load_header):
        with pytest.raises(ValueError, match=said):
            read(tmp_path / "a.npy")


def test_a_narrow_stack_is_a_stack(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 48, 3), np.uint8))
    assert data.load_header(tmp_path / "a.npy").spatial_shape == (3, 48, 4)
