"""OME-TIFF with the right pixel size for Fiji, QuPath and napari, through tifffile."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np

from unet_med.data.array_writer import UNITS, ArrayWriter, channel_first, storable
from unet_med.data.atomic import atomic_write
from unet_med.data.pixel_size import MICROMETRES, voxel_sizes

TILE = 256  # px a side
PYRAMID_ABOVE = 2048  # px a side; larger planes get tiles and halved copies
_CLASSIC_LIMIT = 2**32 - 2**25  # bytes; above it offsets need BigTIFF


def write_tiff(
    path: str | os.PathLike[str],
    array: np.ndarray,
    affine: np.ndarray | None = None,
    spatial_unit: str | None = "um",
    *,
    channel_names: tuple[str, ...] = (),
) -> None:
    """Write a whole image as deflated OME-TIFF with its pixel size in micrometres.

    Planes with a side above 2048 px are tiled and have halved copies down to that size
    (SubIFDs). Copies of integers take every second pixel, those of floats the mean: labels
    stay labels. The same image gives the same bytes.

    Args:
        path: file to write, in one step; a BigTIFF if 4 GB might not suffice.
        array: `(C, X, Y[, Z])`; see `storable` for the dtypes.
        affine: voxel to world in `spatial_unit`, `(4, 4)`; its translation is not kept, which a
            warning says once.
        spatial_unit: `"um"` or `"mm"`; None: the pixel size is not known, and the file has
            none.
        channel_names: one name a channel.

    Raises:
        ValueError: the affine rotates or flips, which a TIFF cannot state.
    """
    array = storable(channel_first(array))
    axes = "CYX" if array.ndim == 3 else "CZYX"
    array = array.swapaxes(1, -1)  # (C, X, Y[, Z]) -> (C, [Z,] Y, X)
    if array.shape[0] == 1:
        array, axes = array[0], axes[1:]
    sizes = None if affine is None else voxel_sizes(np.asarray(affine), "TIFF")
    metadata, options = ome_metadata(
        axes, sizes or (1.0,) * 3, spatial_unit if sizes else None, channel_names
    )
    _write(path, np.ascontiguousarray(array), metadata, options)


class TiffWriter(ArrayWriter):
    """MONAI writer of OME-TIFF, for `SaveImaged` with this `writer` and `output_ext=".tif"`.

    See `write_tiff` for the content of the file and `ArrayWriter` for the arguments.
    """

    save = staticmethod(write_tiff)
    save_options = ("channel_names",)


def ome_metadata(
    axes: str, sizes: Sequence[float], unit: str | None, channel_names: tuple[str, ...] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata of an OME-TIFF for tifffile: axes, pixel sizes and channels.

    Args:
        axes: of the array, such as `"CZYX"`.
        sizes: of a pixel along `(Z, Y, X)`, in `unit`; missing axes may have one, too.
        unit: `"um"` or `"mm"`; None: the pixel size is not known.
        channel_names: one name a channel.

    Returns:
        `metadata`, and further arguments of `TiffWriter.write`.

    Raises:
        ValueError: another unit.
    """
    metadata: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {}
    if unit is not None:
        if unit not in UNITS:
            raise ValueError(f"spatial unit {unit!r} is not one of {UNITS}")
        micrometres = dict(
            zip("XYZ", (size * MICROMETRES[unit] for size in sizes[::-1]), strict=False)
        )
        for axis, size in micrometres.items():
            if axis in axes:
                metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
        per_centimetre = (1e4 / micrometres["X"], 1e4 / micrometres["Y"])
        options = {"resolution": per_centimetre, "resolutionunit": "CENTIMETER"}
    if channel_names:
        metadata["Channel"] = {"Name": list(channel_names)}
    return metadata, options


def _write(
    path: str | os.PathLike[str],
    array: np.ndarray,
    metadata: dict[str, Any],
    options: dict[str, Any],
) -> None:
    import tifffile

    levels = reductions(array.shape[-2:])
    layout: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib"}
    layout |= {"tile": (TILE, TILE)} if levels else {}
    metadata = {**metadata, "UUID": _content_id(array, metadata)}
    with atomic_write(path) as part:
        ome = part.with_name("image.ome.tif")  # tifffile writes OME by this name
        with tifffile.TiffWriter(ome, bigtiff=needs_bigtiff(array.nbytes, levels)) as tif:
            tif.write(array, subifds=levels, metadata=metadata, **layout, **options)
            for _ in range(levels):
                array = halved(array)
                tif.write(array, subfiletype=1, metadata=None, **layout)
        ome.rename(part)


def _content_id(array: np.ndarray, metadata: dict[str, Any]) -> str:
    """The UUID of an OME-TIFF, by what is in it: what is written anew is the same, byte for byte.

    tifffile's own has the time, and the address of the machine's network card.
    """
    digest = hashlib.sha256(repr((array.shape, array.dtype.str, metadata)).encode())
    digest.update(array.data)
    return str(UUID(bytes=digest.digest()[:16], version=5))


def needs_bigtiff(size: int, levels: int) -> bool:
    """Whether so many bytes of pixels, with their halved copies, might exceed 4 GB."""
    return (size * 4 // 3 if levels else size) > _CLASSIC_LIMIT


def reductions(sides: Sequence[int]) -> int:
    """How often a plane is halved until no side is above `PYRAMID_ABOVE`.

    >>> reductions((2048, 100)), reductions((2049, 100)), reductions((100, 9000))
    (0, 1, 3)
    """
    return max(0, math.ceil(math.log2(max(sides) / PYRAMID_ABOVE)))


def halved(array: np.ndarray) -> np.ndarray:
    """Halve the sides of every plane: one of four integers, the mean of four floats."""
    y, x = (max(1, side // 2) for side in array.shape[-2:])
    rows, columns = (slice(0, 2 * n, 2) for n in (y, x))
    first: np.ndarray = array[..., rows, columns]
    if array.dtype.kind != "f" or min(array.shape[-2:]) < 2:
        return np.ascontiguousarray(first)
    quarters = [array[..., i : 2 * y : 2, j : 2 * x : 2] for i in (0, 1) for j in (0, 1)]
    return sum(quarters, np.zeros_like(first)) / array.dtype.type(4)
