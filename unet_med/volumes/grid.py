"""Sides of blocks, tiles and levels that keep a run exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

import torch

from unet_med.data.zarr_writer import pyramid
from unet_med.devices import HOST, cores, count
from unet_med.geometry import up_to
from unet_med.geometry.plain import whole
from unet_med.inferers.tile_size import (
    affordable_pixels,
    asked_size,
    automatic_sides,
    requested_sides,
)
from unet_med.memory import BYTES_A_PIXEL, available_bytes
from unet_med.segmentation import Volume
from unet_med.volumes.store import Layout

_SIDE = {2: 2048, 3: 256}  # px of a block: 134 MB of float32 for two classes in 3-D
_PLANES = 4  # of a block, for a network of planes


def choose_layout(volume: Volume, block: Sequence[int] | None = None) -> Layout:
    """Sides of the volume, its blocks and levels.

    Args:
        volume: whose network's stride decides which sides are legal; any are where it works on
            pixels of another size.
        block: sides, px, `([Z,] Y, X)`; None: 2048 px in 2-D and 256 px in 3-D.

    Raises:
        ValueError: a side is no multiple of its axis's stride; the message has the nearest.
    """
    image, dims = volume.source, volume.tiling.spatial_dims
    steps = [axis.stride if volume.same_grid else 1 for axis in volume.tiling.axes]
    # The network's planes may lie along any axis of the file.
    outside = len(image.shape) - dims
    within = [True] * dims + [False] * outside  # (X, Y[, Z])
    halved = tuple(volume.to_own_axes(within)[::-1])
    strides = volume.to_own_axes(steps + [1] * outside)[::-1]
    if block is None:
        wanted = [_SIDE[dims] if half else _PLANES for half in halved]
        block = [up_to(step, side) for side, step in zip(wanted, strides, strict=True)]
    block = [whole("a block side", side) for side in block]
    if len(block) != len(strides):
        raise ValueError(
            f"block {tuple(block)} has {len(block)} sides, {image.path} {len(strides)}"
        )
    for side, step in zip(block, strides, strict=True):
        if side < 1 or side % step:
            near = up_to(step, max(1, side - step + 1)), up_to(step, max(1, side))
            raise ValueError(
                f"block side {side} px is no multiple of the network's stride {step} px; nearest: "
                f"{', '.join(str(n) for n in sorted(set(near)))}"
            )
    cut = [min(b, up_to(s, n)) for b, s, n in zip(block, strides, image.shape, strict=True)]
    return Layout(
        shape=image.shape,
        block=tuple(cut),
        pyramid=_levels(image.shape, cut, pyramid(image.shape, image.spacing, halved)),
        spacing=image.spacing,
        unit=image.unit,
    )


def choose_tile(
    layout: Layout,
    volume: Volume,
    tile: int | Sequence[int] | None = None,
    threads: int = 1,
    workers: int = 1,
) -> tuple[int, ...]:
    """Input sides of the network inside a block, px, `([Z,] Y, X)`, as many as it has axes.

    Args:
        layout: whose blocks.
        volume: whose network; its inferer's `tile_size` counts unless it is `"auto"`.
        tile: sides, px; None: the cheapest that fit the memory, of which each worker has an
            equal share.
        threads: of a worker on a CPU.
        workers: on all GPUs of this machine.

    Raises:
        ValueError: a side does not fit the network, with the nearest that do.
    """
    tiling, segmenter = volume.tiling.in_file_order(), volume.segmenter
    lengths = block_needs(layout, volume)
    size = asked_size(segmenter.inferer.roi_size if tile is None else tile)
    if tile is None and isinstance(size, (list, tuple)):
        size = list(size)[::-1]  # of a bundle, so in MONAI's order (X, Y[, Z])
    if isinstance(size, str):
        pixels, fast = affordable_pixels(
            tiling,
            segmenter.device,
            batch_size=segmenter.inferer.sw_batch_size,
            itemsize=segmenter.dtype.itemsize,
        )
        pixels //= _sharing(segmenter.device, threads, workers)
        return tuple(automatic_sides(lengths, tiling, pixels=pixels, fast_pixels=fast))
    return tuple(requested_sides(lengths, tiling, size))


def block_needs(layout: Layout, volume: Volume) -> list[int]:
    """Sides of what is stitched for a block, px: a same-padded network needs its halo too."""
    axes = volume.tiling.in_file_order().axes
    sides = volume.working_sides(layout.block[::-1])[::-1][-len(axes) :]
    around = [2 * (axis.margin - axis.lost) for axis in axes]
    return [side + px for side, px in zip(sides, around, strict=True)]


def most_workers(layout: Layout, channels: int, threads: int) -> int:
    """Processes on this machine's CPU that each have a core a thread, and room for a block."""
    room = available_bytes() // (math.prod(layout.block) * channels * BYTES_A_PIXEL)
    return max(1, min(cores() // threads, room))


def _sharing(device: torch.device, threads: int, workers: int) -> int:
    """Workers that share the memory of one GPU, or of the machine if they run on its CPU."""
    if device != HOST:
        gpus = 1 if device.index is not None else count(device.type)
        return max(1, -(-workers // max(1, gpus)))
    return max(1, cores() // threads)


def _levels(
    shape: Sequence[int], block: Sequence[int], levels: Sequence[tuple[int, ...]]
) -> tuple[tuple[int, ...], ...]:
    """The levels of which blocks are whole pixels."""

    def fits(level: tuple[int, ...]) -> bool:
        sides = zip(shape, block, level, strict=True)
        return all(side >= length or side % factor == 0 for length, side, factor in sides)

    return tuple(takewhile(fits, levels))
