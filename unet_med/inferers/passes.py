"""What the inferer runs at a time: a network, a box of an image seen one way, and its tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor

from unet_med.geometry import Tile, alike
from unet_med.inferers.pixels import Box, Pixels
from unet_med.inferers.region import tiles_of
from unet_med.inferers.stitch import Stitcher, WrongSizeError
from unet_med.inferers.test_time_augmentation import View
from unet_med.inferers.tile_size import TileSize
from unet_med.inferers.tiling import Tiling

T = TypeVar("T")
Predict = Callable[..., Any]


@dataclass(frozen=True)
class Net:
    """A network as the inferer runs it: with its geometry, type and where results go."""

    predict: Predict
    members: tuple[Predict, ...]  # whose mean it is; itself where it is one
    tiling: Tiling
    dtype: torch.dtype | None  # of its weights; None: it has none
    home: torch.device | None  # where they are; likewise
    device: torch.device | None  # where results are put together; None: where the images are


@dataclass(frozen=True)
class Pass:
    """A box of images, seen one way, and the size of tiles that was asked for."""

    pixels: Pixels
    box: Box
    view: View
    stitcher: Stitcher
    size: TileSize
    cut: bool  # the size, to what the box needs
    room: Callable[[Tiling], tuple[int, int]]  # most pixels of a tile, for memory and for speed
    note: str


def call(network: Predict, args: Any, kwargs: Any, channels: int | None, tiles: Tensor) -> Any:
    """The network with its further arguments.

    Args:
        network: what is called.
        args: passed on as they are.
        kwargs: likewise.
        channels: of the image, where its condition follows it in the tiles; None: there is none.
        tiles: `(b, C, *tile)`.
    """
    if channels is None:
        return network(tiles, *args, **kwargs)
    return network(tiles[:, :channels], *args, condition=tiles[:, channels:], **kwargs)


def with_condition(images: Tensor, condition: Tensor | None) -> Tensor:
    """Images with their condition as further channels, so that tiles, mirror and views cut both.

    Raises:
        ValueError: the condition is no image of the same shape.
    """
    if condition is None:
        return images
    if condition.shape[:1] + condition.shape[2:] != images.shape[:1] + images.shape[2:]:
        raise ValueError(
            f"condition of shape {tuple(condition.shape)} for images of shape "
            f"{tuple(images.shape)}: tiles cut it as they cut images, so give it (B, C, *S) with "
            "their sides; what does not lie on the pixels goes under another name"
        )
    return torch.cat([images, condition.as_subclass(Tensor).to(images.device)], dim=1)


def tiles_for(
    spans: Box, box: Box, sides: Sequence[int], tiling: Tiling, asked: TileSize
) -> list[Tile]:
    """The grid for a box; refuses one that cannot be exact."""
    try:
        tiles = tiles_of(spans, box, sides, tiling)
    except ValueError as error:
        raise ValueError(f"tile_size {asked}: {error}") from None
    if len(tiles) > 1 and tiling.whole_image_layer:
        raise ValueError(
            f"{tiling.whole_image_layer} computes statistics over the whole image, so "
            f"{len(tiles)} tiles of {sides} px cannot equal one pass; use tile_size=-1 for one "
            f"pass, or a network without normalisation or with batch normalisation after eval()"
        )
    return tiles


def assuming(tiling: Tiling, size: TileSize, run: Callable[[Tiling], T]) -> T:
    """What runs under the likeliest padding; a foreign network shows its own in the first tile."""
    tried: WrongSizeError | None = None
    for known in _assumptions(tiling, size):
        try:
            return run(known)
        except WrongSizeError as error:
            tried = error
    raise ValueError(
        f"{tried}; with a margin of {tiling.margin} px a valid network loses "
        f"{alike([2 * axis.margin for axis in tiling.axes])} px an axis, and a same-padding one "
        f"keeps its size, in tiles of multiples of {tiling.stride} px: correct margin=, stride= or "
        f"tile_size="
    )


def _assumptions(tiling: Tiling, size: TileSize) -> list[Tiling]:
    """What a network's padding may be, likeliest first; one that says so leaves no choice."""
    if tiling.padding is not None:
        return [tiling]
    count = len(tiling.axes)
    given = [size] * count if isinstance(size, int) else [] if isinstance(size, str) else list(size)
    sides = [side for side in given if _asks(side)]
    if not sides or len(given) != count:  # of a wrong number of sides the tiles complain
        return [tiling.assume("same")]
    known = [side if _asks(side) else sides[0] for side in given]
    pairs = list(zip(tiling.axes, known, strict=True))
    if any(side < 2 * axis.margin + axis.stride for axis, side in pairs):
        return [tiling.assume("same")]
    if any(side % axis.stride for axis, side in pairs):
        return [tiling.assume("valid", known)]
    return [tiling.assume("same"), tiling.assume("valid", known)]


def _asks(side: Any) -> TypeGuard[int]:
    """Whether an entry of a tile size is a side, and not the whole axis."""
    return side is not None and side > 0


def float_weight(network: Any) -> Tensor | None:
    """A weight of a network, whose type its input needs and where it runs; None: it has none."""
    weights = network.parameters() if isinstance(network, torch.nn.Module) else ()
    return next((w for w in weights if w.is_floating_point()), None)
