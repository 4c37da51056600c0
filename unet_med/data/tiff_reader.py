"""TIFF in all dialects of microscopes and Fiji, through tifffile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.file_reader import (
    FileReader,
    Volume,
    axes_without,
    placeholder,
    require_upright,
)
from unet_med.data.formats import TIFF
from unet_med.data.grey_values import is_ramp
from unet_med.data.pixel_size import channel_names, pixel_size_um
from unet_med.data.protection import open_tiff
from unet_med.data.tiff_axes import (
    arrange,
    checked,
    choose_series,
    named,
    selection,
    without_channels,
)

SIGN = 2**15
ORIENTATION = 274  # tag: how to show the pixels, as EXIF numbers it


class TiffReader(FileReader):
    """MONAI reader for classic TIFF, BigTIFF, OME-TIFF, ImageJ hyperstacks and Zeiss LSM.

    Axes come from the file's own description, never from a guess at sizes: channels and
    RGB samples become channels, pages without a name become z. The affine is
    `diag(x, y, z, 1)` in micrometres, without flips. If the pixel size of an axis is not in
    the file it is 1, and `meta["spacing_source"]` is `"assumed"`; where that of others is,
    `meta["unknown_axes"]` says which. Values are the stored ones;
    of a palette these are the indices, which are the grey values of a coloured 8-bit image
    of ImageJ; in other files `meta["coloured"]` is True where the palette does not become brighter
    or darker with them.

    Args:
        series: number of the image in a file with several.
        time: number of the time point in a time series.
        channel: number of the only channel to read.
        select: index to take along any axis, by tifffile's letter, such as `{"H": 0}`.
        axes: names of the axes, in place of the file's own, such as `"CYX"` or `"YXC"`.
        for_label: the choice is that of a label's image: `time` holds where there is a movie,
            `axes`, without channels, where there are as many.
        allow_multifile: follow OME-XML to other files of the same folder, and to the
            `.companion.ome` with the OME-XML.
        max_bytes: see `FileReader`.
    """

    suffixes = TIFF.suffixes
    kind = "TIFF"

    def __init__(
        self,
        series: int | None = None,
        *,
        time: int | None = None,
        channel: int | None = None,
        select: Mapping[str, int] | None = None,
        axes: str | None = None,
        for_label: bool = False,
        allow_multifile: bool = False,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(max_bytes)
        self.series = series
        self.axes = checked(axes)
        self.for_label = for_label
        self.select = selection(time, channel) | dict(select or {})
        self.allow_multifile = allow_multifile

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        with open_tiff(path, allow_multifile=self.allow_multifile) as file:
            number = self._series_number(file.tif)
            series = file.series(number)
            require_upright(_orientation(series.keyframe), "its tag Orientation says")
            axes, select = self._choice_for(series)
            arrange(placeholder(series.shape, series.dtype), axes, select)  # or refuse
            wanted = _Wanted.of(series, axes, select)
            file.check_pixels(series, wanted.nbytes, self.max_bytes)
            signed = holds_signed(file.tif, series.dtype)
            if header_only:
                array = placeholder(wanted.shape, np.dtype(np.int16) if signed else series.dtype)
            else:
                array = wanted.decode(file.tif, number)
                array = as_signed(array) if signed else array
            coloured = not header_only and _is_coloured(series, array)
            sizes, source = pixel_size_um(file.tif, number)
            names = channel_names(file.tif, number)
        if array.shape != wanted.shape:
            raise ValueError(f"its data has shape {array.shape}, not {wanted.shape}")
        array, has_channels = arrange(array, wanted.axes, wanted.select)
        dims = array.ndim - has_channels
        affine = np.eye(4)
        affine[range(dims), range(dims)] = [size or 1.0 for size in sizes[:dims]]
        source = source if all(sizes[:dims]) else "assumed"
        names = names if len(names) == (len(array) if has_channels else 1) else ()
        unknown = axes_without(sizes[:dims])
        frames = "Z" in axes and str(series.axes)[axes.index("Z")] == "T"
        return Volume(
            array, has_channels, affine, "um", source, names, unknown, coloured, pages=frames
        )

    def _choice_for(self, series: Any) -> tuple[str, Mapping[str, int]]:
        """Axes of a series, and what to select along them."""
        if not self.for_label:
            return named(series.axes, series.shape, self.axes), self.select
        axes = without_channels(self.axes or "")
        axes = axes if len(axes) == len(series.shape) else series.axes
        return axes, {k: v for k, v in self.select.items() if k in axes}

    def _series_number(self, tif: Any) -> int:
        """Number of the series to read; among several the user must choose."""
        images = tif.series[:1] if tif.is_lsm else tif.series  # the second are thumbnails
        found = [f"{k}: {s.axes} {tuple(s.shape)}" for k, s in enumerate(images)]
        return choose_series(found, self.series)


def holds_signed(tif: Any, dtype: np.dtype[Any]) -> bool:
    """Whether ImageJ says that the unsigned pixels of a file are signed ones of 16 bits.

    Its calibration then has a straight line as function; of others values stay the stored ones.

    Args:
        tif: an open `tifffile.TiffFile`.
        dtype: of its pixels.
    """
    said = tif.imagej_metadata or {}
    line = [said.get(name) for name in ("cf", "c0", "c1")]
    return dtype.kind == "u" and dtype.itemsize == 2 and line == [0, -SIGN, 1]


def as_signed(array: np.ndarray) -> np.ndarray:
    """16 unsigned bits as the signed ones that they stand for, 32768 less.

    >>> as_signed(np.array([31768, 32768], np.uint16)).tolist()
    [-1000, 0]
    """
    return (array ^ np.uint16(SIGN)).view(np.int16)


def _orientation(page: Any) -> int:
    tag = page.tags.get(ORIENTATION)
    return 1 if tag is None else int(tag.value)


def _is_coloured(series: Any, array: np.ndarray) -> bool:
    """Whether values are numbers of a palette's colours; in ImageJ's files they are grey values."""
    page = series.keyframe
    if page.colormap is None or page.parent.is_imagej:
        return False
    return not is_ramp(page.colormap.T / 257, array)  # of 16 bits


@dataclass(frozen=True)
class _Wanted:
    """The part of a series to decode: whole pages, of the chosen time or channel alone.

    Attributes:
        series: of tifffile.
        shape: of the part.
        axes: of the part, by tifffile's letters.
        select: remaining selection, within the pages.
        pages: numbers of the pages; None: all.
    """

    series: Any
    shape: tuple[int, ...]
    axes: str
    select: dict[str, int]
    pages: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Size of the decoded part."""
        return math.prod(self.shape) * int(self.series.dtype.itemsize)

    @classmethod
    def of(cls, series: Any, axes: str, select: Mapping[str, int]) -> _Wanted:
        """The part of a series that a selection needs; `arrange` has accepted the selection."""
        shape = tuple(series.shape)
        lead = len(shape) - len(series.keyframe.shape)  # axes along which pages are counted
        counted = shape[lead:] == tuple(series.keyframe.shape)
        chosen = {k: v for k, v in select.items() if axes.find(k) in range(lead)}
        if not chosen or not counted or math.prod(shape[:lead]) != len(series.pages):
            return cls(series, shape, axes, dict(select))
        place = tuple(chosen.get(letter, slice(None)) for letter in axes[:lead])
        pages = np.arange(len(series.pages)).reshape(shape[:lead])[place]
        rest = "".join(letter for letter in axes if letter not in chosen)
        inner = {k: v for k, v in select.items() if k not in chosen}
        return cls(series, (*pages.shape, *shape[lead:]), rest, inner, pages)

    def decode(self, tif: Any, number: int) -> np.ndarray:
        """Pixels of the part; `number` is that of the series."""
        if self.pages is None:
            array: np.ndarray = self.series.asarray()
            return array
        if self.series.dataoffset is not None:  # pages in a row, some perhaps without an IFD
            return self._read()
        array = tif.asarray(key=self.pages.ravel().tolist(), series=number)
        return array.reshape(self.shape)

    def _read(self) -> np.ndarray:
        """Read pages that are stored one after another, without compression."""
        file = self.series.keyframe.parent.filehandle
        dtype = self.series.dtype.newbyteorder(self.series.keyframe.parent.byteorder)
        shape = (len(self.series.pages), *self.series.keyframe.shape)
        stored = file.memmap_array(dtype, shape, self.series.dataoffset)
        return np.array(stored[self.pages])
