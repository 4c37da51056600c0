"""Overlap of a proposed and a true segmentation: Rand and information scores of one slice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_med.metrics.contingency import contingency_table

Segments = NDArray[np.int32]


class Overlap(NamedTuple):
    """Overlaps of truth and proposal on the pixels of true interior, and their two scores.

    Proposal pixels that are background count as segments of one pixel each.

    Attributes:
        pixels: number n of pixels of true interior.
        pairs: pixels a true and a proposed segment share, one number a pair.
        truth: sizes of the true segments.
        proposal: sizes of the proposed segments, on true interior.
        background: pixels of true interior that belong to no proposed segment.
    """

    pixels: int
    pairs: NDArray[np.int64]
    truth: NDArray[np.int64]
    proposal: NDArray[np.int64]
    background: int

    @classmethod
    def of(cls, truth: Segments, proposal: Segments) -> Overlap:
        """Count one slice; segments 1..N, 0 is background or line."""
        interior = truth > 0
        table = contingency_table(truth[interior], proposal[interior])
        background = table[:, [0]].sum()
        proposed = table[:, 1:]
        return cls(
            int(table.sum()),
            proposed.data,
            table.sum(axis=1),
            proposed.sum(axis=0),
            int(background),
        )

    def squares(self) -> tuple[int, int]:
        """`n^2 S_AB` and `n^2 (S_A + S_B)`, whole numbers."""
        pairs, truth, proposal = (int((c * c).sum()) for c in self[1:4])
        return pairs + self.background, truth + proposal + self.background

    def v_rand(self) -> float:
        """`2 S_AB / (S_A + S_B)`; 0 without true interior."""
        both, each = self.squares()
        return 2 * both / each if self.pixels else 0.0

    def v_info(self) -> float:
        """`2 I(A; B) / (H(A) + H(B))`; 0 where one side has a single segment, or none."""
        single = self.background * np.log(max(self.pixels, 1)) / max(self.pixels, 1)
        truth = _entropy(self.truth, self.pixels)
        proposal = _entropy(self.proposal, self.pixels) + single
        joint = _entropy(self.pairs, self.pixels) + single
        if truth == 0 or proposal == 0:
            return 0.0
        return 2 * (truth + proposal - joint) / (truth + proposal)


def _entropy(counts: NDArray[np.int64], total: int) -> float:
    """`-sum p ln p` of `p = counts / total`, absent ones left out."""
    p = counts[counts > 0] / total
    return -float((p * np.log(p)).sum()) + 0.0  # no negative zero
