"""How far the views of an image agree on it: those of test-time averaging, of each network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_MOST = torch.iinfo(torch.uint8).max


class Votes:
    """Counts for each pixel how many views take it for which class; a byte a class and pixel.

    A view is what one network says of the image seen one way. More than 255 take two bytes.
    """

    def __init__(self) -> None:
        self.views = 0
        self._counts: Tensor | None = None

    def add(self, logits: Tensor) -> None:
        """Count a view, `(B, K, *S)`."""
        kind = logits.detach().argmax(dim=1, keepdim=True)
        if self._counts is None:
            self._counts = torch.zeros_like(logits, dtype=torch.uint8)
        elif self.views == _MOST:
            self._counts = self._counts.to(torch.int16)
        self._counts.scatter_add_(1, kind, torch.ones_like(kind, dtype=self._counts.dtype))
        self.views += 1

    def overlap(self, logits: Tensor, part: Sequence[slice] = ()) -> Tensor:
        """Terms of the Dice between the views' objects and those of their mean, summed over views.

        Args:
            logits: of the mean, `(B, K, *S)`.
            part: the pixels that count, a slice a spatial axis; none: all.

        Returns:
            Twice the pixels in both, and those of the one plus those of the other, `(B, 2)`.
        """
        assert self._counts is not None
        index: tuple[Any, ...] = (..., *part)
        logits, counts = logits[index], self._counts[index]
        kind = logits.detach().argmax(dim=1, keepdim=True)
        found = kind > 0
        both = 2 * (counts.gather(1, kind) * found).flatten(1).sum(1)
        votes = counts[:, 1:].flatten(1).sum(1)
        return torch.stack([both, votes + self.views * found.flatten(1).sum(1)], dim=1)


def agreement(terms: Tensor, images: int) -> Tensor:
    """Dice of each image, `(B,)`, by terms of its planes or parts `(B * Z, 2)`.

    NaN: nothing is found.
    """
    summed = terms.reshape(images, -1, 2).sum(dim=1).to(torch.float64)
    return summed[:, 0] / summed[:, 1]
