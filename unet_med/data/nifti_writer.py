"""NIfTI with its unit: micrometres stay micrometres, through nibabel."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from unet_med.data.array_writer import UNITS, ArrayWriter, channel_first, storable
from unet_med.data.atomic import atomic_write
from unet_med.data.formats import NIFTI, format_of

_LONGEST = 2**15 - 1  # px a side, for which NIfTI-1 has 16 bits
_UNITS = {"um": "micron", "mm": "mm", None: "unknown"}


def write_nifti(
    path: str | os.PathLike[str],
    array: np.ndarray,
    affine: np.ndarray | None = None,
    spatial_unit: str | None = "um",
    *,
    like: str | os.PathLike[str] | None = None,
) -> None:
    """Write a whole image as NIfTI, its unit in the header; as NIfTI-2 from 32768 px a side on.

    Args:
        path: `.nii` or `.nii.gz` to write, in one step.
        array: `(C, X, Y[, Z])`; channels become the fourth axis, as MONAI expects.
        affine: voxel to world in `spatial_unit`, `(4, 4)`, any orientation; identity by default.
        spatial_unit: `"um"` or `"mm"`; None: the pixel size is not known.
        like: file on the same grid. If it is a NIfTI, the new header states the place in the
            same way: a header has two ways, and programs differ in which they trust.

    Raises:
        ValueError: another unit.
    """
    import nibabel as nib

    if spatial_unit not in _UNITS:
        raise ValueError(f"spatial unit {spatial_unit!r} is not one of {UNITS}")
    array = np.moveaxis(storable(channel_first(array)), 0, -1)  # (X, Y[, Z], C)
    if array.shape[-1] == 1:
        array = array[..., 0]
    elif array.ndim == 3:
        array = array[:, :, None]  # (X, Y, 1, C): the third axis is space
    world = np.eye(4)
    if affine is not None:
        n = len(affine) - 1
        world[:n, :n], world[:n, 3] = affine[:n, :n], affine[:n, n]
    kind = nib.Nifti1Image if max(array.shape) <= _LONGEST else nib.Nifti2Image
    image = kind(array, world)
    image.header.set_xyzt_units(_UNITS[spatial_unit])
    image.set_sform(world, code=1)
    image.set_qform(world, code=1)
    off = np.abs(image.get_qform() - world)[:3, :3].max()
    if off > 1e-3 * np.abs(world[:3, :3]).max():
        image.set_qform(world, code=0)  # it states no shear, and would be another place
    if like is not None and format_of(str(like)) is NIFTI:
        _place_as(image, nib.load(like))
    with atomic_write(path) as part:
        nib.save(image, part)


class NiftiWriter(ArrayWriter):
    """MONAI writer of NIfTI that keeps the unit, affine and orientation.

    See `write_nifti` for the content of the file and `ArrayWriter` for the arguments.
    """

    save = staticmethod(write_nifti)
    save_options = ("like",)


def _place_as(image: Any, source: Any) -> None:
    """Take over qform, sform and `pixdim` of an image with the same affine."""
    if not np.allclose(image.affine, source.affine, rtol=1e-5):
        return  # another unit, or resampled
    for form in ("qform", "sform"):
        matrix, code = getattr(source.header, f"get_{form}")(coded=True)
        getattr(image, f"set_{form}")(matrix, int(code), update_affine=False)
    image.header["pixdim"][1:4] = source.header["pixdim"][1:4]
