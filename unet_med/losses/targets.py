"""Targets of the losses: cropped to the logits, taken apart, and their labels checked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unet_med.devices import HOST


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


def unpack(
    logits: Tensor, target: Tensor, weight: Tensor | None, one_hot: OneHot
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


def _packed(label: Tensor, weight: Tensor) -> Tensor:
    """Label and weight `(B, 1, *T)` as one target `(B, 2, *T)`."""
    if label.shape[1:2] != (1,) or weight.shape != label.shape:
        raise ValueError(
            f"label of shape {tuple(label.shape)} and weight of shape {tuple(weight.shape)}: give "
            "both as (B, 1, *S), or a target (B, 2, *S) that holds both and no weight"
        )
    dtype = torch.promote_types(weight.dtype, torch.float32)  # a mask would turn classes into 1
    return torch.cat([label.to(dtype), weight.to(dtype)], dim=1)


class OneHot:
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


def check_labels(label: Tensor, num_classes: int, ignore_index: int | None) -> None:
    """Refuse labels that are not class numbers."""
    bad = wrong_labels(label, num_classes, ignore_index)
    if bad.any():
        value = label[bad][0].item()
        ignored = "nothing is ignored" if ignore_index is None else f"{ignore_index} is ignored"
        raise ValueError(
            f"label {value:g} is no class in 0...{num_classes - 1} ({ignored}): set the network's "
            "out_channels or the loss's ignore_index to fit, make instances foreground with "
            "Foregroundd, or resample labels with mode 'nearest'"
        )


def wrong_labels(label: Tensor, num_classes: int, ignore_index: int | None) -> Tensor:
    """Where labels are neither class numbers nor ignored."""
    bad = (label < 0) | (label >= num_classes)
    if label.is_floating_point():
        bad |= label != label.trunc()  # NaN too
    if ignore_index is not None:
        bad &= label != ignore_index
    return bad


def spoilt(loss: Tensor, wrong: Tensor) -> Tensor:
    """NaN in place of a loss of wrong labels, which `LossGuard` finds; the host need not wait."""
    if loss.ndim == 0:
        wrong = wrong.any()
    return loss.masked_fill(wrong, torch.nan)
