"""Images that are read window by window: OME-Zarr, TIFF and NIfTI.

Arrays here are in the file's order, `(C, [Z,] Y, X)`, as they are in the output.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.files import AutoReader
from unet_med.data.nifti import NiftiReader
from unet_med.data.pixelsize import MICROMETRES, unit_um
from unet_med.data.reading import Volume
from unet_med.data.tiff import TiffReader, arrange

__all__ = ["Source", "open_source"]

Window = Sequence[slice]  # one a spatial axis, [Z,] Y, X


@dataclass(frozen=True)
class Source:
    """An image on disk.

    Attributes:
        path: file or folder.
        shape: spatial sides, `([Z,] Y, X)`, px.
        channels: how many.
        dtype: of its pixels.
        spacing: pixel size of each spatial axis in `unit`; 1 where it is not known.
        unit: `"um"`, `"mm"`, or None where the file does not say.
        identity: what changes when the content does: sizes, times, or metadata and their hash.
        read: gives the pixels of a window inside the image, `(C, [Z,] Y, X)`.
    """

    path: Path
    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype[Any]
    spacing: tuple[float, ...]
    unit: str | None
    identity: dict[str, Any]
    read: Callable[[Window], np.ndarray]


def open_source(path: str | Path) -> Source:
    """Open an image without reading its pixels.

    OME-Zarr (NGFF 0.4 and 0.5) and tiled TIFF read the chunks that a window touches; a NIfTI
    `.nii` reads its rows. A TIFF whose strips hold whole planes decodes those planes, and a
    `.nii.gz` is decompressed from its start for every window: convert such files first.

    Args:
        path: an OME-Zarr folder, or a `.tif`, `.tiff`, `.nii` or `.nii.gz` file.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is none of these, or no image of channels, z, y and x.
        ImportError: zarr is missing.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    name = path.name.lower()
    if path.is_dir() and any((path / file).is_file() for file in _ZARR_FILES):
        return _open_zarr(path)
    if name.endswith(TiffReader.suffixes):
        return _open_tiff(path)
    if name.endswith(NiftiReader.suffixes):
        return _open_nifti(path)
    raise ValueError(
        f"{path} cannot be read window by window; give an OME-Zarr folder, .tif, .tiff, .nii or "
        f".nii.gz"
    )


def import_zarr() -> Any:
    """The zarr package, which is an extra.

    Raises:
        ImportError: it is missing; the message has the command.
    """
    try:
        return importlib.import_module("zarr")
    except ImportError as error:
        raise ImportError('OME-Zarr needs zarr: pip install "unet-med[zarr]"') from error


_ZARR_FILES = ("zarr.json", ".zgroup", ".zattrs")
_SPACE = ("z", "y", "x")


def _open_zarr(path: Path) -> Source:
    """Level 0 of an OME-Zarr image."""
    zarr = import_zarr()
    group = zarr.open_group(path, mode="r")
    attributes = dict(group.attrs)
    attributes = attributes.get("ome", attributes)  # 0.5 keeps its own below "ome"
    if "multiscales" not in attributes:
        raise ValueError(f"{path} is no OME-Zarr image: its group has no 'multiscales'")
    image = attributes["multiscales"][0]
    array = group[image["datasets"][0]["path"]]
    axes = [axis["name"] if isinstance(axis, dict) else axis for axis in image["axes"]]
    _check_axes(axes, array.shape, path)
    space = [name for name in _SPACE if name in axes]
    spacing, unit = _ngff_spacing(image, axes, space)

    def read(window: Window) -> np.ndarray:
        parts = dict(zip(space, window, strict=True))
        pixels = np.asarray(array[tuple(parts.get(name, slice(None)) for name in axes)])
        order = [axes.index(name) for name in ("t", "c", *space) if name in axes]
        return pixels.transpose(order).reshape(-1, *(pixels.shape[axes.index(n)] for n in space))

    return Source(
        path=path,
        shape=tuple(int(array.shape[axes.index(name)]) for name in space),
        channels=int(array.shape[axes.index("c")]) if "c" in axes else 1,
        dtype=array.dtype,
        spacing=spacing,
        unit=unit,
        identity={
            "path": str(path.resolve()),  # its chunks are too many to look at one by one
            "attributes": _hash(json.dumps(dict(group.attrs), sort_keys=True, default=str)),
            "array": _hash(json.dumps(array.metadata.to_dict(), sort_keys=True, default=str)),
        },
        read=read,
    )


