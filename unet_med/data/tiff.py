"""TIFF in every dialect that microscopes and Fiji write, through tifffile."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.etree import ElementTree

import numpy as np

from unet_med.data.beside import written_beside
from unet_med.data.pixelsize import MICROMETRES, pixel_size_um
from unet_med.data.reading import FileReader, Volume, stand_in
from unet_med.data.writing import UNITS, ArrayWriter, channel_first, storable

MAX_XML_CHARACTERS = 64 << 20
_CLASSIC_LIMIT = 2**32 - 2**25  # bytes; above it offsets need BigTIFF


class TiffReader(FileReader):
    """MONAI reader for classic TIFF, BigTIFF, OME-TIFF and ImageJ hyperstacks.

    Axes come from the file's own description, never from a guess at sizes: channels and
    RGB samples become channels, pages without a name become z. The affine is
    `diag(x, y, z, 1)` in micrometres, without flips; where the file does not say the
    pixel size of every axis the missing ones are 1 and `meta["spacing_source"]` is
    `"assumed"`.

    Args:
        series: which image of a file that holds several.
        select: index to take along further axes, such as `{"T": 0}`.
        allow_multifile: follow OME-XML to other files of the same folder.
        max_bytes: see `FileReader`.
    """

    suffixes = (".tif", ".tiff")
    kind = "TIFF"

    def __init__(
        self,
        series: int | None = None,
        *,
        select: Mapping[str, int] | None = None,
        allow_multifile: bool = False,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(max_bytes)
        self.series = series
        self.select = dict(select or {})
        self.allow_multifile = allow_multifile

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        import tifffile

        with _Complaints() as complaints, tifffile.TiffFile(path) as tif:
            _check_ome_files(tif.ome_metadata, path.name, self.allow_multifile)
            number, series = self._one_series(tif)
            _check_pages(tif, series, self.allow_multifile)
            complaints.raise_first()
            self.require_memory(max(series.nbytes, _tile_bytes(tif, series)))
            array = stand_in(series.shape, series.dtype) if header_only else series.asarray()
            sizes, source = pixel_size_um(tif, number)
        complaints.raise_first()
        if array.shape != tuple(series.shape):
            raise ValueError(f"its data has shape {array.shape}, not {tuple(series.shape)}")
        array, has_channels = arrange(array, series.axes, self.select)
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


class TiffWriter(ArrayWriter):
    """MONAI writer of OME-TIFF, for `SaveImaged(writer="unet_med.data.TiffWriter")`.

    See `write_tiff` for what is written and `ArrayWriter` for the arguments.
    """

    def save(
        self, path: Path, array: np.ndarray, affine: np.ndarray | None, spatial_unit: str | None
    ) -> None:
        """Write `(C, X, Y[, Z])`."""
        write_tiff(path, array, affine, spatial_unit)


def write_tiff(
    path: str | os.PathLike[str],
    array: np.ndarray,
    affine: np.ndarray | None = None,
    spatial_unit: str | None = "um",
    *,
    channel_names: tuple[str, ...] = (),
) -> None:
    """Write a whole image as deflated OME-TIFF with its pixel size in micrometres.

    Args:
        path: file to write, in one step; BigTIFF where 4 GB do not suffice.
        array: `(C, X, Y[, Z])`; see `storable` for the dtypes.
        affine: voxel to world in `spatial_unit`; its translation is not kept.
        spatial_unit: `"um"`, `"mm"`, or None where the pixel size is not known, which
            leaves it out of the file.
        channel_names: one name a channel.

    Raises:
        ValueError: the affine rotates or flips, which TIFF cannot say.
    """
    array = storable(channel_first(array))
    axes = "CYX" if array.ndim == 3 else "CZYX"
    array = array.transpose(0, *range(array.ndim - 1, 0, -1))  # (C, X, Y[, Z]) -> (C, [Z,] Y, X)
    if array.shape[0] == 1:
        array, axes = array[0], axes[1:]
    metadata: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {}
    if affine is not None and (sizes := _sizes_of(np.asarray(affine))) and spatial_unit is not None:
        if spatial_unit not in UNITS:
            raise ValueError(f"spatial unit {spatial_unit!r} is not one of {UNITS}")
        x, y, z = (size * MICROMETRES[spatial_unit] for size in sizes)
        for axis, size in {"X": x, "Y": y, "Z": z}.items():
            if axis in axes:
                metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
        options = {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"}
    if channel_names:
        metadata["Channel"] = {"Name": list(channel_names)}
    _write(path, np.ascontiguousarray(array), metadata, options)


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
    for letter, index in (select or {}).items():
        size = array.shape[axes.index(letter)] if axes.count(letter) == 1 else 0
        if not 0 <= index < size:
            raise ValueError(f"index {index} along {letter!r} is not in axes {axes} {shape}")
        array = array.take(index, axes.index(letter))
        axes = axes.replace(letter, "")
    if "C" not in axes:
        axes = axes.replace("S", "C")  # samples of a pixel: RGB
    if "Z" not in axes and sum(map(axes.count, "IQ")) == 1:
        axes = axes.replace("I", "Z").replace("Q", "Z")  # pages in a row
    order = [letter for letter in "CXYZ" if letter in axes]
    if sorted(axes) != sorted(order) or not {"X", "Y"} <= set(axes):
        extra = next((letter for letter in axes if letter not in "CZYX"), "X")
        fix = f"take one of {extra} with TiffReader(select={{{extra!r}: 0}})"
        fix = fix if extra != "X" and axes.count(extra) == 1 else "save it with named axes"
        raise ValueError(f"its axes {axes} {shape} are not channels, z, y and x; {fix}")
    return array.transpose([axes.index(letter) for letter in order]), "C" in axes


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


def _check_ome_files(xml: str | None, own_name: str, allow_multifile: bool) -> None:
    """OME-XML may name other files, even outside the folder; tifffile would open them.

    A file that was renamed still knows itself by its UUID.
    """
    if xml is None:
        return
    if len(xml) > MAX_XML_CHARACTERS:
        raise ValueError(
            f"its OME-XML has {len(xml)} characters, the limit is {MAX_XML_CHARACTERS}"
        )
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


def _check_pages(tif: Any, series: Any, allow_multifile: bool) -> None:
    """Every plane must be there, in this file, with all its bytes; tifffile fills with zeros."""
    if not any(page is not None and page.parent is tif for page in series.pages):
        raise ValueError("it holds none of its planes; open the file that does")  # or get noise
    for number, page in enumerate(series.pages):
        if page is None:
            raise ValueError(f"plane {number} of {len(series.pages)} is missing")
        if page.parent is not tif and not allow_multifile:
            raise ValueError("it continues in other files; use TiffReader(allow_multifile=True)")
        offsets, counts = page.dataoffsets, page.databytecounts
        if not offsets or len(offsets) != len(counts) or min(*offsets, *counts) <= 0:
            raise ValueError(f"plane {number} has strips or tiles without data")
        if max(map(sum, zip(offsets, counts, strict=True))) > page.parent.filehandle.size:
            raise ValueError(f"it is truncated: plane {number} ends beyond the end of the file")


def _tile_bytes(tif: Any, series: Any) -> int:
    """Size of one decoded tile, which may be far larger than the image that it claims to hold."""
    tags = tif.pages[0].tags
    sides = [int(tags.valueof(name) or 0) for name in ("TileWidth", "TileLength")]
    return math.prod(sides) * series.dtype.itemsize


def _sizes_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Voxel sizes of an affine that neither rotates nor flips."""
    matrix = np.eye(3)
    n = min(affine.shape[0] - 1, 3)
    matrix[:n, :n] = affine[:n, :n]
    sizes = np.diag(matrix)
    if (sizes <= 0).any() or np.abs(matrix - np.diag(sizes)).max() > 1e-5 * sizes.max():
        raise ValueError(
            f"affine {matrix.tolist()} rotates or flips, which TIFF cannot say; "
            "save as .nii.gz, or bring the image to RAS first (Orientationd)"
        )
    return float(sizes[0]), float(sizes[1]), float(sizes[2])


def _write(
    path: str | os.PathLike[str],
    array: np.ndarray,
    metadata: dict[str, Any],
    options: dict[str, Any],
) -> None:
    import tifffile

    with written_beside(path) as part:
        ome = part.with_name("image.ome.tif")  # tifffile writes OME by this name
        with tifffile.TiffWriter(ome, bigtiff=array.nbytes > _CLASSIC_LIMIT) as tif:
            tif.write(
                array, photometric="minisblack", compression="zlib", metadata=metadata, **options
            )
        ome.rename(part)
