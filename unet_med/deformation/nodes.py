"""Displacement vectors at the nodes of a coarse grid, and from them one for every pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, Protocol

import torch

from unet_med.geometry import per_axis
from unet_med.geometry.plain import plain
from unet_med.precision import without_autocast

Kernel = Literal["bicubic", "bspline"]

# Nodes beyond the tile, on each side. The 2015-19 code draws them as well; the
# interpolating kernel repeats its outermost nodes instead.
_RIM = {"bicubic": 0, "bspline": 1}
_KEYS_A = -0.75  # torch's bicubic


class RandomSource(Protocol):
    """The part of numpy's `RandomState` and `Generator` that is used here."""

    def normal(self, loc: float, scale: float, size: Sequence[int]) -> object:
        """Array of Gaussian numbers."""


def random_displacement(
    shape: Sequence[int],
    grid: int | Sequence[int] = 3,
    *,
    sigma: float | Sequence[float] = 10.0,
    kernel: Kernel = "bicubic",
    rng: RandomSource,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Random smooth displacement of every pixel of a tile, px.

    At ``sigma=10`` px the root mean square of a component is about 7.8 px on the
    paper's 3x3 grid (8.6 px on an endless one) with the paper's kernel and 4.8 px
    with the B-spline.

    Args:
        shape: sides of the tile, px, one for each spatial axis.
        grid: nodes along each axis, from edge to edge of the tile.
        sigma: standard deviation of the node vectors, px; one, or one an axis.
        kernel: see `interpolate_nodes`.
        rng: numpy `RandomState` (MONAI's ``self.R``) or `Generator`.
        device: where the field is computed.
        dtype: of the field.

    Returns:
        ``(d, *shape)``, px.

    Raises:
        ValueError: an argument is out of range.

    >>> import numpy as np
    >>> random_displacement((64, 48), rng=np.random.default_rng(0)).shape
    torch.Size([2, 64, 48])
    """
    nodes = draw_nodes(len(shape), grid, sigma=sigma, kernel=kernel, rng=rng)
    return interpolate_nodes(nodes.to(device, dtype), shape, kernel=kernel)


def draw_nodes(
    spatial_dims: int,
    grid: int | Sequence[int] = 3,
    *,
    sigma: float | Sequence[float] = 10.0,
    kernel: Kernel = "bicubic",
    rng: RandomSource,
) -> torch.Tensor:
    """Gaussian displacement vectors at the nodes of a coarse grid, px.

    Args:
        spatial_dims: axes of the image, `d`.
        grid: nodes along each axis within the tile, at least 1; a single node
            shifts the tile as a whole.
        sigma: standard deviation, px; one, or one an axis.
        kernel: the one to interpolate with; ``"bspline"`` reads one more node
            beyond the tile on each side.
        rng: numpy `RandomState` or `Generator`.

    Returns:
        ``(d, *grid)`` or, for the B-spline, ``(d, *(n + 2 for n in grid))``; float32.

    Raises:
        ValueError: an argument is out of range.
    """
    grids = per_axis("grid", grid, spatial_dims)
    sigmas = _sigmas(sigma, spatial_dims)
    if min(grids) < 1:
        raise ValueError(f"grid {grid} has an axis without a node; at least 1, the paper has 3")
    if not all(0 <= s < math.inf for s in sigmas):
        raise ValueError(f"sigma {sigma} px is negative or not finite; the paper has 10 px")
    sides = node_grid(spatial_dims, grid, kernel)
    unit = torch.as_tensor(rng.normal(0.0, 1.0, (spatial_dims, *sides)))
    scale = torch.tensor(sigmas, dtype=unit.dtype).view(-1, *[1] * spatial_dims)
    return (unit * scale).float()


def node_grid(
    spatial_dims: int, grid: int | Sequence[int] = 3, kernel: Kernel = "bicubic"
) -> tuple[int, ...]:
    """Nodes that `draw_nodes` draws along each axis."""
    return tuple(n + 2 * _rim(kernel) for n in per_axis("grid", grid, spatial_dims))


def interpolate_nodes(
    nodes: torch.Tensor, shape: Sequence[int], *, kernel: Kernel = "bicubic"
) -> torch.Tensor:
    """Displacement of every pixel from those of the nodes: one matrix product an axis.

    The outermost nodes of the grid lie on the centres of the tile's outermost
    pixels, the others evenly between them.

    Args:
        nodes: ``(..., d, *grid)`` as `draw_nodes` returns them, any leading axes.
        shape: sides of the tile, px, `d` of them.
        kernel: ``"bicubic"``, Keys' cubic convolution (a = -0.75), passes through
            the nodes: a pixel on a node has exactly the node's vector; beyond the
            grid its outermost nodes repeat. ``"bspline"``, the cubic B-spline basis
            of the authors' caffe_unet, only approximates them; its outermost nodes
            lie one grid step outside the tile.

    Returns:
        ``(..., d, *shape)``, of the nodes' dtype and on their device.

    Raises:
        ValueError: the nodes do not fit the shape or the kernel.
    """
    dims, rim = len(shape), _rim(kernel)
    if nodes.ndim <= dims or nodes.shape[-dims - 1] != dims:
        raise ValueError(
            f"nodes of shape {tuple(nodes.shape)} for a tile of {dims} axes; "
            f"the rule is (..., {dims}, *grid)"
        )
    if min(shape) < 1 or min(nodes.shape[-dims:]) <= 2 * rim:
        raise ValueError(
            f"{kernel} from nodes {tuple(nodes.shape)} to {tuple(shape)} px: too small"
        )
    field = nodes
    for side in shape:  # axes take turns at the end: after the last one their order is restored
        field = field.movedim(-dims, -1)
        matrix = _axis_matrix(side, field.shape[-1] - 2 * rim, kernel, field.dtype, field.device)
        with without_autocast(field.device):
            field = field @ matrix.T  # (..., side)
    return field


@lru_cache(maxsize=64)
def _axis_matrix(
    side: int, grid: int, kernel: str, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Weights of the nodes in each pixel of an axis, ``(side, grid + 2 * rim)``."""
    rim = _RIM[kernel]
    with torch.inference_mode(False), torch.no_grad():  # cached: must serve any later caller
        at = torch.arange(side, dtype=torch.float64) * (grid - 1) / max(side - 1, 1)
        if side == 1:
            at += (grid - 1) / 2
        cell = at.floor()
        if kernel == "bspline":
            cell = cell.clamp_(max=max(grid - 2, 0))
        matrix = torch.zeros(side, grid + 2 * rim, dtype=torch.float64)
        for offset, weight in zip(range(-1, 3), _weights(at - cell, kernel), strict=True):
            node = (cell.long() + offset + rim).clamp_(0, grid + 2 * rim - 1)
            matrix.scatter_add_(1, node[:, None], weight[:, None])
        return matrix.to(device, dtype)


def _weights(t: torch.Tensor, kernel: str) -> tuple[torch.Tensor, ...]:
    """Weights of four nodes at a position `t` in [0, 1] between the middle two."""
    s = 1 - t
    if kernel == "bspline":
        return (
            s**3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (3 * s**3 - 6 * s**2 + 4) / 6,
            t**3 / 6,
        )
    a = _KEYS_A
    return (
        a * t * s**2,
        (a + 2) * t**3 - (a + 3) * t**2 + 1,
        (a + 2) * s**3 - (a + 3) * s**2 + 1,
        a * s * t**2,
    )


def _rim(kernel: str) -> int:
    if kernel not in _RIM:
        raise ValueError(f"kernel {kernel!r} is neither 'bicubic' nor 'bspline'")
    return _RIM[kernel]


def _sigmas(sigma: float | Sequence[float], dims: int) -> tuple[float, ...]:
    given = plain(sigma)
    values = tuple(given) if isinstance(given, Sequence) else (given,) * dims
    if len(values) != dims:
        raise ValueError(f"sigma {sigma} has {len(values)} values for {dims} axes")
    return values
