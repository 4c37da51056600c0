"""The paper's random elastic deformation: coarse nodes -> displacement field -> warp.

Ronneberger et al. 2015, section 3.1: displacement vectors on a coarse 3x3 grid,
Gaussian with 10 px standard deviation, and from them a displacement for every
pixel by bicubic interpolation. Displacements are interpolated, never coordinates, so zero vectors
mean no deformation. A rotation before it is one more term of the displacement (`motion_of`), so
that both resample an image once.

Axes and sign: component `k` of a displacement moves along tensor axis `k` of the
image, in px, and ``output(x) = input(x + displacement(x))``.
"""

from __future__ import annotations

from unet_med.deformation.motion import farthest, motion_of, moved_by
from unet_med.deformation.nodes import (
    draw_nodes,
    interpolate_nodes,
    node_grid,
    random_displacement,
)
from unet_med.deformation.resampling import Field, warp

__all__ = [
    "Field",
    "draw_nodes",
    "farthest",
    "interpolate_nodes",
    "motion_of",
    "moved_by",
    "node_grid",
    "random_displacement",
    "warp",
]
