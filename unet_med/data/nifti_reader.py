"""NIfTI with its unit: micrometres stay micrometres, through nibabel."""

from __future__ import annotations

import gzip
import logging
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import NibabelReader

from unet_med.data.file_reader import FileReader, Volume, placeholder
from unet_med.data.formats import NIFTI
from unet_med.data.protection import check_nifti, is_gzip, whole_gzip
from unet_med.errors import hushed

_UNITS = {"micron": ("um", 1.0), "mm": ("mm", 1.0), "meter": ("mm", 1e3), "unknown": ("mm", 1.0)}


class NiftiReader(FileReader, NibabelReader):
    """MONAI's `NibabelReader` with the unit of the header, and plain metadata.

    The affine is in `meta["spatial_unit"]`: `"um"` if the header says micron, else `"mm"`; an
    unknown unit, as MONAI's own writer leaves it, counts as millimetres, as in ITK. A fourth
    axis is channels, as everywhere in MONAI.

    The affine is nibabel's: that of the sform if the header has one, else of the qform.
    MONAI's reader replaces a sform that disagrees with `pixdim`, and thus the orientation. A
    header that has neither states pixel sizes alone (`meta["spacing_source"]` is `"pixdim"`).

    Args:
        max_bytes: see `FileReader`.
        kwargs: of `monai.data.NibabelReader`, such as `as_closest_canonical`.
    """

    suffixes = NIFTI.suffixes
    kind = "NIfTI"

    def __init__(self, max_bytes: int | None = None, **kwargs: Any) -> None:
        NibabelReader.__init__(self, **{"squeeze_non_spatial_dims": True, **kwargs})
        self.max_bytes = max_bytes

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        import nibabel as nib

        with hushed("nibabel.global", logging.CRITICAL):
            check_nifti(path, self.max_bytes)
            image: Any = nib.load(path, **self.kwargs)
        self.filenames = (path,)
        affine, known = _known_sizes(image.affine, _states_sizes(path, type(image.header)))
        pixels = placeholder(image.shape, image.get_data_dtype()) if header_only else image.dataobj
        with nullcontext() if header_only or not is_gzip(path) else whole_gzip(path) as stream:
            if stream is not None:
                pixels = type(image).from_stream(stream).dataobj
            array, meta = NibabelReader.get_data(self, type(image)(pixels, affine, image.header))
        unit, factor = _UNITS[image.header.get_xyzt_units()[0]]
        channel_dim = meta["original_channel_dim"]
        has_channels = not np.isnan(channel_dim)
        array = np.moveaxis(array, int(channel_dim), 0) if has_channels else array  # (C, X, Y, Z)
        affine = np.diag([factor, factor, factor, 1.0]) @ meta["affine"]
        # Without a code nibabel supposes that X runs to the left: a habit, which no file states.
        placed = any(int(image.header[f"{form}_code"]) for form in ("sform", "qform"))
        source = ("nifti" if placed else "pixdim") if known else "assumed"
        other = _second_place(image.header)
        other = None if other is None else np.diag([factor, factor, factor, 1.0]) @ other
        return Volume(array, has_channels, affine, unit, source, other_affine=other)


def _known_sizes(affine: np.ndarray, stated: bool) -> tuple[np.ndarray, bool]:
    """An affine without axes of no length, which nibabel refuses, and whether all had one."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    known = np.isfinite(sizes) & (sizes > 0)
    if not known.all():
        affine = np.diag([*np.where(known, sizes, 1.0), 1.0])
    return affine, stated and bool(known.all())


def _second_place(header: Any) -> np.ndarray | None:
    """The qform of a header whose sform places the image; None where there are not both."""
    from nibabel.spatialimages import HeaderDataError

    with suppress(ValueError, HeaderDataError):  # a quaternion that is none
        found = header.get_qform(coded=True)[0] if int(header["sform_code"]) else None
        if found is not None and np.linalg.det(found[:3, :3]):
            return np.asarray(found, dtype=np.float64)
    return None


def _states_sizes(path: Path, header_class: Any) -> bool:
    """Whether a header states pixel sizes; nibabel makes 1 of 0, and positive what is negative."""
    with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
        header = header_class(file.read(header_class.template_dtype.itemsize), check=False)
    if header["sform_code"] > 0:  # the affine is that, and has sizes of its own
        return True
    sizes = header["pixdim"][1:4][: max(2, min(3, int(header["dim"][0])))]
    return bool((np.isfinite(sizes) & (sizes > 0)).all())
