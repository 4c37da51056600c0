"""Images that are read window by window: OME-Zarr, TIFF and NIfTI.

Arrays here are in the file's order, `(C, [Z,] Y, X)`, as they are in the output.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.auto_reader import AutoReader
from unet_med.data.cases import files_of
from unet_med.data.checksum import sha256_of_values
from unet_med.data.datalist import look_for_images
from unet_med.data.file_reader import Volume, unreadable
from unet_med.data.formats import NIFTI, OME_ZARR, TIFF, Format, format_at
from unet_med.data.grids import Grid, Turn, turn_of_channel
from unet_med.data.list_file import is_list
from unet_med.data.plane_kind import planes_stated
from unet_med.data.protection import check_checksum, is_gzip
from unet_med.data.tiff_axes import arrange, checked, named
from unet_med.data.tiff_reader import as_signed, holds_signed
from unet_med.data.zarr_reader import Window, import_zarr, open_ome_zarr
from unet_med.planes import JOINED, Planes

Choice = Mapping[str, Any]  # arguments of `AutoReader`


@dataclass(frozen=True)
class DiskImage:
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
        affine: voxel to world, `(4, 4)`, for indices in the order X, Y, Z; None where it holds
            nothing but `spacing`.
        spacing_source: what told the pixel size; see `Volume`.
        planes: see `Volume`.
        channel_names: likewise.
    """

    path: Path
    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype[Any]
    spacing: tuple[float, ...]
    unit: str | None
    identity: dict[str, Any]
    read: Callable[[Window], np.ndarray]
    affine: np.ndarray | None = None
    spacing_source: str | None = None
    planes: Planes = JOINED
    channel_names: tuple[str, ...] = ()


