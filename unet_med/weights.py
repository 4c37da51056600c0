"""Distances to the two nearest instances, and the weight maps made of them.

Ronneberger et al. 2015, section 3, equation 2: `w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2))`;
`border_weight_map` is the second term and `class_weight_map` the first.

Every map is an array or a tensor of shape `(*S)` or, channel first, `(1, *S)`; what
comes back is of the same kind, shape and device. Tensors are computed on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects

from unet_med.instances import as_integers, ridge

__all__ = ["border_weight_map", "class_weight_map", "falk_weight_map", "two_nearest"]

Map = TypeVar("Map", NDArray[Any], torch.Tensor)
Spacing = float | Sequence[float] | None
Floats = NDArray[np.float32]
Box = tuple[slice, ...]

NEGLIGIBLE = 2.0**-24  # added to a weight of 1, float32 rounds it away


def two_nearest(
    instances: Map, spacing: Spacing = None, max_distance: float | None = None
) -> tuple[Map, Map]:
    """Distances to the nearest and to the second-nearest instance, from every pixel.

    Exact Euclidean distances to the nearest pixel of an instance, whatever its
    number of fragments. Within an instance d1 is 0 and d2 leads to the nearest
    other one. No image-wide distance transform is made per instance: a limit
    needs one in a box around each, and N instances without one (or with boxes
    that would cost more) need `2 log2(N) + 1` of the whole image.

    Args:
        instances: 1..N are the instances; 0, and -1 for ignored pixels, are not.
        spacing: size of a pixel, one number or one an axis; d1 and d2 are in its
            unit. None: in pixels.
        max_distance: distances above are not wanted and come back as inf; the
            smaller, the faster. None: no limit.

    Returns:
        d1 and d2, float32; inf where there are fewer than one, or two, instances.

    Raises:
        ValueError: labels that are not whole numbers, or a spacing or limit
            that is not positive or does not fit the axes.

    >>> d1, d2 = two_nearest(np.array([1, 0, 0, 0, 2]))
    >>> d1.tolist(), d2.tolist()
    ([0.0, 1.0, 2.0, 1.0, 0.0], [4.0, 3.0, 2.0, 3.0, 4.0])
    """
    labels, pixel = _spatial(instances, spacing)
    if max_distance is not None and not max_distance > 0:
        raise ValueError(f"max_distance {max_distance}; it must be positive, or None for no limit")
    d1, d2 = _distances(labels, pixel, math.inf if max_distance is None else max_distance)
    return _like(d1, instances), _like(d2, instances)


def border_weight_map(
    instances: Map, w0: float = 10.0, sigma: float = 5.0, spacing: Spacing = None
) -> Map:
    """The border term of the paper's weight map, `w0 exp(-(d1 + d2)^2 / (2 sigma^2))`.

    Ronneberger et al. 2015, equation 2, on the instance map as it is given:
    call `separate` first if touching instances are to have a border. Terms below
    `2**-24`, which float32 cannot add to 1, may be 0.

    Args:
        instances: 1..N are the instances, 0 is background, -1 ignored.
        w0: weight where two instances touch; 10 in the paper.
        sigma: width of the border, in pixels or in the unit of `spacing`; about
            5 px in the paper.
        spacing: size of a pixel, one number or one an axis; None: 1.

    Returns:
        The term on background, float32; 0 inside instances, on ignored pixels
        and where there are fewer than two instances.

    Raises:
        ValueError: as `two_nearest`, or `w0` is negative or `sigma` not positive.

    >>> border_weight_map(np.array([1, 0, 2]), sigma=2.0).round(3)
    array([0.   , 6.065, 0.   ], dtype=float32)
    """
    labels, pixel = _spatial(instances, spacing)
    term = _border_term(labels, pixel, w0, sigma)
    term[labels != 0] = 0
    return _like(term, instances)


def falk_weight_map(
    instances: Map,
    classes: Map | None = None,
    *,
    separation: float = 50.0,
    sigma_separation: float = 6.0,
    background: float = 0.1,
    sigma_balance: float = 10.0,
    spacing: Spacing = None,
) -> Map:
    """The whole weight map of Falk et al. 2019 (Nature Methods 16:67-70).

    Foreground weighs 1, ignored pixels 0, and background
    `v_bal + sum_c (lambda exp(-(d1 + d2)^2 / (2 sigma_sep^2)) + (1 - v_bal)
    exp(-d1^2 / (2 sigma_bal^2)))`. Pixels of the ridge between touching
    instances of a class count as background; the distances are those before
    the ridge was made, so give the instances as they were annotated.

    Args:
        instances: 1..N are the instances, 0 is background, -1 ignored.
        classes: class of every pixel, the shape of `instances`; None: all
            instances are of one class.
        separation: lambda, the weight where two instances touch.
        sigma_separation: sigma_sep, px or the unit of `spacing`.
        background: v_bal, the weight far from everything.
        sigma_balance: sigma_bal, px or the unit of `spacing`.
        spacing: size of a pixel, one number or one an axis; None: 1, as Falk
            has it after rescaling.

    Returns:
        Weight map, float32.

    Raises:
        ValueError: as `border_weight_map`, or `classes` is of another shape.
    """
    labels, pixel = _spatial(instances, spacing)
    ground = labels == 0
    weight = np.full(labels.shape, background, np.float32)
    for members in _of_one_class(labels, classes):
        nearest = np.sqrt(_squared_distance(members <= 0, pixel)[0])
        weight += _border_term(members, pixel, separation, sigma_separation)
        weight += (1 - background) * _gaussian(nearest, sigma_balance)
        ground |= ridge(members, "falk")
    weight[~ground] = 1
    weight[labels < 0] = 0
    return _like(weight, instances)


def class_weight_map(
    label: Map,
    num_classes: int = 2,
    class_weights: Sequence[float] | None = None,
    ignore: int = 255,
) -> Map:
    """The paper's `w_c`, "the weight map to balance the class frequencies".

    The paper gives no formula. Ours is `n / (K n_k)` on the `n_k` pixels of
    class k, with n pixels and K classes that are not ignored and present:
    the classes weigh alike and the mean weight is 1.

    Args:
        label: classes 0..num_classes - 1.
        num_classes: number of classes, background included.
        class_weights: one weight a class, used as they are; None: the formula.
        ignore: label of the pixels that weigh nothing.

    Returns:
        Weight map, float32, always finite; 0 on ignored pixels.

    Raises:
        ValueError: labels that are not whole numbers, a class outside the
            range, or weights that are negative, not finite or not one a class.

    >>> class_weight_map(np.array([0, 0, 0, 1])).round(3)
    array([0.667, 0.667, 0.667, 2.   ], dtype=float32)
    """
    classes = as_integers(_numpy(label))
    valid = classes != ignore
    members = classes[valid]
    if members.size and not 0 <= members.min() <= members.max() < num_classes:
        wrong = members.min() if members.min() < 0 else members.max()
        raise ValueError(
            f"class {wrong} in a label of {num_classes} classes; classes are "
            f"0..{num_classes - 1} and {ignore} is ignored: raise num_classes or map the label"
        )
    if class_weights is None:
        counts = np.bincount(members, minlength=num_classes)
        table = members.size / (max(np.count_nonzero(counts), 1) * np.maximum(counts, 1))
    else:
        table = _class_weights(class_weights, num_classes)
    weight = np.zeros(classes.shape, np.float32)
    weight[valid] = table.astype(np.float32)[members]
    return _like(weight, label)


def _distances(
    labels: NDArray[Any], pixel: tuple[float, ...], reach: float
) -> tuple[Floats, Floats]:
    """d1 and d2 up to `reach`, inf beyond, by the cheaper of two exact methods."""
    boxes = _boxes_around(labels, pixel, reach)
    by_boxes = sum(math.prod(side.stop - side.start for side in box) for box in boxes.values())
    by_bits = labels.size * (1 + 2 * (len(boxes) - 1).bit_length())
    if by_boxes <= by_bits:
        squares = _running_minima(labels, boxes, pixel)
    else:
        squares = _minima_over_bits(labels, list(boxes), pixel)
    for square in squares:
        square[square > reach**2] = np.inf
        np.sqrt(square, out=square)
    return squares


def _boxes_around(labels: NDArray[Any], pixel: tuple[float, ...], reach: float) -> dict[int, Box]:
    """Number of every instance, and the box around it that `reach` can touch."""
    margin = [math.ceil(min(reach / step, n)) for step, n in zip(pixel, labels.shape, strict=True)]
    return {
        number: tuple(
            slice(max(side.start - m, 0), min(side.stop + m, n))
            for side, m, n in zip(box, margin, labels.shape, strict=True)
        )
        for number, box in enumerate(find_objects(labels), start=1)
        if box is not None
    }


def _running_minima(
    labels: NDArray[Any], boxes: dict[int, Box], pixel: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Squares of d1 and d2: the two smallest of the distances seen, instance after instance."""
    first = np.full(labels.shape, np.inf, np.float32)
    second = first.copy()
    for number, box in boxes.items():
        square, _ = _squared_distance(labels[box] != number, pixel)
        nearest, runner_up = first[box], second[box]  # views
        np.minimum(runner_up, np.maximum(nearest, square), out=runner_up)
        np.minimum(nearest, square, out=nearest)
    return first, second


