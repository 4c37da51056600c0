"""Losses for per-pixel weights, valid networks and ignored pixels; the rest is MONAI's.

Every loss here takes `(logits, target)` with logits `(B, K, *S)` straight from the network and a
target `(B, 1, *T)` of class numbers, or `(B, 2, *T)` with the weight map as a second channel;
or, in a loop of your own, `(logits, label, weight)`. Targets larger than the logits are
centre-cropped, for a valid network returns less than it reads.

What MONAI has is not written again; `OnLabel` lets it take the same target:

* Dice: `OnLabel(DiceLoss(softmax=True, to_onehot_y=True, ignore_index=255))`;
* Dice of V-Net, squares in the denominator: the same with `squared_pred=True`;
* soft intersection over union (Jaccard): the same with `jaccard=True`;
* binary cross-entropy: `OnLabel(torch.nn.BCEWithLogitsLoss())` on one output channel;
* sums of them, BCE + IoU for instance: `SumLoss`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from unet_med.devices import HOST, weighs_batches
from unet_med.instances import IGNORED
from unet_med.weights import border_weight_map, class_weight_map
from unet_med.weights.batches import BorderTargets

__all__ = [
    "BorderWeightedCrossEntropyLoss",
    "OnLabel",
    "SumLoss",
    "WeightedCrossEntropyLoss",
    "center_crop",
]


def center_crop(target: Tensor, size: Sequence[int]) -> Tensor:
    """The centred window of a target, for which a valid network returns logits.

    Args:
        target: `(B, C, *T)`.
        size: spatial size S to keep, px.

    Returns:
        `(B, C, *S)`, a view.

    Raises:
        ValueError: the numbers of axes differ, a side is too small, or a difference is odd, so
            that the centre would lie half a pixel off. The message names the legal sides.

    >>> center_crop(torch.arange(6).reshape(1, 1, 6), [2])
    tensor([[[2, 3]]])
    """
    if target.dim() != len(size) + 2:
        raise ValueError(
            f"target of shape {tuple(target.shape)} has {target.dim() - 2} spatial axes, "
            f"the logits have {len(size)}; give a target (B, C, *S) with a channel axis"
        )
    for axis, side in enumerate(size, start=2):
        surplus = target.shape[axis] - side
        if surplus < 0 or surplus % 2:
            raise ValueError(
                f"target side {target.shape[axis]} px against logits side {side} px (axis {axis}): "
                "the target must be as large or larger by an even number of px, half on each "
                "side; give it the size of the network's input or of its output"
            )
        target = target.narrow(axis, surplus // 2, side)
    return target  # (B, C, *S)


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
        self._one_hot = _OneHot()

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
        logits, label, weight = _unpack(logits, target, weight, self._one_hot)
        classes = label.long()
        counted: Tensor | None = None  # all pixels
        if label.device != HOST:
            wrong = _wrong(label, logits.shape[1], self.ignore_index)
            counted = (label != self.ignore_index) & ~wrong
            loss = _weighted_cross_entropy(logits, classes.where(counted, 0), weight, counted, self)
            return _spoilt(loss, wrong)
        if 0 <= self.ignore_index < logits.shape[1] or not _sound(label, logits.shape[1]):
            _check_labels(label, logits.shape[1], self.ignore_index)
            counted = label != self.ignore_index
            classes = classes.where(counted, 0)
        return _weighted_cross_entropy(logits, classes, weight, counted, self)


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


class OnLabel(nn.Module):
    """Let a loss of MONAI or torch take the targets of this module.

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
        self._one_hot = _OneHot()

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of one batch; shapes as in `WeightedCrossEntropyLoss`, K = 1 means binary.

        A weight is dropped, as one in the target is.

        Raises:
            ValueError: as in `WeightedCrossEntropyLoss`, of a label that is neither a class in
                [0, K) nor ignored by the loss; the message says how to ignore it.
        """
        logits, label, _ = _unpack(logits, target, weight, self._one_hot)
        rule = max(logits.shape[1], 2), getattr(self.loss, "ignore_index", None)
        if label.device != HOST:
            wrong = _wrong(label, *rule)
            loss: Tensor = self.loss(logits, label.masked_fill(wrong, 0).to(logits.dtype))
            return _spoilt(loss, wrong)
        _check_labels(label, *rule)
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


def _known_reduction(reduction: str) -> str:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction {reduction!r} is unknown; choose 'mean', 'sum' or 'none'")
    return reduction


def _packed(label: Tensor, weight: Tensor) -> Tensor:
    """Label and weight `(B, 1, *T)` as one target `(B, 2, *T)`."""
    if label.shape[1:2] != (1,) or weight.shape != label.shape:
        raise ValueError(
            f"label of shape {tuple(label.shape)} and weight of shape {tuple(weight.shape)}: give "
            "both as (B, 1, *S), or a target (B, 2, *S) that holds both and no weight"
        )
    dtype = torch.promote_types(weight.dtype, torch.float32)  # a mask would turn classes into 1
    return torch.cat([label.to(dtype), weight.to(dtype)], dim=1)


def _unpack(
    logits: Tensor, target: Tensor, weight: Tensor | None, one_hot: _OneHot
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Full-precision logits `(B, K, *S)`, label and weight `(B, 1, *S)`; plain tensors."""
    logits, target = logits.as_subclass(Tensor), target.as_subclass(Tensor)
    if weight is not None:
        target = _packed(target, weight.as_subclass(Tensor))
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    target = center_crop(target, logits.shape[2:])
    if target.shape[0] != logits.shape[0] or target.shape[1] not in (1, 2):
        raise ValueError(
            f"target of shape {tuple(target.shape)} against logits {tuple(logits.shape)}: it needs "
            "the same batch size and one channel (label) or two (label, weight); one-hot targets "
            "become labels with argmax(dim=1, keepdim=True)"
        )
    label, second = target[:, :1], target[:, 1:]
    if not label.is_floating_point():
        label = label.long()  # uint8 would compare equal to -1 where it holds 255
    if second.shape[1] and weight is None:
        one_hot.refuse(label, second)
    return logits, label, second if second.shape[1] else None


