"""Whether probabilities mean what they say, near the borders of objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_med.metrics.score import Score

BINS = 15  # of equal width, as Guo et al. 2017 take
ROUNDED = 1e-3  # beyond 0 and 1, in half precision and of means
NEAR_PX = 10.0  # of a border: farther away background is easy, and hides what happens here


def expected_calibration_error(
    probabilities: ArrayLike, truth: ArrayLike, where: ArrayLike | None = None
) -> float:
    """How far probabilities lie from how often they are right, on average over pixels.

    The probability of each class but the background falls into 15 bins of equal width; in each its
    mean is compared with the share of pixels that are of the class. The differences are averaged by
    the number of pixels, then over the classes (Guo et al. 2017, On calibration of modern neural
    networks; class-wise: Kull et al. 2019).

    Args:
        probabilities: of the classes, `(K, *S)`, the background's first.
        truth: class of each pixel, `(*S)`.
        where: pixels that count, `(*S)`, such as `near_borders(truth)`; None: all.

    Returns:
        Error in [0, 1], 0 is best.

    Raises:
        ValueError: no pixel counts, shapes that differ, or what is no probability, such as NaN.

    >>> round(expected_calibration_error([[0.2, 0.2, 0.2, 0.2], [0.8] * 4], [1, 1, 1, 0]), 6)
    0.05
    """
    scores, classes = np.asarray(probabilities), np.asarray(truth)
    if where is not None:
        chosen = np.asarray(where, bool)
        scores, classes = scores[:, chosen], classes[chosen]
    return CALIBRATION(scores, classes)


def near_borders(
    labels: ArrayLike, distance_px: float = NEAR_PX, spacing: Sequence[float] | None = None
) -> NDArray[np.bool_]:
    """Pixels within a distance of where two labels meet: objects, classes or background.

    Args:
        labels: objects or classes, `(*S)`; what is negative is not known, and makes no border.
        distance_px: from the nearest pixel that has another label beside it, px.
        spacing: size of a pixel along each axis; px are those of the finest. None: all alike.

    Returns:
        `(*S)`; without unknown pixels.
    """
    from scipy import ndimage

    known = np.asarray(labels)
    border = np.zeros(known.shape, bool)
    for axis in range(known.ndim):
        one, other = np.moveaxis(known, axis, 0)[:-1], np.moveaxis(known, axis, 0)[1:]
        met = (one != other) & (one >= 0) & (other >= 0)
        sides = np.moveaxis(border, axis, 0)  # a view
        sides[:-1] |= met
        sides[1:] |= met
    if not border.any():
        return np.zeros(known.shape, bool)
    sizes = np.ones(known.ndim) if spacing is None else np.asarray(spacing, float)
    distance = ndimage.distance_transform_edt(~border, sampling=sizes / sizes.min())
    return (distance <= distance_px) & (known >= 0)


def _count(probabilities: Any, truth: Any) -> NDArray[np.float64]:
    """Pixels, their probabilities and those of the class, summed by bin: `(1, K - 1, bins, 3)`."""
    scores, classes = np.asarray(probabilities, np.float64), np.asarray(truth)
    if scores.shape[1:] != classes.shape:
        raise ValueError(
            f"probabilities of shape {scores.shape} against a truth {classes.shape}: they must be "
            "(K, *S) and (*S)"
        )
    if not (np.abs(scores - 0.5) <= 0.5 + ROUNDED).all():
        raise ValueError(
            f"probabilities from {scores.min():g} to {scores.max():g}: they lie in [0, 1], without "
            "NaN; take the softmax of logits first"
        )
    rows = [_binned(score.ravel(), classes.ravel() == k) for k, score in enumerate(scores[1:], 1)]
    return np.stack(rows)[None]


def _binned(scores: NDArray[np.float64], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    place = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    sums = [np.bincount(place, weights, BINS) for weights in (None, scores, true)]
    return np.stack(sums, axis=-1).astype(np.float64)  # (bins, 3)


def _pool(rows: NDArray[np.float64]) -> float:
    bins = rows.sum(axis=0)  # (K - 1, bins, 3)
    count = bins[..., 0].sum(axis=1)
    if not count.all():
        return float("nan")
    return float((np.abs(bins[..., 1] - bins[..., 2]).sum(axis=1) / count).mean())


CALIBRATION = Score(_count, _pool, "no pixel counts: there is nothing to compare with")