def _minima_over_bits(
    labels: NDArray[Any], numbers: list[int], pixel: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Squares of d1 and d2 from distances to halves of the instances.

    Two instances differ in a bit of their rank, so every instance but the nearest is
    in one of the halves whose bit is not the nearest's: d2 is the least distance to those.
    """
    rank = np.zeros(max(numbers) + 1, np.int32)
    rank[numbers] = np.arange(len(numbers))
    inside = labels > 0
    ranks = rank[np.where(inside, labels, 0)]
    first, nearest = _squared_distance(~inside, pixel)
    owner = ranks[tuple(nearest)]
    second = np.full(labels.shape, np.inf, np.float32)
    for bit in range((len(numbers) - 1).bit_length()):
        for value in (0, 1):
            half = inside & ((ranks >> bit) & 1 == value)
            square, _ = _squared_distance(~half, pixel)
            np.minimum(second, square, out=second, where=(owner >> bit) & 1 != value)
    return first, second


def _squared_distance(
    outside: NDArray[np.bool_], pixel: tuple[float, ...]
) -> tuple[Floats, NDArray[np.int32]]:
    """Square of the distance to the nearest False pixel, inf without one, and where that is."""
    if outside.all():
        nowhere = np.zeros((outside.ndim, *outside.shape), np.int32)
        return np.full(outside.shape, np.inf, np.float32), nowhere
    # Distances from scipy's indices, in float32: faster than its own float64 ones.
    nearest = distance_transform_edt(outside, pixel, return_distances=False, return_indices=True)
    total = np.zeros(outside.shape, np.float32)
    for found, here, step in zip(
        nearest, np.ogrid[tuple(map(slice, outside.shape))], pixel, strict=True
    ):
        apart = np.subtract(found, here, dtype=np.float32) * np.float32(step)
        total += np.square(apart, out=apart)
    return total, nearest  # (*S), (d, *S)


def _border_term(labels: NDArray[Any], pixel: tuple[float, ...], w0: float, sigma: float) -> Floats:
    """`w0 exp(-(d1 + d2)^2 / (2 sigma^2))` on every pixel, 0 where it is negligible."""
    if not 0 <= w0 < math.inf:
        raise ValueError(f"border weight {w0}; it must be 0 or more, the paper has 10")
    if not 0 < sigma < math.inf:
        raise ValueError(f"border sigma {sigma}; it must be positive, the paper has 5 px")
    if w0 <= NEGLIGIBLE:
        return np.zeros(labels.shape, np.float32)
    # As d1 + d2 >= d2, the term is negligible where d2 is beyond this.
    reach = sigma * math.sqrt(2 * math.log(w0 / NEGLIGIBLE))
    d1, d2 = _distances(labels, pixel, reach)
    return np.float32(w0) * _gaussian(d1 + d2, sigma)


def _gaussian(distance: Floats, sigma: float) -> Floats:
    return np.exp(np.square(distance) / np.float32(-2 * sigma**2))


def _of_one_class(
    labels: NDArray[Any], classes: NDArray[Any] | torch.Tensor | None
) -> Iterator[NDArray[Any]]:
    """The instance map, one class at a time; an instance is in every class it has pixels of."""
    if classes is None:
        yield labels
        return
    values = as_integers(_numpy(classes))
    if values.size != labels.size:
        raise ValueError(
            f"classes of shape {values.shape} for instances of shape {labels.shape}; "
            "they must be of one shape"
        )
    values = values.reshape(labels.shape)
    for value in np.unique(values[labels > 0]):
        yield np.where((values == value) | (labels < 0), labels, 0)


def _class_weights(class_weights: Sequence[float], num_classes: int) -> NDArray[np.float64]:
    table = np.asarray(class_weights, dtype=np.float64)
    if table.shape != (num_classes,):
        raise ValueError(f"{table.size} class weights for {num_classes} classes; give one a class")
    if not (np.isfinite(table) & (table >= 0)).all():
        raise ValueError(f"class weights {table.tolist()}; they must be finite and not negative")
    return table


def _spatial(
    instances: NDArray[Any] | torch.Tensor, spacing: Spacing
) -> tuple[NDArray[Any], tuple[float, ...]]:
    """Labels without the channel axis, and the size of a pixel along each axis."""
    labels = as_integers(_numpy(instances))
    given = np.ones(1) if spacing is None else np.atleast_1d(np.asarray(spacing, np.float64))
    if not (np.isfinite(given) & (given > 0)).all():
        raise ValueError(f"spacing {given.tolist()}; it must be positive")
    if labels.ndim > 1 and labels.shape[0] == 1 and given.size in (1, labels.ndim - 1):
        labels = labels[0]  # (1, *S) -> (*S)
    if given.size not in (1, labels.ndim):
        raise ValueError(
            f"spacing {given.tolist()} for instances of shape {tuple(instances.shape)}; "
            "give one number, or one for each spatial axis"
        )
    return _compact(labels), tuple(np.broadcast_to(given, (labels.ndim,)).tolist())


def _compact(labels: NDArray[Any]) -> NDArray[Any]:
    """The labels as int32, renumbered if a table over their numbers would be too large."""
    largest = max(labels.size, 2**16 - 1)
    if labels.size == 0 or (labels.min() >= -1 and labels.max() <= largest):
        return labels.astype(np.int32, copy=False)
    numbers = np.unique(labels[labels > 0])
    ranks = np.searchsorted(numbers, labels) + 1
    return np.where(labels > 0, ranks, np.where(labels < 0, -1, 0)).astype(np.int32)


def _numpy(values: NDArray[Any] | torch.Tensor) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _like(result: NDArray[Any], source: Map) -> Map:
    """The result as an array or tensor like `source`, in its shape and on its device."""
    result = result.reshape(source.shape)
    if isinstance(source, torch.Tensor):
        return torch.from_numpy(result).to(source.device)
    return result
