"""Cross-entropy of instances, with the border weights that follow from them (Eq. 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unet_med.devices import weighs_batches
from unet_med.losses.cross_entropy import WeightedCrossEntropyLoss
from unet_med.weights import border_weight_map, class_weight_map
from unet_med.weights.batches import BorderTargets


class BorderWeightedCrossEntropyLoss(WeightedCrossEntropyLoss):
    """Cross-entropy of foreground against background with the paper's weights, from instances.

    Ronneberger et al. 2015, Eq. 2: `w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2))`, made anew at
    every call and on the whole target, so that instances outside the logits' window count. Where
    the transforms can do it (`BorderWeightMapd`), loader processes share that work instead.

    Instances are taken as they are given: between two that touch there is no background and
    hence no border; `SeparateInstancesd` makes one.

    Args:
        w0: weight where two instances touch, 10 in the paper.
        sigma: width of the border, px or the unit of `spacing`; about 5 px in the paper.
        spacing: size of a pixel, one number or one an axis; None: 1.
        reduction: as in `WeightedCrossEntropyLoss`.
        distributed: as in `WeightedCrossEntropyLoss`.

    >>> instances = torch.tensor([[[1, 1, 0, 2, 2]]])
    >>> BorderWeightedCrossEntropyLoss(reduction="none")(torch.zeros(1, 2, 5), instances)
    tensor([[[0.4332, 0.4332, 8.1314, 0.4332, 0.4332]]])
    """

    def __init__(
        self,
        w0: float = 10.0,
        sigma: float = 5.0,
        *,
        spacing: float | Sequence[float] | None = None,
        reduction: str = "mean",
        distributed: bool | None = None,
    ) -> None:
        super().__init__(reduction, distributed=distributed)
        self.w0 = w0
        self.sigma = sigma
        self.spacing = spacing

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of one batch.

        Args:
            logits: `(B, 2, *S)`, background and foreground.
            target: instances `(B, 1, *T)`; 1..N, 0 is background, -1 is ignored.
            weight: none; the weights follow from the instances.

        Returns:
            As `WeightedCrossEntropyLoss`.

        Raises:
            ValueError: shapes that do not fit, instances that are not whole numbers, logits of
                more than two classes, or a weight.
        """
        if weight is not None:
            raise ValueError(
                "this loss computes its weights from instances; to give them, use "
                "WeightedCrossEntropyLoss()(logits, label, weight)"
            )
        if target.ndim != logits.ndim or target.shape[1] != 1:
            raise ValueError(
                f"instances of shape {tuple(target.shape)} against logits {tuple(logits.shape)}: "
                "give their numbers as (B, 1, *S), 0 for background; weights are made of them here"
            )
        if logits.shape[1] > 2:
            raise ValueError(
                f"logits of {logits.shape[1]} classes: of instances this loss knows background and "
                "foreground; use out_channels=2, or WeightedCrossEntropyLoss for classes"
            )
        return super().forward(logits, *self._targets(target.as_subclass(Tensor)))

    def _targets(self, instances: Tensor) -> tuple[Tensor, Tensor]:
        """Label and weight `(B, 1, *T)`; on a GPU of all items at once, and without a wait."""
        options = self.w0, self.sigma, self.spacing
        if weighs_batches(instances.device):
            both = BorderTargets(None, *options)(instances)
            return both[:, :1], both[:, 1:]
        label = (instances > 0).long().masked_fill(instances < 0, self.ignore_index)
        weights = [
            class_weight_map(classes) + border_weight_map(item, *options)
            for classes, item in zip(label, instances, strict=True)
        ]
        return label, torch.stack(weights)
