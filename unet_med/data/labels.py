"""What label images hold: masks, classes or instances, and how many of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unet_med.data.faces import TABLE, Faces, count_faces, count_values, meetings, places_among
from unet_med.data.plane_kind import planes_numbered
from unet_med.instances import IGNORED, UNKNOWN
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
        across: of each of `values`, faces to other values in the plane before or behind.
        touching: positive values that lie beside another positive one.
        unlike: share of the positive pixels beside a value that differ from it; of the median
            positive value.
        smeared: it looks like a mask of 0 and 255 that was compressed or resampled.
        blobs: of few values, or a small image, where they lie; None: nobody looked.
        centres: of each value its mean place along `(X, Y[, Z])`, px, `(values, 3)`; None: they
            are more than classes can be.
        wrapped: numbers of objects that 8 bits do not hold began anew.
        cut: which of `values` lie beside an unknown pixel (-1), so that nobody knows their size.
        plane_cut: the same of `plane_sizes`, within the plane.
        blank: planes of which nobody knows a pixel; by the largest value that says so: -1, or
            255, which does among classes.
        empty: number of planes that somebody looked at and found nothing in.
        planes: what numbers of objects say of the planes of a volume; see `planes_numbered`.
        in_planes: of each of `values`, number of planes that hold it.
    """

    values: np.ndarray
    counts: np.ndarray
    plane_sizes: np.ndarray
    plane_faces: np.ndarray
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
    empty: int = 0
    planes: Planes | None = None
    in_planes: np.ndarray | None = None


@dataclass(frozen=True)
class Blobs:
    """The positive values of one label image, 255 aside.

    Attributes:
        largest: of each value, the share of its pixels in its largest connected piece.
        flat: the image is a plane, no volume.
        places: of each value, its size in pixels (logarithm) and its centre, as a share of the
            image along each axis.
        neighbours: pairs of values that lie beside each other.
    """

    largest: Mapping[float, float]
    flat: bool
    places: Mapping[float, tuple[float, ...]]
    neighbours: frozenset[tuple[int, ...]]


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
    return LabelSummary(
        values=values,
        counts=counts,
        plane_sizes=np.concatenate([n[v > 0] for v, n in found]),
        plane_faces=faces.in_planes,
        across=faces.across,
        touching=int((faces.touching > 0).sum()),
        unlike=_unlike(values, faces),
        smeared=_smeared(planes, values, counts, faces),
        blobs=_blobs(label.squeeze(), values) if few and label.squeeze().ndim > 1 else None,
        centres=_centres(label, values) if classes and label.ndim in (2, 3) else None,
        wrapped=_wrapped(label, values),
        planes=planes_numbered(label),
        in_planes=in_planes,
        **_unknown(label, planes, values, held),
    )


def _planes_of(label: np.ndarray) -> np.ndarray:
    """The planes of a volume, of which one at a time needs memory; else the whole as one."""
    return np.moveaxis(label, 2, 0) if label.ndim == 3 else label[None]


def mark_unknown(label: np.ndarray, unknown: int | None) -> np.ndarray:
    """Labels in which -1 is unknown, whatever a file calls it; 0 is background.

    Args:
        label: integers of any shape.
        unknown: the file's value. 0: background is painted as well, as 1, and every other value
            is one less in the result. None: the file's values are the result's.

    >>> mark_unknown(np.array([0, 1, 255], np.uint8), 255).tolist()
    [0, 1, -1]
    >>> mark_unknown(np.array([0, 1, 2, 3], np.uint8), 0).tolist()
    [-1, 0, 1, 2]
    """
    if unknown is None or unknown == UNKNOWN:
        return label
    signed = label.astype(np.int64 if label.dtype.itemsize > 2 else np.int32)
    return signed - 1 if unknown == 0 else np.where(signed == unknown, UNKNOWN, signed)


def _unknown(
    label: np.ndarray, planes: np.ndarray, values: np.ndarray, held: Sequence[np.ndarray]
) -> dict[str, Any]:
    """What a summary says of unknown pixels: `cut`, `plane_cut`, `blank` and `empty`.

    Args:
        label: `(X, Y[, Z])`.
        planes: the same, planes first.
        values: that it holds.
        held: that each plane holds.
    """
    blank = {
        mark: tuple(k for k, own in enumerate(held) if set(own.tolist()) <= {UNKNOWN, mark})
        for mark in (UNKNOWN, IGNORED)
    }
    nothing = {UNKNOWN, IGNORED, 0}
    empty = sum(0 in own and set(own.tolist()) <= nothing for own in held)
    marked = {mark: where for mark, where in blank.items() if where}
    found: dict[str, Any] = {"blank": marked, "empty": empty}
    if values[0] != UNKNOWN:
        return found
    within, beside = (_beside_unknown(label, axes) for axes in (label.ndim, 2))
    cut = np.isin(values, label[within])
    sides = np.moveaxis(beside, 2, 0) if label.ndim == 3 else beside[None]
    plane_cut = [
        np.isin(own[own > 0], plane[side])
        for own, plane, side in zip(held, planes, sides, strict=True)
    ]
    return {**found, "cut": cut, "plane_cut": np.concatenate(plane_cut)}


