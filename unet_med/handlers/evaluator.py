"""Evaluate whole images, whatever a GPU has room for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import isnan
from typing import Any

import torch
from monai.engines import SupervisedEvaluator

from unet_med.devices import HOST
from unet_med.inferers import OverlapTileInferer
from unet_med.memory import where_it_fits


class WholeImageEvaluator(SupervisedEvaluator):
    """MONAI's evaluator, for images that a GPU may have no room for.

    Where its memory does not suffice for an image and what is made of it, they stay in main
    memory, and an `OverlapTileInferer` runs the network on the GPU. What is found of any image is
    brought to main memory in the end: so metrics take them together, and the GPU keeps none.
    A key metric that is NaN, as where no image holds an object, is no best one to beat.

    Args:
        *args: of `monai.engines.SupervisedEvaluator`.
        **kwargs: likewise.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        better = self.metric_cmp_fn
        self.metric_cmp_fn = lambda new, best: isnan(best) or better(new, best)

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> Any:
        if not isinstance(self.inferer, OverlapTileInferer):  # others run where the image lies
            return _in_main_memory(super()._iteration(self, batchdata))
        instead = f"{name_of(batchdata)} and its result stay in main memory, and the network where"
        return where_it_fits(
            partial(self._iteration_on, batchdata), self.state.device, f"{instead} it is"
        )

    def _iteration_on(self, batchdata: dict[str, Any], device: torch.device) -> Any:
        state = self.state
        usual, state.device = state.device, device
        state.batch, state.output = batchdata, None  # nothing is left of another try
        try:
            return _in_main_memory(super()._iteration(self, batchdata))
        finally:
            state.device = usual


def name_of(batchdata: Mapping[str, Any]) -> str:
    """File that a batch of one image was read from."""
    meta = getattr(batchdata.get("image"), "meta", {})
    names = meta.get("filename_or_obj", "an image")
    return str(names if isinstance(names, str) else names[0])


def _in_main_memory(output: Any) -> Any:
    """A batch's output, or those of its items as MONAI decollates it."""
    if isinstance(output, list):
        return [_in_main_memory(item) for item in output]
    return {k: v.to(HOST) if isinstance(v, torch.Tensor) else v for k, v in output.items()}
