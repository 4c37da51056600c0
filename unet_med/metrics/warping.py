"""Warping error of the ISBI 2012 challenge: splits and mergers that a deformation cannot explain.

Jain et al. (CVPR 2010): the truth is deformed towards the proposal, pixel by pixel, without
changing its topology. The pixels that still differ are counted if they split or merge objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from unet_med.metrics.score import Score
from unet_med.metrics.slices import OLD_THRESHOLDS, Mask, Probability, as_slices, components

RADIUS = 20  # px from the centre of the window in which a split is looked for to its side
BATCH = 1024  # windows at once: 7 MB of labels
PLANE_BY_PLANE = np.stack(
    [np.zeros((3, 3)), ndimage.generate_binary_structure(2, 1), np.zeros((3, 3))]
)

# The 8 neighbours (x, y), once around; those beside the pixel have the even places.
RING = ((-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1))


def warping_error(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Share of pixels that split or merge objects after the truth is warped; 10 thresholds.

    At each threshold the truth is relaxed towards the binary prediction: simple points, whose
    change leaves the topology as it is, are flipped, those furthest from the threshold first.
    Of the pixels that still differ, those count that join two objects of the relaxed truth or
    cut one in two; within 20 px, so that a cut through a wide ring counts. Objects that are
    lost, added, or have a hole are free.

    Args:
        prediction: probability of interior or binary, `(Y, X)` or `(S, Y, X)`.
        truth: interior where not 0, the same shape. Touching labels are one object here: use
            `instances.separate` first.

    Returns:
        Split and merge pixels over all pixels of all slices, at the best threshold; in [0, 1].
        0 where the truth has no interior: there is nothing to split or merge. A truth that is
        interior everywhere is one object; the organisers' code confuses it with an empty one.

    Raises:
        ValueError: as `pixel_error`.

    >>> warping_error([[1, 1, 1]], [[1, 0, 1]])  # the middle pixel merges two objects
    0.3333333333333333
    """
    return WARPING_ERROR(prediction, truth)


def _warping_counts(prediction: ArrayLike, truth: ArrayLike) -> NDArray[np.int64]:
    """Split pixels, merge pixels and all pixels, `(S, 10, 3)`, of each slice and threshold."""
    pairs = zip(*as_slices(prediction, truth), strict=True)
    return np.array([_slice_counts(*pair) for pair in pairs])


def _pooled_warping_error(counts: NDArray[np.int64]) -> float:
    """Least share of split and merge pixels, slices pooled, of `_warping_counts`."""
    split, merge, pixels = counts.sum(axis=0).T
    return float(((split + merge) / pixels).min())


def _slice_counts(probability: Probability, truth: Mask) -> list[tuple[int, int, int]]:
    """Split, merge and all pixels of one slice at each threshold.

    The order of visiting holds all that a threshold decides; equal ones are followed once, as
    for a binary prediction.
    """
    # Transposed and padded, the flat order is the organisers': column by column.
    start = np.pad(truth.T.copy(), 1)  # (X + 2, Y + 2), row after row in memory
    values = np.pad(probability.T, 1)
    counts: list[tuple[int, int, int]] = []
    order, split, merge = None, 0, 0
    for threshold in OLD_THRESHOLDS:
        last, order = order, _visiting_order(values, start, threshold)
        if last is None or not np.array_equal(order, last):
            split, merge = _split_and_merge(start, order)
        counts.append((split, merge, truth.size))
    return counts


def _visiting_order(values: Probability, truth: Mask, threshold: float) -> NDArray[np.intp]:
    """Flat positions of all mismatches, the furthest from the threshold first; all padded."""
    mismatches = np.flatnonzero((values > threshold) != truth)
    strength = np.abs(values.ravel()[mismatches] - threshold).astype(np.float32)
    return mismatches[np.argsort(-strength, kind="stable")]


def _split_and_merge(truth: Mask, order: NDArray[np.intp]) -> tuple[int, int]:
    """Pixels that split an object, and that merge some, once the truth is relaxed."""
    flipped, left = _relax(truth, order.tolist())
    relaxed = truth.copy()
    relaxed.ravel()[flipped] ^= True
    return _classify(relaxed, np.array(left, np.intp))


