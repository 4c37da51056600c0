"""Where the values of a label meet: the faces between neighbouring pixels that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Meeting = tuple[np.ndarray, np.ndarray]  # values on one side of faces, and on the other
TABLE = 1 << 20  # integers: narrower ranges of values are looked up in a table, others searched


@dataclass(frozen=True)
class Faces:
    """Neighbours that pixels have within the image, those that share a face with them.

    Attributes:
        sides: of each value, neighbours of all its pixels.
        unlike: of each value, those of another value.
        touching: of each value, those of another positive value; 0 of values that are not.
        across: of each value, those of another value in the plane before or behind.
        in_planes: of each positive value in each plane by itself, those of another value there.
    """

    sides: np.ndarray
    unlike: np.ndarray
    touching: np.ndarray
    across: np.ndarray
    in_planes: np.ndarray


def count_values(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values of a label of any shape, ascending, and the pixels of each.

    >>> [each.tolist() for each in count_values(np.array([[7, 7, -1]]))]
    [[-1, 7], [1, 2]]
    """
    if label.dtype.kind in "iu" and label.size:
        low, high = int(label.min()), int(label.max())
        if high - low <= label.size:  # a table of all between takes less time than to sort
            counts = np.bincount(label.ravel().astype(np.intp) - low)
            held = np.flatnonzero(counts)
            return (held + low).astype(label.dtype), counts[held]
    values, counts = np.unique(label, return_counts=True)
    return values, counts


def places_among(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What says at which places among ascending values those of an array are.

    >>> places_among(np.array([-1, 7]))(np.array([7, 7, -1])).tolist()
    [1, 1, 0]
    """
    if values.dtype.kind not in "iu" or int(values[-1]) - int(values[0]) >= TABLE:
        return lambda array: np.searchsorted(values, array)
    own, low = values.astype(np.intp), int(values[0])
    table = np.zeros(int(own[-1]) - low + 1, np.intp)
    table[own - low] = np.arange(len(own))
    return lambda array: table[array.astype(np.intp) - low]


def meetings(planes: np.ndarray) -> Iterator[tuple[Meeting, Meeting]]:
    """Of each plane the values on both sides of each face: within it, and to the plane before."""
    before: np.ndarray | None = None
    for each in planes:
        plane = np.ascontiguousarray(each)
        axes = [np.moveaxis(plane, axis, 0) for axis in range(plane.ndim)]
        pairs = [_unlike(axis[1:], axis[:-1]) for axis in axes]
        one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
        yield (one, other), _unlike(plane, plane if before is None else before)
        before = plane


def _unlike(one: np.ndarray, other: np.ndarray) -> Meeting:
    where = one != other
    return one[where], other[where]


def count_faces(
    planes: np.ndarray, values: np.ndarray, counts: np.ndarray, held: Sequence[np.ndarray]
) -> Faces:
    """Look at all neighbours in a label, a plane at a time.

    Args:
        planes: the label, `(planes, ...)`.
        values: that it holds, ascending.
        counts: pixels of each of them.
        held: values that each plane holds.
    """
    place, positive = places_among(values), values > 0
    unlike, touching, across, ends = np.zeros((4, len(values)), np.int64)
    in_planes = []

    def count(*parts: np.ndarray) -> np.ndarray:
        return np.bincount(np.concatenate(parts), minlength=len(values))

    for plane, meeting, own in zip(planes, meetings(planes), held, strict=True):
        within, before = ([place(side) for side in sides] for sides in meeting)
        faces, behind = count(*within), count(*before)
        in_planes.append(faces[place(own[own > 0])])
        unlike += faces + behind
        across += behind
        for one, other in (within, before):
            both = positive[one] & positive[other]
            touching += count(one[both], other[both])
        axes = [np.moveaxis(plane, axis, 0) for axis in range(plane.ndim)]
        ends += count(*(place(axis[end]).ravel() for axis in axes for end in (0, -1)))
    ends += sum(count(place(plane).ravel()) for plane in (planes[0], planes[-1]))
    sides = 2 * planes.ndim * counts - ends
    return Faces(sides, unlike, touching, across, np.concatenate(in_planes))
