"""The grid of blocks that a large volume is worked in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Block:
    """A part of the output that one task owns.

    Attributes:
        index: place in the grid of blocks, one number a spatial axis.
        slices: its own voxels in the output, one slice with start and stop a spatial axis;
            blocks never share a voxel.
    """

    index: tuple[int, ...]
    slices: tuple[slice, ...]

    @property
    def name(self) -> str:
        """Its index as messages and markers have it, such as `0.3.1`."""
        return ".".join(map(str, self.index))

    @property
    def sides(self) -> tuple[int, ...]:
        """Of its own voxels, px."""
        return tuple(part.stop - part.start for part in self.slices)


def split(shape: Sequence[int], block: Sequence[int]) -> list[Block]:
    """Blocks that together cover a volume, each voxel once.

    Args:
        shape: sides of the volume, spatial axes only, px.
        block: sides of a block, px; blocks at the far ends are cut to the volume.

    Returns:
        Blocks in C order of their index.

    Raises:
        ValueError: a side is less than 1, or there are not as many as axes.

    >>> [b.slices for b in split((5,), (3,))]
    [(slice(0, 3, None),), (slice(3, 5, None),)]
    """
    if len(shape) != len(block) or min((*shape, *block), default=0) < 1:
        raise ValueError(
            f"blocks of {tuple(block)} px do not split a volume of {tuple(shape)} px: "
            f"give one side of at least 1 px an axis"
        )
    axes = [
        [slice(start, min(start + side, length)) for start in range(0, length, side)]
        for length, side in zip(shape, block, strict=True)
    ]
    return [
        Block(
            index=tuple(place for place, _ in parts),
            slices=tuple(part for _, part in parts),
        )
        for parts in product(*(enumerate(parts) for parts in axes))
    ]
