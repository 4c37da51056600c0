"""Prepare the batch of a training step, and read its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import PrepareBatch


class PrepareBatchWeighted(PrepareBatch):
    """Batch for `SupervisedTrainer`: image, and label with its weight map packed into one target.

    MONAI calls `loss(prediction, target)` with exactly two arguments, so the
    weights travel as a second channel: target `(B, 2, *S)`, or `(B, 1, *S)`
    where a batch has no weights (validation without them).

    Args:
        image_key: entry of the image `(B, C, *S)`.
        label_key: entry of the label `(B, 1, *S)`; may be absent at prediction.
        weight_key: entry of the weight map `(B, 1, *S)`; may be absent.
    """

    def __init__(
        self, image_key: str = "image", label_key: str = "label", weight_key: str = "weight"
    ) -> None:
        self.image_key = image_key
        self.label_key = label_key
        self.weight_key = weight_key

    def __call__(
        self,
        batchdata: Mapping[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return `(image, target)` on the device."""
        image = batchdata[self.image_key].to(device=device, non_blocking=non_blocking, **kwargs)
        keys = [key for key in (self.label_key, self.weight_key) if key in batchdata]
        if self.label_key not in keys:
            return image, None
        parts = [batchdata[key].to(device=device, non_blocking=non_blocking) for key in keys]
        if len(parts) == 1:
            return image, parts[0]
        return image, torch.cat([part.to(torch.float32) for part in parts], dim=1)  # (B, 2, *S)


def last_loss(engine: Engine) -> float:
    """Loss of a trainer's last iteration; MONAI decollates its output into a list."""
    output: Any = engine.state.output
    first = output[0] if isinstance(output, list) else output
    return float(first["loss"])
