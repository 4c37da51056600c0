"""Weight maps as MONAI transforms: labels in, one channel of weights for the loss out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type
from numpy.typing import NDArray

from unet_med.instances import IGNORED, as_integers
from unet_med.transforms.keywise import KeywiseTransform
from unet_med.transforms.tensors import Label
from unet_med.weights import border_weight_map, class_weight_map, falk_weight_map
from unet_med.weights.arrays import as_numpy


class BorderWeightMap(Transform):
    """The paper's weight map, `w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2))` of instances.

    Ronneberger et al. 2015, equation 2. The border term lies on background
    only; `w_c` balances background against all instances. Call it after the
    augmentation, and after `SeparateInstances` where instances touch. A mask is one instance,
    which has no border: `LabelInstances` numbers its components.

    Args:
        w0: weight of the border term where two instances meet; 10 in the paper.
        sigma: its width, px, or in the unit of `spacing`; about 5 px in the paper.
        spacing: size of a pixel, one number or one an axis; None: 1, whatever
            the image's affine says.
        class_weights: w_c of background and of instances; None: both have the same
            total weight, see `unet_med.weights.class_weight_map`.
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
        return _like(weight, label)


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
        return _like(weight, label)


class ClassWeightMap(Transform):
    """The paper's `w_c`: all classes have the same total weight, see `class_weight_map`.

    Args:
        num_classes: background included.
        class_weights: one a class, used as they are; None: balanced.
        ignore: label of the pixels of weight 0.
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
        return _like(weight, label)


class _WeightMapTransform(KeywiseTransform):
    """Base of dictionary transforms that add the weight map of every key to the item.

    With `pack` they put it behind the label instead: `(2, *S)`, the target that the losses read.
    """

    backend = BorderWeightMap.backend

    def __init__(
        self,
        keys: KeysCollection,
        weight_key: str | Sequence[str],
        transform: Transform,
        allow_missing_keys: bool,
        pack: bool = False,
    ) -> None:
        super().__init__(
            keys,
            _Packed(transform) if pack else transform,
            allow_missing_keys=allow_missing_keys,
            output_keys=None if pack else weight_key,
        )
        if len(set(self.output_keys)) < len(self.output_keys):
            raise ValueError(
                f"{len(self.keys)} keys write the weights {', '.join(map(str, self.output_keys))}; "
                "name one weight_key for each key"
            )


class _Packed(Transform):
    """The target of the losses: classes and, as a second channel, their weights, `(2, *S)`.

    Instances become foreground, and those that are ignored `IGNORED`.
    """

    def __init__(self, weigh: Transform) -> None:
        self.weigh = weigh

    def __call__(self, label: Label) -> Label:
        """Pack a label `(1, *S)`; float32, metadata kept.

        Raises:
            ValueError: a label without a channel, or with several.
        """
        if label.shape[0] != 1:
            raise ValueError(
                f"a label of shape {tuple(label.shape)}, and weights are packed behind one "
                "channel: give one of numbers, (1, *S)"
            )
        weight, values = np.asarray(as_numpy(self.weigh(label))), as_integers(as_numpy(label))
        if not isinstance(self.weigh, ClassWeightMap):
            values = Foreground()(values)
        return _like(np.concatenate([values.astype(np.float32), weight]), label)  # (2, *S)


class BorderWeightMapd(_WeightMapTransform):
    """Dictionary version of `BorderWeightMap`.

    Args:
        keys: instances, `(1, *S)`.
        weight_key: where the weights go; one, or one a key.
        w0: weight of the border term where two instances meet.
        sigma: its width, px, or in the unit of `spacing`.
        spacing: size of a pixel; None: 1, whatever the affine says.
        class_weights: w_c of background and of instances; None: balanced.
        pack: put the weights behind the label instead, which becomes foreground and weight,
            `(2, *S)`: the target of `WeightedCrossEntropyLoss`, which every loop hands on as it
            hands on a label. Nothing is written to `weight_key`.
        allow_missing_keys: no error when a key is absent.

    >>> import numpy as np
    >>> item = {"label": np.array([[1, 0, 2]])}
    >>> BorderWeightMapd(pack=True, class_weights=(1, 1))(item)["label"][0]
    array([1., 0., 1.], dtype=float32)
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
        pack: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = BorderWeightMap(w0, sigma, spacing=spacing, class_weights=class_weights)
        super().__init__(keys, weight_key, transform, allow_missing_keys, pack)


class FalkWeightMapd(_WeightMapTransform):
    """Dictionary version of `FalkWeightMap`.

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
        transform = FalkWeightMap(
            separation,
            sigma_separation,
            background=background,
            sigma_balance=sigma_balance,
            spacing=spacing,
        )
        super().__init__(keys, weight_key, transform, allow_missing_keys)


class ClassWeightMapd(_WeightMapTransform):
    """Dictionary version of `ClassWeightMap`.

    Args:
        keys: class labels, `(1, *S)`.
        weight_key: where the weights go; one, or one a key.
        num_classes: background included.
        class_weights: one a class, used as they are; None: balanced.
        ignore: label of the pixels of weight 0.
        pack: put the weights behind the label instead, `(2, *S)`, as `BorderWeightMapd` does.
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
        pack: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = ClassWeightMap(num_classes, class_weights, ignore=ignore)
        super().__init__(keys, weight_key, transform, allow_missing_keys, pack)


class Foreground(Transform):
    """Instances to foreground: 1 inside, 0 on background, 255 where they are ignored.

    Losses that read no weights, such as Dice, know ignored pixels by this value alone.
    """

    backend = BorderWeightMap.backend

    def __call__(self, instances: Label) -> Label:
        """Instances `(*S)` or `(1, *S)`, -1 ignored; float32, metadata kept."""
        values = as_integers(as_numpy(instances))
        return _like(np.where(values < 0, IGNORED, values > 0).astype(np.float32), instances)


class Foregroundd(KeywiseTransform):
    """Dictionary version of `Foreground`.

    Args:
        keys: instances `(1, *S)`; what comes back is float32.
        allow_missing_keys: no error when a key is absent.
    """

    backend = BorderWeightMap.backend

    def __init__(self, keys: KeysCollection = "label", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, Foreground(), allow_missing_keys=allow_missing_keys)


def _like(weight: NDArray[Any], label: Label) -> Label:
    """The weights as array or tensor like `label`, with its metadata."""
    return convert_to_dst_type(weight, label, dtype=np.float32)[0]


BorderWeightMapD = BorderWeightMapDict = BorderWeightMapd
FalkWeightMapD = FalkWeightMapDict = FalkWeightMapd
ClassWeightMapD = ClassWeightMapDict = ClassWeightMapd
ForegroundD = ForegroundDict = Foregroundd
