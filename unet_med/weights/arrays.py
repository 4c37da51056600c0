"""Convert label arrays and tensors, with or without a channel axis, to NumPy and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from unet_med.instances import UNKNOWN, as_integers

Map = TypeVar("Map", NDArray[Any], torch.Tensor)
Spacing = float | Sequence[float] | None


def spatial(
    instances: NDArray[Any] | torch.Tensor, spacing: Spacing
) -> tuple[NDArray[Any], tuple[float, ...]]:
    """Labels without the channel axis, and the size of a pixel along each axis."""
    labels = as_integers(as_numpy(instances))
    pixel = pixel_size(labels.shape, spacing)
    return _compact(labels.reshape(labels.shape[-len(pixel) :])), pixel


def pixel_size(shape: Sequence[int], spacing: Spacing) -> tuple[float, ...]:
    """Size of a pixel along each spatial axis of instances `(*S)` or `(1, *S)`."""
    given = np.ones(1) if spacing is None else np.atleast_1d(np.asarray(spacing, np.float64))
    if not (np.isfinite(given) & (given > 0)).all():
        raise ValueError(f"spacing {given.tolist()}; it must be positive")
    has_channel = len(shape) > 1 and shape[0] == 1 and given.size in (1, len(shape) - 1)
    dims = len(shape) - has_channel
    if given.size not in (1, dims):
        raise ValueError(
            f"spacing {given.tolist()} for instances of shape {tuple(shape)}; "
            "give one number, or one for each spatial axis"
        )
    return tuple(np.broadcast_to(given, (dims,)).tolist())


def as_numpy(values: NDArray[Any] | torch.Tensor) -> NDArray[Any]:
    """The values of an array or of a tensor on any device; as float32, if NumPy lacks the type."""
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def like(result: NDArray[Any], source: Map) -> Map:
    """The result as an array or tensor like `source`, in its shape and on its device."""
    result = result.reshape(source.shape)
    if isinstance(source, torch.Tensor):
        return torch.from_numpy(result).to(source.device)
    return result


def _compact(labels: NDArray[Any]) -> NDArray[Any]:
    """The labels as int32. Large numbers are replaced by ranks, to keep tables over them small."""
    largest = max(labels.size, 2**16 - 1)
    if labels.size == 0 or (labels.min() >= UNKNOWN and labels.max() <= largest):
        return labels.astype(np.int32, copy=False)
    numbers = np.unique(labels[labels > 0])
    ranks = np.searchsorted(numbers, labels) + 1
    return np.where(labels > 0, ranks, np.where(labels < 0, UNKNOWN, 0)).astype(np.int32)
