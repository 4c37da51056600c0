"""Whether few pixels, hot or dead, rule the deviation by which images are standardised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_med.data.grey_values import Ends, ends_of
from unet_med.planning.foreground import IMAGES, foreground_pixels

OBJECTS = 0.01  # of the objects' pixels: extremes of more are what is to be found
VALUES = 2**28  # looked at, at most, but for one image; by number, for no clock decides on a scale


class Extremes:
    """Looks at whole images, of which a sample would miss the one pixel that rules all."""

    def __init__(self) -> None:
        self._found: dict[int, list[Ends]] = {}
        self._values = 0

    @property
    def wants(self) -> bool:
        """Whether there is something to be learned from one more image."""
        return len(self._found) < IMAGES and self._values < VALUES

    def look(self, number: int, image: np.ndarray) -> None:
        """Look at an image `(C, *S)`, if one is wanted."""
        if self.wants:
            self._found[number] = [ends_of(pixels) for pixels in image]
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
    """Whether extremes that are no objects rule the deviation of an image."""
    return extremes["ruled"] > 0 and extremes["in_objects"] <= OBJECTS