class _OneHot:
    """Refuses background and foreground in place of label and weight.

    Read as those, foreground is background of no weight. To look makes the host wait for a GPU: of
    its batches those up to the first that cannot be one-hot are looked at.
    """

    def __init__(self) -> None:
        self.ruled_out = False

    def refuse(self, label: Tensor, weight: Tensor) -> None:
        """Raise a ValueError where they are one-hot."""
        if label.is_meta or (self.ruled_out and label.device != HOST):
            return
        add_up = bool((label + weight == 1).all())
        if add_up and (label == 1).any():
            raise ValueError(
                "the target's two channels are one-hot, where label and weight are expected: give "
                "argmax(dim=1, keepdim=True), and leave AsDiscrete(to_onehot=2) out"
            )
        self.ruled_out = not add_up


def _check_labels(label: Tensor, num_classes: int, ignore_index: int | None) -> None:
    """Refuse labels that are not class numbers."""
    bad = _wrong(label, num_classes, ignore_index)
    if bad.any():
        value = label[bad][0].item()
        ignored = "nothing is ignored" if ignore_index is None else f"{ignore_index} is ignored"
        raise ValueError(
            f"label {value:g} is no class in 0...{num_classes - 1} ({ignored}): set the network's "
            "out_channels or the loss's ignore_index to fit, make instances foreground with "
            "Foregroundd, or resample labels with mode 'nearest'"
        )


def _wrong(label: Tensor, num_classes: int, ignore_index: int | None) -> Tensor:
    """Where labels are neither class numbers nor ignored."""
    bad = (label < 0) | (label >= num_classes)
    if label.is_floating_point():
        bad |= label != label.trunc()  # NaN too
    if ignore_index is not None:
        bad &= label != ignore_index
    return bad


def _spoilt(loss: Tensor, wrong: Tensor) -> Tensor:
    """NaN in place of a loss of wrong labels, which `LossGuard` finds; the host need not wait."""
    if loss.ndim == 0:
        wrong = wrong.any()
    return loss.masked_fill(wrong, torch.nan)


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
