"""Seeds that fall into parts, block by block, as `unet_med.instances.parted` parts a whole map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.instances import as_integers, number_components
from unet_med.instances.parts import (
    at_level,
    level_count,
    whole_components,
    with_seeds,
)
from unet_med.planes import Planes
from unet_med.volumes.blocks import Block
from unet_med.volumes.components import Components, find_components
from unet_med.volumes.numbering import Load, Numbering, merge_components
from unet_med.volumes.objects import StoredObjects, save_objects

Integers = NDArray[Any]


def parted_blocks(
    classes: Any,
    blocks: Sequence[Block],
    min_part: int,
    folder: Path,
    *,
    connectivity: int,
    axes: Sequence[int] | None,
    planes: Planes,
) -> StoredObjects:
    """The map without levels, after all blocks have decided which components are seeds.

    One block is held; what comes of each is stored.

    Args:
        classes: as of `parted`; whatever has a `shape` and takes slices.
        blocks: all of them, as for `merge_components`.
        min_part: smallest part, px, over all blocks.
        folder: for what is kept of each block.
        connectivity: of the components.
        axes: see `unet_med.volumes.instances.label_blocks`.
        planes: likewise.
    """
    rules: dict[str, Any] = {"connectivity": connectivity, "axes": axes, "planes": planes}
    levels = max(level_count(as_integers(classes[block.slices])) for block in blocks)
    numberings = []
    for level in range(levels):
        for block in blocks:
            found = find_components(_Level(classes, level), block, **rules)
            found.save(_file(folder, level, block.index))
        load: Load = partial(_load, folder, level)
        numberings.append(merge_components(blocks, load, min_size=min_part))
    parents = [np.zeros(len(each.kinds), np.int64) for each in numberings]
    for block in blocks:
        values = as_integers(classes[block.slices])
        below = np.zeros(values.shape, np.int64)
        for level, labels in enumerate(_objects(values, block, numberings)):
            there = labels > 0
            parents[level][labels[there]] = below[there]
            below = labels
    seeds = whole_components(parents, [each.numbers > 0 for each in numberings])
    for block in blocks:
        values = as_integers(classes[block.slices])
        every = list(_objects(values, block, numberings))
        save_objects(folder, block, with_seeds(values, every, seeds[: len(every)]))
    return StoredObjects(folder, tuple(classes.shape), blocks)


@dataclass(frozen=True)
class _Level:
    """The classes of one level of a map."""

    classes: Any
    level: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.classes.shape)

    def __getitem__(self, window: tuple[slice, ...]) -> Integers:
        return at_level(as_integers(self.classes[window]), self.level)


def _objects(values: Integers, block: Block, numberings: Sequence[Numbering]) -> Iterator[Integers]:
    """Components of each level that a block has, by their numbers over all blocks."""
    for level, numbering in enumerate(numberings[: level_count(values)]):
        found, rules = at_level(values, level), (numbering.connectivity, numbering.axes_apart)
        yield numbering.of(block.index, number_components(found, *rules)[0])


def _load(folder: Path, level: int, index: tuple[int, ...]) -> Components:
    return Components.load(_file(folder, level, index))


def _file(folder: Path, level: int, index: tuple[int, ...]) -> Path:
    """Where the table of a level of the block at an index lies."""
    return folder / ("-".join(map(str, ("level", level, *index))) + ".npz")
