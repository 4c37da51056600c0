"""Labels and weights of a whole batch, on its own device and without a wait of the host.

The same as the transforms `SeparateInstancesd`, `BorderWeightMapd` and `ClassWeightMapd` make of
one item on a CPU: a worker that leaves this to a GPU has a third of its work left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unet_med.instances import IGNORED, neighbour_pairs
from unet_med.instances.borders import RidgeKind
from unet_med.weights.arrays import Spacing
from unet_med.weights.device import border_terms


@dataclass(frozen=True)
class BorderTargets:
    """Foreground and the paper's weights of instances, for a whole batch.

    Attributes:
        ridge: how touching instances are separated first; None: they are not.
        w0: as in `BorderWeightMap`.
        sigma: as in `BorderWeightMap`.
        spacing: as in `BorderWeightMap`.
        class_weights: as in `BorderWeightMap`.
    """

    ridge: RidgeKind | None = "symmetric"
    w0: float = 10.0
    sigma: float = 5.0
    spacing: Spacing = None
    class_weights: Sequence[float] | None = None

    def __call__(self, instances: Tensor) -> Tensor:
        """Label and weight `(B, 2, *S)`, float32, of instances `(B, 1, *S)` of integers.

        The label is 1 inside instances, 0 on background and 255 where it is ignored.
        """
        if self.ridge is not None:
            instances = separate_batch(instances, self.ridge)
        inside = instances > 0
        kinds = torch.stack([instances == 0, inside], dim=1).flatten(2, 3)  # (B, 2, *S)
        weight = _class_weights(kinds, self.class_weights)
        weight += border_terms(instances[:, 0], self.w0, self.sigma, self.spacing)
        label = inside.float().masked_fill(instances < 0, IGNORED)
        return torch.stack([label[:, 0], weight], dim=1)


@dataclass(frozen=True)
class ClassTargets:
    """Classes and their weights, for a whole batch.

    Attributes:
        num_classes: as in `ClassWeightMap`.
        class_weights: as in `ClassWeightMap`.
        ignore: as in `ClassWeightMap`.
    """

    num_classes: int = 2
    class_weights: Sequence[float] | None = None
    ignore: int = IGNORED

    def __call__(self, classes: Tensor) -> Tensor:
        """Class and weight `(B, 2, *S)`, float32, of classes `(B, 1, *S)` of integers.

        A class out of range weighs nothing here; the loss refuses it.
        """
        numbers = range(self.num_classes)
        kinds = torch.stack([(classes[:, 0] == k) & (k != self.ignore) for k in numbers], dim=1)
        weight = _class_weights(kinds, self.class_weights)
        return torch.stack([classes[:, 0].float(), weight], dim=1)


def separate_batch(instances: Tensor, kind: RidgeKind = "symmetric") -> Tensor:
    """`unet_med.instances.separate` of every item `(B, 1, *S)`."""
    ridge = torch.zeros_like(instances, dtype=torch.bool)
    for pair in neighbour_pairs(instances.ndim - 2):
        earlier, later = ((slice(None), slice(None), *sides) for sides in pair)  # of all items
        a, b = instances[earlier], instances[later]
        apart = (a != b) & (a > 0) & (b > 0)
        ridge[later] |= apart
        if kind == "symmetric":
            ridge[earlier] |= apart
    return instances.masked_fill(ridge, 0)


def _class_weights(kinds: Tensor, class_weights: Sequence[float] | None) -> Tensor:
    """`w_c` `(B, *S)`, of masks of the classes `(B, K, *S)`."""
    if class_weights is None:
        counts = kinds.flatten(2).sum(dim=2, dtype=torch.float64)  # (B, K)
        present = (counts > 0).sum(dim=1, keepdim=True).clamp(min=1)
        table = counts.sum(dim=1, keepdim=True) / (present * counts.clamp(min=1))
    else:  # made where it is needed, number by number: a tensor of them would be copied there
        ones = kinds.new_ones((len(kinds), 1), dtype=torch.float64)
        table = torch.cat([ones * weight for weight in class_weights], dim=1)
    table = table.float().reshape(*kinds.shape[:2], *[1] * (kinds.ndim - 2))
    return (kinds * table).sum(dim=1)
