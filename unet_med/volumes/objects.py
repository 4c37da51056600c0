"""Classes of which instances are made, where the mask of the output does not hold them.

Instances are found where the network works: on pixels of its own size, and above the bundle's
threshold. Each block keeps the classes of its part of that grid in `OUTPUT.job/objects/`; once
all are there they are numbered, and the numbers brought back to the output's grid.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unet_med.data.atomic import atomic_write
from unet_med.data.zarr_reader import import_zarr
from unet_med.segmentation import Volume
from unet_med.transforms.windowed import Box
from unet_med.volumes.blocks import Block

__all__ = ["StoredObjects", "Turned", "box_of", "save_objects", "scratch_labels", "working_blocks"]

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
    """What the blocks have stored, as an array `(X, Y[, Z])` of which whole blocks can be read."""

    folder: Path
    shape: tuple[int, ...]
    blocks: Sequence[Block]

    def __getitem__(self, window: Sequence[slice]) -> Array:
        block = next(block for block in self.blocks if block.slices == tuple(window))
        with np.load(_file(self.folder, block), allow_pickle=False) as file:
            return np.asarray(file["classes"])


def save_objects(folder: Path, block: Block, classes: Array) -> None:
    """Store the classes of a block, compressed, in one step."""
    content = io.BytesIO()
    np.savez_compressed(content, classes=classes.astype(np.uint8 if classes.max() < 256 else int))
    with atomic_write(_file(folder, block)) as part:
        part.write_bytes(content.getvalue())


def working_blocks(volume: Volume, blocks: Sequence[Block]) -> dict[tuple[int, ...], Block]:
    """The blocks in the grid on which instances are found: each pixel of it in one.

    Args:
        volume: the volume.
        blocks: of the output, `([Z,] Y, X)`, a whole grid.

    Returns:
        By index of the output's block its part `(X, Y[, Z])` of that grid.

    Raises:
        ValueError: a block holds no pixel of the working grid.
    """
    parts: list[list[tuple[int, int]]] = [[] for _ in volume.own.shape]
    own_axes = [(axis, volume.working_axis(axis)) for axis in range(len(volume.own.shape))]
    turned = set()
    for axis, way in own_axes:
        starts = {b.index[-1 - axis]: b.slices[-1 - axis].start for b in blocks}
        edges = [starts[k] for k in sorted(starts)] + [volume.own.shape[axis]]
        places = volume.working_edges(axis, edges)
        if places[0] > places[-1]:
            turned.add(axis)
            places = places[::-1]
        if any(a >= b for a, b in pairwise(places)):
            raise ValueError(
                f"blocks of {edges[1]} px hold no whole pixel of the size that the network "
                f"works on: use larger blocks"
            )
        parts[way] = list(pairwise(places))
    found = {}
    for index in product(*(range(len(part)) for part in parts)):
        own = [
            len(parts[way]) - 1 - index[way] if axis in turned else index[way]
            for axis, way in own_axes
        ]
        slices = tuple(slice(*part[place]) for part, place in zip(parts, index, strict=True))
        found[tuple(own[::-1])] = Block(index, slices)
    return found


def box_of(block: Block, *, turned: bool = False) -> Box:
    """A block's slices as a box, from `([Z,] Y, X)` to `(X, Y[, Z])` where `turned`."""
    box = tuple((part.start, part.stop) for part in block.slices)
    return box[::-1] if turned else box


@contextmanager
def scratch_labels(folder: Path, shape: Sequence[int]) -> Iterator[Any]:
    """An array of labels on disk, `(X, Y[, Z])`, that goes when it has been brought back."""
    with TemporaryDirectory(dir=folder, prefix=".labels.") as scratch:
        side = 2048 if len(shape) < 3 else 128
        yield import_zarr().create_array(
            Path(scratch) / "labels.zarr",
            shape=tuple(shape),
            chunks=tuple(min(side, length) for length in shape),
            dtype="int32",
            fill_value=0,
        )


def labels_reader(labels: Any) -> Any:
    """Reads a box of labels as transforms want it, `(1, *sides)`."""

    def read(box: Box) -> torch.Tensor:
        return torch.from_numpy(np.asarray(labels[tuple(slice(*side) for side in box)]))[None]

    return read


def _file(folder: Path, block: Block) -> Path:
    return folder / "objects" / ("-".join(map(str, block.index)) + ".npz")
