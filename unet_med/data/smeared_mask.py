"""Masks of black and white whose edges JPEG or resampling has smeared, as masks again."""

from __future__ import annotations

import numpy as np

HALF = 128  # white begins here
ENDS = 25  # black is at most so much, white at least 255 less so much
REACH = 8  # px: what JPEG makes of an edge stays within a block of that side
BEYOND = 0.01  # share of the pixels that may be off further away: traces of specks
SOLID = 0.2  # share of the pixels that are off and lie in an area of their value: it is a class
MIDDLE = slice(64, 192)  # greys that are neither nearly black nor nearly white
SHARP = 0.2  # pixels of these for each of the outline, of sharp masks in JPEG of any quality
SOFT = 0.7  # of resampled ones; a border class has one for each
ALIKE = 33  # greys: of a border class most pixels in the middle are no further apart
MOST = 0.6


def sharpened(label: np.ndarray) -> np.ndarray | None:
    """0 and 255 of a mask whose edges were smeared; None: it may be anything else, or is sharp.

    Such a mask has two values but for a few pixels beside its outline, where black and white ones
    are off by something. Numbers of objects, classes and grey images have other values in areas,
    and classes beside 255 and borders of 128 are off on one side alone.

    Args:
        label: `(X, Y[, Z])`; of other than 8 bits nothing is said.

    >>> sharpened(np.array([[0, 128, 255]], np.uint8)) is None  # 128 may be a class
    True
    """
    if label.dtype != np.uint8 or label.ndim not in (2, 3):
        return None
    counts = np.bincount(label.ravel(), minlength=256)
    low, high = int(counts[:HALF].argmax()), HALF + int(counts[HALF:].argmax())
    if low > ENDS or high < 255 - ENDS:
        return None
    counts[[low, high]] = 0
    if not (counts[:HALF].any() and counts[HALF:].any()) or 2 * counts.sum() > label.size:
        return None
    white, off = label >= HALF, (label != low) & (label != high)
    most, least = (_filtered(label, 3, which) for which in ("maximum", "minimum"))
    outline = (most >= HALF) & (least < HALF)
    if _too_grey(counts[MIDDLE], int((outline & white).sum())):
        return None
    if int((off & (most == least)).sum()) > SOLID * off.sum():
        return None
    if int((off & ~_filtered(outline, 2 * REACH + 1, "maximum")).sum()) > BEYOND * label.size:
        return None
    return np.where(white, np.uint8(255), np.uint8(0))


def _too_grey(middle: np.ndarray, outline: int) -> bool:
    """Whether more pixels are grey than smearing makes, or most of many have one grey.

    Args:
        middle: pixels of each grey.
        outline: white pixels beside black ones.
    """
    count = int(middle.sum())
    alike = np.convolve(middle, np.ones(ALIKE)).max()
    return count > SOFT * outline or (count > SHARP * outline and alike > MOST * count)


def _filtered(image: np.ndarray, side: int, which: str) -> np.ndarray:
    """Largest or smallest value around each pixel, in each plane by itself."""
    from scipy import ndimage

    found: np.ndarray = getattr(ndimage, f"{which}_filter")(image, (side, side, 1)[: image.ndim])
    return found
