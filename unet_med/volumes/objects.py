"""Classes of which instances are made, where the mask of the output does not hold them.

A bundle with a threshold tells seeds from the mask around them. Each block keeps which is which
in `OUTPUT.job/objects/`; once all are there they are numbered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.data.atomic import atomic_write
from unet_med.transforms.windowed import Box
from unet_med.volumes.blocks import Block

Array = NDArray[Any]


@dataclass(frozen=True)
class Turned:
    """An array `([Z,] Y, X)` seen as `(X, Y[, Z])`, the order in which an image is numbered."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """`(X, Y[, Z])`."""
        return tuple(self.array.shape[::-1])

    @property
    def dtype(self) -> Any:
        """Of the array."""
        return self.array.dtype

    def __getitem__(self, window: Sequence[slice]) -> Array:
        return np.asarray(self.array[tuple(window[::-1])]).T

    def __setitem__(self, window: Sequence[slice], values: Array) -> None:
        self.array[tuple(window[::-1])] = values.T


@dataclass(frozen=True)
class StoredObjects:
    """What the blocks have stored, as an array `([Z,] Y, X)` of which whole blocks can be read."""

    folder: Path
    shape: tuple[int, ...]
    blocks: Sequence[Block]
    dtype = np.dtype(np.int16)

    @cached_property
    def _by_start(self) -> dict[tuple[int, ...], Block]:
        return {tuple(part.start for part in block.slices): block for block in self.blocks}

    def __getitem__(self, window: Sequence[slice]) -> Array:
        block = self._by_start[tuple(part.start for part in window)]
        with np.load(_file(self.folder, block), allow_pickle=False) as file:
            return np.asarray(file["classes"])


def save_objects(folder: Path, block: Block, classes: Array) -> None:
    """Store the classes of a block, compressed, in one step."""
    with atomic_write(_file(folder, block)) as part:
        np.savez_compressed(part, classes=classes.astype(StoredObjects.dtype))


def box_of(block: Block, *, turned: bool = False) -> Box:
    """A block's slices as a box, from `([Z,] Y, X)` to `(X, Y[, Z])` where `turned`."""
    box = tuple((part.start, part.stop) for part in block.slices)
    return box[::-1] if turned else box


def _file(folder: Path, block: Block) -> Path:
    return folder / "objects" / ("-".join(map(str, block.index)) + ".npz")
