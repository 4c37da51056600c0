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

from unet_med.losses.border import BorderWeightedCrossEntropyLoss
from unet_med.losses.combined import OnLabel, SumLoss
from unet_med.losses.cross_entropy import WeightedCrossEntropyLoss
from unet_med.losses.targets import center_crop

__all__ = [
    "BorderWeightedCrossEntropyLoss",
    "OnLabel",
    "SumLoss",
    "WeightedCrossEntropyLoss",
    "center_crop",
]
