"""A bar of a round length, by which a picture says how large things are."""

from __future__ import annotations

from math import floor, log10

SHARE = 0.3  # of the width, at most


def bar_length(width: float) -> float:
    """A round length: 1, 2 or 5 times a power of ten, at most three tenths of a width.

    Args:
        width: of a picture, in any unit.

    Raises:
        ValueError: the width is not positive.

    >>> bar_length(256.0), bar_length(90.0), bar_length(0.04)
    (50.0, 20.0, 0.01)
    """
    if not 0 < width < float("inf"):
        raise ValueError(f"a picture {width} wide has no bar: its width is positive")
    power = 10.0 ** floor(log10(SHARE * width))
    return max(step * power for step in (1, 2, 5) if step * power <= SHARE * width)
