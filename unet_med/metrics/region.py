"""Overlap and size of one object: Dice, and the relative error of its volume."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_med.instances import as_integers
from unet_med.metrics.score import Score


def dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Dice coefficient: twice the pixels in both, over those of the one plus those of the other.

    Args:
        prediction: object where not 0, any shape.
        truth: likewise, the same shape.

    Returns:
        Score in [0, 1]; 0 where one of them is empty.

    Raises:
        ValueError: both are empty, shapes that differ, or a value that is no whole number, as of
            probabilities and NaN.

    >>> dice([1, 1, 0, 0], [0, 1, 0, 0])
    0.6666666666666666
    """
    return DICE(prediction, truth)


def relative_volume_error(prediction: ArrayLike, truth: ArrayLike) -> float:
    """How much larger the predicted volume is than the true one, as a share of that.

    Args:
        prediction: object where not 0, any shape.
        truth: likewise, the same shape.

    Returns:
        -1 where nothing was found, 0 where both are equal, 1 where twice as much was found.

    Raises:
        ValueError: the truth is empty; else as `dice`.

    >>> relative_volume_error([1, 1, 1, 0], [1, 1, 0, 0])
    0.5
    """
    return RELATIVE_VOLUME_ERROR(prediction, truth)


def count_pixels(prediction: ArrayLike, truth: ArrayLike) -> NDArray[np.int64]:
    """Pixels in both, in the prediction and in the truth, `(1, 3)`.

    Raises:
        ValueError: their shapes differ, or a value is no whole number.
    """
    found, true = as_mask(prediction), as_mask(truth)
    if found.shape != true.shape:
        raise ValueError(
            f"prediction of shape {found.shape} against truth {true.shape}: they must be equal"
        )
    return np.array([[(found & true).sum(), found.sum(), true.sum()]], np.int64)


def as_mask(values: ArrayLike) -> NDArray[np.bool_]:
    """Where a mask is not 0.

    Raises:
        ValueError: a value is no whole number: probabilities are hardly ever 0, and NaN never is.
    """
    array = np.asarray(values)
    return np.asarray((array if array.dtype.kind == "b" else as_integers(array)) != 0)


def _pooled_dice(counts: NDArray[Any]) -> float:
    both, found, true = counts.sum(axis=0).tolist()
    return 2 * both / (found + true) if found + true else np.nan


def _pooled_iou(counts: NDArray[Any]) -> float:
    both, found, true = counts.sum(axis=0).tolist()
    return both / (found + true - both) if found + true else np.nan


def _pooled_error(counts: NDArray[Any]) -> float:
    _, found, true = counts.sum(axis=0).tolist()
    return (found - true) / true if true else np.nan


DICE = Score(
    count_pixels,
    _pooled_dice,
    "neither prediction nor truth holds the object: the score is not defined; leave it out",
)
IOU = Score(count_pixels, _pooled_iou, DICE.undefined)
RELATIVE_VOLUME_ERROR = Score(
    count_pixels, _pooled_error, "the truth does not hold the object: there is no relative error"
)
