"""Input of the ISBI 2012 scores: slices of probability and truth, thresholds, components."""

from __future__ import annotations

from itertools import accumulate, repeat
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from unet_med.metrics.region import as_mask

Mask = NDArray[np.bool_]
Segments = NDArray[np.int32]
Probability = NDArray[np.float64]

# The organisers add 0.1 again and again: the last is 0.9999999999999999, and 1.0 is interior.
THRESHOLDS = tuple(accumulate(repeat(0.1, 10), initial=0.0))
OLD_THRESHOLDS = THRESHOLDS[:10]


def as_slices(prediction: ArrayLike, truth: ArrayLike) -> tuple[Probability, Mask]:
    """Probability and true interior of each slice.

    Args:
        prediction: probability of interior or binary, `(Y, X)` or `(S, Y, X)`.
        truth: interior where not 0, the same shape.

    Returns:
        Both `(S, Y, X)`. The probability is in double precision, to be compared with the
        thresholds, but rounded to float32 as the organisers' images are.

    Raises:
        ValueError: shapes that differ or have other than 2 or 3 axes, a prediction that is
            neither probability nor binary, or a truth that holds no whole number.
    """
    values, interior = np.asarray(prediction), as_mask(truth)
    if values.shape != interior.shape or values.ndim not in (2, 3) or not values.size:
        raise ValueError(
            f"prediction of shape {values.shape} against truth {interior.shape}: both must be "
            "one slice (Y, X) or a stack (S, Y, X); drop channel and batch axes"
        )
    shape = (-1, *values.shape[-2:])
    return _probability(values).reshape(shape), interior.reshape(shape)


def components(interior: Mask) -> Segments:
    """4-connected components of one slice, 1..N."""
    return ndimage.label(interior, output=np.int32)[0]


def _probability(values: NDArray[Any]) -> Probability:
    if values.dtype.kind in "biu" and np.isin(values, (0, values.max())).all():
        return (values > 0).astype(np.float64)  # 0/1 or 0/255
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"prediction has values from {values.min()} to {values.max()}: it must be a "
            "probability in [0, 1] without NaN, or binary; divide 8-bit maps by 255"
        )
    return values.astype(np.float32).astype(np.float64)
