"""Sizes, margins and tiles of U-Nets: integers only, in pixels.

A U-Net with unpadded ("valid") convolutions returns less than it reads
(Ronneberger et al. 2015, section 2, figure 1), and what it returns moves with
its input only in steps of its stride, the product of its poolings. Both facts are settled
here, so that tensor code only slices: by `Axis` for a network's levels along one axis, and by
functions of the depth for the paper's, whose levels and axes are all alike.
"""

from __future__ import annotations

from unet_med.geometry.axis import (
    Axis,
    PerAxis,
    PerLevel,
    alike,
    axes_of,
    per_axis,
    same_size,
    up_to,
)
from unet_med.geometry.sizes import (
    halo,
    input_size_for,
    margin,
    output_size,
    valid_input_sizes,
)
from unet_med.geometry.tiles import Tile, cheapest_tile, mirror_index, tile_grid

__all__ = [
    "Axis",
    "PerAxis",
    "PerLevel",
    "Tile",
    "alike",
    "axes_of",
    "cheapest_tile",
    "halo",
    "input_size_for",
    "margin",
    "mirror_index",
    "output_size",
    "per_axis",
    "same_size",
    "tile_grid",
    "up_to",
    "valid_input_sizes",
]
