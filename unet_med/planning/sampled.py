"""What a sample of the images' pixels says: percentiles, skews, and CTs of two scales."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from unet_med.data.grey_values import sample_of, skew_of
from unet_med.planning.fingerprints import PERCENTILES

AIR = (-1100.0, -500.0)  # HU, and of the lungs; padding lies below it
BODY = (-1100.0, -50.0)  # HU: air and fat, of which nearly every CT holds some
SOME = 0.005  # of the pixels


def skews(samples: Sequence[np.ndarray]) -> tuple[tuple[float, ...], ...]:
    """Range of each channel's skew over the sampled images, `(C, N)` each."""
    found = []
    for c in range(min(len(sample) for sample in samples)):
        own = [skew_of(sample_of(sample[c])) for sample in samples]
        known = [skew for skew in own if skew is not None]
        found.append((min(known), max(known)) if known else ())
    return tuple(found)


def percentiles(samples: Sequence[np.ndarray]) -> tuple[tuple[float, ...], ...]:
    """Of each channel that all sampled images have, over the pixels that are finite."""
    channels = min(len(sample) for sample in samples)
    found = []
    for c in range(channels):
        pixels = np.concatenate([sample[c] for sample in samples])
        pixels = pixels[np.isfinite(pixels)]
        found.append(tuple(np.percentile(pixels, PERCENTILES).tolist()) if pixels.size else ())
    return tuple(found)


def off_scale(samples: Mapping[str, np.ndarray], channels: Iterable[int]) -> tuple[str, ...]:
    """CTs that hold neither air nor fat where others hold air, as if 1024 was not subtracted.

    Args:
        samples: pixels `(C, N)` of images, by their names.
        channels: those that are CT.

    Returns:
        Names of the images.
    """
    off: dict[str, None] = {}
    for c in channels:
        own = {name: sample[c] for name, sample in samples.items() if c < len(sample)}
        if any(_holds(pixels, AIR) for pixels in own.values()):
            off |= dict.fromkeys(name for name, pixels in own.items() if not _holds(pixels, BODY))
    return tuple(off)


def _holds(pixels: np.ndarray, ends: tuple[float, float]) -> bool:
    low, high = ends
    return bool(((pixels >= low) & (pixels <= high)).mean() >= SOME)
