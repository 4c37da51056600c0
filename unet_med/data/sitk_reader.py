"""MetaImage, NRRD and DICOM series through SimpleITK, which is imported on first use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.dicom_files import is_series
from unet_med.data.dicom_series import load_series, unread
from unet_med.data.file_reader import FileReader, Volume
from unet_med.data.formats import ITK
from unet_med.data.grids import LPS_TO_RAS
from unet_med.data.pixel_size import MICROMETRES, unit_um
from unet_med.data.protection import itk_fields, open_itk

# of NRRD, those that name sides of the body (teem's nrrdSpace)
_SPACES = {
    *("right-anterior-superior", "left-anterior-superior", "left-posterior-superior"),
    *("ras", "las", "lps"),
}
# of MetaImage, in its own spellings
_PLACES = ("transformmatrix", "rotation", "orientation", "offset", "position", "origin")


class SitkReader(FileReader):
    """MONAI reader for `.mha`, `.mhd`, `.nrrd`, `.dcm` and folders with a DICOM series.

    The affine is turned from ITK's LPS to MONAI's RAS, in millimetres, as these formats define,
    unless a header states another unit, which ITK passes over. Where it states no pixel size, ITK
    has 1: `meta["spacing_source"]` is then `"assumed"`; `"spacing"` where it states pixel sizes
    alone, and no place.

    Args:
        series_id: UID of the DICOM series to read, in a folder with several.
        max_bytes: see `FileReader`.
    """

    suffixes = ITK.suffixes
    kind = "MetaImage, NRRD or DICOM series"

    def __init__(self, series_id: str | None = None, *, max_bytes: int | None = None) -> None:
        super().__init__(max_bytes)
        self.series_id = series_id

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file or folder; see the class."""
        import SimpleITK as sitk

        if is_series(path) or path.is_dir():
            return load_series(path, self.series_id, self.max_bytes, header_only=header_only)
        source = open_itk(path, self.max_bytes)
        sides = source.GetSize()[::-1]
        array = (  # ([Z,] Y, X[, C])
            unread(source, sides) if header_only else sitk.GetArrayFromImage(_pixels(source))
        )
        has_channels = array.ndim > source.GetDimension()
        array = np.moveaxis(array, -1, 0) if has_channels else array
        first = int(has_channels)
        array = array.transpose(*range(first), *range(array.ndim - 1, first - 1, -1))
        fields = itk_fields(path)
        stated = _stated_by(fields, source.GetDimension())
        unit, factor = _unit(fields)
        affine = np.diag([factor, factor, factor, 1.0]) @ _affine(source)
        return Volume(array, has_channels, affine, unit, stated)


def _pixels(reader: Any) -> Any:
    """Image of a reader that has read the header."""
    try:
        return reader.Execute()
    except RuntimeError as error:
        if "spacing" not in str(error):
            raise
        raise ValueError(
            "its header states a pixel size of 0 or none at all, so that it is unknown: write the "
            "true one there (ElementSpacing of .mha and .mhd), or 1"
        ) from error


def _stated_by(fields: Mapping[str, str], dims: int) -> str:
    """Origin of the pixel size: what of it a header states, and whether it states a place."""
    if "elementdatafile" in fields:
        sized = "elementspacing" in fields or "elementsize" in fields
        placed = any(name in fields for name in _PLACES)
    else:  # NRRD, in which an axis of channels has none
        spacings = [word for word in fields.get("spacings", "").split() if word.lower() != "nan"]
        sized = max(len(spacings), fields.get("space directions", "").count("(")) >= dims
        placed = fields.get("space", "").lower().removesuffix("-time") in _SPACES
    return ("header" if placed else "spacing") if sized else "assumed"


def _unit(fields: Mapping[str, str]) -> tuple[str, float]:
    """Unit of an affine, and how much of it 1 is in the header; millimetres where none is known."""
    stated = fields.get("space units") or fields.get("units") or ""
    words = re.findall(r'"([^"]*)"', stated.replace("\u00c2", ""))  # UTF-8, read as Latin-1
    words.append(fields.get("distanceunits", ""))  # of MetaImage
    sizes = {size for size in map(unit_um, words) if size}
    micrometres = sizes.pop() if len(sizes) == 1 else MICROMETRES["mm"]
    if micrometres < MICROMETRES["mm"]:
        return "um", micrometres
    return "mm", micrometres / MICROMETRES["mm"]


def _affine(reader: Any) -> np.ndarray:
    """4x4 voxel to world, RAS, of a reader that has read a header, in the header's unit."""
    n = reader.GetDimension()
    affine = np.eye(4)
    if n <= 3:
        affine[:n, :n] = np.reshape(reader.GetDirection(), (n, n)) * reader.GetSpacing()
        affine[:n, 3] = reader.GetOrigin()
    return LPS_TO_RAS @ affine