def _beside_unknown(label: np.ndarray, axes: int) -> np.ndarray:
    """Pixels that share a face with an unknown one along the first axes."""
    unknown, beside = label == UNKNOWN, np.zeros(label.shape, bool)
    for axis in range(min(axes, label.ndim)):
        moved, out = np.moveaxis(unknown, axis, 0), np.moveaxis(beside, axis, 0)
        out[1:] |= moved[:-1]
        out[:-1] |= moved[1:]
    return beside


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


def check_labels(labels: Iterable[LabelSummary], names: Sequence[str]) -> None:
    """Refuse what cannot be a label: pictures, masks with smeared edges.

    Args:
        labels: summaries of label images.
        names: their files.

    Raises:
        ValueError: names the file, and what it looks like.
    """
    for label, name in zip(labels, names, strict=True):
        count = len(label.values)
        if label.values[0] < UNKNOWN:
            raise ValueError(
                f"label {name} holds the value {label.values[0]:g}: labels are 0 and above, and -1 "
                "marks ignored pixels (--unknown says another value); is it an image, such as a CT?"
            )
        if label.wrapped:
            raise ValueError(
                f"label {name} holds each of 1 to 255 in 8 bits, and more objects than that: the "
                "numbers above 255 began anew at 0; export it with 16 bits"
            )
        if label.smeared:
            raise ValueError(
                f"label {name} looks like a mask with smeared edges: most of its pixels are near "
                f"0 or near {label.values[-1]}, with {count} values in all; JPEG or resampling "
                "does that: export it anew as PNG or TIFF (resample with nearest), or threshold it"
            )
        if count > MAX_CLASSES and label.unlike > PICTURE:
            raise ValueError(
                f"label {name} looks like a picture: it holds {count} values, most of them in "
                f"scattered pixels ({label.unlike:.0%} of whose neighbours differ); are images "
                "and labels swapped, or one folder?"
            )


def require_objects(labels: Sequence[LabelSummary], names: Sequence[str]) -> None:
    """Refuse a set of labels from which nothing can be learned.

    Args:
        labels: summaries of label images.
        names: their files.

    Raises:
        ValueError: no label holds anything besides 0, or all hold one value and no other.
    """
    if not any((label.values > 0).any() for label in labels):
        raise ValueError(
            f"no label holds anything besides 0 ({listed(list(names))}): nothing can be learned "
            "from them; export them anew, or name the right folder"
        )
    known = set().union(*(label.values.tolist() for label in labels)) - {UNKNOWN}
    if len(known) == 1:
        raise ValueError(
            f"every pixel that somebody annotated is {known.pop():g} ({listed(list(names))}): "
            "nothing can be learned from that; annotate background too, as 0, or name the right "
            "folder"
        )


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


def _blobs(label: np.ndarray, held: np.ndarray) -> Blobs:
    """Values of a label, looked at one by one, of those that it holds."""
    from scipy import ndimage

    full = np.ones((3,) * label.ndim)
    places, neighbours, largest = {}, set(), {}
    values = [v for v in held.tolist() if v > 0 and v != IGNORED]
    boxes = _boxes(label, values)
    for value in values:
        box = boxes[value]
        box = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        own = label[box] == value
        pieces = piece_sizes(own)
        largest[value] = float(pieces.max() / pieces.sum())
        centre = (
            (part.start + _mean_place(own, axis)) / label.shape[axis]
            for axis, part in enumerate(box)
        )
        places[value] = (float(np.log(pieces.sum())), *map(float, centre))
        beside = np.unique(label[box][ndimage.binary_dilation(own, full)]).tolist()
        neighbours |= {(value, other) for other in beside if other > value}
    return Blobs(largest, label.ndim == 2, places, frozenset(neighbours))


def _boxes(label: np.ndarray, values: Sequence[int]) -> dict[int, tuple[slice, ...]]:
    """Where each positive value lies; small integers all at once."""
    from scipy import ndimage

    if label.dtype.kind in "iu" and max(values, default=0) < TABLE:
        every = ndimage.find_objects(label, max(values, default=1))
        return {value: every[value - 1] for value in values}
    return {v: ndimage.find_objects((label == v).view(np.int8))[0] for v in values}


def piece_sizes(own: np.ndarray) -> np.ndarray:
    """Pixels of each connected piece of what is True; corners connect."""
    from scipy import ndimage

    pieces, count = ndimage.label(own, np.ones((3,) * own.ndim))
    parts = pieces if pieces.ndim == 3 else pieces[None]  # it copies what it counts, as 64 bits
    found = sum(np.bincount(part.ravel(), minlength=count + 1) for part in parts)
    return np.asarray(found)[1:]


def _mean_place(own: np.ndarray, axis: int) -> float:
    """Mean of the places along an axis of what is True."""
    others = tuple(each for each in range(own.ndim) if each != axis)
    counts = own.sum(axis=others)
    return float(counts @ np.arange(len(counts)) / counts.sum())


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


def listed(items: Sequence[object]) -> str:
    """The first few items.

    >>> listed([1, 2]), listed(range(9))
    ('1, 2', '0, 1, 2, ...')
    """
    return ", ".join(map(str, items[:3])) + (", ..." if len(items) > 3 else "")
