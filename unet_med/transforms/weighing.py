"""Where the end of a training's chain runs: in the workers, or on the GPU for a whole batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import EnsureTyped, MapTransform, SelectItemsd
from monai.utils import convert_to_dst_type
from torch import Tensor

from unet_med.data.entries import DRAWS, LINES
from unet_med.devices import weighs_batches
from unet_med.instances import as_int32
from unet_med.transforms.chains import compose
from unet_med.transforms.labels import SeparateInstancesd
from unet_med.transforms.weights import BorderWeightMapd, ClassWeightMapd, Foregroundd
from unet_med.weights.arrays import as_numpy
from unet_med.weights.batches import BorderTargets, ClassTargets

Targets = Callable[[Tensor], Tensor]
_LABEL = ("label",)
_log = logging.getLogger(__name__)


class Weighing:
    """Splits a chain that makes label and weight between workers and device.

    On a CPU the workers run the chain as it is. On a GPU they end before it: labels travel as
    integers, and `on_batches` makes label and weight of a whole batch where it is. A chain with
    other transforms than the bundle's own, or in another order, stays with the workers.

    Args:
        chain: transforms by name, as for `compose`.
        device: where the network is trained.

    Attributes:
        in_workers: the chain that an item goes through.
        on_batches: labels `(B, 1, *S)` to label and weight `(B, 2, *S)`; None: the items have
            them.
        ends: no transform that is left to the workers changes pixels.
    """

    def __init__(self, chain: Mapping[str, Any], device: torch.device | str) -> None:
        self.in_workers: Mapping[str, Any] = chain
        self.on_batches: Targets | None = None
        self.ends = True
        if not weighs_batches(torch.device(device)):
            return
        steps = list(compose([chain]).transforms)
        ends = [k for k, step in enumerate(steps) if isinstance(step, SelectItemsd)]
        first = ends[0] if ends else len(steps)
        self.on_batches = _targets(steps[:first])
        if self.on_batches is None:
            _log.info("the workers make weights: the chain has transforms of its own")
            return
        self.ends = all(map(_keeps_pixels, steps[first:]))
        rest = {str(k): _before_weights(step) for k, step in enumerate(steps[first:])}
        self.in_workers = {"whole": WholeNumbersd(_LABEL, allow_missing_keys=True), **rest}


class WholeNumbersd(MapTransform):
    """Labels as int32, which a GPU need not look at; fractions are refused.

    Args:
        keys: labels.
        allow_missing_keys: no error when a key is absent.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Convert every key; numbers beyond 32 bits are counted anew."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = convert_to_dst_type(as_int32(as_numpy(d[key])), d[key], dtype=np.int32)[0]
        return d


def _targets(steps: Sequence[Any]) -> Targets | None:
    """What these transforms do, for a batch; None where they are others than are known."""
    kinds = [type(step) for step in steps]
    if not all(_reads_label(step) for step in steps):
        return None
    if kinds == [ClassWeightMapd]:
        rule = steps[0].rule
        return ClassTargets(rule.num_classes, rule.class_weights, rule.ignore)
    border_alone: list[type] = [BorderWeightMapd, Foregroundd]
    if kinds not in (border_alone, [SeparateInstancesd, *border_alone]):
        return None
    *before, border, _ = steps
    rule, ridge = border.rule, before[0].rule.kind if before else None
    return BorderTargets(ridge, rule.w0, rule.sigma, rule.spacing, rule.class_weights)


def _reads_label(step: Any) -> bool:
    """Whether a transform reads the label, and writes it or the weight."""
    if tuple(step.keys) != _LABEL:
        return False
    written = tuple(getattr(step, "output_keys", _LABEL))
    return written in (_LABEL, ("weight",))


def _keeps_pixels(step: Any) -> bool:
    """Whether a transform chooses entries, or their kind of tensor, and no more."""
    return type(step) is SelectItemsd or (type(step) is EnsureTyped and not any(step.dtype))


def _before_weights(step: Any) -> Any:
    """A transform of image, label and weight, for items with what was drawn in their place."""
    if isinstance(step, MapTransform) and "weight" in step.keys:
        step.allow_missing_keys = True
    if isinstance(step, SelectItemsd):
        step.keys, step.allow_missing_keys = (*step.keys, LINES, DRAWS), True
    return step
