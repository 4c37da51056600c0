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
from itertools import accumulate, repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from unet_med.metrics.contingency import contingency_table
from unet_med.metrics.thinning import thinned_segments

__all__ = ["pixel_error", "rand_error", "v_info", "v_rand", "v_scores"]

Mask = NDArray[np.bool_]
Segments = NDArray[np.int32]

# The organisers add 0.1 again and again: the last is 0.9999999999999999, and 1.0 is interior.
THRESHOLDS = tuple(accumulate(repeat(0.1, 10), initial=0.0))
OLD_THRESHOLDS = THRESHOLDS[:10]


class Overlap(NamedTuple):
    """Overlaps of truth and proposal on the pixels of true interior, and their two scores.

    Proposal pixels that are background count as segments of one pixel each.

    Attributes:
        pixels: number n of pixels of true interior.
        pairs: pixels a true and a proposed segment share, one number a pair.
        truth: sizes of the true segments.
        proposal: sizes of the proposed segments, on true interior.
        background: pixels of true interior that belong to no proposed segment.
    """

    pixels: int
    pairs: NDArray[np.int64]
    truth: NDArray[np.int64]
    proposal: NDArray[np.int64]
    background: int

    @classmethod
    def of(cls, truth: Segments, proposal: Segments) -> Overlap:
        """Count one slice; segments 1..N, 0 is background or line."""
        interior = truth > 0
        table = contingency_table(truth[interior], proposal[interior])
        background = table[:, [0]].sum()
        proposed = table[:, 1:]
        return cls(
            int(table.sum()),
            proposed.data,
            table.sum(axis=1),
            proposed.sum(axis=0),
            int(background),
        )

    def squares(self) -> tuple[int, int]:
        """`n^2 S_AB` and `n^2 (S_A + S_B)`, whole numbers."""
        pairs, truth, proposal = (int((c * c).sum()) for c in self[1:4])
        return pairs + self.background, truth + proposal + self.background

    def v_rand(self) -> float:
        """`2 S_AB / (S_A + S_B)`; 0 without true interior."""
        both, each = self.squares()
        return 2 * both / each if self.pixels else 0.0

    def v_info(self) -> float:
        """`2 I(A; B) / (H(A) + H(B))`; 0 where one side has a single segment, or none."""
        single = self.background * np.log(max(self.pixels, 1)) / max(self.pixels, 1)
        truth = _entropy(self.truth, self.pixels)
        proposal = _entropy(self.proposal, self.pixels) + single
        joint = _entropy(self.pairs, self.pixels) + single
        if truth == 0 or proposal == 0:
            return 0.0
        return 2 * (truth + proposal - joint) / (truth + proposal)


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
    prediction, truth = _slices(prediction, truth)
    return 1.0 - max(_pixel_f(prediction > t, truth) for t in OLD_THRESHOLDS)


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
    prediction, truth = _slices(prediction, truth)
    segments = [_components(one) for one in truth]
    if not all(one.any() for one in truth):
        return 1.0
    return 1.0 - max(_rand_f(prediction > t, segments) for t in OLD_THRESHOLDS)


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
    return v_scores(prediction, truth)[0]


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
    return v_scores(prediction, truth)[1]


def v_scores(prediction: ArrayLike, truth: ArrayLike) -> tuple[float, float]:
    """`(v_rand, v_info)` for the price of one, as nearly all time goes into the thinning."""
    means = v_scores_by_threshold(prediction, truth)
    best_rand, best_info = means.max(axis=0).tolist()
    return best_rand, best_info


def v_scores_by_threshold(prediction: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """V_Rand and V_Info, means over slices, at each of the 11 thresholds, `(11, 2)`."""
    prediction, truth = _slices(prediction, truth)
    scores = np.zeros((len(THRESHOLDS), len(truth), 2))
    for s, (probability, interior) in enumerate(zip(prediction, truth, strict=True)):
        segments = _components(interior)
        for t, proposal in enumerate(_thinned(probability)):
            overlap = Overlap.of(segments, proposal)
            scores[t, s] = overlap.v_rand(), overlap.v_info()
    return scores.mean(axis=1)


def _thinned(probability: NDArray[np.float64]) -> Iterator[Segments]:
    """Thinned segments of a slice at each threshold; equal maps are thinned once."""
    mask = probability > THRESHOLDS[0]
    segments = thinned_segments(mask)
    yield segments
    for threshold in THRESHOLDS[1:]:
        interior = probability > threshold
        if (interior != mask).any():
            mask, segments = interior, thinned_segments(interior)
        yield segments


def _components(interior: Mask) -> Segments:
    """4-connected components of one slice, 1..N."""
    return ndimage.label(interior, output=np.int32)[0]


def _pixel_f(proposal: Mask, truth: Mask) -> float:
    both = int((proposal & truth).sum())
    each = int(proposal.sum()) + int(truth.sum())
    return 2 * both / each if both else 0.0


def _rand_f(proposal: Mask, segments: list[Segments]) -> float:
    """F-score of the unthinned, pooled Rand index at one threshold."""
    squares = [
        Overlap.of(one, _components(mask)).squares()
        for one, mask in zip(segments, proposal, strict=True)
    ]
    both, each = (sum(numbers) for numbers in zip(*squares, strict=True))
    return 2 * both / each


def _entropy(counts: NDArray[np.int64], total: int) -> float:
    """`-sum p ln p` of `p = counts / total`, absent ones left out."""
    p = counts[counts > 0] / total
    return -float((p * np.log(p)).sum()) + 0.0  # no negative zero


def _slices(prediction: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], Mask]:
    """Probability and true interior, both `(S, Y, X)`."""
    values, interior = np.asarray(prediction), np.asarray(truth) != 0
    if values.shape != interior.shape or values.ndim not in (2, 3) or not values.size:
        raise ValueError(
            f"prediction of shape {values.shape} against truth {interior.shape}: both must be "
            "one slice (Y, X) or a stack (S, Y, X); drop channel and batch axes"
        )
    shape = (-1, *values.shape[-2:])
    return _probability(values).reshape(shape), interior.reshape(shape)


def _probability(values: NDArray[Any]) -> NDArray[np.float64]:
    """Values to compare in double precision, rounded to float32 as the organisers' images are."""
    if values.dtype.kind in "biu" and np.isin(values, (0, values.max())).all():
        return (values > 0).astype(np.float64)  # 0/1 or 0/255
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"prediction has values from {values.min()} to {values.max()}: it must be a "
            "probability in [0, 1] without NaN, or binary; divide 8-bit maps by 255"
        )
    return values.astype(np.float32).astype(np.float64)
