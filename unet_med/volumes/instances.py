"""Instances of a volume that no machine holds: block by block, and the same as in one pass.

Three steps. `find_components` reads one block and returns a small table: its components and the
labels of its outermost voxels. `merge_components` joins what touches across faces, edges and
corners, from the tables alone. `instances_of_block` reads the block again and gives its voxels
their final numbers. Where seeds take a mask around them and small objects go, a step before the
last counts what they have taken: `sizes_of_block`, block by block. All but the second know one
block each, write nothing, and return the same for the same input: any engine can spread, repeat
and resume them. No labels are kept between the steps but those of the blocks' outermost voxels.

The result is that of `unet_med.transforms.InstancesFromLogits` on the whole volume, numbers
included: class after class, in the order of each instance's first voxel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.geometry.plain import whole
from unet_med.instances import (
    along_axes,
    as_integers,
    number_components,
    regrow,
    spread,
)
from unet_med.planes import JOINED, Planes
from unet_med.volumes.blocks import Block, split
from unet_med.volumes.components import Components, around, find_components, with_takeable
from unet_med.volumes.numbering import Load, Numbering, merge_components, neighbours
from unet_med.volumes.parts import parted_blocks

Integers = NDArray[Any]

PART = 128  # px; side of the parts in which instances grow, to bound the memory of distances


def sizes_of_block(
    classes: Any, block: Block, numbering: Numbering, load: Load
) -> tuple[Integers, Integers]:
    """Objects in a block, and what each has there, px, with what it takes of the mask.

    Args:
        classes: what `find_components` was given; only the block is read.
        block: the block.
        numbering: what `merge_components` returned.
        load: table of the block at an index; asked for the neighbours'.

    Returns:
        The objects, each once, and 0 for the background; and their pixels, as many.

    Raises:
        ValueError: see `instances_of_block`.
    """
    found = [
        np.unique(_owned(part, numbering)[part.keeps], return_counts=True)
        for part in _parts_of(classes, block, numbering, load, numbering.reach)
    ]
    numbers, counts = (np.concatenate(each) for each in zip(*found, strict=True))
    objects, places = np.unique(numbers, return_inverse=True)
    sizes = np.zeros(len(objects), np.int64)
    np.add.at(sizes, places, counts)
    return objects, sizes


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
    dtype = np.int32 if numbering.count <= np.iinfo(np.int32).max else np.int64
    result = np.zeros(block.sides, dtype)
    margins = around(numbering.grow, numbering.reach)
    for part in _parts_of(classes, block, numbering, load, margins):
        found = numbering.numbers[_owned(part, numbering)].astype(dtype)
        result[part.place] = regrow(found, numbering.grow)[part.keeps]
    return result


def label_blocks(
    classes: Any,
    out: Any,
    block: Sequence[int] | Sequence[Block],
    *,
    connectivity: int = 1,
    min_size: int = 0,
    min_part: int = 0,
    grow: int | Sequence[int] = 0,
    reach: int | Sequence[int] = 0,
    axes: Sequence[int] | None = None,
    planes: Planes = JOINED,
    tables: str | Path | None = None,
) -> int:
    """All three steps, one block after another; no more than a block is held.

    Args:
        classes: class of every voxel, `(*S)`, 0 is background, -k what objects of class k may
            take; whatever has a `shape` and takes slices: an array, a memory map, a Zarr array.
        out: receives the instances; of the same shape, an integer dtype that holds their number.
        block: sides of a block, px, for a Zarr array a multiple of its shards; or all blocks, in
            C order of a whole grid.
        connectivity: 1 joins voxels that share a face, the number of axes corners too.
        min_size: smallest instance kept, px.
        min_part: smallest part that a seed falls into, px, of classes with levels
            (`unet_med.instances.parted`); 0: classes have none.
        grow: px by which instances grow into the background between them; one, or one an axis.
        reach: px that objects take of the voxels below 0; likewise.
        axes: along which one number of either holds; None: all.
        planes: `"apart"`: across the other axes nothing is joined.
        tables: folder with room for what is kept of each block meanwhile; None: that of the system
            for such files, which may be memory.

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
    blocks = blocks or split(classes.shape, [whole("a block side", side) for side in block])
    walks = any(along_axes(reach, len(classes.shape), axes))
    with tempfile.TemporaryDirectory(prefix=".unet-med-", dir=tables) as folder:
        kept = _Tables(Path(folder))
        rules: dict[str, Any] = {"connectivity": connectivity, "axes": axes, "planes": planes}
        if min_part:
            classes = parted_blocks(classes, blocks, min_part, Path(folder), **rules)
        for part in blocks:
            here = find_components(classes, part, grow=grow, reach=reach, **rules)
            here.save(kept.file(part.index))
        load = kept.load
        numbering = merge_components(blocks, load, min_size=0 if walks else min_size)
        if walks and min_size:
            sizes = _sizes(classes, blocks, numbering, load)
            numbering = numbering.without_small(sizes, min_size)
        if numbering.count > np.iinfo(out.dtype).max:
            raise ValueError(f"{numbering.count} instances do not fit into {out.dtype}: use uint32")
        for part in blocks:
            out[part.slices] = instances_of_block(classes, part, numbering, load).astype(out.dtype)
    return numbering.count


