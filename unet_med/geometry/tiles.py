"""Tiles that together cover an image, each pixel once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from unet_med.geometry.axis import PerAxis, per_axis, up_to


@dataclass(frozen=True)
class Tile:
    """One pass of the network: what it reads and which pixels it alone writes.

    Both are one ``(start, stop)`` pair an axis in px, counted from the image's
    first pixel. `read` may begin below 0 and end beyond the image: there the image
    is mirrored (`mirror_index`). `write` lies inside the image.
    """

    read: tuple[tuple[int, int], ...]
    write: tuple[tuple[int, int], ...]

    def crop(self, lost: PerAxis = 0) -> tuple[slice, ...]:
        """Where `write` lies in the network's output for `read`.

        Args:
            lost: px by which the output is smaller than the input on each side: the
                margin of a valid network, 0 for a same-padded one; one, or one an axis.

        Returns:
            One slice an axis, relative to the output's first pixel.
        """
        less = per_axis("lost", lost, len(self.read))
        return tuple(
            slice(start - first - px, stop - first - px)
            for (first, _), (start, stop), px in zip(self.read, self.write, less, strict=True)
        )


def tile_grid(
    shape: Sequence[int],
    tile: Sequence[int],
    *,
    margin: PerAxis,
    stride: PerAxis,
    padding: str = "valid",
) -> list[Tile]:
    """Tiles that together write every pixel of an image exactly once.

    All tiles read windows of one shape, and their windows start whole strides
    apart: a U-Net repeats its result only under such shifts. Steps are spread
    evenly. A valid network's first window starts `margin` before the image; a
    same-padded network's windows stay inside the image extended at its far end to
    a multiple of the stride, because the zeros inside the network belong at
    exactly that edge, and keep `margin` px from every other edge of a window.

    Args:
        shape: sides of the image, px.
        tile: input sides of the network, px; a same-padded network's are cut to the
            extended image.
        margin: px each tile loses per side (valid), or that cannot be trusted next
            to a window's edge inside the image (same; see `halo`); one, or one an axis.
        stride: product of the network's poolings, px; one, or one an axis.
        padding: ``"valid"`` or ``"same"``.

    Returns:
        Tiles in row-major order.

    Raises:
        ValueError: a tile is too small to cover its axis.

    >>> [t.write for t in tile_grid((600,), (572,), margin=92, stride=16)]
    [((0, 224),), ((224, 600),)]
    """
    margins, strides = (
        per_axis(name, value, len(shape))
        for name, value in (("margin", margin), ("stride", stride))
    )
    axes = [
        _windows(length, side, px, step, padding)
        for length, side, px, step in zip(shape, tile, margins, strides, strict=True)
    ]
    return [
        Tile(read=tuple(read for read, _ in windows), write=tuple(write for _, write in windows))
        for windows in product(*axes)
    ]


def cheapest_tile(
    length: int, sides: Sequence[int], *, margin: int, stride: int, padding: str = "valid"
) -> int:
    """Tile side that covers an axis with the fewest pixels read, px.

    An even split: where two tiles are needed, two small ones, not a full and a
    thin one.

    Args:
        length: side of the image, px.
        sides: sides to choose from, each large enough to cover the axis.
        margin: as in `tile_grid`, of this axis.
        stride: as in `tile_grid`, of this axis.
        padding: as in `tile_grid`.

    Returns:
        The side with the least ``tiles * side``; of equals the largest.

    Raises:
        ValueError: one of `sides` is too small to cover the axis.

    >>> from unet_med.geometry import valid_input_sizes
    >>> cheapest_tile(520, valid_input_sizes(204, 700), margin=92, stride=16)
    460
    """
    return min(
        sides, key=lambda side: (len(_windows(length, side, margin, stride, padding)) * side, -side)
    )


def mirror_index(i: int, length: int) -> int:
    """Pixel that stands at position `i` of an endlessly mirrored axis.

    The edge pixel is not repeated (the release's border, numpy's ``reflect``);
    beyond the far edge the axis is mirrored again. An axis of one pixel repeats it.

    Args:
        i: position, px, any integer.
        length: side of the image, px.

    Returns:
        Index from 0 to ``length - 1``.

    >>> [mirror_index(i, 3) for i in range(-3, 6)]
    [1, 2, 1, 0, 1, 2, 1, 0, 1]
    """
    period = max(1, 2 * (length - 1))
    return min(i % period, -i % period)


def _windows(
    length: int, side: int, margin: int, stride: int, padding: str
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(read, write) pairs along one axis; see `tile_grid`."""
    first, end = -margin, length + margin
    if padding == "same":
        first, end = 0, up_to(stride, length)
        side = min(side, end)
    # From the first window to the last, in strides, and at most so many a step.
    span = max(0, -(-(end - first - side) // stride))
    step = (side - 2 * margin) // stride
    if span and step < 1:
        raise ValueError(
            f"tile side {side} px keeps {side - 2 * margin} px between margins of {margin} px, "
            f"less than one step of {stride} px; smallest side that tiles {length} px: "
            f"{side + stride * (1 - step)}"
        )
    last = -(-span // step) if span else 0
    starts = [first + stride * (span * i // max(1, last)) for i in range(last + 1)]
    bounds = [0, *(start + margin for start in starts[1:]), length]
    return [((start, start + side), (bounds[i], bounds[i + 1])) for i, start in enumerate(starts)]
