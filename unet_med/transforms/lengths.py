"""Lengths in pixels of one grid, in pixels of another: by affines, along each axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def pixels_along(grid: torch.Tensor, other: torch.Tensor, dims: int) -> list[float]:
    """How many pixels of the affine `other` one of the affine `grid` is long.

    Returns:
        One number for each of the first `dims` axes of `other`, along which those of `grid` run in
        any order.
    """
    found: list[float] = _steps(grid, other).amax(dim=1).tolist()
    return found[:dims]


def axes_in(
    grid: torch.Tensor, other: torch.Tensor, axes: Sequence[int] | None
) -> list[int] | None:
    """The axes of the affine `other` along which these of the affine `grid` run; None: all."""
    if axes is None:
        return None
    ways = _steps(grid, other).argmax(dim=0).tolist()
    return [ways[axis] for axis in axes if axis < len(ways)]


def _steps(grid: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Pixels along the axes of the affine `other` (rows) of a step along those of `grid`."""
    one, two = (affine[:-1, :-1].double() for affine in (grid, other))
    return torch.linalg.solve(two, one).abs()


def scaled_along(px: int | Sequence[int], own: Sequence[int], ratios: Sequence[float]) -> list[int]:
    """A length along each axis of an image, of one along the network's axes, which are `own`."""
    numbers = px if isinstance(px, Sequence) else [px] * len(own)
    found = [0] * len(ratios)
    for axis, number in zip(own, numbers, strict=False):  # a plane has fewer than the network
        found[axis] = scaled(number, ratios[axis])
    return found


def scaled(size: int, factor: float) -> int:
    """The nearest size, and no less than 1 px of what is more than none."""
    return max(round(round(size * factor, 6)), min(size, 1))  # affines differ in their last digits
