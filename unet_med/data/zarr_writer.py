"""OME-Zarr, NGFF 0.5: the image, its halved copies and its metadata."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.array_writer import UNITS, ArrayWriter, channel_first, storable
from unet_med.data.atomic import atomic_write
from unet_med.data.formats import is_zarr
from unet_med.data.pixel_size import voxel_sizes
from unet_med.data.zarr_reader import import_zarr

SMALLEST = 512  # px: the coarsest level fits a screen
_CHUNK = {2: 512, 3: 128}  # px a side at most, by the number of axes that are longer than 1 px
_UNIT_NAMES = {"um": "micrometer", "mm": "millimeter"}


def write_ome_zarr(
    path: str | os.PathLike[str],
    array: np.ndarray,
    affine: np.ndarray | None = None,
    spatial_unit: str | None = "um",
) -> None:
    """Write a whole image as OME-Zarr (NGFF 0.5) with its pixel size.

    Levels halve the spatial axes until no side is above 512 px, thick slices not before pixels
    are about as wide (`pyramid`). Integers take every second pixel and floats the mean: labels
    stay labels.

    Args:
        path: folder `NAME.zarr` to write, in one step; it replaces an earlier Zarr folder.
        array: `(C, X, Y[, Z])`; see `storable` for the dtypes. One channel has no axis.
        affine: voxel to world in `spatial_unit`, `(4, 4)`; its translation is not kept, which a
            warning says once.
        spatial_unit: `"um"` or `"mm"`; None: the pixel size is not known, and the file has
            no unit.

    Raises:
        ValueError: the affine rotates or flips, which OME-Zarr cannot state, or another unit.
        ImportError: zarr is missing.
    """
    zarr = import_zarr()
    if spatial_unit not in (*UNITS, None):
        raise ValueError(f"spatial unit {spatial_unit!r} is not one of {UNITS}")
    image = storable(channel_first(array))
    image = image.swapaxes(1, -1)  # (C, X, Y[, Z]) -> (C, [Z,] Y, X)
    space = image.ndim - 1
    has_channels, mean = image.shape[0] > 1, image.dtype.kind == "f"
    sizes = (1.0,) * 3 if affine is None else voxel_sizes(np.asarray(affine), "OME-Zarr")
    image = image if has_channels else image[0]
    levels = pyramid(image.shape[-space:], sizes[-space:])
    with atomic_write(path) as part:
        group = zarr.create_group(part, zarr_format=3)
        axes = ("z", "y", "x")[-space:]
        group.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [
                multiscale(
                    Path(path).name.partition(".")[0],
                    axes,
                    [str(level) for level in range(len(levels))],
                    factors=levels,
                    spacing=sizes[-space:],
                    unit=None if affine is None else spatial_unit,
                    has_channels=has_channels,
                    mean=mean,
                )
            ],
        }
        _put_levels(group, image, axes, levels)
        if is_zarr(Path(path)):
            shutil.rmtree(path)  # a folder is not replaced by a rename


def _put_levels(
    group: Any, image: np.ndarray, axes: Sequence[str], levels: Sequence[Sequence[int]]
) -> None:
    """Add the arrays of all levels; `axes` are the spatial ones of `image`."""
    space, mean = len(axes), image.dtype.kind == "f"
    channel = ("c",) * (image.ndim - space)
    for level in range(len(levels)):
        image = halve(image, halved_axes(levels, level), mean=mean) if level else image
        chunks = (1,) * len(channel) + tuple(chunk_sides(image.shape[-space:]))
        names = (*channel, *axes)
        group.create_array(str(level), data=image, chunks=chunks, dimension_names=names)


class OmeZarrWriter(ArrayWriter):
    """MONAI writer of OME-Zarr, for `SaveImaged` with this `writer` and `output_ext=".zarr"`.

    See `write_ome_zarr` for the content and `ArrayWriter` for the arguments. Needs the
    extra `[zarr]`.
    """

    save = staticmethod(write_ome_zarr)


def pyramid(
    sides: Sequence[int], spacing: Sequence[float], along: Sequence[bool] | None = None
) -> list[tuple[int, ...]]:
    """Pixels of full resolution along a pixel of each level, until the longest side fits a screen.

    A level halves the axes whose pixels are less than twice as long as the finest, so that pixels
    become about as long along all axes, and a stack of few thick slices keeps them.

    Args:
        sides: of the image, px.
        spacing: of a pixel, in one unit.
        along: which axes may be halved; None: all.

    >>> pyramid((30, 2048, 2048), (5.0, 1.0, 1.0))
    [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    >>> pyramid((1100, 100), (1.0, 1.0))
    [(1, 1), (2, 2), (4, 4)]
    """
    able = [True] * len(sides) if along is None else along
    levels: list[tuple[int, ...]] = [(1,) * len(sides)]
    while True:
        last = levels[-1]
        left = [-(-side // factor) for side, factor in zip(sides, last, strict=True)]
        sizes = [size * factor for size, factor in zip(spacing, last, strict=True)]
        longer = [k for k, may in enumerate(able) if may and left[k] > 1]
        if max((left[k] for k in longer), default=0) <= SMALLEST:
            return levels
        finest = min(sizes[k] for k in longer)
        next_ = (
            2 * factor if may and size < 2 * finest else factor
            for factor, may, size in zip(last, able, sizes, strict=True)
        )
        levels.append(tuple(next_))


def halved_axes(levels: Sequence[Sequence[int]], level: int) -> list[bool]:
    """Which axes a level halves, from 1 on."""
    return [two > one for one, two in zip(levels[level - 1], levels[level], strict=True)]


def chunk_sides(sides: Sequence[int]) -> list[int]:
    """Sides of the chunks of an array `([Z,] Y, X)`, px."""
    largest = _CHUNK[3 if sum(side > 1 for side in sides) > 2 else 2]
    return [min(side, largest) for side in sides]


def halve(pixels: np.ndarray, halved: Sequence[bool], *, mean: bool) -> np.ndarray:
    """Halve the sides, rounded up: every second pixel, or the mean of two.

    Args:
        pixels: `([C,] [Z,] Y, X)`.
        halved: whether to halve, for each spatial axis.
        mean: take the mean; a last single pixel keeps its value.

    >>> halve(np.array([1.0, 3.0, 5.0]), [True], mean=True).tolist()
    [2.0, 5.0]
    """
    for axis, half in enumerate(halved, start=pixels.ndim - len(halved)):
        if not half:
            continue
        length = pixels.shape[axis]
        even = np.take(pixels, range(0, length, 2), axis)
        if mean:
            odd = np.take(pixels, [min(i + 1, length - 1) for i in range(0, length, 2)], axis)
            even = (even + odd) / 2
        pixels = even
    return pixels


def multiscale(
    name: str,
    axes: Sequence[str],
    paths: Sequence[str],
    *,
    factors: Sequence[Sequence[int]],
    spacing: Sequence[float],
    unit: str | None,
    has_channels: bool,
    mean: bool,
) -> dict[str, Any]:
    """One entry of NGFF's `multiscales`.

    Args:
        name: of the image.
        axes: names of the spatial ones.
        paths: of the levels, within the group.
        factors: pixels of full resolution along a pixel of each level, by axis.
        spacing: pixel size of full resolution, by axis.
        unit: of `spacing`, `"um"`, `"mm"` or None.
        has_channels: whether an axis of channels goes before the spatial ones.
        mean: pixels of a level are means, at the centre of the pixels that they cover; else
            every second pixel, at its own place.
    """
    channel = [{"name": "c", "type": "channel"}] if has_channels else []
    length = {"unit": _UNIT_NAMES[unit]} if unit else {}
    return {
        "name": name,
        "axes": [*channel, *({"name": axis, "type": "space", **length} for axis in axes)],
        "datasets": [
            {
                "path": path,
                "coordinateTransformations": _transforms(spacing, of_level, has_channels, mean),
            }
            for path, of_level in zip(paths, factors, strict=True)
        ],
    }


def _transforms(
    spacing: Sequence[float], factors: Sequence[int], has_channels: bool, mean: bool
) -> list[dict[str, Any]]:
    """Scale, and translation if the centre of a pixel moves."""
    sizes = list(zip(spacing, factors, strict=True))
    channel = [1.0] * has_channels
    scale = {"type": "scale", "scale": [*channel, *(size * factor for size, factor in sizes)]}
    shift = [size * (factor - 1) / 2 for size, factor in sizes]
    if not (mean and any(shift)):
        return [scale]
    return [scale, {"type": "translation", "translation": [*(0.0 for _ in channel), *shift]}]
