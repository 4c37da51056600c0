"""Whether few pixels, hot or dead, rule the deviation by which images are standardised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_med.data.grey_values import inner_scale, sample_of
from unet_med.planning.foreground import IMAGES, foreground_pixels

RULED = 2.0  # times the deviation of all other pixels
OBJECTS = 0.01  # of the objects' pixels: extremes of more are what is to be found
VALUES = 2**28  # looked at, at most, but for one image; by number, for no clock decides on a scale


class _Channel(NamedTuple):
    """Limits beyond which a channel's extremes lie, and whether they rule its deviation."""

    low: float
    high: float
    ruled: bool


class Extremes:
    """Looks at whole images, of which a sample would miss the one pixel that rules all."""

    def __init__(self) -> None:
        self._found: dict[int, list[_Channel]] = {}
        self._values = 0

    @property
    def wants(self) -> bool:
        """Whether there is something to be learned from one more image."""
        return len(self._found) < IMAGES and self._values < VALUES

    def look(self, number: int, image: np.ndarray) -> None:
        """Look at an image `(C, *S)`, if one is wanted.

        Args:
            number: of the image in the set.
            image: its pixels.
        """
        if self.wants:
            self._found[number] = [_channel(pixels) for pixels in image]
            self._values += image.size

    def facts(
        self, pairs: Sequence[Mapping[str, Any]], choice: Mapping[str, Any], unknown: int | None
    ) -> tuple[dict[str, float], ...]:
        """Of each channel `ruled` images `of` so many, and `in_objects`, what extremes these have.

        That is the share of the pixels of objects that are extremes, in images that these rule;
        such images alone are read again, with their labels.

        Args:
            pairs: images and labels of the set, `{"image": files, "label": file}`.
            choice: which image of files that hold several; see `AutoReader`.
            unknown: the labels' value of pixels that nobody annotated.
        """
        count = min(map(len, self._found.values()), default=0)
        facts = [{"ruled": 0.0, "of": float(len(self._found))} for _ in range(count)]
        inside, beyond = np.zeros((2, count))
        for number, channels in self._found.items():
            ruled = [k for k in range(count) if channels[k].ruled]
            if not ruled:
                continue
            pair = pairs[number]
            objects = foreground_pixels(pair["image"], pair["label"], choice, unknown)  # (C, N)
            for k in ruled:
                low, high, _ = channels[k]
                facts[k]["ruled"] += 1
                inside[k] += objects.shape[1]
                beyond[k] += np.count_nonzero((objects[k] < low) | (objects[k] > high))
        share = beyond / np.maximum(inside, 1)
        return tuple({**each, "in_objects": float(s)} for each, s in zip(facts, share, strict=True))


def rule(extremes: Mapping[str, float]) -> bool:
    """Whether extremes that are no objects rule the deviation of an image.

    Args:
        extremes: of a channel, see `Extremes.facts`.
    """
    return extremes["ruled"] > 0 and extremes["in_objects"] <= OBJECTS


def _channel(pixels: np.ndarray) -> _Channel:
    low, high, middle, inner = inner_scale(sample_of(pixels))
    own = _deviation(pixels, middle)
    return _Channel(low, high, own > 0 and own >= RULED * inner)


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
