"""Objects of a map of classes: seeds that walk to the pixels which their class may take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
from numpy.typing import ArrayLike

from unet_med.instances.axes import along_axes, axes_apart
from unet_med.instances.borders import regrow
from unet_med.instances.components import number_components
from unet_med.instances.numbers import Integers, as_integers
from unet_med.instances.parts import parted
from unet_med.planes import JOINED, Planes


def instances_from_classes(
    classes: ArrayLike,
    min_size: int = 0,
    *,
    min_part: int = 0,
    reach: int | Sequence[int] = 0,
    grow: int | Sequence[int] = 0,
    connectivity: int = 1,
    axes: Sequence[int] | None = None,
    planes: Planes = JOINED,
) -> Integers:
    """Objects of a map of classes: seeds take their mask, small ones go, borders close.

    Args:
        classes: `(*S)`; 0 is background, k a seed of an object of class k, -k a pixel that an
            object of class k may take.
        min_size: smallest object kept, px, with what its seed has taken.
        min_part: smallest part that a seed falls into, px, of classes with levels (`parted`); 0:
            classes have none.
        reach: px within which seeds take pixels, see `spread`.
        grow: px by which objects grow into the background between them, see `regrow`.
        connectivity: of seeds, as in `label_components`.
        axes: along which one number of `reach` or `grow` holds, see `along_axes`; None: all.
        planes: `"apart"`: across the other axes nothing is joined, and `min_size` is of a plane's
            object.

    Returns:
        Instance map `(*S)`, 1..N: class after class, in the order of the seeds' first pixels;
        of planes apart, plane after plane.
    """
    values = as_integers(classes)
    apart = axes_apart(planes, values.ndim, axes)
    if min_part:
        values = parted(values, min_part, connectivity, apart)
    labels, kinds = number_components(values, connectivity, apart)
    found = np.where(values < 0, values, labels).astype(np.int32)
    found = spread(found, np.append(0, kinds), along_axes(reach, values.ndim, axes))
    kept = np.bincount(found.ravel(), minlength=len(kinds) + 1) >= min_size
    kept[:1] = False  # background
    kept_alone = (np.cumsum(kept, dtype=np.int32) * kept)[found]
    return regrow(kept_alone, along_axes(grow, values.ndim, axes))


def spread(labels: Integers, kinds: Integers, reach: int | Sequence[int]) -> Integers:
    """Let objects take the pixels of their class that they can walk to within `reach` px.

    A step goes to a pixel that shares a face, and stays among the pixels of the class. All
    objects walk at once; a pixel that several reach in the same step goes to the one that comes
    along the earliest axis, from its lower side first. There are as many steps as the longest
    reach has px. Along an axis of less, objects walk in so many of them, evenly spread: with 24 px
    in the plane and 8 slices in each third step, so that both ways end at the same time. So a
    pixel's object follows from what lies within `reach` px along each axis, whatever the objects'
    numbers are.

    Args:
        labels: `(*S)`; 1..N are objects, 0 is background, -k a pixel that objects of class k may
            take.
        kinds: class of each number, `(N + 1,)`.
        reach: px; one, or one an axis.

    Returns:
        Instance map `(*S)`; pixels that no object reaches are 0.

    >>> spread(np.array([1, -1, -1, -1, 2, 0, -1]), np.array([0, 1, 1]), 3).tolist()
    [1, 1, 1, 2, 2, 0, 0]
    """
    walks = along_axes(reach, labels.ndim)
    steps = max(walks)
    if steps < 1 or not (labels < 0).any():
        return np.maximum(labels, 0)
    padded = np.pad(labels, 1)
    flat = padded.reshape(-1)
    waiting = np.flatnonzero(flat < 0)
    strides = [stride // padded.itemsize for stride in padded.strides]
    for step in range(1, steps + 1):
        taken = np.zeros(len(waiting), flat.dtype)
        due = [step * px // steps > (step - 1) * px // steps for px in walks]
        for way in (way for stride in compress(strides, due) for way in (-stride, stride)):
            there = np.maximum(flat[waiting + way], 0)
            there[(taken > 0) | (kinds[there] != -flat[waiting])] = 0
            taken += there
        walked = taken > 0
        if not walked.any() and sum(due) == np.count_nonzero(walks):
            break
        flat[waiting[walked]] = taken[walked]
        waiting = waiting[~walked]
    inner: Integers = padded[(slice(1, -1),) * labels.ndim]
    return np.maximum(inner, 0)
