"""The background border between touching instances: made, and closed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from unet_med.instances.axes import along_axes
from unet_med.instances.numbers import Integers, as_integers

RidgeKind = Literal["symmetric", "falk"]


def ridge(instances: ArrayLike, kind: RidgeKind = "symmetric") -> NDArray[np.bool_]:
    """Pixels that must become background so that touching instances come apart.

    Instances touch where pixels share a face or a corner. `"symmetric"` takes
    one pixel from each of the two, a border 2 px wide that flips, rotates and
    is renumbered with the image. `"falk"` is the rule of Falk et al. 2019: a
    pixel whose NW, N, NE or W neighbour (13 of them in 3-D) is another
    instance. Its border lies to one side: 1 px wide along horizontal edges,
    and 2 px along vertical ones, where NE of the left pixel is the right
    instance. Neither makes a border towards ignored pixels.

    Args:
        instances: instance map, `(*S)` or `(1, *S)`.
        kind: `"symmetric"` or `"falk"`.

    Returns:
        Boolean map of the border pixels, the shape of `instances`.

    Raises:
        ValueError: unknown kind, or labels that are not whole numbers.
    """
    if kind not in ("symmetric", "falk"):
        raise ValueError(f"ridge kind {kind!r}; it is 'symmetric' or 'falk'")
    labels = as_integers(instances)
    found = np.zeros(labels.shape, dtype=bool)
    for earlier, later in neighbour_pairs(labels.ndim):
        a, b = labels[earlier], labels[later]
        apart = (a != b) & (a > 0) & (b > 0)
        found[later] |= apart
        if kind == "symmetric":
            found[earlier] |= apart
    return found


def separate(instances: ArrayLike, kind: RidgeKind = "symmetric") -> Integers:
    """Put background between instances that touch; numbers are kept.

    This is the border that the paper makes "using morphological operations"
    before it computes the weights (Ronneberger et al. 2015, section 3).
    Instances thinner than the border can vanish.

    Args:
        instances: instance map, `(*S)` or `(1, *S)`.
        kind: as in `ridge`.

    Returns:
        Instance map with the ridge set to 0, the shape of `instances`.

    >>> separate([1, 1, 2, 2]).tolist()
    [1, 0, 0, 2]
    >>> separate([1, 1, 2, 2], "falk").tolist()
    [1, 1, 0, 2]
    """
    labels = as_integers(instances)
    return np.where(ridge(labels, kind), labels.dtype.type(0), labels)


def regrow(instances: ArrayLike, distance: int | Sequence[int] = 1) -> Integers:
    """Undo `separate`: close borders of up to `2 * distance` px between instances.

    Only background between two instances is filled, each pixel from its
    nearest instance; the outlines towards open background stay. Pixels further
    than `distance` from all, where the corners of three or four meet, stay too.

    Args:
        instances: instance map, `(*S)` or `(1, *S)`.
        distance: px that each instance grows into the border; 1 undoes the
            symmetric ridge, 0 does nothing. One, or one an axis of the map: thick slices are
            separated by a slice as well, and a slice is much. Along an axis of 0 px the planes
            do not see each other.

    Returns:
        Instance map, the shape of `instances`.

    >>> regrow([[0, 1, 0, 0, 2, 0]]).tolist()
    [[0, 1, 1, 2, 2, 0]]
    """
    labels = as_integers(instances)
    steps = along_axes(distance, labels.ndim)
    if max(steps) < 1 or not (labels > 0).any():
        return labels
    if 0 in steps:
        axis = steps.index(0)
        others = steps[:axis] + steps[axis + 1 :]
        planes = [regrow(plane, others) for plane in np.moveaxis(labels, axis, 0)]
        return np.stack(planes, axis)
    longest = max(steps)
    sides = [longest / step for step in steps]  # of a pixel, so that all axes reach as far
    far, nearest = ndimage.distance_transform_edt(labels <= 0, sides, return_indices=True)
    grown = np.where((labels == 0) & (far <= longest), labels[tuple(nearest)], labels)
    # Where grown instances meet, and what lies behind it when they grew by more than a pixel.
    meeting = ridge(grown)
    if longest > 1:
        meeting = ndimage.binary_dilation(meeting, np.ones([2 * step - 1 for step in steps]))
    return np.where((labels == 0) & meeting & _closed(labels > 0, steps), grown, labels)


def _closed(mask: NDArray[np.bool_], steps: Sequence[int]) -> NDArray[np.bool_]:
    """The mask and what lies between its parts, up to `2 * steps` px apart along each axis.

    Beyond the array there is nothing: what is near its border alone is between no two parts.
    """
    box = [2 * step + 1 for step in steps]
    padded = np.pad(mask, [(step, step) for step in steps])
    closed = ndimage.minimum_filter(ndimage.maximum_filter(padded, box), box)
    inner = tuple(slice(step, step + side) for step, side in zip(steps, mask.shape, strict=True))
    return np.asarray(closed[inner])


def neighbour_pairs(ndim: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Slices that lay every pixel over one causal neighbour: (earlier, later) in raster order."""
    for offset in product((-1, 0, 1), repeat=ndim):
        if offset < (0,) * ndim:  # NW, N, NE, W; 13 in 3-D
            yield shifted(offset), shifted(tuple(-o for o in offset))


def shifted(offset: tuple[int, ...]) -> tuple[slice, ...]:
    """The part of an array that still has a pixel at `-offset` from it."""
    return tuple(slice(max(o, 0), min(o, 0) or None) for o in offset)
