"""TIFF in every dialect that microscopes and Fiji write, through tifffile."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.etree import ElementTree

import numpy as np

from unet_med.data.file_reader import FileReader, Volume, placeholder
from unet_med.data.formats import TIFF
from unet_med.data.pixel_size import pixel_size_um
from unet_med.data.protection.limits import MAX_XML_CHARACTERS
from unet_med.data.protection.tiff_directories import Chain, check_ifds
from unet_med.data.protection.tiff_metadata import check_descriptions, check_ome_xml
from unet_med.data.protection.tiff_streams import check_streams


class TiffReader(FileReader):
    """MONAI reader for classic TIFF, BigTIFF, OME-TIFF and ImageJ hyperstacks.

    Axes come from the file's own description, never from a guess at sizes: channels and
    RGB samples become channels, pages without a name become z. The affine is
    `diag(x, y, z, 1)` in micrometres, without flips; where the file does not say the
    pixel size of every axis the missing ones are 1 and `meta["spacing_source"]` is
    `"assumed"`. Values are those stored: of a palette the indices, which are the grey values
    where ImageJ saved a coloured 8-bit image.

    Args:
        series: which image of a file that holds several.
        time: which time point of a time series.
        channel: which channel alone, of several.
        select: index to take along any axis, by tifffile's letter, such as `{"H": 0}`.
        allow_multifile: follow OME-XML to other files of the same folder, and to the
            `.companion.ome` that holds it.
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
        allow_multifile: bool = False,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(max_bytes)
        self.series = series
        named = {"T": time, "C": channel}
        self.select = {k: v for k, v in named.items() if v is not None} | dict(select or {})
        self.allow_multifile = allow_multifile

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        with _Complaints() as complaints, ExitStack() as opened:
            tif, chain = _open(path)
            opened.enter_context(tif)
            if companion := _check_ome_files(tif.ome_metadata, path.name, self.allow_multifile):
                tif, chain = _open_companion(path, companion)
                opened.enter_context(tif)
                _check_ome_files(tif.ome_metadata, tif.filename, self.allow_multifile)
            if self.allow_multifile:
                _check_other_files(tif.ome_metadata, path)
            number, series = self._one_series(tif)
            if series.keyframe.dtype is None:  # tifffile did not make sense of the tags
                complaints.raise_first()
            arrange(placeholder(series.shape, series.dtype), series.axes, self.select)  # or refuse
            wanted = _Wanted.of(series, self.select)
            nbytes = math.prod(wanted.shape) * series.dtype.itemsize
            self.require_memory(max(nbytes, _tile_bytes(series.keyframe)))
            _check_pages(tif, series, chain.length, self.allow_multifile)
            if self.allow_multifile:  # another file has tiles of its own
                for page in series.pages:
                    self.require_memory(_tile_bytes(page.keyframe))
            check_streams(series, several_files=self.allow_multifile)
            complaints.raise_first()
            array = placeholder(wanted.shape, series.dtype)
            if not header_only:
                array = wanted.decode(tif, number)
            sizes, source = pixel_size_um(tif, number)
        complaints.raise_first()
        if array.shape != wanted.shape:
            raise ValueError(f"its data has shape {array.shape}, not {wanted.shape}")
        array, has_channels = arrange(array, wanted.axes, wanted.select)
        dims = array.ndim - has_channels
        affine = np.eye(4)
        affine[range(dims), range(dims)] = [size or 1.0 for size in sizes[:dims]]
        source = source if all(sizes[:dims]) else "assumed"
        return Volume(array, has_channels, affine, "um", source)

    def _one_series(self, tif: Any) -> tuple[int, Any]:
        """Position and series to read; the user chooses where there are several."""
        found = [f"{k}: {s.axes} {tuple(s.shape)}" for k, s in enumerate(tif.series)]
        if self.series is None and len(found) > 1:
            listed = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
            raise ValueError(
                f"it holds {len(found)} images ({listed}); choose one with TiffReader(series=0)"
            )
        number = self.series or 0
        if not 0 <= number < len(found):
            raise ValueError(f"series {number} is not among its {len(found)} images")
        return number, tif.series[number]


