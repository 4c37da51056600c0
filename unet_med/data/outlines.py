"""Outlines of objects along the edges of their pixels, exact to the pixel, holes kept.

Planes are `([Z,] Y, X)`; the corners of outlines are `(x, y)`, where the first pixel lies between
0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ring = NDArray[np.int64]  # corners, `(N, 2)`: x and y, px
Polygon = list[Ring]  # the outer ring, then those of the holes
Integers = NDArray[Any]
Window = tuple[slice, ...]


@dataclass(frozen=True)
class Outline:
    """One object in one plane.

    Attributes:
        number: of the object.
        plane: index along Z; None in an image of one plane.
        polygons: one each piece that hangs together by the faces of its pixels. Its rings cross
            neither themselves nor each other, and may touch in corners: what programs call a valid
            polygon. Outer rings run from x to y, those of holes the other way.
    """

    number: int
    plane: int | None
    polygons: list[Polygon]


def outlines(labels: Any, windows: Sequence[Window] | None = None) -> Iterator[Outline]:
    """Outlines of all objects in all planes, of whatever is read at once.

    What is held is one window and the edges of objects that reach over several beside each other.

    Args:
        labels: numbers of the objects, `([Z,] Y, X)`, 0 is background; an array, or what is
            indexed by slices as one, such as a Zarr on disk.
        windows: parts that together are all of it, in C order, which are read one at a time. None:
            all is one.
    """
    parts = windows or [tuple(slice(0, side) for side in labels.shape)]
    for _, beside in groupby(parts, key=lambda window: window[:-2]):  # of the same planes
        row = list(beside)
        several = _in_several(labels, row)
        kept = []
        for window in row:
            edges = _edges_of(labels, window)
            later = np.isin(edges.number, several)
            kept.append(edges.where(later))
            yield from _outlines(edges.where(~later), labels.shape)
        yield from _outlines(_Edges.joined(kept), labels.shape)


@dataclass(frozen=True)
class _Edges:
    """Sides of pixels at which objects end, `(N,)` each; the object is on their right.

    Attributes:
        plane: index along Z.
        number: of the object.
        step: corner where a side begins, as its index in the image's corners, times 4, and its
            way: 0 right, along the top of a pixel; 1 down, 2 left, 3 up.
    """

    plane: Integers
    number: Integers
    step: Integers

    def where(self, chosen: NDArray[Any]) -> _Edges:
        """Those at some places, in the order of these, or where it is true."""
        return _Edges(self.plane[chosen], self.number[chosen], self.step[chosen])

    @classmethod
    def joined(cls, parts: Sequence[_Edges]) -> _Edges:
        columns = ((part.plane, part.number, part.step) for part in parts)
        return cls(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _in_several(labels: Any, windows: Sequence[Window]) -> Integers:
    """Numbers of the objects that are in more than one of some windows."""
    if len(windows) == 1:
        return np.empty(0, np.int64)
    found = np.concatenate([np.unique(labels[window]) for window in windows])
    numbers, counts = np.unique(found, return_counts=True)
    return numbers[counts > 1]


def _edges_of(labels: Any, window: Window) -> _Edges:
    """The edges of the objects in a window; what lies around it is read 1 px wide."""
    *planes, rows, columns = window
    height, width = labels.shape[-2:]
    sides = ((rows, height), (columns, width))
    reads = [slice(max(0, s.start - 1), min(side, s.stop + 1)) for s, side in sides]
    part = np.asarray(labels[(*planes, *reads)])
    part = part.reshape(-1, *part.shape[-2:])  # (Z, Y, X)
    ends = [(int(s.start == 0), int(s.stop >= side)) for s, side in sides]
    around = np.pad(part, [(0, 0), *ends])
    own = around[:, 1:-1, 1:-1]
    first = planes[0].start if planes else 0
    found = []
    # the pixel beyond, and from a pixel to the corner where the edge begins, for each of the ways
    for way, (beyond, (down, right)) in enumerate((
        (around[:, :-2, 1:-1], (0, 0)), (around[:, 1:-1, 2:], (0, 1)),
        (around[:, 2:, 1:-1], (1, 1)), (around[:, 1:-1, :-2], (1, 0)),
    )):  # fmt: skip
        z, y, x = np.nonzero((own > 0) & (own != beyond))
        corner = (y + rows.start + down) * (width + 1) + x + columns.start + right
        found.append(_Edges(z + first, own[z, y, x].astype(np.int64), corner * 4 + way))
    return _Edges.joined(found)


def _outlines(edges: _Edges, shape: Sequence[int]) -> Iterator[Outline]:
    """The outlines that edges make, which are all of their objects in their planes."""
    if not len(edges.step):
        return
    order = np.lexsort((edges.step, edges.number, edges.plane))
    edges = edges.where(order)
    new = np.diff(edges.plane, prepend=-1) | np.diff(edges.number, prepend=-1)
    group = np.cumsum(new != 0) - 1  # an object in a plane
    firsts = np.flatnonzero(new)
    polygons: list[dict[int, list[Ring]]] = [{} for _ in firsts]  # by piece
    for place, piece, ring in _rings(group, edges.step, shape[-1] + 1, shape[-2] + 1):
        polygons[group[place]].setdefault(piece, []).append(ring)
    for first, pieces in zip(firsts.tolist(), polygons, strict=True):
        plane = int(edges.plane[first]) if len(shape) > 2 else None
        # the rings of holes have a negative area
        found = [sorted(rings, key=_area, reverse=True) for rings in pieces.values()]
        yield Outline(int(edges.number[first]), plane, found)


def _rings(
    group: Integers, step: Integers, width: int, height: int
) -> Iterator[tuple[int, int, Ring]]:
    """Rings that edges make: an edge of each, the piece that it is of, and its corners.

    A ring begins at its first edge that goes right, where it has a corner.

    Args:
        group: of each edge, from 0; edges are sorted by it, then by their step.
        step: see `_Edges`.
        width: corners along X.
        height: along Y.
    """
    code = group * (4 * width * height) + step
    corner, way = step >> 2, step & 3
    following = _following(code, way, width)
    # A piece's edges hang together along its rings, and along its rows: from the left side of
    # a run of pixels to the right one, which in their order are the same run's.
    every, left, right = np.arange(len(code)), np.flatnonzero(way == 3), np.flatnonzero(way == 1)
    pairs = np.concatenate([every, left]), np.concatenate([following, right])
    graph = coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(len(code),) * 2)
    piece = connected_components(graph, directed=False)[1]
    turns = np.zeros(len(code), bool)
    turns[following] = way != way[following]
    after, is_corner, corners = following.tolist(), turns.tolist(), corner.tolist()
    gone = bytearray(len(code))
    for start in np.flatnonzero(way == 0).tolist():
        path, at = [], start
        while not gone[at]:
            gone[at] = 1
            if is_corner[at]:
                path.append(corners[at])
            at = after[at]
        for ring in _apart(path):
            x, y = np.array(ring, dtype=np.int64) % width, np.array(ring, dtype=np.int64) // width
            yield start, int(piece[start]), np.stack([x, y], axis=1)


def _following(code: Integers, way: Integers, width: int) -> Integers:
    """The edge after each edge.

    At a corner where two pixels meet diagonally a ring stays with its own pixel: it turns right
    where it can.
    """
    ahead = (code >> 2) + np.array([1, width, -1, -width])[way]  # right, down, left, up
    following = np.zeros(len(code), np.int64)
    for turn in (3, 0, 1):  # left, straight on, right: the last that there is
        wanted = ahead * 4 + (way + turn) % 4
        place = np.minimum(np.searchsorted(code, wanted), len(code) - 1)
        following = np.where(code[place] == wanted, place, following)
    return following


def _apart(path: Sequence[int]) -> Iterator[list[int]]:
    """The rings of a path that may pass a corner twice: where it does, a ring is cut off."""
    ring: list[int] = []
    places: dict[int, int] = {}
    for corner in path:
        if corner not in places:
            places[corner] = len(ring)
            ring.append(corner)
            continue
        cut = places[corner]
        yield ring[cut:]
        for gone in ring[cut + 1 :]:
            del places[gone]
        del ring[cut + 1 :]
    if ring:
        yield ring


def _area(ring: Ring) -> float:
    """Twice the area, positive where the ring runs from x to y."""
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
