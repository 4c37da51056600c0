"""What label images hold: masks, classes or instances, and how many of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from unet_med.data.faces import Faces, count_faces, count_values, meetings, places_among
from unet_med.data.label_blobs import Blobs, blobs_of
from unet_med.data.label_unknown import unknown_of
from unet_med.data.plane_kind import planes_numbered
from unet_med.instances import IGNORED
from unet_med.planes import Planes

LOOKED_AT = 5  # label images of which every value must be one blob to be a number
MOST_CLASSES = 256  # that a user may say there are
MAX_CLASSES = 12  # more distinct values than this are instance numbers
LOOK = 2e7  # pixels, once for each value: a second, for which more values are looked at
STANDS_OUT = 4  # times the largest object: 255 may be no object
PICTURE = 0.4  # share of neighbours that differ: squares of 3 px, side by side, have 0.33


@dataclass(frozen=True)
class LabelSummary:
    """What one label image holds, in the memory of its distinct values.

    Attributes:
        values: distinct values, ascending.
        counts: pixels of each of them.
        plane_sizes: pixels of each positive value in each plane of a volume by itself.
        plane_faces: of each of these, faces to pixels of other values in the plane.
        plane_values: which value each of these is.
        across: of each of `values`, faces to other values in the plane before or behind.
        touching: positive values that lie beside another positive one.
        unlike: share of the positive pixels beside a value that differ from it; of the median
            positive value.
        smeared: it looks like a mask of 0 and 255 that was compressed or resampled, so that more
            than its edges may be other than they were.
        blobs: of few values, or a small image, where they lie; None: nobody looked.
        centres: of each value its mean place along `(X, Y[, Z])`, px, `(values, 3)`; None: they
            are more than classes can be.
        wrapped: numbers of objects that 8 bits do not hold began anew.
        cut: which of `values` lie beside an unknown pixel (-1), so that nobody knows their size.
        plane_cut: the same of `plane_sizes`, within the plane.
        blank: planes of which nobody knows a pixel; by the largest value that says so: -1, or
            255, which does among classes.
        empty: planes that somebody looked at and found nothing in.
        planes: what numbers of objects say of the planes of a volume; see `planes_numbered`.
        in_planes: of each of `values`, number of planes that hold it.
        sharpened: its file has smeared edges, which were cut at half (`smeared_mask`).
    """

    values: np.ndarray
    counts: np.ndarray
    plane_sizes: np.ndarray
    plane_faces: np.ndarray
    plane_values: np.ndarray
    across: np.ndarray
    touching: int
    unlike: float = 0.0
    smeared: bool = False
    blobs: Blobs | None = None
    centres: np.ndarray | None = None
    wrapped: bool = False
    cut: np.ndarray | None = None
    plane_cut: np.ndarray | None = None
    blank: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    empty: tuple[int, ...] = ()
    planes: Planes | None = None
    in_planes: np.ndarray | None = None
    sharpened: bool = False


def summarize_label(label: np.ndarray, *, blobs: bool = True) -> LabelSummary:
    """Look at one label image; the summaries of a set decide what its values mean.

    Args:
        label: any shape; `(X, Y, Z)` is taken plane by plane.
        blobs: also look where few values lie, which takes longest.

    >>> summary = summarize_label(np.array([[1, 1, 0, 7]]))
    >>> summary.values.tolist(), summary.counts.tolist(), summary.touching
    ([0, 1, 7], [1, 2, 1], 0)
    """
    planes = _planes_of(label)
    found = [count_values(plane) for plane in planes]
    values, where = np.unique(np.concatenate([v for v, _ in found]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, where.ravel(), np.concatenate([n for _, n in found]))
    in_planes = np.bincount(where.ravel(), minlength=len(values))
    few = blobs and (len(values) <= MAX_CLASSES or len(values) * label.size <= LOOK)
    classes = len(values) <= MOST_CLASSES
    held = [own for own, _ in found]
    faces = count_faces(planes, values, counts, held)
    numbered = planes_numbered(label)
    return LabelSummary(
        values=values,
        counts=counts,
        plane_sizes=np.concatenate([n[v > 0] for v, n in found]),
        plane_faces=faces.in_planes,
        plane_values=np.concatenate([v[v > 0] for v in held]),
        across=faces.across,
        touching=int((faces.touching > 0).sum()),
        unlike=_unlike(values, faces),
        smeared=_smeared(planes, values, counts, faces),
        blobs=blobs_of(label, values, numbered) if few and label.squeeze().ndim > 1 else None,
        centres=_centres(label, values) if classes and label.ndim in (2, 3) else None,
        wrapped=_wrapped(label, values),
        planes=numbered,
        in_planes=in_planes,
        **unknown_of(label, planes, values, held),
    )


def _planes_of(label: np.ndarray) -> np.ndarray:
    """The planes of a volume, of which one at a time needs memory; else the whole as one."""
    return np.moveaxis(label, 2, 0) if label.ndim == 3 else label[None]


def _centres(label: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean place of each positive value, `(values, 3)`; NaN of others. Plane by plane."""
    sums, counts = np.zeros((3, len(values))), np.zeros(len(values))
    place = places_among(values)
    for z, plane in enumerate(_planes_of(label)):
        positive = np.nonzero(plane > 0)
        which = place(plane[positive])
        for axis, along in enumerate(positive):
            sums[axis] += np.bincount(which, along, len(values))
        count = np.bincount(which, minlength=len(values))
        sums[2] += z * count
        counts += count
    return np.divide(sums, counts, where=counts > 0, out=np.full_like(sums, np.nan)).T