@dataclass(frozen=True)
class _Wanted:
    """The part of a series that is decoded: whole pages, of the chosen time or channel alone.

    Attributes:
        series: of tifffile.
        shape: of the part.
        axes: of the part, by tifffile's letters.
        select: what is left to be selected, within the pages.
        pages: numbers of the pages; None: all, as they come.
    """

    series: Any
    shape: tuple[int, ...]
    axes: str
    select: dict[str, int]
    pages: np.ndarray | None = None

    @classmethod
    def of(cls, series: Any, select: Mapping[str, int]) -> _Wanted:
        """What a selection that `arrange` accepts needs of a series."""
        shape, axes = tuple(series.shape), str(series.axes)
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
        """Pixels of the part; `number` is the series' own."""
        if self.pages is None:
            array: np.ndarray = self.series.asarray()
            return array
        if self.series.dataoffset is not None:  # pages in a row, some perhaps without an IFD
            return self._read()
        array = tif.asarray(key=self.pages.ravel().tolist(), series=number)
        return array.reshape(self.shape)

    def _read(self) -> np.ndarray:
        """Pages that are stored one after another, as they are."""
        file = self.series.keyframe.parent.filehandle
        dtype = self.series.dtype.newbyteorder(self.series.keyframe.parent.byteorder)
        shape = (len(self.series.pages), *self.series.keyframe.shape)
        stored = file.memmap_array(dtype, shape, self.series.dataoffset)
        return np.array(stored[self.pages])


def arrange(
    array: np.ndarray, axes: str, select: Mapping[str, int] | None = None
) -> tuple[np.ndarray, bool]:
    """Bring tifffile's axes into MONAI's order, without a copy.

    Args:
        array: data of one series.
        axes: its axes by tifffile's letters.
        select: index to take along an axis.

    Returns:
        `(X, Y[, Z])` or `(C, X, Y[, Z])`, and whether there are channels.

    Raises:
        ValueError: an axis that is neither channel nor space is left, or an index is out
            of range; the message says what to select.

    >>> arrange(np.zeros((5, 3, 7, 9)), "ZCYX")[0].shape
    (3, 9, 7, 5)
    """
    shape = array.shape
    for wanted, index in (select or {}).items():
        letter = "S" if wanted == "C" and "C" not in axes else wanted  # RGB
        size = array.shape[axes.index(letter)] if axes.count(letter) == 1 else 1 - (letter in axes)
        if not 0 <= index < size:  # an axis that is not listed has length 1
            raise ValueError(f"index {index} along {wanted!r} is not in axes {axes} {shape}")
        if letter in axes:
            array = np.moveaxis(array, axes.index(letter), 0)[index]
            axes = axes.replace(letter, "")
    if "C" not in axes:
        axes = axes.replace("S", "C")  # samples of a pixel: RGB
    if "Z" not in axes and sum(map(axes.count, "IQ")) == 1:
        axes = axes.replace("I", "Z").replace("Q", "Z")  # pages in a row
    order = [letter for letter in "CXYZ" if letter in axes]
    if sorted(axes) != sorted(order) or not {"X", "Y"} <= set(axes):
        raise ValueError(f"its axes {axes} {shape} are not channels, z, y and x; {_choice(axes)}")
    return array.transpose([axes.index(letter) for letter in order]), "C" in axes


def _choice(axes: str) -> str:
    """How to choose along the first axis that is neither channel nor space."""
    extra = next((letter for letter in axes if letter not in "CZYX"), "X")
    if extra == "X" or axes.count(extra) > 1:
        return "save it with named axes"
    extra = "C" if extra == "S" else extra  # its samples are the channels then
    option = {"T": "time=0", "C": "channel=0"}.get(extra, f"select={{{extra!r}: 0}}")
    return f"take one of {extra} with TiffReader({option})"


