"""Doors of `unet_med.weights`: labels in, one-channel weight maps for the loss out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, ensure_tuple_rep
from numpy.typing import NDArray

from unet_med.instances import as_integers
from unet_med.weights import border_weight_map, class_weight_map, falk_weight_map
from unet_med.weights.arrays import as_numpy

__all__ = [
    "BorderWeightMap",
    "BorderWeightMapD",
    "BorderWeightMapDict",
    "BorderWeightMapd",
    "ClassWeightMap",
    "ClassWeightMapD",
    "ClassWeightMapDict",
    "ClassWeightMapd",
    "FalkWeightMap",
    "FalkWeightMapD",
    "FalkWeightMapDict",
    "FalkWeightMapd",
]

Label = TypeVar("Label", NDArray[Any], torch.Tensor)

IGNORED = 255


class BorderWeightMap(Transform):
    """The paper's weight map, `w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2))` of instances.

    Ronneberger et al. 2015, equation 2. The border term lies on background
    only; `w_c` balances background against all instances. To be called after
    the augmentation, and after `SeparateInstances` where instances touch.

    Args:
        w0: weight of the border term where two instances meet; 10 in the paper.
        sigma: its width, px, or in the unit of `spacing`; about 5 px in the paper.
        spacing: size of a pixel, one number or one an axis; None: 1, whatever
            the image's affine says.
        class_weights: w_c of background and of instances; None: what makes both
            weigh alike, see `unet_med.weights.class_weight_map`.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 - MONAI's own convention

    def __init__(
        self,
        w0: float = 10.0,
        sigma: float = 5.0,
        *,
        spacing: float | Sequence[float] | None = None,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        self.w0 = w0
        self.sigma = sigma
        self.spacing = spacing
        self.class_weights = class_weights

    def __call__(self, label: Label) -> Label:
        """Weigh an instance map.

        Args:
            label: instances `(*S)` or `(1, *S)`: 0 background, 1..N, -1 ignored.

        Returns:
            Weights, float32, the shape and metadata of `label`; 0 where ignored
            and, with positive class weights, positive elsewhere.
        """
        instances = as_integers(as_numpy(label))
        classes = np.where(instances < 0, IGNORED, instances > 0)
        weight = class_weight_map(classes, 2, self.class_weights, IGNORED)
        weight += border_weight_map(instances, self.w0, self.sigma, self.spacing)
        return _keep(weight, label)


class FalkWeightMap(Transform):
    """The weight map of Falk et al. 2019 of instances as annotated, touching or not.

    The map itself counts the ridge between touching instances as background:
    call it before ``SeparateInstances("falk")``.

    Args:
        separation: weight between instances, lambda.
        sigma_separation: its width, px, or in the unit of `spacing`.
        background: weight far from instances, v_bal.
        sigma_balance: width of its rise towards instances.
        spacing: size of a pixel, one number or one an axis; None: 1.
    """

    backend = BorderWeightMap.backend

    def __init__(
        self,
        separation: float = 50.0,
        sigma_separation: float = 6.0,
        *,
        background: float = 0.1,
        sigma_balance: float = 10.0,
        spacing: float | Sequence[float] | None = None,
    ) -> None:
        self.separation = separation
        self.sigma_separation = sigma_separation
        self.background = background
        self.sigma_balance = sigma_balance
        self.spacing = spacing

    def __call__(self, label: Label) -> Label:
        """Weigh an instance map `(*S)` or `(1, *S)`; float32, metadata kept."""
        weight = falk_weight_map(
            as_numpy(label),
            separation=self.separation,
            sigma_separation=self.sigma_separation,
            background=self.background,
            sigma_balance=self.sigma_balance,
            spacing=self.spacing,
        )
        return _keep(weight, label)


class ClassWeightMap(Transform):
    """The paper's `w_c` of class labels: classes weigh alike, see `class_weight_map`.

    Args:
        num_classes: background included.
        class_weights: one a class, used as they are; None: balanced.
        ignore: label of the pixels that weigh nothing.
    """

    backend = BorderWeightMap.backend

    def __init__(
        self,
        num_classes: int = 2,
        class_weights: Sequence[float] | None = None,
        *,
        ignore: int = IGNORED,
    ) -> None:
        self.num_classes = num_classes
        self.class_weights = class_weights
        self.ignore = ignore

    def __call__(self, label: Label) -> Label:
        """Weigh classes `(*S)` or `(1, *S)`; float32, metadata kept."""
        weight = class_weight_map(
            as_numpy(label), self.num_classes, self.class_weights, self.ignore
        )
        return _keep(weight, label)


class _WeightDoor(MapTransform):
    """A dictionary transform that writes the weight map of every key beside it."""

    transform: Transform
    backend = BorderWeightMap.backend

    def __init__(
        self,
        keys: KeysCollection,
        weight_key: str | Sequence[str],
        allow_missing_keys: bool,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.weight_keys = ensure_tuple_rep(weight_key, len(self.keys))
        if len(set(self.weight_keys)) < len(self.weight_keys):
            raise ValueError(
                f"{len(self.keys)} keys write the weights {', '.join(self.weight_keys)}; "
                "name one weight_key for each key"
            )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add a weight map for every key."""
        d = dict(data)
        for key, weight_key in self.key_iterator(d, self.weight_keys):
            d[weight_key] = self.transform(d[key])
        return d


class BorderWeightMapd(_WeightDoor):
    """Dictionary door of `BorderWeightMap`.

    Args:
        keys: instances, `(1, *S)`.
        weight_key: where the weights go; one, or one a key.
        w0: weight of the border term where two instances meet.
        sigma: its width, px, or in the unit of `spacing`.
        spacing: size of a pixel; None: 1, whatever the affine says.
        class_weights: w_c of background and of instances; None: balanced.
        allow_missing_keys: no error when a key is absent.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        weight_key: str | Sequence[str] = "weight",
        *,
        w0: float = 10.0,
        sigma: float = 5.0,
        spacing: float | Sequence[float] | None = None,
        class_weights: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, weight_key, allow_missing_keys)
        self.transform = BorderWeightMap(w0, sigma, spacing=spacing, class_weights=class_weights)


class FalkWeightMapd(_WeightDoor):
    """Dictionary door of `FalkWeightMap`.

    Args:
        keys: instances as annotated, `(1, *S)`.
        weight_key: where the weights go; one, or one a key.
        separation: weight between instances, lambda.
        sigma_separation: its width, px, or in the unit of `spacing`.
        background: weight far from instances, v_bal.
        sigma_balance: width of its rise towards instances.
        spacing: size of a pixel; None: 1, whatever the affine says.
        allow_missing_keys: no error when a key is absent.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        weight_key: str | Sequence[str] = "weight",
        *,
        separation: float = 50.0,
        sigma_separation: float = 6.0,
        background: float = 0.1,
        sigma_balance: float = 10.0,
        spacing: float | Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, weight_key, allow_missing_keys)
        self.transform = FalkWeightMap(
            separation,
            sigma_separation,
            background=background,
            sigma_balance=sigma_balance,
            spacing=spacing,
        )


class ClassWeightMapd(_WeightDoor):
    """Dictionary door of `ClassWeightMap`.

    Args:
        keys: class labels, `(1, *S)`.
        weight_key: where the weights go; one, or one a key.
        num_classes: background included.
        class_weights: one a class, used as they are; None: balanced.
        ignore: label of the pixels that weigh nothing.
        allow_missing_keys: no error when a key is absent.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        weight_key: str | Sequence[str] = "weight",
        *,
        num_classes: int = 2,
        class_weights: Sequence[float] | None = None,
        ignore: int = IGNORED,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, weight_key, allow_missing_keys)
        self.transform = ClassWeightMap(num_classes, class_weights, ignore=ignore)


def _keep(weight: NDArray[Any], label: Label) -> Label:
    """The weights in the container of `label`, with its metadata."""
    return convert_to_dst_type(weight, label, dtype=np.float32)[0]


BorderWeightMapD = BorderWeightMapDict = BorderWeightMapd
FalkWeightMapD = FalkWeightMapDict = FalkWeightMapd
ClassWeightMapD = ClassWeightMapDict = ClassWeightMapd
