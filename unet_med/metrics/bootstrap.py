"""How much a score would vary with other images of the same kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_interval", "mean_interval", "resampled"]

Counts = NDArray[Any]


def bootstrap_interval(
    counts: Sequence[Counts],
    pool: Callable[[Counts], float],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a pooled score over images (Efron 1979).

    As many images as there are are drawn with replacement, and their counts are pooled anew. So
    the interval shows how the score depends on the choice of images, not on the training.

    Args:
        counts: rows counted in each image, as a `Score` counts them, `(N, ...)`.
        pool: from rows to the score.
        confidence: share of the resampled scores that lie in the interval.
        resamples: how often images are drawn.
        seed: of the draws; equal seeds draw equal images for every score.

    Returns:
        Lower and upper end; NaN with fewer than two images, which tell nothing of others.
        Draws for which the score is not defined are left out.

    >>> objects = [np.array([[found, 10]]) for found in (7, 8, 9)]
    >>> bootstrap_interval(objects, lambda rows: rows[:, 0].sum() / rows[:, 1].sum())
    (0.7, 0.9)
    """
    if len(counts) < 2:
        return np.nan, np.nan
    draws = _draws(len(counts), resamples, seed)
    scores = np.array([pool(np.concatenate([counts[i] for i in draw])) for draw in draws.tolist()])
    return _ends(scores, confidence)


def mean_interval(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """`bootstrap_interval` of a mean over images, all draws at once.

    Args:
        values: score of each image; NaN where it is not defined, which does not count.
        confidence: share of the resampled means that lie in the interval.
        resamples: how often images are drawn.
        seed: of the draws; equal seeds draw equal images for every score.

    Returns:
        Lower and upper end; NaN with fewer than two images.

    >>> mean_interval([1.0, 2.0, 3.0])
    (1.0, 3.0)
    """
    if len(values) < 2:
        return np.nan, np.nan
    drawn = np.asarray(values, np.float64)[_draws(len(values), resamples, seed)]
    known = ~np.isnan(drawn)
    with np.errstate(invalid="ignore"):
        means = np.where(known, drawn, 0).sum(axis=1) / known.sum(axis=1)
    return _ends(means, confidence)


def resampled(
    scores: Sequence[Callable[[Sequence[int]], float]],
    images: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Several scores of the same draws of images: what images have in common cancels between them.

    Args:
        scores: each from the positions of the images that were drawn to the score.
        images: how many there are.
        resamples: how often they are drawn.
        seed: of the draws.

    Returns:
        A row a draw, `(resamples, scores)`; NaN where a score is not defined.
    """
    draws = _draws(images, resamples, seed).tolist()
    return np.array([[score(draw) for score in scores] for draw in draws], np.float64)


def _draws(images: int, resamples: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(images, size=(resamples, images))


def _ends(scores: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    if np.isnan(scores).all():
        return np.nan, np.nan
    low, high = np.nanquantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return low, high
