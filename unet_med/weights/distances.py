"""Exact distances to the two nearest instances, by the cheapest of three methods."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects

from unet_med.weights.all_at_once import minima_over_keys
from unet_med.weights.arrays import Map, Spacing, like, spatial
from unet_med.weights.one_by_one import Box, grown, minima_over_boxes

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Method = Literal["cheapest", "boxes", "keys", "bits"]

# Costs that were measured; the unit is to move a pixel of a box by one px:
CALLS = 6000  # the calls that move a box
SHIFT = 10  # moving the keys of a pixel
TRANSFORM = 150  # scipy's distance transform, a pixel


def two_nearest(
    instances: Map,
    spacing: Spacing = None,
    max_distance: float | None = None,
    *,
    method: Method = "cheapest",
) -> tuple[Map, Map]:
    """Distances to the nearest and to the second-nearest instance, from every pixel.

    Exact Euclidean distances to the nearest pixel of an instance, whatever its
    number of fragments. Within an instance d1 is 0 and d2 leads to the nearest
    other one. With a limit the cost does not grow with the number of instances,
    and is less where they are few and small; without one it is at most that of
    `2 log2(N) + 1` distance transforms of the image for N instances.

    Args:
        instances: 1..N are the instances; 0, and -1 for ignored pixels, are not.
        spacing: size of a pixel, one number or one an axis; d1 and d2 are in its
            unit. None: in pixels.
        max_distance: distances above are not wanted and come back as inf; the
            smaller, the faster. None: no limit.
        method: ``"boxes"`` goes through the instances one by one, ``"keys"`` takes all at
            once, ``"bits"`` measures distances to halves of them. All are exact.

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
    everywhere = np.ones(labels.shape, bool)
    limit = math.inf if max_distance is None else max_distance
    d1, d2 = distances(labels, everywhere, pixel, limit, method=method)
    return like(d1, instances), like(d2, instances)


def distances(
    labels: NDArray[Any],
    wanted: Mask,
    pixel: tuple[float, ...],
    reach: float,
    *,
    total: float = math.inf,
    method: Method = "cheapest",
) -> tuple[Floats, Floats]:
    """Distances d1 and d2 of some pixels up to `reach`, and inf beyond.

    Args:
        labels: instances `(*S)`, positive numbers of about the number of pixels at most.
        wanted: the pixels, `(*S)`.
        pixel: size of a pixel along each axis.
        reach: the limit, in the unit of `pixel`; inf for none.
        total: where d1 + d2 is larger than this, any two numbers with a larger sum may come back.
        method: as for `two_nearest`.

    Returns:
        d1 and d2, float32, of the wanted pixels in their order.
    """
    reach = min(reach, math.hypot(*(n * step for n, step in zip(labels.shape, pixel, strict=True))))
    boxes = {number: box for number, box in enumerate(find_objects(labels), start=1) if box}
    if not boxes:
        nowhere = np.full(np.count_nonzero(wanted), np.inf, np.float32)
        return nowhere, nowhere.copy()
    if method == "cheapest":
        method = cheapest(wanted, boxes, [math.ceil(reach / step) for step in pixel])
    if method == "boxes":
        d1, d2 = minima_over_boxes(labels, wanted, boxes, pixel, reach)
    elif method == "keys":
        d1, d2 = minima_over_keys(labels, wanted, pixel, reach, total=total)
    else:
        d1, d2 = _minima_over_bits(labels, wanted, list(boxes), pixel)
    d1[d1 > reach] = np.inf
    d2[d2 > reach] = np.inf
    return d1, d2


def cheapest(wanted: Mask, boxes: dict[int, Box], margin: list[int]) -> Method:
    """Choose the method that is estimated to cost least.

    Args:
        wanted: the pixels whose distances are needed.
        boxes: of the instances, by number.
        margin: pixels that a distance can reach along each axis.
    """
    volume = sum(
        math.prod(side.stop - side.start for side in grown(box, margin, wanted.shape))
        for box in boxes.values()
    )
    shifts = [min(m, n - 1) for m, n in zip(margin, wanted.shape, strict=True)][:-1] or [0]
    moved = np.count_nonzero(wanted) * shifts[0] + wanted.size * (1 + sum(shifts[1:]))
    costs: dict[Method, float] = {
        "boxes": volume * max(margin) + CALLS * len(boxes) * sum(shifts),
        "keys": SHIFT * moved,
        "bits": TRANSFORM * wanted.size * (1 + 2 * (len(boxes) - 1).bit_length()),
    }
    return min(costs, key=costs.__getitem__)


def _minima_over_bits(
    labels: NDArray[Any], wanted: Mask, numbers: list[int], pixel: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Distances d1 and d2 of the wanted pixels, from distances to halves of the instances.

    Each bit of an instance's rank divides the instances into two halves. Any other instance
    differs from the nearest one in some bit, so it lies in the half across that bit: d2 is the
    least of the distances to these halves.
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
    return first[wanted].astype(np.float32), second[wanted].astype(np.float32)
