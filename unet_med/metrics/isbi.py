"""Scores of the ISBI 2012 electron microscopy challenge, to the organisers' last digit.

Two generations: pixel and Rand error, in the table of the 2015 paper (lower is better), and V_Rand
and V_Info since 2015 (Arganda-Carreras et al., Front. Neuroanat. 9:142; higher is better). All
take `(prediction, truth)`, one slice `(Y, X)` or a stack `(S, Y, X)` whose slices are scored each
on its own, and choose the best of a row of thresholds.

The prediction is the probability of *interior*, in [0, 1], or a binary map; the truth is interior
where it is not zero (0/1 or 0/255). Segments are 4-connected components of the interior.

The axes matter: V_Rand of the transposed pair differs in the second digit, for the organisers'
thinning goes column by column. MONAI's own order is `(X, Y)`: transpose its arrays first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_med.metrics.overlap import Overlap
from unet_med.metrics.score import Score
from unet_med.metrics.slices import (
    OLD_THRESHOLDS,
    THRESHOLDS,
    Mask,
    Probability,
    Segments,
    as_slices,
    components,
)
from unet_med.metrics.thinning import thinned_segments


def pixel_error(prediction: ArrayLike, truth: ArrayLike) -> float:
    """1 - the best F-score of the interior's pixels, pooled over slices, 10 thresholds.

    Args:
        prediction: probability of interior or binary, `(Y, X)` or `(S, Y, X)`.
        truth: interior where not 0, the same shape.

    Returns:
        Error in [0, 1]; 1 where truth or prediction has no interior at all.

    Raises:
        ValueError: shapes that differ or have other than 2 or 3 axes, or a prediction that is
            neither probability nor binary.

    >>> pixel_error([[0.9, 0.9, 0.2]], [[1, 0, 0]])  # one right, one too many: F = 2/3
    0.33333333333333337
    """
    return PIXEL_ERROR(prediction, truth)


def rand_error(prediction: ArrayLike, truth: ArrayLike) -> float:
    """1 - the best Rand F-score on true interior, counts pooled over slices, 10 thresholds.

    Differs from `1 - v_rand` in three things: borders are not thinned, so that a thick membrane
    costs every pixel it takes from the interior; slices are pooled; a threshold fewer.

    Args:
        prediction: probability of interior or binary, `(Y, X)` or `(S, Y, X)`.
        truth: interior where not 0, the same shape.

    Returns:
        Error in [0, 1]; 1, as the organisers' code has it, where a slice has no true interior.

    Raises:
        ValueError: as `pixel_error`.
    """
    return RAND_ERROR(prediction, truth)


def v_rand(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Foreground-restricted Rand score after thinning, the challenge's sort key; 1 is best.

    The mean over slices at each of 11 thresholds, then the maximum. Not 1 -
    `skimage.metrics.adapted_rand_error`, which does not thin and takes background as one segment.

    Args:
        prediction: probability of interior or binary, `(Y, X)` or `(S, Y, X)`.
        truth: interior where not 0, the same shape.

    Returns:
        Score in [0, 1]; a slice without true interior counts 0. A prediction without any
        interior is one segment, everything merged.

    Raises:
        ValueError: as `pixel_error`.
    """
    return V_RAND(prediction, truth)


def v_info(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Foreground-restricted information-theoretic score after thinning; 1 is best.

    Slices and thresholds as in `v_rand`.

    Args:
        prediction: probability of interior or binary, `(Y, X)` or `(S, Y, X)`.
        truth: interior where not 0, the same shape.

    Returns:
        Score in [0, 1]; a slice with one segment, in truth or prediction, counts 0 even if it is
        perfect: the organisers' code has it so.

    Raises:
        ValueError: as `pixel_error`.
    """
    return V_INFO(prediction, truth)


def v_scores(prediction: ArrayLike, truth: ArrayLike) -> tuple[float, float]:
    """`(v_rand, v_info)` in the time of one: thinning takes nearly all of it."""
    scores = _v_rows(prediction, truth)
    return _best_v_rand(scores), _best_v_info(scores)


def _pixel_counts(prediction: ArrayLike, truth: ArrayLike) -> NDArray[np.int64]:
    """Pixels in both interiors, and in the one plus in the other, `(S, 10, 2)`."""
    pairs = zip(*as_slices(prediction, truth), strict=True)
    return np.array([[_sizes(p > t, interior) for t in OLD_THRESHOLDS] for p, interior in pairs])


def _sizes(proposal: Mask, truth: Mask) -> tuple[int, int]:
    return int((proposal & truth).sum()), int(proposal.sum()) + int(truth.sum())


def _rand_counts(prediction: ArrayLike, truth: ArrayLike) -> NDArray[np.int64]:
    """`n^2 S_AB` and `n^2 (S_A + S_B)`, not thinned, `(S, 10, 2)`."""
    rows = []
    for probability, interior in zip(*as_slices(prediction, truth), strict=True):
        segments = components(interior)
        proposals = (components(probability > t) for t in OLD_THRESHOLDS)
        rows.append([Overlap.of(segments, proposal).squares() for proposal in proposals])
    return np.array(rows)


def _v_rows(prediction: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """V_Rand and V_Info of each slice and threshold, `(S, 11, 2)`."""
    rows = []
    for probability, interior in zip(*as_slices(prediction, truth), strict=True):
        segments = components(interior)
        overlaps = [Overlap.of(segments, proposal) for proposal in _thinned(probability)]
        rows.append([(overlap.v_rand(), overlap.v_info()) for overlap in overlaps])
    return np.array(rows)


def _thinned(probability: Probability) -> Iterator[Segments]:
    """Thinned segments of a slice at each threshold; equal maps are thinned once."""
    mask = probability > THRESHOLDS[0]
    segments = thinned_segments(mask)
    yield segments
    for threshold in THRESHOLDS[1:]:
        interior = probability > threshold
        if (interior != mask).any():
            mask, segments = interior, thinned_segments(interior)
        yield segments


def _pooled_error(counts: NDArray[np.int64]) -> float:
    """1 - the best F-score of pooled counts `(S, T, 2)`."""
    both, each = counts.sum(axis=0).T
    return 1.0 - float((2 * both / np.maximum(each, 1)).max())


def _pooled_rand_error(counts: NDArray[np.int64]) -> float:
    """As `_pooled_error`, but a slice without true interior spoils all."""
    return _pooled_error(counts) if (counts[:, :, 1] > 0).all() else 1.0


def _best_v_rand(rows: NDArray[np.float64]) -> float:
    return float(rows.mean(axis=0)[:, 0].max())


def _best_v_info(rows: NDArray[np.float64]) -> float:
    return float(rows.mean(axis=0)[:, 1].max())


PIXEL_ERROR = Score(_pixel_counts, _pooled_error)
RAND_ERROR = Score(_rand_counts, _pooled_rand_error)
V_RAND = Score(_v_rows, _best_v_rand)
V_INFO = Score(_v_rows, _best_v_info)
