"""Flips and quarter turns over which a prediction is averaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import torch
from torch import Tensor

from unet_med.inferers.pixels import Box

T = TypeVar("T")
KINDS = (None, "flips", "rotations")


@dataclass(frozen=True)
class View:
    """Quarter turns in the plane of the first two spatial axes, then flips.

    Attributes:
        turns: quarter turns, 0 to 3.
        flips: tensor axes that are flipped afterwards, counted with batch and channel.
    """

    turns: int = 0
    flips: tuple[int, ...] = ()

    def apply(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` seen this way."""
        x = torch.rot90(x, self.turns, (2, 3)) if self.turns else x
        return x.flip(self.flips) if self.flips else x

    def undo(self, x: Tensor) -> Tensor:
        """The inverse of `apply`."""
        x = x.flip(self.flips) if self.flips else x
        return torch.rot90(x, -self.turns, (2, 3)) if self.turns else x

    def shape(self, shape: Sequence[T]) -> tuple[T, ...]:
        """Spatial sides of an image of `shape` seen this way."""
        return (shape[1], shape[0], *shape[2:]) if self.turns % 2 else tuple(shape)

    def keeps(self, axis: int) -> bool:
        """Whether a spatial axis, from 0 on, stays where it is and runs the same way."""
        half = tuple((1, 2) if k == axis else (0, 2) for k in range(3))  # of a cube of 2 px
        return self.find(half, (2, 2, 2)) == half

    def find(self, box: Box, shape: Sequence[int]) -> Box:
        """Where a part of an image of `shape` lies in the image seen this way."""
        box = _turn(box, shape, self.turns)
        return _flip(box, self.shape(shape), self.flips)

    def find_back(self, box: Box, shape: Sequence[int]) -> Box:
        """Where a part of the image seen this way lies in the image of `shape`."""
        box = _flip(box, self.shape(shape), self.flips)
        return _turn(box, self.shape(shape), -self.turns % 4)


def _flip(box: Box, shape: Sequence[int], axes: Sequence[int]) -> Box:
    """A part of an image after flips of tensor axes."""
    return tuple(
        (length - stop, length - start) if axis in axes else (start, stop)
        for axis, ((start, stop), length) in enumerate(zip(box, shape, strict=True), start=2)
    )


def _turn(box: Box, shape: Sequence[int], turns: int) -> Box:
    """A part of an image after `torch.rot90`: a quarter turn flips axis 1, then swaps 0 and 1."""
    for _ in range(turns):
        first, second, *rest = _flip(box, shape, (3,))
        box = (second, first, *rest)
        shape = (shape[1], shape[0], *shape[2:])
    return box


def require_axes(mirror_axes: Iterable[int] | None) -> None:
    """Refuse axes that no image has: none would be mirrored, or others than were meant.

    Raises:
        ValueError: one is none of 0, 1 and 2.
    """
    axes = [] if mirror_axes is None else [int(axis) for axis in mirror_axes]
    if wrong := [axis for axis in axes if axis not in range(3)]:
        raise ValueError(
            f"mirror_axes {axes}: {wrong[0]} is no spatial axis; these are 0, 1 and, of volumes, 2"
        )


def views(
    kind: str | None, spatial_dims: int, mirror_axes: Sequence[int] | None = None
) -> list[View]:
    """The ways of looking at an image that test-time averaging uses, the plain one first.

    Args:
        kind: None for the image as it is; ``"flips"`` for all flips of the axes (4 in 2-D, 8
            in 3-D), what the 2015 release calls ``average_mirror``; ``"rotations"`` for the
            dihedral group of the plane of the first two axes, 8 elements, times the flip of
            the third axis in 3-D, 16: slices are often thicker than pixels, so no turn
            leaves the plane. The paper averages "7 rotated versions" (section 4, of the EM
            data) without saying which 7; the whole group has no odd one out.
        spatial_dims: 2 or 3.
        mirror_axes: spatial axes, from 0 on, that may be mirrored or turned away; None: all. A
            view that moves or flips another one is left out: in it left would be right.

    Returns:
        Views without repetition.
    """
    kept = range(spatial_dims) if mirror_axes is None else mirror_axes
    fixed = [axis for axis in range(spatial_dims) if axis not in kept]
    axes = range(2, 2 + spatial_dims)
    if kind == "flips":
        flipped, turns = axes, range(1)
    elif kind == "rotations":
        flipped, turns = range(2, 2 + spatial_dims, 2), range(4)  # axis 2, and axis 4 in 3-D
    else:
        flipped, turns = range(0), range(1)
    choices = product(*((False, True) for _ in flipped))
    subsets = [tuple(a for a, chosen in zip(flipped, c, strict=True) if chosen) for c in choices]
    found = [View(turn, flips) for flips in subsets for turn in turns]
    return [view for view in found if all(view.keeps(axis) for axis in fixed)]
