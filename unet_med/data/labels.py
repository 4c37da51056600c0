"""What label images hold: masks, classes or instances, and how many of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IGNORED = 255
MAX_CLASSES = 12  # more distinct values than this are instance numbers


def guess_label_kind(labels: Sequence[np.ndarray]) -> str:
    """What the numbers in a set of label images mean.

    Args:
        labels: label images, any shape.

    Returns:
        `"mask"`: at most two values in all. `"classes"`: a dozen or fewer
        integers that repeat from image to image (255, the ignore label, aside),
        unless there are four or more and each is a single blob in a plane, as
        numbered cells are. Else `"instances"`.
    """
    values = [set(np.unique(label).tolist()) for label in labels]
    union = set().union(*values)
    if len(union) <= 2:
        return "mask"
    classes = [found - {0, 255} for found in values if found - {0, 255}]
    shared = set.intersection(*classes) if classes else set()
    repeated = len(classes) > 1 and len(shared) >= len(set().union(*classes)) / 2
    integers = all(float(value).is_integer() and value >= 0 for value in union)
    if not (integers and repeated and len(union) <= MAX_CLASSES):
        return "instances"
    numbered = len(union) > 4 and all(map(_single_blobs, labels[:5]))
    return "instances" if numbered else "classes"


def instance_sizes(label: np.ndarray, spatial_dims: int) -> np.ndarray:
    """Pixels of each instance of a label image, in no order.

    Args:
        label: instances 1..N, 0 and below elsewhere, `(X, Y)` or `(X, Y, Z)`.
        spatial_dims: 2 counts every plane of a volume for itself, 3 the volume as a whole.

    >>> instance_sizes(np.array([[1, 1, 0, 7]]), 2).tolist()
    [2, 1]
    """
    if label.ndim == 3 and spatial_dims == 2:
        planes = np.moveaxis(label, 2, 0)
        return np.concatenate([instance_sizes(plane, 2) for plane in planes])
    return np.unique(label[label > 0], return_counts=True)[1]


def count_classes(
    labels: Sequence[np.ndarray], names: Sequence[str], given: int | None = None
) -> int:
    """Classes 0 to K-1 of labels; 255 marks ignored pixels, and there are two at least.

    A stray value would make a network with outputs that nothing trains, and 255 as foreground
    one that sees no foreground.

    Args:
        labels: label images of any shape.
        names: their files.
        given: K, where the caller knows it.

    Raises:
        ValueError: a value above K-1, values between 1 and the largest that no label holds,
            or 255 alone beside 0; names the file and the value.

    >>> count_classes([np.array([0, 1, 255]), np.array([0, 2])], ["a.tif", "b.tif"])
    3
    """
    found = [set(np.unique(label).astype(int).tolist()) for label in labels]
    union = set().union(*found)
    if union - {0} == {IGNORED}:
        raise ValueError(
            f"label {_holder(IGNORED, found, names)} holds no class besides 0: among classes "
            f"{IGNORED} marks ignored pixels; where it is the foreground use --label-kind mask"
        )
    classes = sorted(value for value in union - {IGNORED} if value > 0)
    largest = classes[-1] if classes else 1
    if given is not None and largest >= given:
        raise ValueError(
            f"label {_holder(largest, found, names)} holds the value {largest}: classes are 0 to "
            f"{given - 1}, and {IGNORED} for ignored pixels; correct it, or raise --classes"
        )
    gaps = sorted(set(range(1, largest)) - union)
    if given is None and gaps and classes:
        stray = next(value for value in classes if value > gaps[0])
        missing = f"{gaps[0]}" if len(gaps) == 1 else f"{gaps[0]} to {gaps[-1]}"
        raise ValueError(
            f"label {_holder(stray, found, names)} holds the value {stray}, and no label holds "
            f"{missing}: correct it, number the classes 0, 1, 2, ..., or say how many there are "
            f"(--classes {largest + 1})"
        )
    return given or max(2, largest + 1)


def _single_blobs(label: np.ndarray) -> bool:
    """Whether every value of a plane, background aside, is one connected blob."""
    from scipy import ndimage

    plane = label.squeeze()
    return plane.ndim == 2 and all(
        ndimage.label(plane == value, np.ones((3, 3)))[1] == 1
        for value in np.unique(plane)
        if value not in (0, 255)
    )


def _holder(value: int, found: Sequence[set[int]], names: Sequence[str]) -> str:
    return next(name for name, values in zip(names, found, strict=True) if value in values)
