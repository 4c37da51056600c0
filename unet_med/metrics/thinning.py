"""Thin the borders of a binary map to one pixel, in the order of the ISBI 2012 organisers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Segments = NDArray[np.uint32]
Places = NDArray[np.int64]
Pixels = NDArray[np.intp]  # positions in a flat map

BASIN = -1  # place in the queue: before everything
NEVER_QUEUED = np.iinfo(np.int64).max


def thinned_segments(interior: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Segments of a map whose background has been flooded down to lines of one pixel.

    The watershed of Vincent and Soille (1990) on a map of two levels: the 4-connected components
    of the interior are the basins, and the background is flooded from them through one queue.
    The order of the queue decides where the lines run, so it is part of the metric
    (Arganda-Carreras et al. 2015): first the background pixels beside a basin, column by column,
    then the neighbours of what leaves, left, up, right, down. A pixel that leaves joins the one
    basin among its 4 neighbours, or becomes line where there are several, or none.

    Args:
        interior: `(Y, X)`.

    Returns:
        Segments 1..N, 0 = line, `(Y, X)`. All 1 where nothing is interior: a flat map is one basin.

    >>> thinned_segments(np.array([[True, False, False, False, True]]))
    array([[1, 1, 0, 2, 2]], dtype=int32)
    """
    if not interior.any():
        return np.ones(interior.shape, np.int32)
    # Transposed and padded, the flat order is column by column, and neighbours are fixed steps.
    basins = ndimage.label(np.pad(interior.T, 1))[0].astype(np.uint32)  # (X + 2, Y + 2)
    places = np.full(basins.shape, NEVER_QUEUED, np.int64)
    places[basins > 0] = BASIN
    places[[0, -1]] = places[:, [0, -1]] = BASIN  # the padding is never queued and labels nothing
    column = basins.shape[1]
    _flood(basins.ravel(), places.ravel(), np.array([[-column], [-1], [column], [1]]))
    return basins[1:-1, 1:-1].T.astype(np.int32, order="C")


def _flood(segments: Segments, places: Places, steps: Pixels) -> None:
    """Flood `segments` in place, one generation of the queue at a time.

    A pixel depends on those neighbours alone that left the queue before it, so a generation can
    be computed at once, and again where two of its pixels touch, until nothing changes.

    Args:
        segments: basins to start from, flat.
        places: place of every pixel in the queue, as far as it is known, flat.
        steps: from a pixel to its neighbours left, up, right and down, `(4, 1)`. The organisers'
            order, though any gives the same: of a generation, descendants of one pixel share a
            parity of x + y, hence never touch.
    """
    dry = np.flatnonzero(places == NEVER_QUEUED)
    leaving = dry[segments[dry + steps].any(axis=0)]
    places[leaving] = np.arange(leaving.size)
    while leaving.size:
        near = leaving + steps  # (4, n)
        place = places[near]
        earlier = place < places[leaving]
        segments[leaving] = _only_segment(segments[near] * earlier)
        touching = np.flatnonzero((earlier & (place >= places[leaving[0]])).any(axis=0))
        _settle(segments, leaving[touching], near[:, touching], earlier[:, touching])
        leaving = _enqueue(places, near.T[place.T == NEVER_QUEUED], int(places[leaving[-1]]) + 1)


def _settle(segments: Segments, leaving: Pixels, near: Pixels, earlier: NDArray[np.bool_]) -> None:
    """Compute pixels `(n,)` with earlier neighbours of their own generation until all agree."""
    while leaving.size:
        found = _only_segment(segments[near] * earlier)
        if (found == segments[leaving]).all():
            return
        segments[leaving] = found


def _only_segment(found: Segments) -> Segments:
    """The one segment among neighbours `(4, n)`; 0 where there are several, or none."""
    highest = found.max(axis=0)
    lowest = (found - 1).min(axis=0) + 1  # unsigned: 0, no segment, wraps to the highest number
    return highest * (lowest == highest)


def _enqueue(places: Places, candidates: Pixels, first: int) -> Pixels:
    """Give every candidate the place of its first mention, and return them in that order."""
    place = np.arange(first, first + candidates.size, dtype=places.dtype)
    places[candidates[::-1]] = place[::-1]  # the last to be written is the first mentioned
    return candidates[places[candidates] == place]
