"""How much a score would vary with other images of the same kind.

Images of one patient are alike, and a hundred of five patients say little more than five do. So
what is drawn are groups, where images have some.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 6  # images, or groups: of fewer the ends are about the worst and the best of them
RESAMPLES, SEED = 1000, 0  # of all intervals that tables have
Counts = NDArray[Any]
Groups = Sequence[Hashable] | None


def bootstrap_interval(
    counts: Sequence[Counts],
    pool: Callable[[Counts], float],
    *,
    groups: Groups = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float]:
    """Percentile interval of a pooled score over images (Efron 1979), or over groups of them.

    As many images as there are are drawn with replacement, and their counts are pooled anew. So
    the interval shows how the score depends on the choice of images, not on the training.

    Args:
        counts: rows counted in each image, as a `Score` counts them, `(N, ...)`.
        pool: from rows to the score.
        groups: of each image what it shares with others, such as its patient: all images of a
            group are drawn together, and as many groups as there are. None: images are drawn.
        confidence: share of the resampled scores that lie in the interval.
        resamples: how often images are drawn.
        seed: of the draws; equal seeds draw equal images for every score.

    Returns:
        Lower and upper end; NaN with fewer than two images, or groups, which tell nothing of
        others. Draws for which the score is not defined are left out.

    >>> objects = [np.array([[found, 10]]) for found in (7, 8, 9)]
    >>> bootstrap_interval(objects, lambda rows: rows[:, 0].sum() / rows[:, 1].sum())
    (0.7, 0.9)
    """
    members = _members(len(counts), groups)
    if len(members) < 2:
        return np.nan, np.nan
    units = [np.concatenate([counts[i] for i in own]) for own in members]
    draws = _draws(len(units), resamples, seed)
    scores = np.array([pool(np.concatenate([units[i] for i in draw])) for draw in draws.tolist()])
    return _ends(scores, confidence)


def mean_interval(
    values: Sequence[float] | Sequence[Sequence[float]],
    *,
    groups: Groups = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float]:
    """`bootstrap_interval` of a mean over images, all draws at once.

    Args:
        values: score of each image; NaN where it is not defined, which does not count. Of several
            classes a row each: what is drawn is the mean over classes of their means over images.
        groups: see `bootstrap_interval`.
        confidence: share of the resampled means that lie in the interval.
        resamples: how often images are drawn.
        seed: of the draws; equal seeds draw equal images for every score.

    Returns:
        Lower and upper end; NaN with fewer than two images, or groups.

    >>> mean_interval([1.0, 2.0, 3.0])
    (1.0, 3.0)
    """
    table = np.atleast_2d(np.asarray(values, np.float64))  # (classes, images)
    members = _members(table.shape[1], groups)
    if len(members) < 2:
        return np.nan, np.nan
    draws = _draws(len(members), resamples, seed)
    means = np.array([_drawn_means(own, members, draws) for own in table])
    with np.errstate(invalid="ignore"):  # no class of a draw is defined
        drawn = np.nansum(means, axis=0) / (~np.isnan(means)).sum(axis=0)
    return _ends(drawn, confidence)


def resampled(
    scores: Sequence[Callable[[Sequence[int]], float]],
    images: int,
    *,
    groups: Groups = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> NDArray[np.float64]:
    """Several scores of the same draws of images: what images have in common cancels between them.

    Args:
        scores: each from the positions of the images that were drawn to the score.
        images: how many there are.
        groups: see `bootstrap_interval`.
        resamples: how often they are drawn.
        seed: of the draws.

    Returns:
        A row a draw, `(resamples, scores)`; NaN where a score is not defined.
    """
    members = _members(images, groups)
    draws = _draws(len(members), resamples, seed).tolist()
    drawn = ([i for unit in draw for i in members[unit]] for draw in draws)
    return np.array([[score(own) for score in scores] for own in drawn], np.float64)


def drawn_over(count: int, what: str, groups: int | None = None) -> str:
    """What an interval's draws are of: images, or the groups that they belong to.

    >>> drawn_over(6, "images", 6), drawn_over(12, "planes", 3)
    ('6 images', '3 groups of 12 planes')
    """
    images = f"{count} {what}"
    return images if groups in (None, count) else f"{groups} groups of {images}"


def about_interval(over: str) -> str:
    """What the interval of a table is, by what its draws are over."""
    return f"2.5 % and 97.5 %: bootstrap over the {over}, {RESAMPLES} draws, seed {SEED}"


def _drawn_means(
    values: NDArray[np.float64], members: Sequence[Sequence[int]], draws: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean over the images of each draw that have a value; NaN where none has."""
    known = [[values[i] for i in own if not np.isnan(values[i])] for own in members]
    sums = np.array([sum(own) for own in known], np.float64)[draws].sum(axis=1)
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = sums / np.array([len(own) for own in known])[draws].sum(axis=1)
    return found


def _members(images: int, groups: Groups) -> list[list[int]]:
    """Positions of the images of each group, in the order in which groups come."""
    found: dict[Hashable, list[int]] = {}
    for image, group in enumerate(range(images) if groups is None else groups):
        found.setdefault(group, []).append(image)
    return list(found.values())


def _draws(units: int, resamples: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(units, size=(resamples, units))


def _ends(scores: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    if np.isnan(scores).all():
        return np.nan, np.nan
    low, high = np.nanquantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return low, high
