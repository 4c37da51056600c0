"""OME-Zarr images, NGFF 0.4 to 0.6, as a whole or window by window."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.file_reader import FileReader, Volume, placeholder
from unet_med.data.formats import OME_ZARR
from unet_med.data.pixel_size import MICROMETRES, unit_um
from unet_med.data.protection import guard_zarr_array, guarded_zarr_store
from unet_med.data.tiff_axes import choose_series

Window = Sequence[slice]  # one a spatial axis, [Z,] Y, X

_SPACE = ("z", "y", "x")
_LAYOUT = "bioformats2raw.layout"  # NGFF 0.4, "Bf2raw"


@dataclass(frozen=True)
class OmeZarr:
    """Level 0 of an OME-Zarr image, its pixels on disk.

    Attributes:
        array: the zarr array, in the order of `axes`.
        axes: its axes' names, of `t` (one point in time), `c`, `z`, `y`, `x`.
        spacing: pixel size of the spatial axes, `([Z,] Y, X)`, in `unit`; 1 if unknown.
        unit: `"um"` or `"mm"`; None: not in the file.
        attributes: of its group.
    """

    array: Any
    axes: tuple[str, ...]
    spacing: tuple[float, ...]
    unit: str | None
    attributes: dict[str, Any]

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """`([Z,] Y, X)`, px."""
        return tuple(self._length(name) for name in _SPACE if name in self.axes)

    @property
    def channels(self) -> int:
        """Number of channels; 1 without an axis of channels."""
        return self._length("c") if "c" in self.axes else 1

    def read(self, window: Window) -> np.ndarray:
        """Pixels of a window, `(C, [Z,] Y, X)`."""
        space = [name for name in _SPACE if name in self.axes]
        parts = dict(zip(space, window, strict=True))
        pixels = np.asarray(self.array[tuple(parts.get(axis, slice(None)) for axis in self.axes)])
        order = [self.axes.index(name) for name in ("t", "c", *space) if name in self.axes]
        pixels = pixels.transpose(order)
        return pixels.reshape(-1, *pixels.shape[-len(space) :])

    def _length(self, axis: str) -> int:
        return int(self.array.shape[self.axes.index(axis)])


class OmeZarrReader(FileReader):
    """MONAI reader of OME-Zarr images, NGFF 0.4 to 0.6: level 0, one point in time.

    The affine is `diag(x, y, z, 1)` in micrometres, or in millimetres if the file is in these.
    Of a folder that `bioformats2raw` wrote it is the only image, or the chosen one. Needs the extra
    `[zarr]`.

    Args:
        series: number of the image in a folder of `bioformats2raw` with several.
        max_bytes: see `FileReader`.
    """

    suffixes = OME_ZARR.suffixes
    kind = "OME-Zarr"

    def __init__(self, series: int | None = None, *, max_bytes: int | None = None) -> None:
        super().__init__(max_bytes)
        self.series = series

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one image; see the class."""
        image = open_ome_zarr(path, self.max_bytes, series=self.series)
        shape = (image.channels, *image.spatial_shape)
        self.require_memory(math.prod(shape) * image.array.dtype.itemsize)
        if header_only:
            array = placeholder(shape, image.array.dtype)
        else:
            array = image.read([slice(None)] * len(image.spatial_shape))
        dims = range(len(image.spacing))
        affine = np.eye(4)
        affine[dims, dims] = image.spacing[::-1]
        has_channels = "c" in image.axes
        array = array.swapaxes(1, -1)  # (C, X, Y[, Z])
        source = "ngff" if image.unit else "assumed"
        array = array if has_channels else array[0]
        return Volume(array, has_channels, affine, image.unit or "um", source)


