"""Compute the weights of a tensor on its own device, for all items of a batch at once.

The border term uses the keys of `all_at_once.py`. On a CPU only pixels that may find a nearer
instance search on; here every pixel searches every distance, because a GPU is fast enough.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unet_med.instances.numbers import no_integer
from unet_med.weights.all_at_once import Keys
from unet_med.weights.arrays import Spacing, pixel_size

Pair = tuple[Tensor, Tensor]  # keys of the nearest and of the second-nearest instance

NEGLIGIBLE = 2.0**-24  # added to a weight of 1, float32 rounds it away
MOST_CANDIDATES = 2**26  # keys that are compared at a time, 512 MB of 64 bits


def border_reach(w0: float, sigma: float) -> float:
    """Distance d1 + d2 beyond which the border term is negligible; it bounds d2 as well.

    Raises:
        ValueError: `w0` is negative or `sigma` not positive.
    """
    if not 0 <= w0 < math.inf:
        raise ValueError(f"border weight {w0}; it must be 0 or more, the paper has 10")
    if not 0 < sigma < math.inf:
        raise ValueError(f"border sigma {sigma}; it must be positive, the paper has 5 px")
    return sigma * math.sqrt(2 * math.log(w0 / NEGLIGIBLE)) if w0 > NEGLIGIBLE else 0.0


def border_terms(instances: Tensor, w0: float, sigma: float, spacing: Spacing = None) -> Tensor:
    """`border_weight_map` of every item of a batch; of int32 without a wait of the host.

    Args:
        instances: `(B, *S)`; 1..N are the instances, 0 is background, -1 ignored.
        w0: as in `border_weight_map`.
        sigma: as in `border_weight_map`.
        spacing: as in `border_weight_map`.

    Returns:
        `(B, *S)`, float32, on the device of `instances`.

    Raises:
        ValueError: as `border_weight_map`.
    """
    pixel = pixel_size((1, *instances.shape[1:]), spacing)
    reach = border_reach(w0, sigma)
    labels = _whole(instances)
    if reach == 0 or labels.numel() == 0:
        return torch.zeros(labels.shape, device=labels.device)
    sides = zip(labels.shape[1:], pixel, strict=True)
    reach = min(reach, math.hypot(*(n * step for n, step in sides)))
    labels, largest = _numbered(labels, instances.dtype)
    keys = Keys.of(largest, labels.shape[-1], pixel, reach)
    d1, d2 = (_distances(keys, key, reach) for key in _two_nearest(labels, keys, pixel, reach))
    term = w0 * torch.exp((d1 + d2).square() / (-2 * sigma**2))
    return term.where(labels == 0, 0.0)


def class_weights_of(
    label: Tensor, num_classes: int, table: NDArray[np.float64] | None, ignore: int
) -> Tensor:
    """`class_weight_map` of a tensor.

    Args:
        label: classes 0..num_classes - 1, any shape.
        num_classes: number of classes.
        table: a weight a class; None: the formula.
        ignore: label of the pixels that weigh nothing.

    Returns:
        Of the shape of `label`, float32, on its device.

    Raises:
        ValueError: labels that are not whole numbers, or a class outside the range.
    """
    classes = _whole(label)
    members = torch.stack([classes == k for k in range(num_classes)])  # (K, *S)
    wrong = ~members.any(dim=0) & (classes != ignore)
    if wrong.any():
        raise no_class(int(classes[wrong][0]), num_classes, ignore)
    members &= classes != ignore
    if table is None:
        counts = members.flatten(1).sum(dim=1)  # (K,)
        present = (counts > 0).sum().clamp(min=1)
        weights = counts.sum() / (present * counts.clamp(min=1)).double()
    else:
        weights = torch.as_tensor(table, device=label.device)
    weights = weights.float().view(-1, *[1] * classes.dim())
    return (members * weights).sum(dim=0)


def no_class(value: int, num_classes: int, ignore: int) -> ValueError:
    """Error for a class outside the range."""
    return ValueError(
        f"class {value} in a label of {num_classes} classes; classes are "
        f"0..{num_classes - 1} and {ignore} is ignored: raise num_classes or map the label"
    )


def _two_nearest(labels: Tensor, keys: Keys, pixel: tuple[float, ...], reach: float) -> Pair:
    """Keys of the two nearest instances of every pixel, `(B, *S)`."""
    far = keys.far << keys.bits
    first = torch.where(labels > 0, labels, far)
    first = first.to(torch.int32 if keys.dtype is np.int32 else torch.int64)
    pair = first, torch.full_like(first, far)
    for axis, step in enumerate(pixel, start=1):
        margin = min(math.ceil(reach / step), labels.shape[axis] - 1)
        lines = tuple(x.movedim(axis, -1) for x in pair)
        one, two = (x.reshape(-1, labels.shape[axis]) for x in lines)  # (R, n)
        found = _along_rows(one, two, margin, keys.square(step), keys)
        pair = tuple(x.reshape(lines[0].shape).movedim(-1, axis) for x in found)  # type: ignore[assignment]
    return pair


def _along_rows(first: Tensor, second: Tensor, margin: int, square: int, keys: Keys) -> Pair:
    """Keys if distances run along one more axis, `margin` pixels to both sides; all `(R, n)`."""
    height = max(1, MOST_CANDIDATES // (first.shape[1] * (2 * margin + 1)))
    parts = zip(first.split(height), second.split(height), strict=True)
    found = [_nearest(one, two, margin, square, keys) for one, two in parts]
    return torch.cat([pair[0] for pair in found]), torch.cat([pair[1] for pair in found])


def _nearest(first: Tensor, second: Tensor, margin: int, square: int, keys: Keys) -> Pair:
    """The two least keys of different instances in the window of every pixel."""
    far = keys.far << keys.bits
    shifts = torch.arange(-margin, margin + 1, device=first.device, dtype=first.dtype)
    step = square * shifts.square() << keys.bits
    padded = (functional.pad(x, (margin, margin), value=far) for x in (first, second))
    one, two = (x.unfold(1, 2 * margin + 1, 1) + step for x in padded)  # (R, n, 2 margin + 1)
    least = one.amin(-1)
    # Where the winner is a pixel's nearest, its second-nearest is the rival; else its nearest is.
    same = (one ^ least[..., None]) & ((1 << keys.bits) - 1) == 0
    return least, torch.where(same, two, one).amin(-1)


def _numbered(labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
    """Labels, and a number that none exceeds; of short integers their type has it.

    Of 64 bits, the largest number is asked for. Where keys would have few bits left for
    distances, instances are numbered anew.
    """
    if dtype in (torch.int32, torch.int16, torch.int8, torch.uint8):
        return labels, torch.iinfo(dtype).max
    largest = max(0, int(labels.max()))
    if largest <= max(labels.numel(), 2**16 - 1):
        return labels, largest
    numbers, ranks = labels.unique(return_inverse=True)
    return torch.where(labels > 0, ranks + 1, labels), len(numbers)


def _distances(keys: Keys, key: Tensor, reach: float) -> Tensor:
    """Float32, inf beyond the reach."""
    squares = (key >> keys.bits).double() * (keys.unit**2 / keys.scale)
    distance = squares.sqrt().float()
    return distance.masked_fill(distance > reach, math.inf)


def _whole(labels: Tensor) -> Tensor:
    """The labels as 64-bit integers; refuse fractions."""
    labels = labels.as_subclass(Tensor)
    whole = labels.long()
    if labels.is_floating_point() and bool((wrong := whole != labels).any()):
        raise no_integer(labels[wrong][0].item())
    return whole
