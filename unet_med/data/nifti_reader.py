"""NIfTI with its unit: micrometres stay micrometres on the way in and out."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import NibabelReader

from unet_med.data.array_writer import UNITS, ArrayWriter, channel_first, storable
from unet_med.data.atomic import atomic_write
from unet_med.data.file_reader import FileReader, Volume, stand_in
from unet_med.data.protection.limits import require_in_file
from unet_med.data.protection.medical_headers import check_nifti_header

_TO_OURS = {"micron": ("um", 1.0), "mm": ("mm", 1.0), "meter": ("mm", 1e3), "unknown": ("mm", 1.0)}
_TO_NIFTI = {"um": "micron", "mm": "mm", None: "unknown"}


class NiftiReader(FileReader, NibabelReader):
    """MONAI's `NibabelReader` that honours the unit in the header and leaves plain metadata.

    The affine is in `meta["spatial_unit"]`: `"um"` where the header says micron, else
    `"mm"`; an unknown unit, which MONAI's own writer leaves, counts as millimetres as in
    ITK. A fourth axis is channels, as everywhere in MONAI.

    The place is nibabel's: the sform's where the header has one, else the qform's. MONAI's
    reader replaces a sform that disagrees with `pixdim`, and with it the orientation.

    Args:
        max_bytes: see `FileReader`.
        kwargs: of `monai.data.NibabelReader`, such as `as_closest_canonical`.
    """

    suffixes = (".nii", ".nii.gz")
    kind = "NIfTI"

    def __init__(self, max_bytes: int | None = None, **kwargs: Any) -> None:
        NibabelReader.__init__(self, **{"squeeze_non_spatial_dims": True, **kwargs})
        self.max_bytes = max_bytes

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        import nibabel as nib

        self._check_header(path)
        image: Any = NibabelReader.read(self, path)
        image = type(image)(image.dataobj, nib.load(path).affine, image.header)  # type: ignore[attr-defined]
        if header_only:
            pixels = stand_in(image.shape, image.get_data_dtype())
            image = type(image)(pixels, image.affine, image.header)
        array, meta = NibabelReader.get_data(self, image)
        unit, factor = _TO_OURS[image.header.get_xyzt_units()[0]]
        channel_dim = meta["original_channel_dim"]
        has_channels = not np.isnan(channel_dim)
        array = np.moveaxis(array, int(channel_dim), 0) if has_channels else array  # (C, X, Y, Z)
        affine = np.diag([factor, factor, factor, 1.0]) @ meta["affine"]
        return Volume(array, has_channels, affine, unit, "nifti")

    def _check_header(self, path: Path) -> None:
        """Nibabel opens more than images on a grid: connectivity matrices, packed RGB."""
        import nibabel as nib

        check_nifti_header(path)
        image: Any = nib.load(path)  # the header alone
        if not isinstance(image, (nib.Nifti1Image, nib.Nifti2Image)):
            raise ValueError(f"it holds a {type(image).__name__}, not an image on a grid")
        if image.get_data_dtype().names:
            raise ValueError("its samples are packed RGB; convert it to one channel a colour")
        proxy: Any = image.dataobj
        scaled = (proxy.slope, proxy.inter) != (1, 0)
        itemsize = 8 if scaled else image.get_data_dtype().itemsize  # scaled becomes float64
        samples = math.prod(map(int, image.shape))
        self.require_memory(samples * itemsize)
        stored = samples * image.get_data_dtype().itemsize
        require_in_file(stored, path, deflated=path.name.lower().endswith(".gz"))


class NiftiWriter(ArrayWriter):
    """MONAI writer of NIfTI that keeps the unit, affine and orientation.

    See `write_nifti` for what is written and `ArrayWriter` for the arguments.
    """

    def save(
        self, path: Path, array: np.ndarray, affine: np.ndarray | None, spatial_unit: str | None
    ) -> None:
        """Write `(C, X, Y[, Z])`."""
        write_nifti(path, array, affine, spatial_unit)


def write_nifti(
    path: str | os.PathLike[str],
    array: np.ndarray,
    affine: np.ndarray | None = None,
    spatial_unit: str | None = "um",
    *,
    like: str | os.PathLike[str] | None = None,
) -> None:
    """Write a whole image as NIfTI, its unit in the header.

    Args:
        path: `.nii` or `.nii.gz` to write, in one step.
        array: `(C, X, Y[, Z])`; channels go to the fourth axis, where MONAI expects them.
        affine: voxel to world in `spatial_unit`, any orientation; identity by default.
        spatial_unit: `"um"`, `"mm"`, or None where the pixel size is not known.
        like: NIfTI on the same grid, whose header is followed in how it says its place: a
            header has two ways, and programs differ in which they trust.

    Raises:
        ValueError: another unit.
    """
    import nibabel as nib

    if spatial_unit not in _TO_NIFTI:
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
    image = nib.Nifti1Image(array, world)
    image.header.set_xyzt_units(_TO_NIFTI[spatial_unit])
    image.set_sform(world, code=1)
    image.set_qform(world, code=1)
    if like is not None:
        _place_as(image, nib.load(like))
    with atomic_write(path) as part:
        nib.save(image, part)


def _place_as(image: Any, source: Any) -> None:
    """Take qform, sform and `pixdim` of an image whose affine, all in all, is the same."""
    if not np.allclose(image.affine, source.affine, rtol=1e-5):
        return  # another unit, or resampled
    for form in ("qform", "sform"):
        matrix, code = getattr(source.header, f"get_{form}")(coded=True)
        getattr(image, f"set_{form}")(matrix, int(code), update_affine=False)
    image.header["pixdim"][1:4] = source.header["pixdim"][1:4]