def instance_sizes(
    label: np.ndarray | LabelSummary, spatial_dims: int, *, whole: bool = False
) -> np.ndarray:
    """Pixels of each instance of a label image, in no order.

    Args:
        label: instances 1..N, 0 and below elsewhere, `(X, Y)` or `(X, Y, Z)`; or its summary.
        spatial_dims: 2 counts every plane of a volume for itself, 3 the volume as a whole.
        whole: leave out those that lie beside unknown pixels (-1).

    >>> instance_sizes(np.array([[1, 1, 0, 7]]), 2).tolist()
    [2, 1]
    """
    summary = summary_of(label)
    return _of_instances(summary, summary.plane_sizes, summary.counts, spatial_dims, whole)


def instance_faces(summary: LabelSummary, spatial_dims: int, *, whole: bool = False) -> np.ndarray:
    """Faces of each instance to pixels of other values, in the order of `instance_sizes`.

    Args:
        summary: of a label image.
        spatial_dims: 2: within its plane, of each by itself; 3: to the planes before and behind.
        whole: as for `instance_sizes`.
    """
    return _of_instances(summary, summary.plane_faces, summary.across, spatial_dims, whole)


def _of_instances(
    summary: LabelSummary, in_planes: np.ndarray, of_values: np.ndarray, dims: int, whole: bool
) -> np.ndarray:
    objects = summary.values > 0
    found = in_planes if dims == 2 else of_values[objects]
    if not whole or summary.cut is None or summary.plane_cut is None:
        return found
    return found[~(summary.plane_cut if dims == 2 else summary.cut[objects])]


def stands_out(label: LabelSummary) -> bool:
    """Whether 255 may mark unknown pixels among numbers of objects.

    It is the largest number by a gap, and covers far more than any other.
    """
    positive = label.values > 0
    values, counts = label.values[positive], label.counts[positive]
    if len(values) < 2 or values[-1] != IGNORED or values[-2] == IGNORED - 1:
        return False
    return bool(counts[-1] > STANDS_OUT * counts[:-1].max())


def summary_of(label: np.ndarray | LabelSummary, *, blobs: bool = False) -> LabelSummary:
    """Of a label image, or the summary that is given."""
    if isinstance(label, LabelSummary):
        return label
    return summarize_label(label, blobs=blobs)


def _unlike(values: np.ndarray, faces: Faces) -> float:
    """Share of the positive neighbours of a positive value that differ from it, median."""
    pairs = faces.sides - faces.unlike + faces.touching
    share = (faces.touching / np.maximum(pairs, 1))[values > 0]
    return float(np.median(share)) if share.size else 0.0


def _wrapped(label: np.ndarray, values: np.ndarray) -> bool:
    """Whether an 8-bit label uses all numbers, and has more pieces than these by a tenth."""
    if label.dtype.itemsize != 1 or len(values) != 256:
        return False
    from scipy import ndimage

    return bool(ndimage.label(label)[1] > 1.1 * (len(values) - 1))


def _smeared(planes: np.ndarray, values: np.ndarray, counts: np.ndarray, faces: Faces) -> bool:
    """Whether most of the foreground is near the largest value, and what lies between is thin."""
    largest = values[-1]
    if len(values) < 3 or not 200 <= largest <= 255:  # as masks are saved
        return False
    if 2 * counts[values >= 0.9 * largest].sum() < counts[values > 0.1 * largest].sum():
        return False
    low, high = values < 0.05 * largest, values > 0.95 * largest
    if len(values) > MAX_CLASSES:  # all but the two values of the mask
        ends = [values[part][counts[part].argmax()] for part in (low, high) if part.any()]
        between = ~np.isin(values, ends)
    elif low.sum() > 1 and high.sum() > 1:  # such as 0, 1, 254, 255
        return True
    else:
        between = ~(low | high)
    return _share_at_edges(planes, values, between, faces) > PICTURE


def _share_at_edges(
    planes: np.ndarray, values: np.ndarray, inside: np.ndarray, faces: Faces
) -> float:
    """Share of the neighbours that differ, of those of which one has a value that is `inside`."""
    alike = int((faces.sides - faces.unlike)[inside].sum()) // 2  # each is counted from both sides
    place = places_among(values)
    sides = (side for both in meetings(planes) for side in both)
    differ = sum(int((inside[place(one)] | inside[place(other)]).sum()) for one, other in sides)
    return differ / max(alike + differ, 1)