@dataclass(frozen=True)
class _Tables:
    """What is kept of each block, in a folder."""

    folder: Path

    def file(self, index: tuple[int, ...]) -> Path:
        """Where the table of the block at an index lies."""
        return self.folder / ("-".join(map(str, index)) + ".npz")

    def load(self, index: tuple[int, ...]) -> Components:
        return Components.load(self.file(index))


def _sizes(classes: Any, blocks: Sequence[Block], numbering: Numbering, load: Load) -> Integers:
    """Pixels of each object over all blocks, `(M + 1,)`, with what it takes of the mask."""
    sizes = np.zeros(len(numbering.numbers), np.int64)
    for part in blocks:
        objects, found = sizes_of_block(classes, part, numbering, load)
        sizes[objects] += found
    return sizes


@dataclass(frozen=True)
class _Part:
    """A piece of a block, small enough that what is done to it needs little memory.

    Attributes:
        place: of it, in the block.
        values: objects of it and of what lies around it; below 0 what they may take.
        keeps: where it lies in `values`.
    """

    place: tuple[slice, ...]
    values: Integers
    keeps: tuple[slice, ...]


def _owned(part: _Part, numbering: Numbering) -> Integers:
    """The objects of a part after they have taken what they reach."""
    return spread(part.values, numbering.kinds, numbering.reach)


def _parts_of(
    classes: Any, block: Block, numbering: Numbering, load: Load, margins: Sequence[int]
) -> Iterator[_Part]:
    """The objects of a block, piece after piece, with `margins` px around each along each axis."""
    values = as_integers(classes[block.slices])
    labels, kinds = number_components(values, numbering.connectivity, numbering.axes_apart)
    place = int(np.ravel_multi_index(block.index, numbering.grid))
    had = int(numbering.starts[place + 1] - numbering.starts[place])
    if had != len(kinds):
        raise ValueError(
            f"block {block.index} has {len(kinds)} components, and had {had} when "
            "they were found: its classes have changed; find the components anew"
        )
    objects = numbering.of(block.index, with_takeable(labels, values))
    padded, own = _with_neighbours(objects, block.index, numbering, load, margins)
    for piece in split(objects.shape, (PART,) * objects.ndim):
        reads, keeps = [], []
        for side, mine, px in zip(piece.slices, own, margins, strict=True):
            start = max(0, mine.start + side.start - px)
            reads.append(slice(start, mine.start + side.stop + px))
            keeps.append(slice(mine.start + side.start - start, mine.start + side.stop - start))
        yield _Part(piece.slices, padded[tuple(reads)], tuple(keeps))


def _with_neighbours(
    objects: Integers,
    index: tuple[int, ...],
    numbering: Numbering,
    load: Load,
    margins: Sequence[int],
) -> tuple[Integers, tuple[slice, ...]]:
    """The block with `margins` px of its neighbours around it, and the slices of its own part."""
    slabs = {}
    for step, place in neighbours(index, numbering.grid):
        if all(px for s, px in zip(step, margins, strict=True) if s):
            slabs[step] = numbering.of(place, load(place).towards([-s for s in step], margins))
    widths = []
    for axis in range(objects.ndim):
        straight = [tuple(side * (k == axis) for k in range(objects.ndim)) for side in (-1, 1)]
        low, high = (slabs[s].shape[axis] if s in slabs else 0 for s in straight)
        widths.append((low, high))
    padded = np.pad(objects, widths)
    for step, slab in slabs.items():
        padded[_sides(step, widths)] = slab
    own = zip(widths, objects.shape, strict=True)
    return padded, tuple(slice(low, low + side) for (low, _), side in own)


def _sides(step: Sequence[int], widths: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    """Where the neighbour in direction `step` lies in the padded block."""
    return tuple(
        {-1: slice(0, low), 0: slice(low, -high or None), 1: slice(-high, None)}[s]
        for s, (low, high) in zip(step, widths, strict=True)
    )
