"""Instances as MONAI transforms: of label files, separated by borders, and of predictions."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from numpy.typing import NDArray

from unet_med.instances import (
    RidgeKind,
    as_integers,
    instances_from_mask,
    label_components,
    regrow,
    separate,
)
from unet_med.transforms.keywise import KeywiseTransform
from unet_med.transforms.tensors import tensor_of
from unet_med.weights.arrays import as_numpy

__all__ = [
    "InstancesFromLogits",
    "InstancesFromLogitsD",
    "InstancesFromLogitsDict",
    "InstancesFromLogitsd",
    "LabelInstances",
    "LabelInstancesD",
    "LabelInstancesDict",
    "LabelInstancesd",
    "SeparateInstances",
    "SeparateInstancesD",
    "SeparateInstancesDict",
    "SeparateInstancesd",
]

LabelKind = Literal["mask", "classes", "instances"]
Label = TypeVar("Label", NDArray[Any], torch.Tensor)

LABEL_KINDS = ("mask", "classes", "instances")


class LabelInstances(Transform):
    """Check the integers of a label; number the connected components of a mask.

    Args:
        label_kind: ``"mask"`` has two values, and the non-zero one is foreground:
            its connected components are numbered 1..N. ``"instances"`` (1..N, -1
            ignored) and ``"classes"`` (0..K-1, 255 ignored) pass.
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
                than one value besides 0.
        """
        values = as_integers(as_numpy(label))
        if self.label_kind == "mask":
            values = label_components(_checked_mask(values), self.connectivity)
        return _like(values, label)


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
        return _like(separate(as_numpy(label), self.kind), label)


class InstancesFromLogits(Transform):
    """Objects of a prediction: connected components of each foreground class.

    Args:
        min_size: smallest object kept, px; the 2015 release drops 500 px and less.
        threshold: least foreground probability (1 minus the background's);
            None: the class with the highest score wins.
        softmax: the input is logits, and `threshold` applies to their softmax; False: the
            input is probabilities. Without a threshold both give the same.
        grow: px by which objects grow into the background *between* them, never
            outwards. 1 restores the pixels that `SeparateInstances` removed for training.
        connectivity: 1 joins pixels that share a face, the number of dimensions
            corners too.
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(
        self,
        min_size: int = 0,
        threshold: float | None = None,
        *,
        softmax: bool = True,
        grow: int = 1,
        connectivity: int = 1,
    ) -> None:
        self.min_size = min_size
        self.threshold = threshold
        self.softmax = softmax
        self.grow = grow
        self.connectivity = connectivity

    def __call__(self, logits: Label) -> Label:
        """Label one prediction.

        Args:
            logits: scores `(C, *S)`, channel 0 is background.

        Returns:
            Instances `(1, *S)`, int32, 1..N over all classes; metadata is kept.

        Raises:
            ValueError: fewer than two channels.
        """
        if logits.ndim < 2 or logits.shape[0] < 2:
            raise ValueError(
                f"a prediction of shape {tuple(logits.shape)}; instances need (C, *spatial) with "
                "channel 0 as background and at least one foreground channel"
            )
        scores = convert_to_tensor(tensor_of(logits), track_meta=False)
        classes = as_numpy(self.classes(scores))  # (*S)
        found = np.zeros(classes.shape, np.int32)
        for number in range(1, logits.shape[0]):
            objects = instances_from_mask(
                classes == number, self.min_size, connectivity=self.connectivity
            )
            found += np.where(objects > 0, objects + found.max(initial=0), 0).astype(np.int32)
        return _like(regrow(found, self.grow)[None], logits)  # (1, *S)

    def classes(self, scores: torch.Tensor) -> torch.Tensor:
        """Class of every pixel `(*S)`, of which the objects are made, by scores `(C, *S)`."""
        if self.threshold is None:
            return scores.argmax(dim=0)
        probabilities = scores.float().softmax(dim=0) if self.softmax else scores
        foreground = 1 - probabilities[0] >= self.threshold
        return torch.where(foreground, probabilities[1:].argmax(dim=0) + 1, 0)


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


class InstancesFromLogitsd(KeywiseTransform):
    """Dictionary version of `InstancesFromLogits`; the instances replace the scores.

    Args:
        keys: scores, `(C, *S)`.
        min_size: smallest object kept, px.
        threshold: least foreground probability; None: the highest score wins.
        softmax: the input is logits; False: probabilities.
        grow: px by which objects grow into the background between them.
        connectivity: as in `InstancesFromLogits`.
        allow_missing_keys: no error when a key is absent.
    """

    backend = InstancesFromLogits.backend

    def __init__(
        self,
        keys: KeysCollection,
        min_size: int = 0,
        *,
        threshold: float | None = None,
        softmax: bool = True,
        grow: int = 1,
        connectivity: int = 1,
        allow_missing_keys: bool = False,
    ) -> None:
        self.rule = InstancesFromLogits(
            min_size, threshold, softmax=softmax, grow=grow, connectivity=connectivity
        )
        super().__init__(keys, self.rule, allow_missing_keys=allow_missing_keys)


def _checked_mask(values: NDArray[Any]) -> NDArray[Any]:
    foreground = values[values != 0]
    if foreground.size and foreground.min() != foreground.max():
        raise ValueError(
            f"a mask with the values {foreground.min()} and {foreground.max()} besides 0; a mask "
            "has two values: use label_kind='classes' or 'instances', or threshold it first"
        )
    return values


def _like(labels: NDArray[Any], source: Label) -> Label:
    """Labels as array or tensor like `source`, with its metadata, as int32 where they fit."""
    dtype = np.int64 if labels.dtype.itemsize > 4 else np.int32
    if labels.dtype.itemsize > 4 and np.array_equal(labels, labels.astype(np.int32)):
        dtype = np.int32
    return convert_to_dst_type(labels.astype(dtype), source, dtype=dtype)[0]


LabelInstancesD = LabelInstancesDict = LabelInstancesd
SeparateInstancesD = SeparateInstancesDict = SeparateInstancesd
InstancesFromLogitsD = InstancesFromLogitsDict = InstancesFromLogitsd
