"""Instances of a volume that no machine holds: block by block, and the same as in one pass.

Three steps. `find_components` reads one block and returns a small table: its components and the
labels of its outermost voxels. `merge_components` joins what touches across faces, edges and
corners, from the tables alone. `instances_of_block` reads the block again and gives its voxels
their final numbers. The first and the last know one block each, write nothing, and return the
same for the same input: any engine can spread, repeat and resume them. No labels are kept
between the steps but those of the blocks' outermost voxels.

The result is that of `unet_med.transforms.InstancesFromLogits` on the whole volume, numbers
included: class after class, in the order of each instance's first voxel.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unet_med.data.atomic import atomic_write
from unet_med.instances import regrow
from unet_med.volumes.blocks import Block, split
from unet_med.volumes.components import Components, contacts, find_components, number_components

__all__ = [
    "Components",
    "Numbering",
    "find_components",
    "instances_of_block",
    "label_blocks",
    "merge_components",
]

Integers = NDArray[Any]
Load = Callable[[tuple[int, ...]], Components]

PART = 128  # px; side of the parts in which instances grow, to bound the memory of distances


@dataclass(frozen=True)
class Numbering:
    """The final number of every component of every block.

    Attributes:
        grid: blocks along each axis.
        starts: where each block's components begin in `numbers`, in C order, `(blocks + 1,)`.
        numbers: 1..count, or 0 for components that are dropped, `(components,)`.
        connectivity: of the components.
        grow: px by which instances grow.
    """

    grid: tuple[int, ...]
    starts: Integers
    numbers: Integers
    connectivity: int
    grow: int

    @property
    def count(self) -> int:
        """Instances of the whole volume."""
        return int(self.numbers.max(initial=0))

    def of(self, index: tuple[int, ...]) -> Integers:
        """Final number of each label 0..N of the block at `index`, `(N + 1,)`; 0 stays 0."""
        place = int(np.ravel_multi_index(index, self.grid))
        own = self.numbers[self.starts[place] : self.starts[place + 1]]
        dtype = np.int32 if self.count <= np.iinfo(np.int32).max else np.int64
        return np.concatenate([[0], own]).astype(dtype)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.npz`; half a file is never seen under its name."""
        rules = np.array([self.connectivity, self.grow])
        with atomic_write(path) as beside, beside.open("wb") as file:
            np.savez(file, grid=self.grid, starts=self.starts, numbers=self.numbers, rules=rules)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Numbering:
        """Read what `save` wrote: 8 bytes a component."""
        with np.load(path, allow_pickle=False) as archive:
            connectivity, grow = archive["rules"].tolist()
            arrays = {name: archive[name] for name in ("starts", "numbers")}
            grid = tuple(archive["grid"].tolist())
        return cls(grid, **arrays, connectivity=connectivity, grow=grow)


def merge_components(blocks: Sequence[Block], load: Load, *, min_size: int = 0) -> Numbering:
    """Step 2 of 3, once: which components of all blocks are one, and their final numbers.

    Args:
        blocks: all blocks, as `unet_med.volumes.blocks.split` returns them.
        load: table of the block at an index; each is asked for several times, and two are held
            at once.
        min_size: smallest instance kept, px, over all blocks.

    Returns:
        The numbers; memory is about 60 bytes a component and 16 a contact.

    Raises:
        ValueError: blocks are missing, their tables were made with different rules, or blocks are
            thinner than what instances grow.
    """
    grid = _grid(blocks)
    parts = [_summary(load(block.index)) for block in blocks]
    rules = {(connectivity, grow) for *_, connectivity, grow in parts}
    if len(rules) > 1:
        raise ValueError(
            f"components were found with different rules (connectivity, grow): {sorted(rules)}; "
            "find those of all blocks with one"
        )
    connectivity, grow = rules.pop()
    _check_thickness(blocks, grid, grow)
    kinds, first, size = (np.concatenate([part[k] for part in parts]) for k in range(3))
    starts = np.cumsum([0, *(len(part[0]) for part in parts)])
    numbers = _number(_join(blocks, load, starts, connectivity), kinds, first, size, min_size)
    return Numbering(grid, starts, numbers, connectivity, grow)


