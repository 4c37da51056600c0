"""Which tiles give a box of an image exactly, and what they read.

One pass over the whole image fixes where the network's grid of strides lies, where a valid
network mirrors the image and where a same-padded one meets zeros. A box keeps to all three: its
windows start whole strides from the image's first pixel, mirrors and zeros stand at the image's
own edges only, and everywhere else the box is read with the context that the network needs. The
whole image is the box that is the image.
"""

from __future__ import annotations

from collections.abc import Sequence

from unet_med.geometry import Tile, tile_grid
from unet_med.inferers.pixels import Box
from unet_med.inferers.test_time_augmentation import View
from unet_med.inferers.tiling import AxisTiling, Tiling


def spans_of(shape: Sequence[int], box: Box, tiling: Tiling) -> Box:
    """The pixels that are stitched so that those of a box are exact.

    Args:
        shape: sides of the whole image, px.
        box: inside the image, px.
        tiling: geometry of the network.
    """
    return tuple(_span(*all) for all in zip(shape, box, tiling.axes, strict=True))


def tiles_of(spans: Box, box: Box, sides: Sequence[int], tiling: Tiling) -> list[Tile]:
    """Tiles that together write every pixel of a box once, counted from the image's first pixel.

    Args:
        spans: of `spans_of`.
        box: as there.
        sides: of the network's input, px.
        tiling: geometry of the network.

    Raises:
        ValueError: a side is too small.
    """
    tiles = tile_grid(
        [stop - start for start, stop in spans],
        sides,
        margin=tiling.margin,
        stride=tiling.stride,
        padding=tiling.padding or "",
    )
    moved = [Tile(_moved(t.read, spans), _within(_moved(t.write, spans), box)) for t in tiles]
    return [tile for tile in moved if all(start < stop for start, stop in tile.write)]


def needed_for(shape: Sequence[int], box: Box, tiling: Tiling, ways: Sequence[View]) -> Box:
    """All that any tiles of a box read, in any of the views; may reach beyond the image.

    Args:
        shape: sides of the whole image, px.
        box: inside the image, px.
        tiling: geometry of the network.
        ways: how the network sees the image.
    """
    boxes = []
    for view in ways:
        seen = view.shape(shape)
        spans = spans_of(seen, view.find(box, shape), tiling)
        boxes.append(view.find_back(tuple(map(_read, spans, tiling.axes)), shape))
    return tuple(
        (min(a for a, _ in side), max(b for _, b in side)) for side in zip(*boxes, strict=True)
    )


def _span(length: int, side: tuple[int, int], axis: AxisTiling) -> tuple[int, int]:
    """The pixels of one axis that are stitched so that those of a box's side are exact."""
    start, stop = side
    start -= start % axis.stride
    if axis.padding != "same":
        return start, stop
    first, last = max(0, start - axis.margin), stop + axis.margin
    # At its far end one pass meets the zeros, which the grid of tiles rounds up to.
    return first - first % axis.stride, min(length, last + -last % axis.stride)


def _read(span: tuple[int, int], axis: AxisTiling) -> tuple[int, int]:
    """What tiles of a span read: of any legal side they end at the same pixel."""
    start, stop = span
    if axis.padding == "same":
        return start, stop + -stop % axis.stride
    if axis.padding == "valid":
        return start - axis.lost, start - axis.lost + axis.whole_side(stop - start)
    margin = axis.margin + axis.stride  # a foreign network may turn out to be either
    return start - margin, stop + margin


def _moved(box: Box, spans: Box) -> Box:
    pairs = zip(box, spans, strict=True)
    return tuple((start + first, stop + first) for (start, stop), (first, _) in pairs)


def _within(part: Box, box: Box) -> Box:
    return tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(part, box, strict=True))
