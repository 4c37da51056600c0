"""The network in a training step, in the precision that was chosen."""

from __future__ import annotations

from typing import Any

from monai.inferers import SimpleInferer
from torch import Tensor

from unet_med.precision import autocast, chosen_precision


class TrainingInferer(SimpleInferer):
    """Runs the network over a batch as MONAI's `SimpleInferer`, in a chosen precision.

    MONAI's `amp` scales the loss, which bfloat16 does not need, and knows no other precision.

    Args:
        precision: see `unet_med.precision.chosen_precision`.
    """

    def __init__(self, precision: str = "auto") -> None:
        super().__init__()
        self.precision = precision

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Logits of a batch, of the type of its images."""
        precision = chosen_precision(self.precision, inputs.device, training=True)
        with autocast(precision, inputs.device):
            logits = super().__call__(inputs, network, *args, **kwargs)
        return logits.to(inputs.dtype) if precision == "bf16" else logits
