"""Outlines of objects along the edges of their pixels, exact to the pixel, holes kept.

Planes are `([Z,] Y, X)`; the corners of outlines are `(x, y)`, where the first pixel lies between
0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Outline", "Polygon", "Ring", "outlines", "polygons_of"]

Ring = NDArray[np.int64]  # corners, `(N, 2)`: x and y, px
Polygon = list[Ring]  # the outer ring, then those of the holes
Window = tuple[slice, ...]


@dataclass(frozen=True)
class Outline:
    """One object in one plane.

    Attributes:
        number: of the object.
        plane: index along Z; None in an image of one plane.
        polygons: one each piece that hangs together by the faces of its pixels.
    """

    number: int
    plane: int | None
    polygons: list[Polygon]


def outlines(labels: Any, windows: Sequence[Window] | None = None) -> Iterator[Outline]:
    """Outlines of all objects, plane by plane, those of one window after those of another.

    Args:
        labels: numbers of the objects, `([Z,] Y, X)`, 0 is background; an array, or what is
            indexed by slices as one, such as a Zarr on disk.
        windows: parts that together are all of it, which are read one at a time; an object that
            reaches over several is read by itself. None: all is one.
    """
    parts = windows or [tuple(slice(0, side) for side in labels.shape)]
    boxes: dict[int, Window] = {}
    first: list[list[int]] = []  # objects that begin in each window
    for window in parts:
        found = dict(_boxes(np.asarray(labels[window]), window))
        first.append([number for number in found if number not in boxes])
        boxes |= {n: _union(boxes[n], box) if n in boxes else box for n, box in found.items()}
    for window, numbers in zip(parts, first, strict=True):
        part = np.asarray(labels[window]) if numbers else np.empty(0)
        for number in numbers:
            box = boxes[number]
            inside = _within(box, window)
            pixels = part[inside] if inside else np.asarray(labels[box])
            yield from _of_object(number, pixels == number, box)


def polygons_of(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Outlines of a plane's mask, one polygon each piece that hangs together by faces.

    The rings cross neither themselves nor each other, and may touch in corners: what programs
    call a valid polygon. Outer rings run from x to y, those of holes the other way.

    Args:
        mask: `(Y, X)`.

    >>> [ring.tolist() for ring in polygons_of(np.array([[False, True, True]]))[0]]
    [[[1, 0], [3, 0], [3, 1], [1, 1]]]
    """
    pieces, _ = ndimage.label(mask)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(pieces), 1):
        piece = np.pad(pieces[rows, columns] == number, 1)
        place = np.array([columns.start - 1, rows.start - 1])
        rings = sorted(_rings(piece), key=_area, reverse=True)  # holes have a negative one
        found.append([ring + place for ring in rings])
    return found


def _boxes(part: NDArray[Any], window: Window) -> Iterator[tuple[int, Window]]:
    """Objects of a part of an image, and the box that holds each, in the image."""
    numbers = np.unique(part[part > 0])
    local = np.where(part > 0, np.searchsorted(numbers, part) + 1, 0)
    for number, box in zip(numbers.tolist(), ndimage.find_objects(local), strict=True):
        yield (
            number,
            tuple(
                slice(side.start + place.start, side.stop + place.start)
                for side, place in zip(box, window, strict=True)
            ),
        )


def _union(one: Window, other: Window) -> Window:
    return tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )


def _within(box: Window, window: Window) -> Window | None:
    """The box as a part of the window; None where it reaches further."""
    pairs = list(zip(box, window, strict=True))
    if any(a.start < b.start or a.stop > b.stop for a, b in pairs):
        return None
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in pairs)


def _of_object(number: int, mask: NDArray[np.bool_], box: Window) -> Iterator[Outline]:
    flat = mask.ndim == 2
    place = np.array([box[-1].start, box[-2].start])
    for z, plane in enumerate(mask[None] if flat else mask):
        if plane.any():
            found = [[ring + place for ring in polygon] for polygon in polygons_of(plane)]
            yield Outline(number, None if flat else box[0].start + z, found)


def _rings(piece: NDArray[np.bool_]) -> Iterator[Ring]:
    """Rings around a piece, `(Y, X)` with an empty margin of 1 px; the piece is on their right.

    A ring begins at its first edge that goes right, where it has a corner.
    """
    width = piece.shape[1]
    steps = (1, width, -1, -width)  # right, down, left, up
    edges = _edges(piece)
    left = bytearray(edges[0])  # edges to the right that no ring has yet
    for start in np.flatnonzero(np.frombuffer(edges[0], np.uint8)).tolist():
        if left[start]:
            for ring in _walk(start, edges, steps, left):
                yield np.array([(at % width, at // width) for at in ring], dtype=np.int64)


def _edges(piece: NDArray[np.bool_]) -> list[bytearray]:
    """Whether an edge of the outline begins at a corner, for each of the four ways.

    A corner has the index of the pixel of which it is the upper left one.
    """
    height, width = piece.shape
    found = np.zeros((4, height, width), np.uint8)
    found[0, 1:] = piece[1:] & ~piece[:-1]  # along the top of a pixel
    found[1, :, 1:] = piece[:, :-1] & ~piece[:, 1:]  # down its right side
    found[2, 1:, 1:] = piece[:-1, :-1] & ~piece[1:, :-1]  # back along its bottom
    found[3, 1:] = piece[:-1] & ~np.pad(piece[:-1, :-1], ((0, 0), (1, 0)))  # up its left side
    return [bytearray(way.tobytes()) for way in found]


def _walk(
    start: int, edges: Sequence[bytearray], steps: Sequence[int], left: bytearray
) -> Iterator[list[int]]:
    """Corners of the ring from a corner on; where it passes one twice, a ring is cut off there.

    At a corner where two pixels meet diagonally it stays with its own pixel.
    """
    path, places = [start], {start: 0}
    at, way = start, 0
    while True:
        if way == 0:
            left[at] = 0
        at += steps[way]
        turn = next(w for w in ((way + 1) % 4, way, (way + 3) % 4) if edges[w][at])
        if (at, turn) == (start, 0):
            yield path
            return
        if turn == way:
            continue
        way = turn
        if at not in places:
            places[at] = len(path)
            path.append(at)
            continue
        cut = places[at]
        yield path[cut:]
        for corner in path[cut + 1 :]:
            del places[corner]
        del path[cut + 1 :]


def _area(ring: Ring) -> float:
    """Twice the area, positive where the ring runs from x to y."""
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