def open_source(path: str | Path, **choice: Any) -> DiskImage:
    """Open an image without reading its pixels.

    OME-Zarr (NGFF 0.4 to 0.6) and tiled TIFF read the chunks that a window touches; a NIfTI
    `.nii` reads its rows. A TIFF whose strips hold whole planes decodes those planes, and a
    `.nii.gz` is decompressed from its start for every window: convert such files first.

    Args:
        path: an OME-Zarr folder, or a `.tif`, `.tiff`, `.nii` or `.nii.gz` file; or a data list
            (JSON) whose one image to predict has its channels in several of these.
        choice: which image of a TIFF with several, names of its axes, and the pixel size of a file
            without one; see `AutoReader`.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is none of these, damaged, or no image of channels, z, y and x.
        ImportError: zarr is missing.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if is_list(path):
        return _open_list(path, choice)
    found = format_at(path)
    if found is None or found not in _OPENERS:
        raise ValueError(
            f"{path} cannot be read window by window; give an OME-Zarr folder, .tif, .tiff, .nii "
            f"or .nii.gz"
        )
    try:
        return _OPENERS[found](path, choice)
    except ImportError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise  # in a sentence already
        raise unreadable(path, error, found.reader_class().kind) from error


def _open_list(path: Path, choice: Choice) -> DiskImage:
    """The one image of a data list, whose files hold its channels."""
    items = look_for_images(path).items
    if len(items) != 1:
        raise ValueError(
            f"{path} lists {len(items)} images, and block by block takes one: list that alone"
        )
    files = files_of(items[0]["image"])
    sources = [open_source(file, **choice) for file in files]
    heads = [_header(Path(file), choice) for file in files]
    grids = [Grid.of(head, Path(file).name) for head, file in zip(heads, files, strict=True)]
    turns = [turn_of_channel(grid, grids[0]) for grid in grids]

    def read(window: Window) -> np.ndarray:
        return np.concatenate(
            [_turned(*part, window) for part in zip(sources, turns, grids, strict=True)]
        )

    return replace(
        sources[0],
        path=path,
        channels=sum(source.channels for source in sources),
        channel_names=(),
        dtype=np.result_type(*(source.dtype for source in sources)),
        identity={"files": files, "identities": [source.identity for source in sources]},
        read=read,
    )


def _turned(source: DiskImage, turn: Turn, grid: Grid, window: Window) -> np.ndarray:
    """A window of what becomes of a source by a turn, `(C, [Z,] Y, X)`."""
    if turn.keeps:
        return source.read(window)
    box = tuple((part.start or 0, part.stop) for part in window[::-1])
    wanted = [slice(*side) for side in turn.source(box, grid.shape)][::-1]
    channels = [turn.of_array(channel.T).T for channel in source.read(wanted)]
    return np.stack(channels)


def _open_zarr(path: Path, choice: Choice) -> DiskImage:
    """Level 0 of an OME-Zarr image."""
    image = open_ome_zarr(path, series=choice.get("series"))
    metadata = image.array.metadata.to_dict()
    header = _header(path, choice) if choice else None  # a pixel size that was given, or a refusal
    given = header is not None and header.spacing_source == "given"
    said = "given" if given else "ngff" if image.unit else "assumed"
    return DiskImage(
        path=path,
        shape=image.spatial_shape,
        channels=image.channels,
        dtype=image.array.dtype,
        spacing=header.pixel_size[::-1] if header and given else image.spacing,
        unit="um" if given else image.unit,
        identity={
            "path": str(path.resolve()),  # its chunks are too many to look at one by one
            "attributes": sha256_of_values(image.attributes),
            "array": sha256_of_values(metadata),
        },
        read=image.read,
        spacing_source=said,
        planes=header.planes if header and given else planes_stated({"spacing_source": said}),
    )


def _open_tiff(path: Path, choice: Choice) -> DiskImage:
    import tifffile

    zarr = import_zarr()
    header = _header(path, choice)
    tif = tifffile.TiffFile(path)
    series = tif.series[choice.get("series") or 0]
    array: Any = zarr.open(series.aszarr(level=0), mode="r")
    axes = named(str(series.axes), series.shape, checked(choice.get("axes")))
    picked = {
        "S" if axis == "C" and "C" not in axes else axis: choice[name]
        for name, axis in (("time", "T"), ("channel", "C"))
        if choice.get(name) is not None
    }
    left = "".join(axis for axis in axes if axis not in picked)
    signed = holds_signed(tif, series.dtype)

    def read(window: Window) -> np.ndarray:
        parts = dict(zip("ZYX"[-len(window) :], window, strict=True))
        planes = next((a for a in axes if a in "IQ" and "Z" not in axes), "Z")
        parts[planes] = parts.get("Z", slice(None))
        index = (picked.get(axis, parts.get(axis, slice(None))) for axis in axes)
        pixels = np.asarray(array[tuple(index)])
        pixels = as_signed(pixels) if signed else pixels
        pixels, has_channels = arrange(pixels, left)  # ([C,] X, Y[, Z])
        return _file_order(pixels, has_channels)

    weakref.finalize(read, tif.close)  # open for as long as its pixels may be read
    return _from_header(path, header, read)


def _open_nifti(path: Path, choice: Choice) -> DiskImage:
    import nibabel as nib

    header = _header(path, choice)
    proxy: Any = nib.load(path).dataobj  # type: ignore[attr-defined]
    flat = len(header.spatial_shape) == 2

    def read(window: Window) -> np.ndarray:
        index = tuple(window)[::-1]
        pixels = np.asarray(proxy[(*index, ...)])  # (X, Y[, Z][, 1...][, C])
        pixels = pixels.reshape(*pixels.shape[: len(index)], -1)
        return _file_order(np.moveaxis(pixels, -1, 0), True)

    if is_gzip(path):  # every window inflates it anyhow
        check_checksum(path, math.prod(proxy.shape) * proxy.dtype.itemsize)
    if flat and len(proxy.shape) > 2 and proxy.shape[2] != 1:
        raise ValueError(f"{path} of shape {proxy.shape} is neither a plane nor a volume")
    return _from_header(path, header, read)


def _header(path: Path, choice: Choice) -> Volume:
    """Shape, pixel size and unit as `load_image` would find them, of any size."""
    return AutoReader(max_bytes=1 << 62, **choice).open(path, header_only=True)


def _from_header(path: Path, header: Volume, read: Callable[[Window], np.ndarray]) -> DiskImage:
    dims = len(header.spatial_shape)
    sizes = np.linalg.norm(header.affine[:3, :3], axis=0)[:dims]
    status = path.stat()
    return DiskImage(
        path=path,
        shape=tuple(int(side) for side in header.spatial_shape[::-1]),
        channels=int(header.array.shape[0]) if header.has_channels else 1,
        dtype=header.array.dtype,
        spacing=tuple(float(size) for size in sizes[::-1]),
        unit=header.spatial_unit if header.states_size else None,
        identity={"bytes": status.st_size, "mtime_ns": status.st_mtime_ns},
        read=read,
        affine=np.asarray(header.affine, dtype=np.float64),
        spacing_source=header.spacing_source,
        planes=header.planes,
        channel_names=header.channel_names,
    )


def _file_order(pixels: np.ndarray, has_channels: bool) -> np.ndarray:
    """`([C,] X, Y[, Z])` to `(C, [Z,] Y, X)`, without a copy."""
    pixels = pixels if has_channels else pixels[None]
    return pixels.swapaxes(1, -1)


_OPENERS: dict[Format, Callable[[Path, Choice], DiskImage]] = {
    OME_ZARR: _open_zarr,
    TIFF: _open_tiff,
    NIFTI: _open_nifti,
}
