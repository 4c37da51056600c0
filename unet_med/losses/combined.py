"""Losses of MONAI and torch on the same targets, and sums of losses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from unet_med.devices import HOST
from unet_med.losses.targets import OneHot, check_labels, spoilt, unpack, wrong_labels


class OnLabel(nn.Module):
    """Let a loss of MONAI or torch take the targets of this package.

    Drops the weight channel, centre-crops the label to the logits, and calls
    `loss(logits, label)` with both in float32 (float64 for float64 logits).

    Args:
        loss: a MONAI loss on `(B, 1, *S)` labels, such as
            `DiceLoss(softmax=True, to_onehot_y=True)`, or `torch.nn.BCEWithLogitsLoss()` for
            networks with one output channel. Ignored pixels need a loss that has an
            `ignore_index` of its own, as MONAI's Dice losses have.

    >>> from torch.nn import BCEWithLogitsLoss
    >>> OnLabel(BCEWithLogitsLoss())(torch.zeros(1, 1, 4, 4), torch.ones(1, 2, 8, 8))
    tensor(0.6931)
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self._one_hot = OneHot()

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of one batch; shapes as in `WeightedCrossEntropyLoss`, K = 1 means binary.

        A weight is dropped, as one in the target is.

        Raises:
            ValueError: as in `WeightedCrossEntropyLoss`, of a label that is neither a class in
                [0, K) nor ignored by the loss; the message says how to ignore it.
        """
        logits, label, _ = unpack(logits, target, weight, self._one_hot)
        rule = max(logits.shape[1], 2), getattr(self.loss, "ignore_index", None)
        if label.device != HOST:
            wrong = wrong_labels(label, *rule)
            loss: Tensor = self.loss(logits, label.masked_fill(wrong, 0).to(logits.dtype))
            return spoilt(loss, wrong)
        check_labels(label, *rule)
        return self.loss(logits, label.to(logits.dtype))  # (B, K, *S), (B, 1, *S)


class SumLoss(nn.Module):
    """Weighted sum of losses on one target, for configs: cross-entropy + Dice, BCE + IoU.

    Args:
        losses: modules called as this one is: `(logits, target)`, with `weight` where it is given.
        weights: one factor a loss; 1 each by default.

    Raises:
        ValueError: as many weights as losses are needed.
    """

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.weights = [1.0] * len(losses) if weights is None else list(weights)
        if not losses or len(self.weights) != len(losses):
            raise ValueError(
                f"{len(self.weights)} weights for {len(losses)} losses: give one weight a loss, "
                "and at least one loss"
            )

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Sum of factor * loss over the losses; arguments as in `WeightedCrossEntropyLoss`.

        Raises:
            ValueError: weights, and a loss of MONAI or torch that is not in an `OnLabel`.
        """
        given = (target,) if weight is None else (target, weight)
        if weight is not None or target.shape[1:2] == (2,):
            _refuse_foreign(self.losses)
        terms = [
            w * loss(logits, *given) for w, loss in zip(self.weights, self.losses, strict=True)
        ]
        return torch.stack(terms).sum(dim=0)


def _refuse_foreign(losses: Iterable[nn.Module]) -> None:
    """Refuse losses of MONAI and torch, which would read label and weight as two classes."""
    for loss in losses:
        if type(loss).__module__.startswith(("monai.", "torch.")):
            name = type(loss).__name__
            raise ValueError(
                f"{name} would read label and weight as one-hot classes: give OnLabel({name}(...))"
            )
