"""Where random transforms are applied: in the workers, or on the GPU to a whole batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.transforms import RandFlipd, RandRotate90d, RandRotated, RandZoomd
from torch import Tensor

from unet_med.deformation import Field, farthest, moved_by, node_grid, warp
from unet_med.precision import rounding
from unet_med.transforms.chains import compose
from unet_med.transforms.crop import RandTileCropd
from unet_med.transforms.draws import (
    CutTile,
    Deform,
    DrawCurve,
    DrawDeformation,
    DrawRotation,
    DrawScaling,
    Flip,
    QuarterTurn,
)
from unet_med.transforms.elastic import RandElasticDeform, RandElasticDeformd
from unet_med.transforms.grey import RandGreyValue, RandGreyValued, change_batch
from unet_med.transforms.weighing import Weighing

_KEYS, _MODES = ("image", "label"), ("bilinear", "nearest")
_AS_A_GRID = {"reflect": "reflection"}  # what padding calls that a grid calls so
_OF_LINES: dict[type, Callable[[Any], Any]] = {
    RandTileCropd: CutTile,
    RandFlipd: Flip,
    RandRotate90d: QuarterTurn,
}
_log = logging.getLogger(__name__)


class Augmenting:
    """Splits a chain of random transforms between workers and device.

    The workers draw, in the order of the chain, whoever applies what they drew. Where the chain
    ends in `RandRotated` and `RandZoomd` of MONAI, either or both, `RandElasticDeformd` and
    `RandGreyValued`, all but the last resample a tile once; on a GPU all are applied there, to a
    batch. Where
    only `RandTileCropd`, `RandFlipd` and `RandRotate90d` come before, and the GPU has the images,
    it cuts the tiles as well. All other transforms stay with the workers, as they are.

    Args:
        chain: transforms by name, as for `compose`.
        weighing: whether a GPU makes labels and weights of whole batches; else it cannot deform
            them either, since weights are those of the deformed label.

    Attributes:
        in_workers: the chain that an item goes through.
        on_batches: image and label `(B, C, *S)` and what was drawn for them `(B, numbers)` to
            both after the transforms; None: the items have had them.
    """

    def __init__(self, chain: Mapping[str, Any], weighing: Weighing) -> None:
        self.in_workers: Mapping[str, Any] = chain
        self.on_batches: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
        steps: list[Any] = list(compose([chain]).transforms)
        on_gpu, ours = weighing.on_batches is not None, _are_ours(steps[-2:])
        if on_gpu and not (ours and weighing.ends):
            name = "weigh" if ours else "augment"
            _log.info("the workers change tiles: `%s` ends in transforms of its own", name)
        if not ours:
            return
        *before, elastic, grey = steps
        motions: list[Any] = []
        for kind, draw in (RandZoomd, DrawScaling), (RandRotated, DrawRotation):
            if before and type(before[-1]) is kind and _composes(before[-1], elastic):
                motions.insert(0, draw(before.pop()))
        if on_gpu and weighing.ends:
            self.on_batches = AugmentedBatch(elastic.drawn, grey.drawn)
            steps = [*_of_lines(before), *motions, DrawDeformation(elastic), DrawCurve(grey)]
        elif motions:
            steps = [*before, *motions, Deform(elastic), grey]
        self.in_workers = {str(k): step for k, step in enumerate(steps)}


@dataclass(frozen=True)
class AugmentedBatch:
    """Applies what was drawn for the tiles of a batch, on its device and without a wait.

    Attributes:
        elastic: by which nodes are interpolated, and what lies beyond a tile.
        grey: the number of a curve's heights, and what they are heights of.
    """

    elastic: RandElasticDeform
    grey: RandGreyValue

    def __call__(self, image: Tensor, label: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate, scale, deform and change.

        Args:
            image: `(B, C, *S)`, floating.
            label: `(B, 1, *S)`, of integers.
            draws: `(B, numbers)` of `unet_med.transforms.draws`, on the host.
        """
        heights, dims = 2**self.grey.levels + 1, image.ndim - 2
        reach = farthest(_motion(draws, heights, dims), image.shape[2:], kernel=self.elastic.kernel)
        draws = draws.to(image.device, non_blocking=True)
        if reach.any():
            motion = _motion(draws, heights, dims)
            moved, label = self._moved(image, label, motion, float(reach.max()))
            if not reach.all():  # the places of a still pixel are rounded, too
                still = (motion == 0).flatten(1).all(dim=1)
                moved = torch.where(still.view(-1, *[1] * (dims + 1)), image, moved)
            image = moved
        return change_batch(image, draws[:, -heights:], self.grey.value_range), label

    def _moved(
        self, image: Tensor, label: Tensor, motion: Tensor, reach: float
    ) -> tuple[Tensor, Tensor]:
        """Image and label, resampled once."""
        shape, drawn = image.shape[2:], self.elastic
        grid = node_grid(len(shape), drawn.grid, drawn.kernel)
        with rounding("float32", image.device):  # in TF32 nodes would be off by a hundredth px
            field = Field(moved_by(motion, shape, grid, kernel=drawn.kernel), reach)
        image = warp(image, field, padding_mode=drawn.padding_mode)
        return image, warp(label, field, mode="nearest", padding_mode=drawn.padding_mode)


def _motion(draws: Tensor, heights: int, dims: int) -> Tensor:
    """`(B, d, d + nodes)`, as `motion_of` returned each."""
    return draws[:, :-heights].unflatten(1, (dims, -1))


def _are_ours(steps: Sequence[Any]) -> bool:
    """Whether these are the deformation and the grey values as the bundle has them."""
    if [type(step) for step in steps] != [RandElasticDeformd, RandGreyValued]:
        return False
    elastic, grey = steps
    return (elastic.keys, elastic.modes, grey.keys) == (_KEYS, _MODES, _KEYS[:1])


def _composes(step: Any, elastic: RandElasticDeformd) -> bool:
    """Whether a rotation or a scaling resamples as the deformation after it does."""
    drawn = step.rand_rotate if type(step) is RandRotated else step.rand_zoom
    if step.lazy or not drawn.keep_size:
        return False
    alike = (tuple(step.keys), tuple(step.mode)) == (_KEYS, _MODES)
    beyond = {_AS_A_GRID.get(mode, mode) for mode in step.padding_mode}
    return alike and beyond == {elastic.drawn.padding_mode}


def _of_lines(steps: Sequence[Any]) -> Sequence[Any]:
    """The transforms as they take lines as well, where all can that come before the deformation."""
    kinds = [type(step) for step in steps]
    if kinds[:1] != [RandTileCropd] or not {*kinds[1:]} <= {RandFlipd, RandRotate90d}:
        _log.info("the workers cut tiles: `augment` begins with transforms of its own")
        return steps
    keys = {tuple(step.keys) for step in steps}
    if keys != {_KEYS} or any(step.lazy for step in steps[1:]):
        _log.info("the workers cut tiles: `augment` cuts or turns other entries, or is lazy")
        return steps
    return [_OF_LINES[kind](step) for kind, step in zip(kinds, steps, strict=True)]
