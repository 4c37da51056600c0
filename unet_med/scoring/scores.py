"""Scores by the columns of their tables, and what is counted in a case for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_med.metrics.isbi import PIXEL_ERROR, RAND_ERROR, V_INFO, V_RAND
from unet_med.metrics.objects import DET, SEG, SEG_AND_DET, count_objects, precision_score
from unet_med.metrics.region import DICE, IOU, count_pixels
from unet_med.metrics.score import Score
from unet_med.metrics.slices import as_slices
from unet_med.metrics.warping import WARPING_ERROR

Array = np.ndarray[Any, Any]
Counts = Mapping[str, Array]  # rows counted, by column
Counted = Mapping[int, Counts]  # by the value of the class; 0: of no class


def held_planes(foreground: Array, interior: Array) -> tuple[Array, Array]:
    """Foreground, which is more likely than not, and true interior of each plane, `(S, Y, X)`."""
    probability, truth = as_slices(foreground, interior)
    return probability > 0.5, truth


def _pixels(foreground: Array, interior: Array) -> Array:
    """`count_pixels` of each plane, `(S, 3)`."""
    planes = zip(*held_planes(foreground, interior), strict=True)
    return np.concatenate([count_pixels(found, true) for found, true in planes])


ISBI = {
    "Dice": Score(_pixels, DICE.pool),
    "IoU": Score(_pixels, IOU.pool),
    "pixel error": PIXEL_ERROR,
    "Rand error": RAND_ERROR,
    "warping error": WARPING_ERROR,
    "V_Rand": V_RAND,
    "V_Info": V_INFO,
}
CTC = {"SEG": SEG, "DET": DET, "(SEG+DET)/2": SEG_AND_DET}
IOUS = [percent / 100 for percent in range(50, 100, 5)]
_PRECISION = precision_score(IOUS)


def _precision_at(iou: float) -> Score:
    """Average precision at one of `IOUS`, for which nothing further is counted."""
    column = [IOUS.index(iou)]
    return Score(_PRECISION.count, lambda rows: _PRECISION.pool(rows[:, column]))


AP = {"AP50": _precision_at(0.5), "AP75": _precision_at(0.75), "AP50:95": _PRECISION}


def _detected(compute: Callable[[int, int, int], float]) -> Score:
    """A score of numbers of objects: matched (IoU 0.5), found, and true ones."""

    def pool(rows: Array) -> float:
        _overlap, _cost, *numbers = rows.sum(axis=0).tolist()
        return compute(*map(int, numbers))

    return Score(count_objects, pool)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan


INSTANCES = {
    "SEG": SEG,
    "DET": DET,
    "AP50": _detected(lambda matched, found, true: _share(matched, found + true - matched)),
    "found": _detected(lambda matched, found, true: found),
    "true": _detected(lambda matched, found, true: true),
    "matched": _detected(lambda matched, found, true: matched),
    "precision": _detected(lambda matched, found, true: _share(matched, found)),
    "recall": _detected(lambda matched, found, true: _share(matched, true)),
    "F1": _detected(lambda matched, found, true: _share(2 * matched, found + true)),
}


@dataclass(frozen=True)
class Column:
    """One score of a table.

    Attributes:
        pool: from rows counted in one case, or in several, to the score.
        pooled: whether rows of several cases add up to a score.
        averaged: whether a mean over classes says something.
    """

    pool: Callable[[Array], float]
    pooled: bool = True
    averaged: bool = True


def columns_of(scores: Mapping[str, Score]) -> dict[str, Column]:
    """Columns of scores that pool what they count; not defined where nothing counts."""

    def of(pool: Callable[[Array], float]) -> Callable[[Array], float]:
        return lambda rows: pool(rows) if len(rows) else np.nan

    return {name: Column(of(score.pool)) for name, score in scores.items()}


def count_planes(foreground: Array, interior: Array) -> Counted:
    """Rows of `ISBI`, one a plane, but for those without interior in which none is found.

    The challenge's own functions take such a plane for wrong, since its stack has none.
    """
    found, true = held_planes(foreground, interior)
    held = (found | true).any(axis=(1, 2))
    counted = count_scores(foreground, interior, ISBI)[0]
    return {0: {name: rows[held] for name, rows in counted.items()}}


def count_scores(result: Any, truth: Any, scores: Mapping[str, Score]) -> Counted:
    """Rows of one case for each score, as of no class; what two scores share is counted once.

    Args:
        result: array, or a list of frames.
        truth: likewise.
        scores: by column.
    """
    counted: dict[Callable[[Any, Any], Array], Array] = {}
    for score in scores.values():
        if score.count not in counted:
            counted[score.count] = score.count(result, truth)
    return {0: {name: counted[score.count] for name, score in scores.items()}}
