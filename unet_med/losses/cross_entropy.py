"""Cross-entropy of classes, weighted pixel by pixel (Ronneberger et al. 2015, Eq. 1)."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.modules.loss import _Loss

from unet_med.devices import HOST
from unet_med.instances import IGNORED
from unet_med.losses.targets import OneHot, check_labels, spoilt, unpack, wrong_labels


class WeightedCrossEntropyLoss(_Loss):
    """Softmax and cross-entropy, weighted pixel by pixel (Ronneberger et al. 2015, Eq. 1).

    `reduction="sum"` is the paper's energy, sum(w * ce) over all pixels of the batch. The default
    `"mean"` is sum(w * ce) / sum(w): the paper's energy divided by the total weight, so that the
    learning rate depends neither on the tile's size nor on how much border a tile contains. A
    tile rich in borders hence pulls no harder than an empty one; in the paper it does. Without
    weights it is `torch.nn.functional.cross_entropy`. Where all weights are zero, loss and
    gradient are zero.

    float16 and bfloat16 logits are computed in float32. Class numbers packed into a float32
    target with their weights are exact (up to 2^24).

    Args:
        reduction: `"mean"`, `"sum"`, or `"none"` for the map w * ce `(B, 1, *S)`.
        ignore_index: label whose pixels weigh nothing, whatever their weight.
        distributed: sum energy and weight over all processes that train together: the value is
            that of all their batches in one, and so is the gradient that DistributedDataParallel
            averages. All processes must call it equally often. None: where gradients are taken, as
            in training; in a validation processes may have different numbers of images.

    Raises:
        ValueError: unknown reduction, or `"none"` together with `distributed`.

    >>> loss = WeightedCrossEntropyLoss()
    >>> loss(torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 8, 8))  # log 2: two classes, a coin toss
    tensor(0.6931)
    """

    def __init__(
        self,
        reduction: str = "mean",
        *,
        ignore_index: int = IGNORED,
        distributed: bool | None = None,
    ) -> None:
        super().__init__(reduction=_known_reduction(reduction))
        if distributed and reduction == "none":
            raise ValueError(
                "reduction 'none' has nothing to sum over processes: use 'mean' or 'sum', or "
                "distributed=False"
            )
        self.ignore_index = ignore_index
        self.distributed = distributed
        self._one_hot = OneHot()

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of one batch.

        Args:
            logits: `(B, K, *S)`, K >= 2.
            target: label `(B, 1, *T)`, or label and weight `(B, 2, *T)`; T >= S.
            weight: `(B, 1, *T)`, where it is not packed with the label.

        Returns:
            A scalar, or the map `(B, 1, *S)`, in float32 (float64 for float64 logits).

        Raises:
            ValueError: shapes that do not fit, a target that is one-hot, or a label that is neither
                a class in [0, K) nor `ignore_index`. On a GPU the host would wait to see that: such
                a label makes the loss NaN there, and only first batches are looked at for one-hot
                targets.
        """
        if logits.shape[1] < 2:
            raise ValueError(
                "logits have 1 channel, softmax needs one a class: "
                "use out_channels=2, or OnLabel(torch.nn.BCEWithLogitsLoss())"
            )
        logits, label, weight = unpack(logits, target, weight, self._one_hot)
        classes = label.long()
        counted: Tensor | None = None  # all pixels
        if label.device != HOST:
            wrong = wrong_labels(label, logits.shape[1], self.ignore_index)
            counted = (label != self.ignore_index) & ~wrong
            loss = _weighted_cross_entropy(logits, classes.where(counted, 0), weight, counted, self)
            return spoilt(loss, wrong)
        if 0 <= self.ignore_index < logits.shape[1] or not _sound(label, logits.shape[1]):
            check_labels(label, logits.shape[1], self.ignore_index)
            counted = label != self.ignore_index
            classes = classes.where(counted, 0)
        return _weighted_cross_entropy(logits, classes, weight, counted, self)


def _known_reduction(reduction: str) -> str:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction {reduction!r} is unknown; choose 'mean', 'sum' or 'none'")
    return reduction


def _sound(label: Tensor, num_classes: int) -> bool:
    """Whether every label is a class number."""
    if not label.numel():
        return True
    low, high = label.aminmax()
    sound = (low >= 0) & (high < num_classes)  # False for NaN
    if label.is_floating_point():
        least, most = label.frac().aminmax()
        sound = sound & (least == 0) & (most == 0)
    return bool(sound)


def _weighted_cross_entropy(
    logits: Tensor,
    classes: Tensor,
    weight: Tensor | None,
    counted: Tensor | None,
    loss: WeightedCrossEntropyLoss,
) -> Tensor:
    """Eq. 1 and its reduction.

    Args:
        logits: `(B, K, *S)`.
        classes: in [0, K), `(B, 1, *S)`.
        weight: of the same shape; None: 1 each.
        counted: False where a pixel is ignored; None: none is.
        loss: its reduction, and whether that is over all processes.
    """
    # gather, for it is faster than an unreduced nll_loss
    likelihood = logits.log_softmax(dim=1).gather(1, classes)  # (B, 1, *S), logarithmic
    weight = torch.ones_like(likelihood) if weight is None else weight.to(likelihood)
    if counted is not None:
        likelihood, weight = likelihood.where(counted, 0.0), weight.where(counted, 0.0)
    energy = weight * likelihood  # of the other sign until the end: one pass less
    if loss.reduction == "none":
        return -energy
    together = logits.requires_grad if loss.distributed is None else loss.distributed
    if together and dist.is_available() and dist.is_initialized():
        return _over_processes(-energy.sum(), weight.sum(), loss.reduction)
    return -energy.sum() / _divisor(weight.sum(), loss.reduction)


def _over_processes(energy: Tensor, weight: Tensor, reduction: str) -> Tensor:
    """Value of all processes together; the gradient is this process's share of an average."""
    both = torch.stack([energy.detach(), weight])
    dist.all_reduce(both)
    divisor = _divisor(both[1], reduction)
    part = dist.get_world_size() * energy / divisor
    return both[0] / divisor + (part - part.detach())


def _divisor(weight: Tensor, reduction: str) -> Tensor:
    one = torch.ones_like(weight)
    return torch.where(weight > 0, weight, one) if reduction == "mean" else one