def instances_of_block(classes: Any, block: Block, numbering: Numbering, load: Load) -> Integers:
    """Step 3 of 3, for each block by itself: the instances of its voxels.

    Args:
        classes: what `find_components` was given; only the block is read.
        block: the block.
        numbering: what `merge_components` returned.
        load: table of the block at an index; asked for the neighbours' where instances grow.

    Returns:
        Instances of the block, 1..count over the whole volume; int32, int64 where needed.

    Raises:
        ValueError: the block holds other components than were found before.
    """
    labels, kinds = number_components(classes[block.slices], numbering.connectivity)
    numbers = numbering.of(block.index)
    if len(numbers) != len(kinds) + 1:
        raise ValueError(
            f"block {block.index} has {len(kinds)} components, and had {len(numbers) - 1} when "
            "they were found: its classes have changed; find the components anew"
        )
    instances = numbers[labels]
    if not numbering.grow:
        return instances
    padded, own = _with_neighbours(instances, block.index, numbering, load)
    return _regrown(padded, own, numbering.grow)


def label_blocks(
    classes: Any,
    out: Any,
    block: Sequence[int] | Sequence[Block],
    *,
    connectivity: int = 1,
    min_size: int = 0,
    grow: int = 0,
) -> int:
    """All three steps, one block after another; no more than a block is held.

    Args:
        classes: class of every voxel, `(*S)`, 0 is background; whatever has a `shape` and takes
            slices: an array, a memory map, a Zarr array.
        out: receives the instances; of the same shape, an integer dtype that holds their number.
        block: sides of a block, px, for a Zarr array a multiple of its shards; or all blocks, in
            C order of a whole grid.
        connectivity: 1 joins voxels that share a face, the number of axes corners too.
        min_size: smallest instance kept, px.
        grow: px by which instances grow into the background between them.

    Returns:
        Number of instances.

    Raises:
        ValueError: `out` has another shape, or its dtype does not hold the numbers.

    >>> out = np.zeros(6, np.uint8)
    >>> label_blocks(np.array([1, 1, 1, 0, 1, 1]), out, (2,))
    2
    >>> out.tolist()
    [1, 1, 1, 0, 2, 2]
    """
    if tuple(out.shape) != tuple(classes.shape):
        raise ValueError(
            f"instances of shape {tuple(out.shape)} for classes of shape {tuple(classes.shape)}: "
            "both need the same"
        )
    blocks = [part for part in block if isinstance(part, Block)]
    blocks = blocks or split(classes.shape, [side for side in block if isinstance(side, int)])
    with tempfile.TemporaryDirectory(prefix="unet-med-") as folder:

        def table(index: tuple[int, ...]) -> Path:
            return Path(folder) / ("-".join(map(str, index)) + ".npz")

        def load(index: tuple[int, ...]) -> Components:
            return Components.load(table(index))

        for part in blocks:
            found = find_components(classes, part, connectivity=connectivity, grow=grow)
            found.save(table(part.index))
        numbering = merge_components(blocks, load, min_size=min_size)
        if numbering.count > np.iinfo(out.dtype).max:
            raise ValueError(f"{numbering.count} instances do not fit into {out.dtype}: use uint32")
        for part in blocks:
            out[part.slices] = instances_of_block(classes, part, numbering, load).astype(out.dtype)
    return numbering.count


def _grid(blocks: Sequence[Block]) -> tuple[int, ...]:
    grid = tuple(place + 1 for place in blocks[-1].index)
    if [block.index for block in blocks] != list(np.ndindex(*grid)):
        raise ValueError(
            f"{len(blocks)} blocks are not a whole grid of {grid} in C order: give all that "
            "unet_med.volumes.blocks.split returned"
        )
    return grid


def _summary(part: Components) -> tuple[Integers, Integers, Integers, int, int]:
    """The table without its faces, which stay on disk."""
    return part.classes, part.first, part.size, part.connectivity, part.grow


