"""Random transforms that only draw: the numbers travel with a tile until all are applied.

Each stands in the place of the transform that it holds and draws as that does, so a tile has the
numbers that it would have had with MONAI's and our transforms one by one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, RandRotated, Transform
from monai.transforms.utils import create_rotate

from unet_med.deformation import Field, motion_of, moved_by, node_grid
from unet_med.transforms.elastic import ONE_SHAPE, RandElasticDeformd
from unet_med.transforms.grey import RandGreyValued

__all__ = ["DRAWS", "Deform", "DrawCurve", "DrawDeformation", "DrawRotation"]

DRAWS = "draws"  # the entry of an item with all that was drawn, one float64 tensor
Item = Mapping[Hashable, Any]


class Drawing(Randomizable, Transform):
    """Draws what a random transform would do to an item, and notes it in the entry `draws`.

    Args:
        transform: what draws.
    """

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> Drawing:
        """Seed the transform, which may have generators of its own."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw; `data` is the image `(C, *S)`."""
        self.transform.randomize(data)


class DrawRotation(Drawing):
    """Notes the matrix `(d, d)` of a rotation about the tile's centre, in pixels."""

    transform: RandRotated

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Draw as MONAI's transform does."""
        self.randomize()
        drawn = self.transform.rand_rotate
        drawn.randomize()
        dims = data["image"].ndim - 1
        matrix = np.eye(dims)
        if self.transform._do_transform:
            angles = drawn.x if dims == 2 else (drawn.x, drawn.y, drawn.z)
            matrix = np.asarray(create_rotate(dims, angles))[:dims, :dims]
        return {**data, DRAWS: torch.from_numpy(matrix)}


class DrawDeformation(Drawing):
    """Notes `unet_med.deformation.motion_of` the rotation before it, if any, and a deformation."""

    transform: RandElasticDeformd

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Draw as `RandElasticDeformd` does."""
        self.randomize(data["image"])
        nodes = self.transform.drawn.nodes(data["image"].ndim - 1)
        return {**data, DRAWS: motion_of(data.get(DRAWS), nodes)}


class Deform(DrawDeformation):
    """Resamples an item once, by the rotation before it and a deformation."""

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Move every key; all become float32, as MONAI's rotation leaves them."""
        d = super().__call__(data)
        motion, drawn = d.pop(DRAWS), self.transform.drawn
        images = self.transform.images_of_one_shape(d, ONE_SHAPE)
        field = None
        if motion.any():
            shape = images["image"].shape[1:]
            grid = node_grid(len(shape), drawn.grid, drawn.kernel)
            field = Field(moved_by(motion, shape, grid, kernel=drawn.kernel))
        for key, mode in self.transform.key_iterator(d, self.transform.modes):
            d[key] = drawn.apply(images[key].float(), field, mode)
        return d


class DrawCurve(Drawing):
    """Notes the heights of a grey-value curve behind the motion, in one row of numbers."""

    transform: RandGreyValued

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Draw as `RandGreyValued` does."""
        self.randomize()
        curve = self.transform.drawn.curve()
        return {**data, DRAWS: torch.cat([data[DRAWS].flatten(), curve])}
