"""Find the two nearest instances: one instance after the other, in a box around each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Box = tuple[slice, ...]


def minima_over_boxes(
    labels: NDArray[Any],
    wanted: NDArray[np.bool_],
    boxes: dict[int, Box],
    pixel: tuple[float, ...],
    reach: float,
) -> tuple[Floats, Floats]:
    """Distances d1 and d2 of the wanted pixels: the two least over all instances.

    Args:
        labels: instances `(*S)`.
        wanted: the pixels, `(*S)`.
        boxes: around the instances, by number.
        pixel: size of a pixel along each axis.
        reach: distances above may come back as any that are above.

    Returns:
        d1 and d2, float32, of the wanted pixels in their order.
    """
    margin = [math.ceil(reach / step) for step in pixel]
    far = math.ceil((reach + max(pixel)) ** 2)  # stands for all squares above reach**2
    small = set(pixel) == {1.0} and 2 * far <= np.iinfo(np.int16).max
    first = np.full(labels.shape, far, np.int16 if small else np.float32)
    second = first.copy()
    for number, box in boxes.items():
        around = grown(box, margin, labels.shape)
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
    return np.sqrt(first[wanted], dtype=np.float32), np.sqrt(second[wanted], dtype=np.float32)


def grown(box: Box, margin: list[int], shape: tuple[int, ...]) -> Box:
    """A box with a margin on each side, cut at the edge of the image."""
    return tuple(
        slice(max(side.start - m, 0), min(side.stop + m, n))
        for side, m, n in zip(box, margin, shape, strict=True)
    )


def _squares_along_rows(rows: NDArray[np.bool_], step: float, far: int) -> Floats:
    """Square of the distance to the nearest True along the last axis, at most `far`."""
    here = np.arange(rows.shape[-1], dtype=np.int32)
    none = math.ceil(math.sqrt(far) / step)  # as many pixels are beyond the reach
    left = np.maximum.accumulate(np.where(rows, here, -none), axis=-1)
    right = np.where(rows, here, here.size + none)[..., ::-1]
    right = np.minimum.accumulate(right, axis=-1)[..., ::-1]
    distance = np.minimum(here - left, right - here).astype(np.float32) * np.float32(step)
    return np.minimum(np.square(distance), np.float32(far))


def _spread(square: Floats, axis: int, margin: int, step: float, far: int) -> Floats:
    """Extend squared distances along one more axis, `margin` pixels beyond both ends.

    Pixel i gets the least of `square[j] + ((i - j) step)^2` over j. All pixels are computed at
    once, shift by shift: for small numbers that is faster than a lower envelope.
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