def _check_thickness(blocks: Sequence[Block], grid: Sequence[int], grow: int) -> None:
    """What grows into a block must come from its next neighbours alone."""
    for block in blocks:
        for axis, (part, place, count) in enumerate(
            zip(block.slices, block.index, grid, strict=True)
        ):
            side = part.stop - part.start
            if place < count - 1 and side < 2 * grow:
                raise ValueError(
                    f"blocks of {side} px along axis {axis} and grow={grow}: the side must be at "
                    f"least {2 * grow} px; use larger blocks or grow={side // 2}"
                )


def _join(blocks: Sequence[Block], load: Load, starts: Integers, connectivity: int) -> Integers:
    """Instance, from 0 on and in no order, of each component of all blocks, `(components,)`."""
    grid = _grid(blocks)
    found = [np.empty((0, 2), np.int64)]
    for place, block in enumerate(blocks):
        here = load(block.index)
        for step, index in _neighbours(block.index, grid):
            if index > block.index and np.count_nonzero(step) <= connectivity:
                there = int(np.ravel_multi_index(index, grid))
                offsets = starts[[place, there]] - 1
                found.append(contacts(here, load(index), step) + offsets)
    a, b = np.concatenate(found).T
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(starts[-1],) * 2)
    return connected_components(graph, directed=False)[1]


def _neighbours(
    index: tuple[int, ...], grid: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Steps of -1, 0 or 1 an axis, and the blocks they lead to."""
    for step in product((-1, 0, 1), repeat=len(grid)):
        place = tuple(i + s for i, s in zip(index, step, strict=True))
        if any(step) and all(0 <= p < n for p, n in zip(place, grid, strict=True)):
            yield step, place


def _number(
    of: Integers, kinds: Integers, first: Integers, size: Integers, min_size: int
) -> Integers:
    """Final number of each component: instances by class, then by first voxel; 0 if too small."""
    count = int(of.max(initial=-1)) + 1
    sizes, firsts = np.zeros(count, np.int64), np.full(count, np.iinfo(np.int64).max)
    np.add.at(sizes, of, size)
    np.minimum.at(firsts, of, first)
    kind = np.zeros(count, np.int64)
    kind[of] = kinds
    kept = np.flatnonzero(sizes >= min_size)
    order = kept[np.lexsort((firsts[kept], kind[kept]))]
    numbers = np.zeros(count, np.int64)
    numbers[order] = np.arange(1, len(order) + 1)
    return numbers[of]


def _with_neighbours(
    instances: Integers, index: tuple[int, ...], numbering: Numbering, load: Load
) -> tuple[Integers, tuple[slice, ...]]:
    """The block with `2 * grow` px of its neighbours around it, and the slices of its own part."""
    slabs = {
        step: numbering.of(place)[load(place).towards([-s for s in step], 2 * numbering.grow)]
        for step, place in _neighbours(index, numbering.grid)
    }
    widths = []
    for axis in range(instances.ndim):
        straight = [tuple(side * (k == axis) for k in range(instances.ndim)) for side in (-1, 1)]
        low, high = (slabs[s].shape[axis] if s in slabs else 0 for s in straight)
        widths.append((low, high))
    padded = np.pad(instances, widths)
    for step, slab in slabs.items():
        padded[_parts(step, widths)] = slab
    return padded, _parts((0,) * instances.ndim, widths)


def _parts(step: Sequence[int], widths: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    """Where the neighbour in direction `step` lies in the padded block; its own part for 0."""
    return tuple(
        {-1: slice(0, low), 0: slice(low, -high or None), 1: slice(-high, None)}[s]
        for s, (low, high) in zip(step, widths, strict=True)
    )


def _regrown(padded: Integers, own: tuple[slice, ...], grow: int) -> Integers:
    """`regrow` within `own`, part after part: each voxel needs `2 * grow` px around it."""
    result = padded[own].copy()
    lows = [part.start for part in own]
    for part in split(result.shape, (PART,) * result.ndim):
        reads, keeps = [], []
        for piece, low in zip(part.slices, lows, strict=True):
            start = max(0, low + piece.start - 2 * grow)
            reads.append(slice(start, low + piece.stop + 2 * grow))
            keeps.append(slice(low + piece.start - start, low + piece.stop - start))
        result[part.slices] = regrow(padded[tuple(reads)], grow)[tuple(keeps)]
    return result