def open_ome_zarr(
    path: str | Path, max_bytes: int | None = None, *, series: int | None = None
) -> OmeZarr:
    """Open an OME-Zarr image without reading its pixels.

    Only regular files in the folder are read, now and later; a chunk with more pixels than its
    shape is refused.

    Args:
        path: its folder.
        max_bytes: limit for all chunks that are decoded at a time; see `FileReader`.
        series: see `OmeZarrReader`.

    Raises:
        ValueError: it is no image, or holds several and none is chosen; it has several points in
            time or unknown axes, or its chunks need too much memory.
        ImportError: zarr is missing.
    """
    zarr = import_zarr()
    group = _image_in(zarr.open_group(guarded_zarr_store(path), mode="r"), series)
    attributes, ngff = dict(group.attrs), _ngff(group)
    if "multiscales" not in ngff:
        raise ValueError(f"{path} is no OME-Zarr image: its group has no 'multiscales'")
    image = ngff["multiscales"][0]
    array = group[image["datasets"][0]["path"]]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{path} is no OME-Zarr image: its level 0 is no array")
    guard_zarr_array(array, max_bytes)
    described = _axes(image)
    axes = [axis["name"] if isinstance(axis, dict) else axis for axis in described]
    times = array.shape[axes.index("t")] if "t" in axes else 1
    if times != 1 or not {"y", "x"} <= set(axes) <= {"t", "c", *_SPACE}:
        raise ValueError(
            f"{path} has axes {''.join(axes)} {tuple(array.shape)}; channels, z, y and x of one "
            f"point in time are read: save the one you want as an image of its own"
        )
    spacing, unit = _spacing(image, described, axes)
    return OmeZarr(array, tuple(axes), spacing, unit, attributes)


def import_zarr() -> Any:
    """Import the zarr package, which is an extra.

    Raises:
        ImportError: it is missing; the message has the command.
    """
    try:
        return importlib.import_module("zarr")
    except ImportError as error:
        raise ImportError('OME-Zarr needs zarr: pip install "unet-med[zarr]"') from error


def _ngff(group: Any) -> dict[str, Any]:
    """What NGFF says of a group; since 0.5 it stands below `ome`."""
    found: dict[str, Any] = dict(group.attrs.get("ome", group.attrs))
    return found


def _image_in(group: Any, series: int | None) -> Any:
    """The group of an image: in a folder of `bioformats2raw` one of the groups `0`, `1`, ...

    Raises:
        ValueError: nothing is chosen among several, or what is not there.
    """
    names: list[str] = []
    if _LAYOUT in _ngff(group) and "multiscales" not in _ngff(group):
        names = sorted((name for name in group.group_keys() if name.isdigit()), key=int)
    number = choose_series(names or ["0"], series)
    return group[names[number]] if names else group


def _axes(image: dict[str, Any]) -> list[Any]:
    """Axes of an image; since 0.6 those of the coordinate system that its levels lead to."""
    if "coordinateSystems" not in image:
        return list(image["axes"])
    systems = {system["name"]: system["axes"] for system in image["coordinateSystems"]}
    for transform in image["datasets"][0].get("coordinateTransformations", ()):
        output = transform.get("output")
        name = output.get("name") if isinstance(output, dict) else output
        if name in systems:
            return list(systems[name])
    return list(next(iter(systems.values())))


def _scales(transforms: Iterable[dict[str, Any]]) -> Iterator[Any]:
    """Scales among transformations, those of sequences too.

    Raises:
        ValueError: one turns or bends the image.
    """
    for transform in transforms:
        kind = transform.get("type")
        if kind == "scale" and "scale" in transform:
            yield transform["scale"]
        elif kind == "sequence":
            yield from _scales(transform.get("transformations", ()))
        elif kind not in ("identity", "translation", "scale"):
            raise ValueError(
                f"its level 0 is placed by a transformation of type {kind!r}; scale and "
                "translation are read: save it on a straight grid"
            )


def _spacing(
    image: dict[str, Any], described: Sequence[Any], axes: Sequence[str]
) -> tuple[tuple[float, ...], str | None]:
    """Pixel size of level 0, `([Z,] Y, X)`, in micrometres or millimetres; 0 is no size."""
    scale = np.ones(len(axes))
    holders = [image["datasets"][0]]
    if "coordinateSystems" not in image:  # else those of the image lead to other systems
        holders.append(image)
    for holder in holders:
        for found in _scales(holder.get("coordinateTransformations", ())):
            scale *= found
    known = {axis["name"]: axis.get("unit") for axis in described if isinstance(axis, dict)}
    space = [name for name in _SPACE if name in axes]
    units = [known.get(name) for name in space]
    lengths = [unit_um(unit) for unit in units]
    sizes = [float(scale[axes.index(name)]) for name in space]
    if any(length is None for length in lengths) or not all(0 < size < math.inf for size in sizes):
        return tuple(1.0 for _ in space), None
    unit = "mm" if set(units) == {"millimeter"} else "um"
    return tuple(
        size * (length or 1.0) / MICROMETRES[unit]
        for size, length in zip(sizes, lengths, strict=True)
    ), unit
