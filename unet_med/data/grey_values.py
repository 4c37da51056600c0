"""How grey values are distributed, in one number that brightness and contrast do not change."""

from __future__ import annotations

import numpy as np

from unet_med.geometry.spread import spread_step

SAMPLES = 100_000  # pixels of an image and channel that are looked at, at most


def sample_of(pixels: np.ndarray) -> np.ndarray:
    """Evenly spread finite pixels of one channel, `SAMPLES` of them at most.

    Args:
        pixels: any shape.
    """
    flat = pixels.reshape(-1)
    flat = flat[:: spread_step(flat.size, SAMPLES)]
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
