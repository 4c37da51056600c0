"""Which pixels stand for all of an image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from math import gcd, prod

PLACES = 16  # along an axis, and as many to the power of its axes in a plane, that are enough


def spread_step(shape: Sequence[int], most: int) -> int:
    """Step over the pixels of an image, one after the other, that takes so many or a few less.

    A step of a side's length would take one column, or one plane of a volume, alone.

    Args:
        shape: of the image, the last axis the fastest.
        most: pixels that are to be taken.

    >>> spread_step((128, 128), 4096), spread_step((64, 64, 64), 4096), spread_step((9, 9), 4096)
    (4, 65, 1)
    """
    inner = [(axes, prod(shape[-axes:])) for axes in range(1, len(shape))]  # (axes, pixels)
    steps = count(max(1, -(-prod(shape) // most)))
    return next(k for k in steps if all(n // gcd(k, n) >= min(n, PLACES**d) for d, n in inner))