class _Complaints(logging.Handler):
    """What tifffile only logs in this thread: lost pages, planes it filled with zeros.

    A broken private tag (32768 and up) says nothing about the pixels and is let pass.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        tag = re.search(r"tifffile\.TiffTag (\d+) ", message)
        if record.thread == self._thread and not (tag and int(tag[1]) >= 32768):
            self.messages.append(message)

    def raise_first(self) -> None:
        if self.messages:
            raise ValueError(f"it is damaged, says tifffile: {self.messages[0][:200]}")

    def __enter__(self) -> _Complaints:
        logging.getLogger("tifffile").addHandler(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        logging.getLogger("tifffile").removeHandler(self)


def _check_ome_files(xml: str | None, own_name: str, allow_multifile: bool) -> str | None:
    """OME-XML may name other files, even outside the folder; tifffile would open them.

    A file that was renamed still knows itself by its UUID. Returns the name of the file
    that holds the OME-XML, where it is not this one.
    """
    if xml is None:
        return None
    root = ElementTree.fromstring(xml)
    for element in root.iter():
        name = element.get("FileName") if element.tag.endswith("}UUID") else None
        name = element.get("MetadataFile") if element.tag.endswith("}BinaryOnly") else name
        if name is None or name == own_name or element.text == root.get("UUID", ""):
            continue
        if not allow_multifile:
            raise ValueError(
                f"its OME-XML refers to another file, {name!r}; "
                "if you trust it, use TiffReader(allow_multifile=True)"
            )
        if Path(name).name != name or "\\" in name:
            raise ValueError(f"its OME-XML refers to {name!r}, which is outside its folder")
    binary = next((e for e in root.iter() if e.tag.endswith("}BinaryOnly")), None)
    return None if binary is None else binary.get("MetadataFile")


def _check_other_files(xml: str | None, path: Path) -> None:
    """The directories of every file that OME-XML names, beside `path`, before tifffile opens it."""
    elements = ElementTree.fromstring(xml or "<OME/>").iter()
    names = {e.get("FileName", path.name) for e in elements if e.tag.endswith("}UUID")}
    for name in sorted(names - {path.name}):
        other = path.with_name(name)
        if not other.exists():
            continue  # tifffile says which planes that costs
        if not other.is_file():
            raise ValueError(f"its OME-XML refers to {name!r}, which is no regular file")
        try:
            check_ifds(other)
        except ValueError as error:
            raise ValueError(f"of {name!r}, to which its OME-XML refers: {error}") from None


def _open(path: Path) -> tuple[Any, Chain]:
    """A TIFF whose directories and descriptions were looked at before tifffile acts on them."""
    import tifffile

    chain = check_ifds(path)
    tif = tifffile.TiffFile(path)
    try:
        check_descriptions(tif, chain)
    except BaseException:
        tif.close()
        raise
    return tif, chain


def _open_companion(path: Path, name: str) -> tuple[Any, Chain]:
    """The TIFF that holds the OME-XML of several, or this one by its `.companion.ome`."""
    import tifffile

    companion = path.with_name(name)
    if name.endswith(TiffReader.suffixes):  # not by its XML: that takes every file for its own
        return _open(companion)
    if companion.stat().st_size > MAX_XML_CHARACTERS:
        raise ValueError(f"its OME-XML, {name}, has more than {MAX_XML_CHARACTERS} bytes")
    xml, chain = companion.read_text(encoding="utf-8"), check_ifds(path)
    check_ome_xml(xml, chain)
    return tifffile.TiffFile(path, omexml=xml), chain


def _check_pages(tif: Any, series: Any, ifds: int, allow_multifile: bool) -> None:
    """Every plane must be there, in this file, with all its bytes; tifffile fills with zeros."""
    if not any(page is not None and page.parent is tif for page in series.pages):
        raise ValueError("it holds none of its planes; open the file that does")  # or get noise
    start = series.dataoffset
    block = len(series.pages) > ifds and start is not None  # of planes without IFDs
    if block and not (allow_multifile and any(_elsewhere(tif, page) for page in series.pages)):
        if start + series.nbytes > tif.filehandle.size:
            raise ValueError("it is truncated: its planes end beyond the end of the file")
        return
    for number, page in enumerate(series.pages):
        if page is None:
            raise ValueError(f"plane {number} of {len(series.pages)} is missing")
        if _elsewhere(tif, page) and not allow_multifile:
            raise ValueError("it continues in other files; use TiffReader(allow_multifile=True)")
        if page.keyframe.shape != series.keyframe.shape:  # of another file
            shapes = f"{page.keyframe.shape}, plane 0 {series.keyframe.shape}"
            raise ValueError(f"plane {number} has shape {shapes}")
        offsets, counts = page.dataoffsets, page.databytecounts
        if not offsets or len(offsets) != len(counts) or min(*offsets, *counts) <= 0:
            raise ValueError(f"plane {number} has strips or tiles without data")
        if max(map(sum, zip(offsets, counts, strict=True))) > page.parent.filehandle.size:
            raise ValueError(f"it is truncated: plane {number} ends beyond the end of the file")


def _elsewhere(tif: Any, page: Any) -> bool:
    """Whether a plane is in another file."""
    return page is not None and page.parent is not tif


def _tile_bytes(page: Any) -> int:
    """Size of one decoded tile, which may be far larger than the image that it claims to hold."""
    return int(page.tilewidth * page.tilelength * page.tiledepth * page.dtype.itemsize)
