"""NIfTI with its unit: micrometres stay micrometres, through nibabel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import NibabelReader

from unet_med.data.file_reader import FileReader, Volume, placeholder
from unet_med.data.formats import NIFTI
from unet_med.data.protection import check_nifti

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

        check_nifti(path, self.max_bytes)
        image: Any = NibabelReader.read(self, path)
        image = type(image)(image.dataobj, nib.load(path).affine, image.header)  # type: ignore[attr-defined]
        if header_only:
            pixels = placeholder(image.shape, image.get_data_dtype())
            image = type(image)(pixels, image.affine, image.header)
        array, meta = NibabelReader.get_data(self, image)
        unit, factor = _UNITS[image.header.get_xyzt_units()[0]]
        channel_dim = meta["original_channel_dim"]
        has_channels = not np.isnan(channel_dim)
        array = np.moveaxis(array, int(channel_dim), 0) if has_channels else array  # (C, X, Y, Z)
        affine = np.diag([factor, factor, factor, 1.0]) @ meta["affine"]
        # Without a code nibabel supposes that X runs to the left: a habit, which no file states.
        placed = any(int(image.header[f"{form}_code"]) for form in ("sform", "qform"))
        return Volume(array, has_channels, affine, unit, "nifti" if placed else "pixdim")
