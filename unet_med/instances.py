"""Masks to instances, and the background border between touching instances.

An instance map holds 0 for background, 1..N for the instances and -1 for
pixels to ignore (`UNKNOWN`); maps of classes have 255 there (`IGNORED`). Every
function takes an array of shape `(*S)` or, channel first, `(1, *S)` and returns
the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress, product
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from unet_med.planes import APART, JOINED, Planes

__all__ = [
    "IGNORED",
    "UNKNOWN",
    "along_axes",
    "as_int32",
    "as_integers",
    "axes_apart",
    "instances_from_classes",
    "instances_from_mask",
    "label_components",
    "neighbour_pairs",
    "number_components",
    "regrow",
    "ridge",
    "separate",
    "spread",
]

Integers = NDArray[Any]
RidgeKind = Literal["symmetric", "falk"]

UNKNOWN = -1
"""-1, among masks and numbers of objects: nobody annotated this pixel."""
IGNORED = 255
"""255, among classes: nobody annotated this pixel; elsewhere it may be an object."""


def as_integers(labels: ArrayLike) -> Integers:
    """The same labels with an integer dtype; float files with whole numbers are fine.

    Args:
        labels: label map of any shape; boolean, integer or floating point.

    Returns:
        The input itself if its dtype is integer, else a copy as int32 (int64
        where a value needs it).

    Raises:
        ValueError: a value is not finite or not a whole number.

    >>> as_integers([0.0, 2.0]).dtype.name
    'int32'
    """
    values = np.asarray(labels)
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "b":
        return values.astype(np.int32)
    with np.errstate(invalid="ignore"):
        wrong = values != np.rint(values)  # NaN differs from itself
    wrong |= np.isinf(values)
    if wrong.any():
        raise no_integer(values[wrong].flat[0])
    large = bool(values.size) and np.abs(values).max() > np.iinfo(np.int32).max
    return values.astype(np.int64 if large else np.int32)


def as_int32(labels: ArrayLike) -> NDArray[np.int32]:
    """The same labels as int32; numbers beyond 32 bits are counted anew, in their order.

    Raises:
        ValueError: a value is not finite or not a whole number.
    """
    values = as_integers(labels)
    if values.size and np.abs(values).max() > np.iinfo(np.int32).max:
        _, ranks = np.unique(values, return_inverse=True)
        values = np.where(values > 0, ranks.reshape(values.shape) + 1, values)
    return values.astype(np.int32, copy=False)


def no_integer(value: float) -> ValueError:
    """Error for a label that is not a whole number."""
    return ValueError(
        f"label value {value} is not a whole number; labels are integers: "
        "resample them with mode='nearest', or threshold them first"
    )


def label_components(mask: ArrayLike, connectivity: int = 1, apart: Sequence[int] = ()) -> Integers:
    """Connected components of the non-zero pixels, numbered 1..N.

    Args:
        mask: `(*S)` or `(1, *S)`; zero is background.
        connectivity: 1 joins pixels that share a face (4 neighbours in 2-D, 6
            in 3-D); the number of dimensions joins corners too (8, 26).
        apart: axes across which nothing is joined, such as that of a stack of images; numbers go
            on from plane to plane.

    Returns:
        Instance map, int32, the shape of `mask`.

    Raises:
        ValueError: connectivity is not between 1 and the number of dimensions.

    >>> label_components([[1, 0, 1]]).tolist()
    [[1, 0, 2]]
    >>> label_components([[1, 1], [1, 0]], apart=[0]).tolist()
    [[1, 1], [2, 0]]
    """
    values = np.asarray(mask)
    if not 1 <= connectivity <= values.ndim:
        raise ValueError(
            f"connectivity {connectivity} in {values.ndim} dimensions; "
            f"1 joins faces, {values.ndim} corners too"
        )
    structure = ndimage.generate_binary_structure(values.ndim, connectivity)
    first = range(len(apart))
    for axis in first:
        np.moveaxis(structure, axis, 0)[::2] = False
    labels, _ = ndimage.label(np.moveaxis(values != 0, apart, first), structure)
    return cast(Integers, np.moveaxis(labels, first, apart))


def instances_from_mask(mask: ArrayLike, min_size: int = 0, *, connectivity: int = 1) -> Integers:
    """Connected components of at least `min_size` pixels, numbered 1..N without gaps.

    Args:
        mask: `(*S)` or `(1, *S)`; zero is background.
        min_size: smallest component kept, px; the 2015 release drops 500 px and less.
        connectivity: as in `label_components`.

    Returns:
        Instance map, int32, the shape of `mask`.
    """
    labels = label_components(mask, connectivity)
    kept = np.bincount(labels.ravel()) >= min_size
    kept[:1] = False  # background
    numbers = np.cumsum(kept, dtype=np.int32) * kept
    return cast(Integers, numbers[labels])


def instances_from_classes(
    classes: ArrayLike,
    min_size: int = 0,
    *,
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
    labels, kinds = number_components(values, connectivity, apart)
    found = np.where(values < 0, values, labels).astype(np.int32)
    found = spread(found, np.append(0, kinds), along_axes(reach, values.ndim, axes))
    kept = np.bincount(found.ravel(), minlength=len(kinds) + 1) >= min_size
    kept[:1] = False  # background
    kept_alone = (np.cumsum(kept, dtype=np.int32) * kept)[found]
    return regrow(kept_alone, along_axes(grow, values.ndim, axes))


def along_axes(
    px: int | Sequence[int], dims: int, axes: Sequence[int] | None = None
) -> tuple[int, ...]:
    """How many px objects grow, or walk, along each axis of an image.

    Args:
        px: along the network's axes, or one number for each axis of the image.
        dims: axes of the image.
        axes: those of the network; None: all. A stack's planes were separated one by one, so that
            one number is none along the stack.

    Raises:
        ValueError: there are not as many numbers as axes, or one is below 0.

    >>> along_axes(2, 3, (0, 1)), along_axes([2, 2, 1], 3)
    ((2, 2, 0), (2, 2, 1))
    """
    if isinstance(px, Sequence):
        found = tuple(int(each) for each in px)
    else:
        found = tuple(int(px) if axes is None or axis in axes else 0 for axis in range(dims))
    if len(found) != dims or min(found, default=0) < 0:
        raise ValueError(f"{px} px for {dims} axes: give one number, or one an axis, from 0")
    return found


def axes_apart(planes: Planes, dims: int, axes: Sequence[int] | None = None) -> tuple[int, ...]:
    """Axes of an image across which nothing is joined.

    Args:
        planes: whether those of a stack are images of their own.
        dims: axes of the image.
        axes: those of the network; None: all.

    >>> axes_apart("apart", 3, (0, 1)), axes_apart("joined", 3, (0, 1)), axes_apart("apart", 3)
    ((2,), (), ())
    """
    if planes != APART or axes is None:
        return ()
    return tuple(axis for axis in range(dims) if axis not in axes)


def number_components(
    classes: ArrayLike, connectivity: int = 1, apart: Sequence[int] = ()
) -> tuple[Integers, Integers]:
    """Connected components of every class, numbered class after class.

    Args:
        classes: class of every pixel, `(*S)`; what is not above 0 is no component.
        connectivity: as in `label_components`.
        apart: likewise.

    Returns:
        Labels `(*S)` int32, and the class of each, `(N,)`. The same input gives the same numbers.
    """
    values = as_integers(classes)
    labels = np.zeros(values.shape, np.int32)
    counts = [0]
    present = np.flatnonzero(np.bincount(values[values > 0].astype(np.int64))).tolist()
    for kind in present:
        found = label_components(values == kind, connectivity, apart)
        counts.append(int(found.max(initial=0)))
        np.add(found, sum(counts[:-1]), out=labels, where=found > 0)
    return labels, np.repeat(np.array(present, np.int64), np.array(counts[1:], np.int64))


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
