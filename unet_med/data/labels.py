"""What label images hold: masks, classes or instances, and how many of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

IGNORED = 255
LOOKED_AT = 5  # label images of which every value must be one blob to be a number
MAX_CLASSES = 12  # more distinct values than this are instance numbers


@dataclass(frozen=True)
class LabelSummary:
    """What one label image holds, in the memory of its distinct values.

    Attributes:
        values: distinct values, ascending.
        counts: pixels of each of them.
        plane_sizes: pixels of each positive value in each plane of a volume by itself.
        touching: positive values that lie beside another positive one.
        single_blobs: every value of a plane, background aside, is one connected blob; None:
            nobody looked.
    """

    values: np.ndarray
    counts: np.ndarray
    plane_sizes: np.ndarray
    touching: int
    single_blobs: bool | None = None


def summarize_label(label: np.ndarray, *, blobs: bool = True) -> LabelSummary:
    """Look at one label image; the summaries of a set decide what its values mean.

    Args:
        label: any shape; `(X, Y, Z)` is taken plane by plane.
        blobs: also look whether few values are one blob each, which takes longest.

    >>> summary = summarize_label(np.array([[1, 1, 0, 7]]))
    >>> summary.values.tolist(), summary.counts.tolist(), summary.touching
    ([0, 1, 7], [1, 2, 1], 0)
    """
    planes = np.moveaxis(label, 2, 0) if label.ndim == 3 else label[None]
    found = [np.unique(plane, return_counts=True) for plane in planes]
    values, where = np.unique(np.concatenate([v for v, _ in found]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, where.ravel(), np.concatenate([n for _, n in found]))
    few = blobs and len(values) <= MAX_CLASSES
    return LabelSummary(
        values=values,
        counts=counts,
        plane_sizes=np.concatenate([n[v > 0] for v, n in found]),
        touching=_touching(label),
        single_blobs=_single_blobs(label) if few else None,
    )


def guess_label_kind(labels: Iterable[np.ndarray | LabelSummary]) -> str:
    """What the numbers in a set of label images mean.

    Args:
        labels: label images, any shape, or their summaries; taken one at a time.

    Returns:
        `"mask"`: at most two values in all. `"classes"`: a dozen or fewer
        integers that repeat from image to image (255, the ignore label, aside),
        unless there are four or more and each is a single blob in a plane, as
        numbered cells are. Else `"instances"`.
    """
    found = [_summary(label, blobs=k < LOOKED_AT) for k, label in enumerate(labels)]
    values = [set(label.values.tolist()) for label in found]
    union = set().union(*values)
    if len(union) <= 2:
        return "mask"
    classes = [found - {0, 255} for found in values if found - {0, 255}]
    shared = set.intersection(*classes) if classes else set()
    repeated = len(classes) > 1 and len(shared) >= len(set().union(*classes)) / 2
    integers = all(float(value).is_integer() and value >= 0 for value in union)
    if not (integers and repeated and len(union) <= MAX_CLASSES):
        return "instances"
    numbered = len(union) > 4 and all(label.single_blobs for label in found[:LOOKED_AT])
    return "instances" if numbered else "classes"


def instance_sizes(label: np.ndarray | LabelSummary, spatial_dims: int) -> np.ndarray:
    """Pixels of each instance of a label image, in no order.

    Args:
        label: instances 1..N, 0 and below elsewhere, `(X, Y)` or `(X, Y, Z)`; or its summary.
        spatial_dims: 2 counts every plane of a volume for itself, 3 the volume as a whole.

    >>> instance_sizes(np.array([[1, 1, 0, 7]]), 2).tolist()
    [2, 1]
    """
    summary = _summary(label)
    return summary.plane_sizes if spatial_dims == 2 else summary.counts[summary.values > 0]


def count_classes(
    labels: Iterable[np.ndarray | set[int]], names: Sequence[str], given: int | None = None
) -> int:
    """Classes 0 to K-1 of labels; 255 marks ignored pixels, and there are two at least.

    A stray value would make a network with outputs that nothing trains, and 255 as foreground
    one that sees no foreground.

    Args:
        labels: label images of any shape, or the values of each; taken one at a time.
        names: their files.
        given: K, where the caller knows it.

    Raises:
        ValueError: a value above K-1, values between 1 and the largest that no label holds,
            or 255 alone beside 0; names the file and the value.

    >>> count_classes([np.array([0, 1, 255]), np.array([0, 2])], ["a.tif", "b.tif"])
    3
    """
    found = [
        label if isinstance(label, set) else set(np.unique(label).astype(int).tolist())
        for label in labels
    ]
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


def _summary(label: np.ndarray | LabelSummary, *, blobs: bool = False) -> LabelSummary:
    if isinstance(label, LabelSummary):
        return label
    return summarize_label(label, blobs=blobs)


def _touching(label: np.ndarray) -> int:
    """Number of positive values that have another positive value beside them along an axis."""
    beside: set[float] = set()
    for axis in range(label.ndim):
        moved = np.moveaxis(label, axis, 0)
        one, other = moved[1:], moved[:-1]
        touch = (one != other) & (one > 0) & (other > 0)
        beside |= {*np.unique(one[touch]).tolist(), *np.unique(other[touch]).tolist()}
    return len(beside)


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
