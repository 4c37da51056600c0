"""Class and score of numbered objects, counted part by part of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Found", "Tally"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Found:
    """What is known of an object besides its pixels.

    Attributes:
        kind: number of its class, from 1.
        score: mean foreground probability of its pixels; None: not known.
    """

    kind: int = 1
    score: float | None = None


class Tally:
    """The pixels of each object by their class, and the sum of their probabilities.

    Args:
        count: largest number of an object.
        classes: how many there are, with the background.
    """

    def __init__(self, count: int, classes: int) -> None:
        self.pixels = np.zeros((count + 1, classes), np.int64)
        self.sums: NDArray[np.float64] | None = None

    def add_probabilities(self, labels: Array, probabilities: Array) -> None:
        """Count a part of the image.

        Args:
            labels: numbers of the objects, `(*S)`.
            probabilities: of the classes there, `(K, *S)`; the first is the background's.
        """
        inside = labels > 0
        numbers = labels[inside].astype(np.int64)
        scores = probabilities[:, inside]  # (K, N)
        self._add(numbers, scores[1:].argmax(axis=0) + 1)
        foreground = 1 - scores[0].astype(np.float64)
        added = np.bincount(numbers, foreground, minlength=len(self.pixels)).astype(np.float64)
        self.sums = added if self.sums is None else self.sums + added

    def add_classes(self, labels: Array, classes: Array) -> None:
        """Count a part of the image whose probabilities were not kept.

        Args:
            labels: numbers of the objects, `(*S)`.
            classes: number of each pixel's class, 0 is background, `(*S)`.
        """
        inside = labels > 0
        self._add(labels[inside].astype(np.int64), classes[inside])

    def _add(self, labels: Array, classes: Array) -> None:
        kinds = self.pixels.shape[1]
        places = labels * kinds + classes
        self.pixels += np.bincount(places, minlength=self.pixels.size).reshape(-1, kinds)

    def found(self) -> dict[int, Found]:
        """Of each object the class that most of its foreground pixels have, and its score."""
        kinds = self.pixels[:, 1:].argmax(axis=1) + 1
        sizes = self.pixels.sum(axis=1)
        return {
            number: Found(
                int(kinds[number]),
                None if self.sums is None else round(float(self.sums[number] / size), 6),
            )
            for number, size in enumerate(sizes.tolist())
            if number and size
        }
