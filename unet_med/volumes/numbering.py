"""Which components of all blocks are one object, and the numbers of the objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unet_med.volumes.blocks import Block
from unet_med.volumes.components import Components, around, contacts, require_thickness

Integers = NDArray[Any]
Load = Callable[[tuple[int, ...]], Components]


@dataclass(frozen=True)
class Numbering:
    """The object of every component of every block, and the final number of every object.

    Attributes:
        grid: blocks along each axis.
        starts: where each block's components begin in `objects`, in C order, `(blocks + 1,)`.
        objects: 1..M, those that are dropped too, `(components,)`.
        kinds: class of each object, `(M + 1,)`; 0 is background.
        numbers: 1..count, or 0 for objects that are dropped, `(M + 1,)`.
        connectivity: of the components.
        grow: px by which instances grow along each axis.
        reach: px that objects take of the mask around them, along each axis.
        apart: of each axis, whether nothing is joined across it.
    """

    grid: tuple[int, ...]
    starts: Integers
    objects: Integers
    kinds: Integers
    numbers: Integers
    connectivity: int
    grow: tuple[int, ...]
    reach: tuple[int, ...]
    apart: tuple[bool, ...]

    @property
    def axes_apart(self) -> tuple[int, ...]:
        """Axes across which nothing is joined."""
        return tuple(axis for axis, apart in enumerate(self.apart) if apart)

    @property
    def count(self) -> int:
        """Instances of the whole volume."""
        return int(self.numbers.max(initial=0))

    def of(self, index: tuple[int, ...], labels: Integers) -> Integers:
        """Objects of labels 0..N of the block at `index`; what is below 0 stays."""
        place = int(np.ravel_multi_index(index, self.grid))
        own = np.append(0, self.objects[self.starts[place] : self.starts[place + 1]])
        dtype = np.int32 if len(self.numbers) <= np.iinfo(np.int32).max else np.int64
        found = own.astype(dtype)[np.maximum(labels, 0)]
        return np.where(labels < 0, labels, found).astype(dtype) if any(self.reach) else found

    def without_small(self, sizes: Integers, min_size: int) -> Numbering:
        """The same objects, numbered without those smaller than `min_size` px.

        Args:
            sizes: of the objects, `(M + 1,)`: what `sizes_of_block` counts, over all blocks.
            min_size: smallest instance kept, px.
        """
        kept = sizes >= min_size
        kept[:1] = False  # background
        return replace(self, numbers=np.cumsum(kept) * kept)


def merge_components(blocks: Sequence[Block], load: Load, *, min_size: int = 0) -> Numbering:
    """Step 2 of 3, once: which components of all blocks are one, and their final numbers.

    Args:
        blocks: all blocks, as `unet_med.volumes.blocks.split` returns them.
        load: table of the block at an index; each is asked for several times, and two are held
            at once.
        min_size: smallest instance kept, px, over all blocks; what objects take of the mask
            around them does not count yet: see `sizes_of_block`.

    Returns:
        The numbers; memory is about 60 bytes a component and 16 a contact.

    Raises:
        ValueError: blocks are missing, their tables were made with different rules, or blocks are
            thinner than what instances grow.
    """
    grid = _grid(blocks)
    parts = [_summary(load(block.index)) for block in blocks]
    found = {part[3] for part in parts}
    if len(found) > 1:
        raise ValueError(
            f"components were found with different rules (connectivity, grow, reach, apart): "
            f"{sorted(found)}; find those of all blocks with one"
        )
    rules = connectivity, grow, reach, apart = found.pop()
    ends = [part.stop for part in blocks[-1].slices]
    require_thickness(blocks[0].sides, ends, around(grow, reach))
    kinds, first, size = (np.concatenate([part[k] for part in parts]) for k in range(3))
    starts = np.cumsum([0, *(len(part[0]) for part in parts)])
    joined = _join(blocks, load, starts, connectivity, apart)
    objects, kinds, sizes = _in_order(joined, kinds, first, size)
    every = np.arange(len(kinds))
    return Numbering(grid, starts, objects, kinds, every, *rules).without_small(sizes, min_size)


def neighbours(
    index: tuple[int, ...], grid: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Steps of -1, 0 or 1 an axis, and the blocks they lead to."""
    for step in product((-1, 0, 1), repeat=len(grid)):
        place = tuple(i + s for i, s in zip(index, step, strict=True))
        if any(step) and all(0 <= p < n for p, n in zip(place, grid, strict=True)):
            yield step, place


def _grid(blocks: Sequence[Block]) -> tuple[int, ...]:
    grid = tuple(place + 1 for place in blocks[-1].index)
    if [block.index for block in blocks] != list(np.ndindex(*grid)):
        raise ValueError(
            f"{len(blocks)} blocks are not a whole grid of {grid} in C order: give all that "
            "unet_med.volumes.blocks.split returned"
        )
    return grid


def _summary(part: Components) -> tuple[Integers, Integers, Integers, tuple[Any, ...]]:
    """The table without its faces, which stay on disk."""
    return part.classes, part.first, part.size, part.rules


def _join(
    blocks: Sequence[Block],
    load: Load,
    starts: Integers,
    connectivity: int,
    apart: Sequence[bool],
) -> Integers:
    """Instance, from 0 on and in no order, of each component of all blocks, `(components,)`."""
    grid = _grid(blocks)
    found = [np.empty((0, 2), np.int64)]
    for place, block in enumerate(blocks):
        here = load(block.index)
        for step, index in neighbours(block.index, grid):
            across = any(s and wall for s, wall in zip(step, apart, strict=True))
            if index > block.index and np.count_nonzero(step) <= connectivity and not across:
                there = int(np.ravel_multi_index(index, grid))
                offsets = starts[[place, there]] - 1
                found.append(contacts(here, load(index), step) + offsets)
    a, b = np.concatenate(found).T
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(starts[-1],) * 2)
    return connected_components(graph, directed=False)[1]


def _in_order(
    of: Integers, kinds: Integers, first: Integers, size: Integers
) -> tuple[Integers, Integers, Integers]:
    """Objects 1..M by class, then by first voxel: of each component, their class, their size."""
    count = int(of.max(initial=-1)) + 1
    sizes, firsts = np.zeros(count, np.int64), np.full(count, np.iinfo(np.int64).max)
    np.add.at(sizes, of, size)
    np.minimum.at(firsts, of, first)
    kind = np.zeros(count, np.int64)
    kind[of] = kinds
    order = np.lexsort((firsts, kind))
    objects = np.zeros(count, np.int64)
    objects[order] = np.arange(1, count + 1)
    return objects[of], np.append(0, kind[order]), np.append(0, sizes[order])
