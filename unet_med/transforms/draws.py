"""Random transforms that only draw: the numbers travel with a tile until all are applied.

Each stands in the place of the transform that it holds and draws as that does, so a tile has the
numbers that it would have had with MONAI's and our transforms one by one.

Crop, flip and quarter turn take an item with pixels as they always did. Of an item whose pixels
are on a GPU they change the lines, which say where these are (`unet_med.data.DeviceImages`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    RandFlipd,
    Randomizable,
    RandRotate90d,
    RandRotated,
    RandZoomd,
    Transform,
)
from monai.transforms.utils import create_rotate, map_spatial_axes

from unet_med.data.entries import DRAWS, KNOWN, LINES
from unet_med.deformation import Field, motion_of, moved_by, node_grid
from unet_med.transforms.crop import RandTileCropd
from unet_med.transforms.elastic import ONE_SHAPE, RandElasticDeformd
from unet_med.transforms.grey import RandGreyValued
from unet_med.transforms.known import NoteKnownd

Item = Mapping[Hashable, Any]


class Drawing(Randomizable, Transform):
    """Draws what a random transform would do to an item, and notes it in the entry `DRAWS`.

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


class CutTile(Drawing):
    """Cuts the tile of `RandTileCropd` out of pixels or lines."""

    transform: RandTileCropd
    returns_copies = True  # as the transform says of itself

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """Entries that are cut."""
        return self.transform.keys

    @property
    def notes(self) -> NoteKnownd | None:
        """As the transform says of itself."""
        return self.transform.notes

    @property
    def reads_for_lines(self) -> tuple[str, ...]:
        """Entries that it looks at to cut lines: where a label is unknown."""
        return () if self.notes is None else ("label", KNOWN)

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Draw and cut; of an item with lines only these are left."""
        if LINES not in data:
            return self.transform(data)
        self.transform.draw(_frame(data), data)
        return {LINES: self.transform.drawn.cut_lines(data[LINES])}


class Flip(Drawing):
    """Flips pixels or lines, as `RandFlipd` of MONAI."""

    transform: RandFlipd

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Draw and flip."""
        if LINES not in data:
            return self.transform(data)
        self.randomize()
        lines = list(data[LINES])
        if self.transform._do_transform:
            for axis in _axes(lines, self.transform.flipper.spatial_axis):
                lines[axis] = lines[axis].flip(0)
        return {**data, LINES: lines}


class QuarterTurn(Drawing):
    """Turns pixels or lines by right angles, as `RandRotate90d` of MONAI."""

    transform: RandRotate90d

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Draw and turn."""
        if LINES not in data:
            return dict(self.transform(data))
        self.randomize()
        lines = list(data[LINES])
        if self.transform._do_transform:
            first, second = _axes(lines, self.transform.spatial_axes)
            for _ in range(self.transform._rand_k):
                lines[first], lines[second] = lines[second].flip(0), lines[first]
        return {**data, LINES: lines}


class DrawRotation(Drawing):
    """Notes the matrix `(d, d)` of a rotation about the tile's centre, in pixels."""

    transform: RandRotated

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Draw as MONAI's transform does."""
        self.randomize()
        drawn = self.transform.rand_rotate
        drawn.randomize()
        dims = _frame(data).ndim - 1
        matrix = np.eye(dims)
        if self.transform._do_transform:
            angles = drawn.x if dims == 2 else (drawn.x, drawn.y, drawn.z)
            matrix = np.asarray(create_rotate(dims, angles))[:dims, :dims]
        return {**data, DRAWS: torch.from_numpy(matrix)}


class DrawScaling(Drawing):
    """Notes the matrix `(d, d)` of the rotation before it, if any, and of a scaling after it."""

    transform: RandZoomd

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Draw as MONAI's transform does."""
        self.randomize()
        drawn = self.transform.rand_zoom
        drawn.randomize(_frame(data))
        before = data.get(DRAWS, torch.eye(_frame(data).ndim - 1, dtype=torch.float64))
        if not self.transform._do_transform:
            return {**data, DRAWS: before}
        return {**data, DRAWS: before / torch.tensor(drawn._zoom, dtype=torch.float64)}


class DrawDeformation(Drawing):
    """Notes `unet_med.deformation.motion_of` what turns and scales, if any, and a deformation."""

    transform: RandElasticDeformd

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Draw as `RandElasticDeformd` does."""
        frame = _frame(data)
        self.randomize(frame)
        nodes = self.transform.drawn.nodes(frame.ndim - 1)
        return {**data, DRAWS: motion_of(data.get(DRAWS), nodes)}


class Deform(DrawDeformation):
    """Resamples an item once, by what turns and scales it before and a deformation."""

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


def _frame(data: Item) -> torch.Tensor:
    """The image, or where only lines are known something of its shape, without pixels."""
    if LINES in data:
        return torch.empty(1, *map(len, data[LINES]), device="meta")
    return data["image"]


def _axes(lines: Sequence[torch.Tensor], chosen: Any) -> list[int]:
    """Axes that a transform of MONAI names, counted from 0; None names all."""
    return [axis - 1 for axis in map_spatial_axes(len(lines) + 1, chosen)]