def _check_axes(axes: Sequence[str], shape: Sequence[int], path: Path) -> None:
    times = shape[axes.index("t")] if "t" in axes else 1
    if times != 1 or not {"y", "x"} <= set(axes) <= {"t", "c", *_SPACE}:
        raise ValueError(
            f"{path} has axes {''.join(axes)} {tuple(shape)}; channels, z, y and x of one point "
            f"in time are read: save the one you want as an image of its own"
        )


def _ngff_spacing(
    image: dict[str, Any], axes: Sequence[str], space: Sequence[str]
) -> tuple[tuple[float, ...], str | None]:
    """Pixel size of level 0 along `space`, in micrometres or millimetres."""
    scale = np.ones(len(axes))
    for holder in (image["datasets"][0], image):
        for transform in holder.get("coordinateTransformations", ()):
            if transform.get("type") == "scale":
                scale *= transform["scale"]
    units = [axis.get("unit") for axis in image["axes"] if isinstance(axis, dict)]
    units = [unit for axis, unit in zip(axes, units, strict=False) if axis in space]
    if None in units or not units or any(unit_um(unit) is None for unit in units):
        return tuple(1.0 for _ in space), None
    unit = "mm" if set(units) == {"millimeter"} else "um"
    return tuple(
        float(scale[axes.index(name)]) * float(unit_um(found) or 1) / MICROMETRES[unit]
        for name, found in zip(space, units, strict=True)
    ), unit


def _open_tiff(path: Path) -> Source:
    import tifffile

    zarr = import_zarr()
    header = _header(path)
    tif = tifffile.TiffFile(path)
    series = tif.series[0]
    array: Any = zarr.open(series.aszarr(level=0), mode="r")
    axes = str(series.axes)

    def read(window: Window) -> np.ndarray:
        parts = dict(zip("ZYX"[-len(window) :], window, strict=True))
        planes = next((a for a in axes if a in "IQ" and "Z" not in axes), "Z")
        parts[planes] = parts.get("Z", slice(None))
        pixels = np.asarray(array[tuple(parts.get(axis, slice(None)) for axis in axes)])
        pixels, has_channels = arrange(pixels, axes)  # ([C,] X, Y[, Z])
        return _file_order(pixels, has_channels)

    weakref.finalize(read, tif.close)  # open for as long as its pixels may be read
    return _from_header(path, header, read)


def _open_nifti(path: Path) -> Source:
    import nibabel as nib

    header = _header(path)
    proxy: Any = nib.load(path).dataobj  # type: ignore[attr-defined]
    flat = len(header.spatial_shape) == 2

    def read(window: Window) -> np.ndarray:
        index = tuple(window)[::-1]
        pixels = np.asarray(proxy[(*index, ...)])  # (X, Y[, Z][, 1...][, C])
        pixels = pixels.reshape(*pixels.shape[: len(index)], -1)
        return _file_order(np.moveaxis(pixels, -1, 0), True)

    if flat and len(proxy.shape) > 2 and proxy.shape[2] != 1:
        raise ValueError(f"{path} of shape {proxy.shape} is neither a plane nor a volume")
    return _from_header(path, header, read)


def _header(path: Path) -> Volume:
    """Shape, pixel size and unit as `load_image` would find them, of any size."""
    return AutoReader(max_bytes=1 << 62).open(path, header_only=True)


def _from_header(path: Path, header: Volume, read: Callable[[Window], np.ndarray]) -> Source:
    dims = len(header.spatial_shape)
    sizes = np.linalg.norm(header.affine[:3, :3], axis=0)[:dims]
    status = path.stat()
    return Source(
        path=path,
        shape=tuple(int(side) for side in header.spatial_shape[::-1]),
        channels=int(header.array.shape[0]) if header.has_channels else 1,
        dtype=header.array.dtype,
        spacing=tuple(float(size) for size in sizes[::-1]),
        unit=None if header.spacing_source == "assumed" else header.spatial_unit,
        identity={"bytes": status.st_size, "mtime_ns": status.st_mtime_ns},
        read=read,
    )


def _file_order(pixels: np.ndarray, has_channels: bool) -> np.ndarray:
    """`([C,] X, Y[, Z])` to `(C, [Z,] Y, X)`, without a copy."""
    pixels = pixels if has_channels else pixels[None]
    return pixels.transpose(0, *range(pixels.ndim - 1, 0, -1))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
