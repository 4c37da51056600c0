"""What comes out of a network, whoever built it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unet_med.geometry import per_axis
from unet_med.geometry.plain import plain


def output_sides(
    network: Any, tile_size: int | Sequence[int], margin: int | Sequence[int] | None = None
) -> list[int]:
    """Sides of a network's output for a tile, px, one for all axes or one an axis.

    Args:
        network: a `UNet`, or any other.
        tile_size: what goes in.
        margin: what another network loses on each side; None: nothing.

    >>> from monai.networks.nets import BasicUNet
    >>> from unet_med.networks import UNet
    >>> output_sides(UNet(), 572), output_sides(BasicUNet(2), [64, 48])
    ([388], [64, 48])
    """
    given = plain(tile_size)
    tile = [given] if isinstance(given, int) else [*given]
    if hasattr(network, "output_size"):
        sides = network.output_size(tile[0] if len(tile) == 1 else tuple(tile))
        return [sides] if isinstance(sides, int) else [*sides]  # one an axis if axes differ
    lost = per_axis("margin", 0 if margin is None else margin, len(tile))
    return [side - 2 * each for side, each in zip(tile, lost, strict=True)]
