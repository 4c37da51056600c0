"""Labels on a coarser grid: each pixel takes the value that covers most of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SAME = 1e-3  # of a pixel; grids that differ by less are the same
Labels = NDArray[np.generic]


def most_frequent(label: Labels, picked: Labels, grid: Sequence[tuple[float, float]]) -> Labels:
    """The value that covers most of each pixel of a coarser grid.

    A pixel is looked at in places that are no more than an old pixel apart, as many in each
    direction as old pixels lie in it, so that a whole factor counts each old pixel once.

    Args:
        label: on the old grid, `(C, *S)`.
        picked: the nearest old pixel of each new one, `(C, *S')`; it wins where another value
            covers as much, and stays along axes whose pixels do not become larger.
        grid: of each axis the old pixels a new one, and the place of the first new one, px.

    Returns:
        `(C, *S')`, in the type of `label`.

    >>> label = np.array([[1, 1, 1, 2, 2, 3]])
    >>> most_frequent(label, label[:, 1::3], [(3.0, 1.0)]).tolist()
    [[1, 2]]
    """
    if all(ratio <= 1 + _SAME for ratio, _ in grid):
        return picked
    axes = zip(grid, label.shape[1:], picked.shape[1:], strict=True)
    first, *rest = (_places(*axis) for axis in axes)  # (samples, new pixels) each
    out = np.empty(picked.shape, label.dtype)
    for new, old in enumerate(first.T):  # a row at a time: memory for one
        samples = label[:, old]  # (C, samples, *S[1:])
        for axis, places in enumerate(rest, 2):
            samples = np.take(samples, places, axis)  # (..., samples, new pixels, ...)
            samples = np.moveaxis(samples, axis, 1).reshape(len(label), -1, *_after(samples, axis))
        out[:, new] = _mode(np.moveaxis(samples, 1, -1), picked[:, new])
    return out


def _after(samples: Labels, axis: int) -> tuple[int, ...]:
    """Sides of what was taken along an axis, without channels and samples."""
    return (*samples.shape[2:axis], *samples.shape[axis + 1 :])


def _places(grid: tuple[float, float], side: int, new_side: int) -> NDArray[np.intp]:
    """Old pixels in which the places of each new one lie, `(samples, new pixels)`."""
    ratio, start = grid
    count = max(1, int(np.ceil(ratio - _SAME)))
    within = ((np.arange(count) + 0.5) / count - 0.5) * ratio
    at = start + ratio * np.arange(new_side) + within[:, None]
    return np.clip(np.floor(at + 0.5), 0, side - 1).astype(np.intp)


def _mode(samples: Labels, picked: Labels) -> Labels:
    """Most frequent of the values along the last axis; `picked` where it is as frequent."""
    ordered = np.sort(samples, axis=-1)
    places = np.arange(ordered.shape[-1])
    begins = np.concatenate(
        [np.ones_like(ordered[..., :1], bool), ordered[..., 1:] != ordered[..., :-1]], axis=-1
    )
    runs = places - np.maximum.accumulate(np.where(begins, places, 0), axis=-1) + 1
    most = runs.argmax(-1)[..., None]
    values = np.take_along_axis(ordered, most, -1)[..., 0]
    tied = (samples == picked[..., None]).sum(-1) == runs.max(-1)
    return np.where(tied, picked, values)
