"""Which pixels stand for all of an image."""

from __future__ import annotations

from itertools import count
from math import gcd


def spread_step(pixels: int, most: int) -> int:
    """Step over the pixels of an image, one after the other, that takes so many or a few less.

    It shares no factor with their number, and so with no side: a step of a side's length takes
    one column, or one plane of a volume, alone.

    Args:
        pixels: of the image.
        most: that are to be taken.

    >>> spread_step(128 * 128, 4096), spread_step(64**3, 4096), spread_step(9, 4096)
    (5, 65, 1)
    """
    return next(k for k in count(max(1, -(-pixels // most))) if gcd(k, pixels) == 1 or not pixels)
