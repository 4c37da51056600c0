"""Tiles of a training that are drawn around pixels of rare values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unet_med.data.entries import PLACES

_STREAM = 2  # of random numbers, apart from those of the images' order and of transforms


@dataclass(frozen=True)
class RareTile:
    """A tile around a pixel of a rare value.

    Attributes:
        index: of the image.
        value: of the pixel.
        position: of the pixel among those of its value, 0 to 1.
    """

    index: int
    value: int
    position: float

    def pixel(self, places: torch.Tensor) -> int:
        """Number of the pixel, counted in the order of the image's axes.

        Args:
            places: of the image, `(2, N)`.
        """
        own = places[1][places[0] == self.value]
        return int(own[int(self.position * len(own))])


class RareTiles:
    """Which tiles are drawn around rare pixels: a share of all, each rare value in as many.

    They depend on seed, epoch and position alone. A value is drawn among those that there are, then
    one of the images that hold it, then one of its pixels there.

    Args:
        items: images with `PLACES`, as `unet_med.transforms.RarePlacesd` notes them.
        parts: of the images; a tile stays within the part whose turn it is.
        share: of the tiles, 0 to 1.
        seed: of all draws.
    """

    def __init__(
        self,
        items: Iterable[Mapping[str, Any]],
        parts: Sequence[range],
        share: float,
        seed: int,
    ) -> None:
        self.share = share
        self.seed = seed
        self._holding: list[dict[int, list[int]]] = [{} for _ in parts]  # images by value
        for index, item in enumerate(items):
            number = next(k for k, part in enumerate(parts) if index in part)
            for value in item[PLACES][0].unique().tolist():
                self._holding[number].setdefault(value, []).append(index)

    def draw(self, epoch: int, k: int, part: int) -> RareTile | None:
        """Tile `k` of an epoch; None: one like any other."""
        holding = self._holding[part]
        random = np.random.default_rng((self.seed, epoch, k, _STREAM))
        if random.random() >= self.share or not holding:
            return None
        value = sorted(holding)[int(random.integers(len(holding)))]
        images = holding[value]
        return RareTile(images[int(random.integers(len(images)))], value, random.random())