def _relax(truth: Mask, mismatches: list[int]) -> tuple[list[int], list[int]]:
    """Flip simple points in order, again and again until none is left.

    Args:
        truth: padded by one pixel of background.
        mismatches: flat positions that may be flipped, in the order of visiting.

    Returns:
        The positions that are flipped, and those that are left.
    """
    simple, codes = SIMPLE.tolist(), _neighbour_codes(truth).ravel().tolist()
    # A pixel's bit in the code of a neighbour is the opposite one in the ring.
    around = tuple(
        (step, 1 << (place + 4) % 8) for place, step in enumerate(_steps(truth.shape[1]).tolist())
    )
    flipped: list[int] = []
    while True:
        before, left = len(flipped), []
        for pixel in mismatches:
            if simple[codes[pixel]]:
                flipped.append(pixel)
                for step, bit in around:
                    codes[pixel + step] ^= bit
            else:
                left.append(pixel)
        if len(flipped) == before:
            return flipped, left
        mismatches = left


def _classify(relaxed: Mask, mismatches: NDArray[np.intp]) -> tuple[int, int]:
    """Split and merge pixels among the mismatches, each judged with all others in place.

    Beside the image lies background. The organisers' code does not look there; but without it a
    pixel's neighbours inside the image are connected, and it neither splits nor merges.
    """
    flat, labels = relaxed.ravel(), components(relaxed).ravel()
    near = mismatches + _steps(relaxed.shape[1])[:, None]  # (8, n)
    several = _several(labels[near])
    interior, background = flat[mismatches], ~flat[near].all(axis=0)
    unclear = mismatches[interior & background & ~several]
    cuts = sum(_cuts(relaxed, unclear[i : i + BATCH]) for i in range(0, unclear.size, BATCH))
    return int((several & interior).sum()) + cuts, int((several & ~interior).sum())


def _cuts(relaxed: Mask, pixels: NDArray[np.intp]) -> int:
    """Number of pixels without which their object falls apart, as seen in the window around."""
    size = 2 * RADIUS + 1
    x, y = np.divmod(pixels, relaxed.shape[1])
    windows = sliding_window_view(np.pad(relaxed, RADIUS), (size, size))[x, y]  # (n, 41, 41)
    windows[:, RADIUS, RADIUS] = False
    labels = ndimage.label(windows, PLANE_BY_PLANE)[0]
    near = slice(RADIUS - 1, RADIUS + 2)
    return int(_several(labels[:, near, near].reshape(-1, 9).T).sum())


def _several(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether two or more objects are among the first axis."""
    first = labels.max(axis=0)
    return ((labels > 0) & (labels != first)).any(axis=0)


def _steps(columns: int) -> NDArray[np.intp]:
    """From a flat position to the 8 neighbours in the order of the ring."""
    return np.array([x * columns + y for x, y in RING])


def _neighbour_codes(mask: Mask) -> NDArray[np.uint8]:
    """Interior among the 8 neighbours, a bit each; the outermost pixels are never asked."""
    rolled = [np.roll(mask, (-x, -y), axis=(0, 1)) for x, y in RING]
    return np.packbits(rolled, axis=0, bitorder="little")[0]


def _simple_codes() -> NDArray[np.bool_]:
    """Neighbour codes around which interior and background are of one piece each.

    Interior 4-connected and beside the pixel, background 8-connected. The number of pieces is
    Yokoi's: sides that are interior without the two that follow in the ring.
    """
    ring = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    closed: NDArray[Any] = np.concatenate([ring, ring[:, :1]], axis=1)  # (256, 9)
    sides, corners, following = closed[:, 0:8:2], closed[:, 1:8:2], closed[:, 2:9:2]
    return (sides & ~(corners & following)).sum(axis=1) == 1


SIMPLE = _simple_codes()
WARPING_ERROR = Score(_warping_counts, _pooled_warping_error)
