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
from unet_med.inferers.tiling import Tiling


def spans_of(shape: Sequence[int], box: Box, tiling: Tiling) -> Box:
    """The pixels that are stitched so that those of a box are exact.

    Args:
        shape: sides of the whole image, px.
        box: inside the image, px.
        tiling: geometry of the network.
    """
    return tuple(_span(n, *side, tiling) for n, side in zip(shape, box, strict=True))


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
        boxes.append(view.find_back(tuple(_read(span, tiling) for span in spans), shape))
    return tuple(
        (min(a for a, _ in side), max(b for _, b in side)) for side in zip(*boxes, strict=True)
    )


def _span(length: int, start: int, stop: int, tiling: Tiling) -> tuple[int, int]:
    """The pixels of one axis that are stitched so that ``start:stop`` of them is exact."""
    start -= start % tiling.stride
    if tiling.padding != "same":
        return start, stop
    first, last = max(0, start - tiling.margin), stop + tiling.margin
    # At its far end one pass meets the zeros, which the grid of tiles rounds up to.
    return first - first % tiling.stride, min(length, last + -last % tiling.stride)


def _read(span: tuple[int, int], tiling: Tiling) -> tuple[int, int]:
    """What tiles of a span read: of any legal side they end at the same pixel."""
    start, stop = span
    if tiling.padding == "same":
        return start, stop + -stop % tiling.stride
    if tiling.padding == "valid":
        return start - tiling.lost, start - tiling.lost + tiling.whole_side(stop - start)
    margin = tiling.margin + tiling.stride  # a foreign network may turn out to be either
    return start - margin, stop + margin


def _moved(box: Box, spans: Box) -> Box:
    pairs = zip(box, spans, strict=True)
    return tuple((start + first, stop + first) for (start, stop), (first, _) in pairs)


def _within(part: Box, box: Box) -> Box:
    return tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(part, box, strict=True))
