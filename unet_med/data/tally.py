"""Class and score of numbered objects, counted part by part of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    A part costs what it holds, however many objects there are in all.

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
        scores = probabilities[:, inside]  # (K, N)
        numbers, places = self._add(labels[inside], scores[1:].argmax(axis=0) + 1)
        if self.sums is None:
            self.sums = np.zeros(len(self.pixels))
        foreground = 1 - scores[0].astype(np.float64)
        self.sums[numbers] += np.bincount(places, foreground, minlength=len(numbers))

    def add_classes(self, labels: Array, classes: Array) -> None:
        """Count a part of the image whose probabilities were not kept.

        Args:
            labels: numbers of the objects, `(*S)`.
            classes: number of each pixel's class, 0 is background, `(*S)`.
        """
        inside = labels > 0
        self._add(labels[inside], classes[inside])

    def _add(self, labels: Array, classes: Array) -> tuple[Array, Array]:
        """Count pixels; returns the objects that are there, and the place of each pixel's."""
        labels = labels.astype(np.intp)
        numbers = np.unique(labels)
        places = np.searchsorted(numbers, labels)  # `return_inverse` takes ten times as long
        kinds = self.pixels.shape[1]
        found = np.bincount(places * kinds + classes, minlength=len(numbers) * kinds)
        self.pixels[numbers] += found.reshape(-1, kinds)
        return numbers, places

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
