"""How grey values are distributed, in one number that brightness and contrast do not change."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unet_med.geometry.spread import spread_step

SAMPLES = 100_000  # pixels of an image and channel that are looked at, at most
ROBUST = "robust"  # in place of a channel's scale: that of `inner_scale`, of each image
LUMA = (0.299, 0.587, 0.114)  # of R, G and B, ITU-R BT.601
RARE = 2e-3  # share of the values at either end that may be those of hot or dead pixels
RULED = 2.0  # times the deviation of all other pixels


class Ends(NamedTuple):
    """Limits beyond which a channel's extremes lie, and whether they rule its deviation."""

    low: float
    high: float
    ruled: bool


def sample_of(pixels: np.ndarray) -> np.ndarray:
    """Evenly spread finite pixels of one channel, `SAMPLES` of them at most.

    Args:
        pixels: any shape.
    """
    flat = pixels.reshape(-1)[:: spread_step(pixels.shape, SAMPLES)]
    return flat[np.isfinite(flat)]


def skew_of(sample: np.ndarray) -> float | None:
    """On which side of the median the grey values lie: -1 below it, 1 above; None: all are equal.

    Kelly's quantile skewness, of the percentiles 5, 50 and 95 (0.5 and 99.5 where those are
    equal). Bright objects on a dark background have 0.3 to 1, in 8 bits or 16; of the inverted
    image the sign is the other one.

    Args:
        sample: finite pixels.

    >>> skew_of(np.array([0, 0, 0, 0, 0, 0, 0, 10, 20, 90])), skew_of(np.zeros(9))
    (1.0, None)
    """
    if not sample.size:
        return None
    lowest, low, middle, high, highest = np.percentile(sample, (0.5, 5, 50, 95, 99.5)).tolist()
    if low == high:
        low, high = lowest, highest
    return None if low == high else (low + high - 2 * middle) / (high - low)


def inner_scale(sample: np.ndarray) -> tuple[float, float, float, float]:
    """Limits of the values without hot and dead pixels, and mean and deviation within them.

    The limits lie as far beyond all but a few values as these are apart. Where all but such few
    are equal they are the signal, and a single one is a hot pixel.

    Args:
        sample: finite values, in any order; none: all is 0.

    >>> inner_scale(np.array([0.0] * 500 + [2.0] * 500 + [9000.0]))[:2]
    (-2.0, 4.0)
    """
    if not sample.size:
        return 0.0, 0.0, 0.0, 0.0
    ordered = np.sort(sample.astype(np.float64))
    rare = int(RARE * len(ordered))
    inner, outer = ((ordered[few], ordered[-1 - few]) for few in (rare, min(rare, 1)))
    low, high = outer if inner[0] == inner[1] else inner
    span = high - low
    within = ordered.clip(low - span, high + span)
    mean = float(within[0] if within[0] == within[-1] else within.mean())  # a constant's exactly
    return (
        float(low - span),
        float(high + span),
        mean,
        float(np.sqrt(((within - mean) ** 2).mean())),
    )


def ends_of(pixels: np.ndarray) -> Ends:
    """Where the extremes of a channel begin, such as hot pixels, and whether they rule it.

    Args:
        pixels: all of them, `(*S)`, since a sample would miss the one that rules.

    >>> field = np.arange(40000.0) % 7
    >>> ends_of(field).ruled, ends_of(np.append(field, 9000)).ruled
    (False, True)
    """
    sample = sample_of(pixels)
    low, high, middle, _ = inner_scale(sample)
    return Ends(low, high, is_ruled(sample, _deviation(pixels, middle)))


def is_ruled(sample: np.ndarray, deviation: float) -> bool:
    """Whether a few pixels rule the deviation of a channel.

    Args:
        sample: evenly spread finite pixels of it.
        deviation: of all its pixels.
    """
    return deviation > 0 and deviation >= RULED * inner_scale(sample)[3]


def is_ramp(colours: np.ndarray, numbers: np.ndarray) -> bool:
    """Whether the colours of a palette that are used become brighter with their number, or darker.

    Then the numbers are intensities, as in what ImageJ saved with a look-up table.

    Args:
        colours: `(N, 3)`, red, green and blue, 0 to 255.
        numbers: of the pixels, any shape; of one bit they are truth values.

    >>> is_ramp(np.array([[255, 0, 0], [0, 0, 0]]), np.array([False, True]))
    True
    """
    used = np.unique(numbers).astype(np.int64)
    steps = np.diff(colours[used[used < len(colours)]] @ LUMA)
    return bool((steps > -1).all() or (steps < 1).all())  # rounded to levels of 8 bits


def _deviation(pixels: np.ndarray, middle: float) -> float:
    """Standard deviation of the finite pixels; row by row, each of which alone becomes float64.

    Args:
        pixels: of a channel, `(*S)`.
        middle: about their mean, against cancellation.
    """
    count, total, squares = 0, 0.0, 0.0
    for row in pixels:
        off = row[np.isfinite(row)].astype(np.float64) - middle
        count, total, squares = count + off.size, total + off.sum(), squares + (off @ off)
    return float(np.sqrt(max(0.0, squares / count - (total / count) ** 2))) if count else 0.0
