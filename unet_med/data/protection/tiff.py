"""TIFF files, checked before tifffile decodes them; what tifffile only logs becomes an error."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from unet_med.data.formats import TIFF
from unet_med.data.protection.limits import MAX_XML_CHARACTERS, require_memory
from unet_med.data.protection.tiff_directories import Chain, check_ifds
from unet_med.data.protection.tiff_metadata import (
    ONE_FILE,
    check_descriptions,
    check_ome_files,
    check_ome_xml,
    check_other_files,
)
from unet_med.data.protection.tiff_streams import check_streams


@contextmanager
def open_tiff(path: Path, *, allow_multifile: bool = False) -> Iterator[CheckedTiff]:
    """Open a TIFF whose directories and XML are sound, for a `with` block.

    At the end of the block a complaint that tifffile only logged is raised.

    Args:
        path: an existing file.
        allow_multifile: OME-XML may name other files of the same folder.

    Raises:
        ValueError: the first thing that is wrong with it; one sentence without its name.
    """
    with _Complaints() as complaints, ExitStack() as opened:
        tif, chain = _open(path)
        opened.enter_context(tif)
        if companion := check_ome_files(tif.ome_metadata, path.name, allow_multifile):
            tif, chain = _open_companion(path, companion)
            opened.enter_context(tif)
            check_ome_files(tif.ome_metadata, tif.filename, allow_multifile)
        if allow_multifile:
            check_other_files(tif.ome_metadata, path)
        yield CheckedTiff(tif, chain.length, complaints, allow_multifile)
    complaints.raise_first()


@dataclass(frozen=True)
class CheckedTiff:
    """An open TIFF; `check_pixels` comes before its pixels are decoded.

    Attributes:
        tif: the `tifffile.TiffFile`.
        ifds: how many directories it has.
        complaints: what tifffile logged of it.
        allow_multifile: its planes may be in other files.
    """

    tif: Any
    ifds: int
    complaints: _Complaints
    allow_multifile: bool

    def series(self, number: int) -> Any:
        """A `tifffile.TiffPageSeries` whose tags tifffile understood."""
        found = self.tif.series[number]
        if found.keyframe.dtype is None:
            self.complaints.raise_first()
        return found

    def check_pixels(self, series: Any, decoded_bytes: int, max_bytes: int | None) -> None:
        """Refuse pixels that need too much memory, are missing, or hold larger images.

        Args:
            series: of this file.
            decoded_bytes: of the part to read.
            max_bytes: see `require_memory`.
        """
        require_memory(max(decoded_bytes, _tile_bytes(series.keyframe)), max_bytes)
        _check_pages(self.tif, series, self.ifds, self.allow_multifile)
        if self.allow_multifile:  # another file has tiles of its own
            for page in series.pages:
                require_memory(_tile_bytes(page.keyframe), max_bytes)
        check_streams(series, several_files=self.allow_multifile)
        self.complaints.raise_first()


class _Complaints(logging.Handler):
    """Collects what tifffile only logs in this thread: lost pages, planes filled with zeros.

    A broken private tag (32768 and up) says nothing about the pixels and passes.
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


def _open(path: Path) -> tuple[Any, Chain]:
    """Check the directories and descriptions of a TIFF, and open it."""
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
    """Open the TIFF that holds the OME-XML of several, or this one by its `.companion.ome`."""
    import tifffile

    companion = path.with_name(name)
    if name.endswith(TIFF.suffixes):  # not by its XML: that takes every file for its own
        return _open(companion)
    if companion.stat().st_size > MAX_XML_CHARACTERS:
        raise ValueError(f"its OME-XML, {name}, has more than {MAX_XML_CHARACTERS} bytes")
    xml, chain = companion.read_text(encoding="utf-8"), check_ifds(path)
    check_ome_xml(xml, chain)
    return tifffile.TiffFile(path, omexml=xml), chain


def _check_pages(tif: Any, series: Any, ifds: int, allow_multifile: bool) -> None:
    """Refuse planes that are missing, elsewhere or cut short; tifffile fills them with zeros."""
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
            raise ValueError(f"it continues in other files; {ONE_FILE}")
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
