"""Pixels of images that need not be in memory as a whole, and the mirror that stands around them.

This is the one place of inference where an image ends: a network's window that reaches beyond
the image is filled here, whether the image is a tensor or lies on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unet_med.geometry import mirror_index

Box = tuple[tuple[int, int], ...]  # (start, stop) px a spatial axis; may reach beyond the image
Read = Callable[[Box], Tensor]  # a box inside the image -> its pixels, (B, C, *sides)
Border = Callable[
    [int, int], int
]  # position i, side of the image, px -> the pixel that stands at i

BORDERS: dict[str, Border] = {
    "reflect": mirror_index,
    "replicate": lambda i, length: min(max(i, 0), length - 1),
}


@dataclass(frozen=True)
class Pixels:
    """The part of some images of one shape that is in memory.

    Attributes:
        values: ``(B, C, *sides)``.
        start: where they begin in the images, px.
        shape: sides of the whole images, px.
        borders: what stands beyond the images, of each axis.
        first: where the box begins that they fill, px; it may reach beyond the images.
        places: which of the values stands at each place of the box, an axis.
    """

    values: Tensor
    start: tuple[int, ...]
    shape: tuple[int, ...]
    borders: tuple[Border, ...]
    first: tuple[int, ...]
    places: tuple[Tensor, ...]

    @classmethod
    def load(
        cls, read: Read, shape: Sequence[int], box: Box, border: Border | Sequence[Border]
    ) -> Pixels:
        """Read what shows in a box that may reach beyond the images, once."""
        borders = (border,) * len(shape) if callable(border) else tuple(border)
        inside, places = [], []
        for (start, stop), length, beyond in zip(box, shape, borders, strict=True):
            shown = [beyond(i, length) for i in range(start, stop)]
            inside.append((min(shown), max(shown) + 1))
            places.append(torch.tensor(shown) - min(shown))
        values = read(tuple(inside))
        there = tuple(each.to(values.device) for each in places)  # once, not for every window
        starts = tuple(start for start, _ in inside)
        return cls(values, starts, tuple(shape), borders, tuple(start for start, _ in box), there)

    def window(self, item: int, box: Box) -> Tensor:
        """A window of one image, ``(C, *sides)``; a view where it lies inside the image.

        Args:
            item: which image.
            box: the window, px of the whole image; only it is gathered.
        """
        window, beyond = self.values[item], []
        for axis, ((start, stop), length) in enumerate(zip(box, self.shape, strict=True)):
            if start >= 0 and stop <= length:
                window = window.narrow(axis + 1, start - self.start[axis], stop - start)
            else:
                beyond.append((axis, self._places(axis, start, stop)))
        for axis, places in beyond:
            window = window.index_select(axis + 1, places)
        return window

    def _places(self, axis: int, start: int, stop: int) -> Tensor:
        """Which of the values stands at each place from `start` to `stop`, px of the image."""
        first, known = self.first[axis], self.places[axis]
        if first <= start and stop <= first + len(known):
            return known[start - first : stop - first]
        # A tile of a given size may be larger than what its part of the image needs.
        border, length = self.borders[axis], self.shape[axis]
        index = [border(i, length) - self.start[axis] for i in range(start, stop)]
        return torch.tensor(index, device=known.device)


def in_memory(images: Tensor) -> Read:
    """Reads boxes of images ``(B, C, *S)``, without a copy."""

    def read(box: Box) -> Tensor:
        index: tuple[Any, ...] = (..., *(slice(*side) for side in box))
        return images[index]

    return read


def enlarged(border: Border, least: int) -> Border:
    """The border of images whose short axes are first mirrored up to `least` px."""
    return lambda i, length: mirror_index(border(i, max(length, least)), length)
