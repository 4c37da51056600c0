"""Logits of a part of an image that is never in memory as a whole, as one pass gives them.

One pass over the whole fixes where the network's grid of strides lies, where a valid network
mirrors the image and where a same-padded one meets zeros. A part keeps to all three: its
windows start whole strides from the image's first pixel, mirrors and zeros stand at the
image's own edges only, and everywhere else the part is read with the context that the
network needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unet_med.geometry import Tile, tile_grid
from unet_med.inferers.batch_statistics import BatchNorm, own_statistics, window_sides
from unet_med.inferers.overlap_tile import OverlapTileInferer
from unet_med.inferers.stitch import BORDERS, Stitcher
from unet_med.inferers.test_time_augmentation import Box, views
from unet_med.inferers.tile_size import requested_sides
from unet_med.inferers.tiling import Tiling

Read = Callable[[Box], Tensor]


def region_logits(
    read: Read,
    shape: Sequence[int],
    box: Box,
    network: nn.Module,
    *,
    inferer: OverlapTileInferer,
    tiling: Tiling,
    tile: Sequence[int],
) -> Tensor:
    """Logits of a part of an image, equal to those of one pass over all of it.

    Args:
        read: gives the pixels of a box inside the image, ``(B, C, *sides)``, in the type and
            on the device that the network wants.
        shape: sides of the whole image, px.
        box: the part, ``(start, stop)`` an axis, px.
        network: the network; its batch normalisation must have fixed statistics.
        inferer: border, test-time averaging and `sw_batch_size`.
        tiling: geometry of `network`.
        tile: largest input sides of the network, px; cut to what the part needs.

    Returns:
        ``(B, K, *sides of the box)``.

    Raises:
        ValueError: a tile side does not fit the network.
    """
    ways = views(inferer.tta, tiling.spatial_dims)
    total: Tensor | None = None
    for view in ways:
        whole, part = view.shape(shape), view.find(box, shape)
        plan = tiles_of_region(whole, part, view.shape(tile), tiling)
        pixels = view.apply(
            read_mirrored(read, shape, view.find_back(plan.read, shape), str(inferer.padding_mode))
        )
        logits = view.undo(_stitch(pixels, plan, network, inferer, tiling))
        total = logits if total is None else total.add_(logits)
    assert total is not None  # there is at least one view
    return total if len(ways) == 1 else total.div_(len(ways))


@dataclass(frozen=True)
class RegionTiles:
    """How a part is worked.

    Attributes:
        read: what must be read, px of the whole image; may reach beyond it.
        tiles: of the network, counted from the first pixel of `read`.
        crop: the part in the stitched result, which is as large as `read`.
    """

    read: Box
    tiles: list[Tile]
    crop: tuple[slice, ...]


def tiles_of_region(
    shape: Sequence[int], box: Box, tile: Sequence[int], tiling: Tiling
) -> RegionTiles:
    """What to read and which tiles to run for a part of an image.

    Args:
        shape: sides of the whole image, px.
        box: the part, ``(start, stop)`` an axis, px, inside the image.
        tile: largest input sides of the network, px.
        tiling: geometry of the network.
    """
    spans = [_span(n, *side, tiling) for n, side in zip(shape, box, strict=True)]
    lengths = [stop - start for start, stop in spans]
    limits = requested_sides(lengths, tiling, tile)
    sides = [min(side, tiling.whole_side(n)) for side, n in zip(limits, lengths, strict=True)]
    tiles = tile_grid(
        lengths,
        sides,
        margin=tiling.margin,
        stride=tiling.stride,
        padding=tiling.padding or "same",
    )
    lost = tiling.lost
    reach = [max(t.read[axis][1] for t in tiles) for axis in range(len(sides))]
    return RegionTiles(
        read=tuple(
            (start - lost, start + stop) for (start, _), stop in zip(spans, reach, strict=True)
        ),
        tiles=[Tile(_moved(t.read, lost), _moved(t.write, lost)) for t in tiles],
        crop=tuple(
            slice(start - first + lost, stop - first + lost)
            for (start, stop), (first, _) in zip(box, spans, strict=True)
        ),
    )


def image_statistics(
    read: Read,
    shape: Sequence[int],
    network: nn.Module,
    layers: Sequence[BatchNorm],
    *,
    inferer: OverlapTileInferer,
    tiling: Tiling,
) -> list[dict[str, Tensor]]:
    """Statistics that batch normalisation has under `OverlapTileInferer(statistics="image")`.

    Args:
        read: as in `region_logits`, of one image.
        shape: sides of the image, px.
        network: the network.
        layers: those of its layers that keep statistics; left as they were.
        inferer: the border.
        tiling: geometry of `network`.

    Returns:
        Statistics of each layer, for its `load_state_dict`.
    """
    # As the inferer: at the bottom a channel of a single pixel has no statistics, two at least.
    large = [max(length, 2 * tiling.stride) for length in shape]
    tiles = tile_grid(
        large,
        window_sides(large, tiling),
        margin=tiling.margin,
        stride=tiling.stride,
        padding=tiling.padding or "same",
    )

    def read_large(box: Box) -> Tensor:
        return read_mirrored(read, shape, box)

    def look() -> None:
        for window in tiles:
            network(read_mirrored(read_large, large, window.read, str(inferer.padding_mode)))

    with torch.no_grad(), own_statistics(layers, look):
        return [{k: v.clone() for k, v in layer.named_buffers()} for layer in layers]


def read_mirrored(read: Read, shape: Sequence[int], box: Box, border: str = "reflect") -> Tensor:
    """A box that may reach beyond the image; only pixels that show in it are read.

    Args:
        read: gives a box inside the image, ``(B, C, *sides)``.
        shape: sides of the image, px.
        box: ``(start, stop)`` an axis, px.
        border: what stands beyond the image, as in `OverlapTileInferer`.
    """
    places = [
        [BORDERS[border](i, length) for i in range(*side)]
        for side, length in zip(box, shape, strict=True)
    ]
    pixels = read(tuple((min(p), max(p) + 1) for p in places))
    for axis, p in enumerate(places, start=2):
        index = [i - min(p) for i in p]
        if index != list(range(pixels.shape[axis])):
            pixels = pixels.index_select(axis, torch.tensor(index, device=pixels.device))
    return pixels


def _span(length: int, start: int, stop: int, tiling: Tiling) -> tuple[int, int]:
    """The pixels of one axis that are stitched so that ``start:stop`` of them is exact."""
    start -= start % tiling.stride
    if tiling.padding == "valid":
        return start, stop
    far = -(-length // tiling.stride) * tiling.stride  # where one pass meets the zeros
    first = max(0, start - tiling.margin)
    last = min(far, stop + tiling.margin)
    return first - first % tiling.stride, last + -last % tiling.stride


def _moved(box: Box, by: int) -> Box:
    return tuple((start + by, stop + by) for start, stop in box)


def _stitch(
    pixels: Tensor,
    plan: RegionTiles,
    network: nn.Module,
    inferer: OverlapTileInferer,
    tiling: Tiling,
) -> Tensor:
    stitcher = Stitcher(
        predict=network,
        batch_size=inferer.sw_batch_size,
        border=str(inferer.padding_mode),
        dtype=pixels.dtype,
        run_on=pixels.device,
        device=pixels.device,
        progress=False,
    )
    index: tuple[Any, ...] = (..., *plan.crop)
    return stitcher.stitch(pixels, plan.tiles, tiling.lost)[index]
