"""Instances of label files as MONAI transforms: numbered, and separated by borders."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from monai.config import KeysCollection
from monai.transforms import Transform
from monai.utils import TransformBackends
from numpy.typing import NDArray

from unet_med.instances import UNKNOWN, as_integers, label_components, separate
from unet_med.instances.borders import RidgeKind
from unet_med.transforms.keywise import KeywiseTransform
from unet_med.transforms.tensors import Label, labels_like
from unet_med.weights.arrays import as_numpy

LabelKind = Literal["mask", "classes", "instances"]

LABEL_KINDS: tuple[str, ...] = get_args(LabelKind)


class LabelInstances(Transform):
    """Check the integers of a label; number the connected components of a mask.

    Args:
        label_kind: ``"mask"`` has two values, and the non-zero one is foreground:
            its connected components are numbered 1..N, and -1 stays. ``"instances"``
            (1..N, -1 ignored) and ``"classes"`` (0..K-1, 255 ignored) pass.
        connectivity: for masks; 1 joins pixels that share a face, the number of
            dimensions corners too.

    Raises:
        ValueError: unknown kind.
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 - MONAI's own convention

    def __init__(self, label_kind: LabelKind = "mask", connectivity: int = 1) -> None:
        if label_kind not in LABEL_KINDS:
            raise ValueError(f"label kind {label_kind!r}; it is one of {', '.join(LABEL_KINDS)}")
        self.label_kind = label_kind
        self.connectivity = connectivity

    def __call__(self, label: Label) -> Label:
        """Number or check a label.

        Args:
            label: `(*S)` or `(1, *S)`; floats must be whole numbers.

        Returns:
            As `label`, int32 (int64 where a value needs it).

        Raises:
            ValueError: values that are not whole numbers, or, in a mask, more
                than one value besides 0 and -1.
        """
        values = as_integers(as_numpy(label))
        if self.label_kind == "mask":
            inside = (_checked_mask(values) != 0) & (values != UNKNOWN)
            numbered = label_components(inside, self.connectivity)
            values = np.where(values == UNKNOWN, UNKNOWN, numbered)
        return labels_like(values, label)


class SeparateInstances(Transform):
    """Put background between instances that touch; numbers are kept.

    Args:
        kind: ``"symmetric"``, one pixel from each of the two, or ``"falk"``, one
            pixel in all; see `unet_med.instances.ridge`.
    """

    backend = LabelInstances.backend

    def __init__(self, kind: RidgeKind = "symmetric") -> None:
        self.kind: RidgeKind = kind

    def __call__(self, label: Label) -> Label:
        """Separate an instance map.

        Args:
            label: instances, `(*S)` or `(1, *S)`.

        Returns:
            As `label`, integer.
        """
        return labels_like(separate(as_numpy(label), self.kind), label)


class LabelInstancesd(KeywiseTransform):
    """Dictionary version of `LabelInstances`.

    Args:
        keys: labels, `(1, *S)`.
        label_kind: ``"mask"``, ``"classes"`` or ``"instances"``.
        connectivity: for masks, as in `LabelInstances`.
        allow_missing_keys: no error when a key is absent.
    """

    backend = LabelInstances.backend

    def __init__(
        self,
        keys: KeysCollection,
        label_kind: LabelKind = "mask",
        *,
        connectivity: int = 1,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = LabelInstances(label_kind, connectivity)
        super().__init__(keys, transform, allow_missing_keys=allow_missing_keys)


class SeparateInstancesd(KeywiseTransform):
    """Dictionary version of `SeparateInstances`.

    Args:
        keys: instances, `(1, *S)`.
        kind: ``"symmetric"`` or ``"falk"``.
        allow_missing_keys: no error when a key is absent.
    """

    backend = SeparateInstances.backend

    def __init__(
        self,
        keys: KeysCollection,
        kind: RidgeKind = "symmetric",
        *,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, SeparateInstances(kind), allow_missing_keys=allow_missing_keys)


def _checked_mask(values: NDArray[Any]) -> NDArray[Any]:
    foreground = values[(values != 0) & (values != UNKNOWN)]
    if foreground.size and foreground.min() != foreground.max():
        raise ValueError(
            f"a mask with the values {foreground.min()} and {foreground.max()} besides 0; a mask "
            "has two values: use label_kind='classes' or 'instances', or threshold it first"
        )
    return values


LabelInstancesD = LabelInstancesDict = LabelInstancesd
SeparateInstancesD = SeparateInstancesDict = SeparateInstancesd
