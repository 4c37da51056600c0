"""A score in two steps: count in each image, then pool the counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from typing import Any

from numpy.typing import NDArray

Counts = NDArray[Any]


@dataclass(frozen=True)
class Score:
    """How to count images, and how to pool the counts of any number of them.

    Functions, MONAI metrics and bootstrap intervals all use it. So each pools as the challenge
    does: pixels, objects or means over slices, but never scores of images.

    Attributes:
        count: from `(prediction, truth)` to one row a slice or frame, `(N, ...)`.
        pool: from rows to the score; NaN where that is not defined.
        undefined: message if the score is not defined.
    """

    count: Callable[[Any, Any], Counts]
    pool: Callable[[Counts], float]
    undefined: str = ""

    def __call__(self, prediction: Any, truth: Any) -> float:
        """Score of one pair of arrays."""
        return self.total(self.count(prediction, truth))

    def total(self, counts: Counts) -> float:
        """Score of all counted rows.

        Raises:
            ValueError: the score is not defined for them.
        """
        score = self.pool(counts)
        if isnan(score):
            raise ValueError(self.undefined)
        return score
