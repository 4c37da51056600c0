"""Exact distances to the two nearest instances, without an image-wide transform for each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects

from unet_med.weights.containers import Map, Spacing, like, spatial

Floats = NDArray[np.float32]
Box = tuple[slice, ...]

SHIFTS_LIKE_TRANSFORM = 150  # shifting by up to so many px costs like scipy's transform: measured


def two_nearest(
    instances: Map, spacing: Spacing = None, max_distance: float | None = None
) -> tuple[Map, Map]:
    """Distances to the nearest and to the second-nearest instance, from every pixel.

    Exact Euclidean distances to the nearest pixel of an instance, whatever its
    number of fragments. Within an instance d1 is 0 and d2 leads to the nearest
    other one. With a limit the work is in a box around each instance; without
    one, or with boxes that would cost more, it is `2 log2(N) + 1` distance
    transforms of the image for N instances.

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
    labels, pixel = spatial(instances, spacing)
    if max_distance is not None and not max_distance > 0:
        raise ValueError(f"max_distance {max_distance}; it must be positive, or None for no limit")
    d1, d2 = distances(labels, pixel, math.inf if max_distance is None else max_distance)
    return like(d1, instances), like(d2, instances)


def distances(
    labels: NDArray[Any], pixel: tuple[float, ...], reach: float
) -> tuple[Floats, Floats]:
    """d1 and d2 up to `reach`, inf beyond, by the cheaper of two exact methods.

    Args:
        labels: instances `(*S)`, positive numbers of about the number of pixels at most.
        pixel: size of a pixel along each axis.
        reach: the limit, in the unit of `pixel`; inf for none.

    Returns:
        d1 and d2, float32, `(*S)`.
    """
    reach = min(reach, math.hypot(*(n * step for n, step in zip(labels.shape, pixel, strict=True))))
    margin = [math.ceil(reach / step) for step in pixel]
    boxes = {number: box for number, box in enumerate(find_objects(labels), start=1) if box}
    volume = sum(
        math.prod(side.stop - side.start for side in _grown(box, margin, labels.shape))
        for box in boxes.values()
    )
    transforms = 1 + 2 * (len(boxes) - 1).bit_length()
    if volume * max(margin) <= transforms * labels.size * SHIFTS_LIKE_TRANSFORM:
        d1, d2 = _minima_over_boxes(labels, boxes, pixel, reach)
    else:
        d1, d2 = _minima_over_bits(labels, list(boxes), pixel)
    d1[d1 > reach] = np.inf
    d2[d2 > reach] = np.inf
    return d1, d2


def _minima_over_boxes(
    labels: NDArray[Any], boxes: dict[int, Box], pixel: tuple[float, ...], reach: float
) -> tuple[Floats, Floats]:
    """d1 and d2 up to `reach`: the two least distances seen, instance after instance."""
    margin = [math.ceil(reach / step) for step in pixel]
    far = math.ceil((reach + max(pixel)) ** 2)  # stands for all squares above reach**2
    small = set(pixel) == {1.0} and 2 * far <= np.iinfo(np.int16).max
    first = np.full(labels.shape, far, np.int16 if small else np.float32)
    second = first.copy()
    for number, box in boxes.items():
        around = _grown(box, margin, labels.shape)
        rows = labels[(*box[:-1], around[-1])] == number
        square = _squares_along_rows(rows, pixel[-1], far).astype(first.dtype)
        for axis in reversed(range(labels.ndim - 1)):
            square = _spread(square, axis, margin[axis], pixel[axis], far)
            start = around[axis].start - box[axis].start + margin[axis]
            kept = slice(start, start + around[axis].stop - around[axis].start)
            square = square[(slice(None),) * axis + (kept,)]
        nearest, runner_up = first[around], second[around]  # views
        np.minimum(runner_up, np.maximum(nearest, square), out=runner_up)
        np.minimum(nearest, square, out=nearest)
    return np.sqrt(first, dtype=np.float32), np.sqrt(second, dtype=np.float32)


def _grown(box: Box, margin: list[int], shape: tuple[int, ...]) -> Box:
    return tuple(
        slice(max(side.start - m, 0), min(side.stop + m, n))
        for side, m, n in zip(box, margin, shape, strict=True)
    )


def _squares_along_rows(rows: NDArray[np.bool_], step: float, far: int) -> Floats:
    """Square of the distance to the nearest True along the last axis, at most `far`."""
    here = np.arange(rows.shape[-1], dtype=np.int32)
    none = math.ceil(math.sqrt(far) / step)  # pixels that are far
    left = np.maximum.accumulate(np.where(rows, here, -none), axis=-1)
    right = np.where(rows, here, here.size + none)[..., ::-1]
    right = np.minimum.accumulate(right, axis=-1)[..., ::-1]
    distance = np.minimum(here - left, right - here).astype(np.float32) * np.float32(step)
    return np.minimum(np.square(distance), np.float32(far))


def _spread(square: Floats, axis: int, margin: int, step: float, far: int) -> Floats:
    """Let squared distances run along one more axis, `margin` pixels beyond both ends.

    The least of `square[j] + ((i - j) step)^2` over j, for all pixels at once: this
    needs no lower envelope, and whole blocks of small numbers are fast.
    """
    length = square.shape[axis]
    shape = list(square.shape)
    shape[axis] += 2 * margin
    spread = np.full(shape, far, square.dtype)
    shifted = np.empty_like(square)
    before = (slice(None),) * axis
    for shift in range(margin + 1):
        np.add(square, square.dtype.type((shift * step) ** 2), out=shifted)
        for start in {margin - shift, margin + shift}:
            part = spread[(*before, slice(start, start + length))]
            np.minimum(part, shifted, out=part)
    return spread


def _minima_over_bits(
    labels: NDArray[Any], numbers: list[int], pixel: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """d1 and d2 from distances to halves of the instances.

    Two instances differ in a bit of their rank, so every instance but the nearest is
    in one of the halves whose bit is not the nearest's: d2 is the least distance to those.
    """
    rank = np.zeros(max(numbers) + 1, np.int32)
    rank[numbers] = np.arange(len(numbers))
    inside = labels > 0
    ranks = rank[np.where(inside, labels, 0)]
    first, nearest = distance_transform_edt(~inside, pixel, return_indices=True)
    owner = ranks[tuple(nearest)]
    second = np.full(labels.shape, np.inf)
    for bit in range((len(numbers) - 1).bit_length()):
        for value in (0, 1):
            half = inside & ((ranks >> bit) & 1 == value)
            others = (owner >> bit) & 1 != value
            np.minimum(second, distance_transform_edt(~half, pixel), out=second, where=others)
    return first.astype(np.float32), second.astype(np.float32)
