"""Which tile to run: what the caller asked for, or the cheapest that fits the memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from unet_med import geometry
from unet_med.geometry.plain import plain, whole
from unet_med.inferers.tiling import AxisTiling, Tiling
from unet_med.memory import free_bytes

TileSize = str | int | Sequence[int | None]

# Peak of a forward pass without gradients, in feature maps of full resolution and full width:
# 3 to 8 measured on a CPU over depths 2 to 4, four up-samplings, 2-D and 3-D; two to spare.
MAPS_AT_PEAK = 10
# A 2048 px pass takes 3 times as long as tiles of about this side: they stay in the cache.
CPU_SIDE_2D = 700
# Convolution kernels count the elements of one tensor with 32 bits; a skip doubles the width.
MOST_ELEMENTS = 2**31 - 1


def asked_size(size: Any) -> TileSize:
    """A tile size in Python's own numbers: ``"auto"``, a side, or sides of which None is one.

    Raises:
        ValueError: a word other than ``"auto"``.
        TypeError: a side is neither a whole number nor None.
    """
    if isinstance(size, str):
        if size != "auto":
            raise ValueError(f"tile_size {size!r} is neither 'auto' nor a number of px")
        return size
    given = plain(size)
    try:
        if not isinstance(given, Iterable):
            return whole("tile_size", given)
        sides = [None if side is None else whole("tile_size", side) for side in given]
    except TypeError:
        raise TypeError(
            f"tile_size {size!r}: a side is a whole number of px, or among several None, for the "
            "whole axis"
        ) from None
    return tuple(sides) if isinstance(given, tuple) else sides


def requested_sides(shape: Sequence[int], tiling: Tiling, tile_size: TileSize) -> list[int]:
    """Input sides for a tile size that the caller gave, px.

    Args:
        shape: sides of the image, px.
        tiling: geometry of the network.
        tile_size: one side for all axes or one an axis, of `asked_size`; a component that is None
            or not positive takes the whole axis, as in MONAI.

    Raises:
        ValueError: a side does not fit the network, with the nearest that do; or there
            are not as many as axes.
    """
    given: Sequence[Any] = [tile_size] * len(shape) if isinstance(tile_size, int) else tile_size
    if len(given) != len(shape):
        raise ValueError(f"tile_size {tile_size} has {len(given)} sides for {len(shape)} axes")
    sides = []
    for axis, length, side in zip(tiling.axes, shape, given, strict=True):
        if side is None or side < 1:
            sides.append(axis.whole_side(length))
            continue
        try:
            axis.output_size(side)
        except ValueError as error:
            raise ValueError(f"tile_size {tile_size}: {error}") from None
        sides.append(side)
    return sides


def automatic_sides(
    shape: Sequence[int], tiling: Tiling, *, pixels: int, fast_pixels: int
) -> list[int]:
    """Input sides that read the fewest pixels in all, within a budget, px.

    Args:
        shape: sides of the image, px.
        tiling: geometry of the network.
        pixels: most pixels that one tile may have.
        fast_pixels: most pixels that it should have for speed; a network that cannot be
            tiled ignores this.
    """
    budget = pixels if tiling.whole_image_layer else min(pixels, fast_pixels)
    sides = [0] * len(shape)
    by_length = sorted(range(len(shape)), key=lambda axis: shape[axis])
    for done, axis in enumerate(by_length):  # what a short axis leaves goes to the longer ones
        share = int(budget ** (1 / (len(shape) - done)) + 1e-6)
        sides[axis] = _cheapest_side(shape[axis], tiling.axes[axis], share)
        budget //= sides[axis]
    return sides


def smaller_sides(sides: Sequence[int], tiling: Tiling) -> list[int] | None:
    """Sides of tiles of about half as many pixels, for memory that did not suffice, px.

    Returns:
        The sides with the longest one that can be smaller halved, or None where nothing smaller
        can be tiled.
    """
    least = tiling.stepping_sides()
    larger = [k for k, side in enumerate(sides) if side > least[k]]
    if tiling.whole_image_layer or not larger:
        return None
    longest = max(larger, key=lambda axis: sides[axis])
    step, first = tiling.axes[longest].stride, least[longest]
    half = first + max(0, (sides[longest] // 2 - first) // step * step)
    return [half if axis == longest else side for axis, side in enumerate(sides)]


def half_sides(sides: Sequence[int], tiling: Tiling) -> list[int] | None:
    """Largest legal sides of one shape, with at most half the pixels of a tile, px.

    A cube where all axes of the network are alike, otherwise the tile's own proportions. Training
    needs no context, so this may be smaller than any tile that can be stitched.

    Returns:
        The sides, or None where the network takes nothing so small.
    """
    half = (math.prod(sides) / 2) ** (1 / len(sides))
    limits = [half] * len(sides)
    if len({(axis.stride, axis.smallest) for axis in tiling.axes}) > 1:
        limits = [side * 2 ** (-1 / len(sides)) for side in sides]
    steps = [
        (int(limit + 1e-6) - axis.smallest) // axis.stride
        for limit, axis in zip(limits, tiling.axes, strict=True)
    ]
    if min(steps) < 0:
        return None
    return [axis.smallest + n * axis.stride for n, axis in zip(steps, tiling.axes, strict=True)]


def affordable_pixels(
    tiling: Tiling, device: torch.device, *, batch_size: int, itemsize: int
) -> tuple[int, int]:
    """Most pixels of one tile for memory, and for speed.

    The estimate is ``MAPS_AT_PEAK * channels * itemsize`` bytes a pixel, in 80 % of the free
    memory of a GPU or half of the main memory, rounded down to a power of two: small changes
    in free memory then leave the grid, and so the last bits of the result, alone. No tensor
    may exceed `MOST_ELEMENTS`. On a CPU, 2-D tiles of `CPU_SIDE_2D` are fastest; in 3-D the
    margins weigh more than the cache (132^3 gives a depth-3 network 44^3 voxels), so memory
    alone decides.

    Args:
        tiling: geometry of the network.
        device: where the network runs.
        batch_size: tiles a pass.
        itemsize: bytes of one number.
    """
    free = (0.5 if device.type == "cpu" else 0.8) * free_bytes(device)
    free = 2.0 ** (int(free).bit_length() - 1)
    width = batch_size * tiling.channels
    pixels = int(min(free / (MAPS_AT_PEAK * itemsize), MOST_ELEMENTS / 2) / width)
    on_cpu = device.type == "cpu" and tiling.spatial_dims == 2
    return pixels, CPU_SIDE_2D**2 if on_cpu else pixels


def _cheapest_side(length: int, axis: AxisTiling, limit: int) -> int:
    """Cheapest side up to `limit`, or the smallest that can cover the axis."""
    whole = axis.whole_side(length)
    least = min(whole, axis.stepping_side())
    return geometry.cheapest_tile(
        length,
        range(least, max(least, min(limit, whole)) + 1, axis.stride),
        margin=axis.margin,
        stride=axis.stride,
        padding=axis.padding or "same",
    )
