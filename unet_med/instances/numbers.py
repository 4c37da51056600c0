"""Labels as whole numbers, and those of pixels that nobody annotated."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Integers = NDArray[Any]

UNKNOWN = -1
"""-1, among masks and numbers of objects: nobody annotated this pixel."""
IGNORED = 255
"""255, among classes: nobody annotated this pixel; elsewhere it may be an object."""


def as_integers(labels: ArrayLike) -> Integers:
    """The same labels with an integer dtype; float files with whole numbers are fine.

    Args:
        labels: label map of any shape; boolean, integer or floating point.

    Returns:
        The input itself if its dtype is integer, else a copy as int32 (int64
        where a value needs it).

    Raises:
        ValueError: a value is not finite or not a whole number.

    >>> as_integers([0.0, 2.0]).dtype.name
    'int32'
    """
    values = np.asarray(labels)
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "b":
        return values.astype(np.int32)
    with np.errstate(invalid="ignore"):
        wrong = values != np.rint(values)  # NaN differs from itself
    wrong |= np.isinf(values)
    if wrong.any():
        raise no_integer(values[wrong].flat[0])
    large = float(np.abs(values).max(initial=0)) > np.iinfo(np.int32).max
    return values.astype(np.int64 if large else np.int32)


def as_int32(labels: ArrayLike) -> NDArray[np.int32]:
    """The same labels as int32; numbers beyond 32 bits are counted anew, in their order.

    Raises:
        ValueError: a value is not finite or not a whole number.
    """
    values = as_integers(labels)
    if values.size and np.abs(values).max() > np.iinfo(np.int32).max:
        values = _counted_anew(values)
    return values.astype(np.int32, copy=False)


def in_a_table(labels: ArrayLike) -> Integers:
    """The same objects, counted anew in their order where a number exceeds the number of pixels.

    So a table with a row for each number, up to the largest, is no larger than the image.

    Raises:
        ValueError: a value is not finite or not a whole number.

    >>> in_a_table([0, 5, 2**40, -1]).tolist(), in_a_table([0, 3, 3]).tolist()
    ([0, 3, 4, -1], [0, 3, 3])
    """
    values = as_integers(labels)
    return values if values.max(initial=0) <= values.size else _counted_anew(values)


def _counted_anew(values: Integers) -> NDArray[np.int64]:
    """Labels whose positive numbers follow upon each other; others stay."""
    _, ranks = np.unique(values, return_inverse=True)
    others = np.minimum(values, 0).astype(np.int64)
    return np.where(values > 0, ranks.reshape(values.shape) + 1, others)


def no_integer(value: float) -> ValueError:
    """Error for a label that is not a whole number."""
    return ValueError(
        f"label value {value} is not a whole number; labels are integers: "
        "resample them with mode='nearest', or threshold them first"
    )
