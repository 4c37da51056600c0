"""A rotation or scaling and a deformation as one matrix, which moves every pixel once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from unet_med.deformation.nodes import Kernel, interpolate_nodes
from unet_med.deformation.positions import along

_OVERSHOOT = {"bicubic": 1.375, "bspline": 1.0}  # most that the weights of an axis add up to


def motion_of(linear: torch.Tensor | None, nodes: torch.Tensor) -> torch.Tensor:
    """A linear map about the tile's centre and then a deformation, as one matrix.

    The map `L`, such as a rotation, about the centre `c` is ``r(x) = in(L (x - c) + c)``, and its
    deformation ``r(x + u(x))`` is ``in(x + L u(x) + (L - I) (x - c))``. `u` is linear in the nodes
    `N`, so all that moves a pixel is ``[L - I | L N]``; zeros leave an image in place.

    Args:
        linear: `L` ``(d, d)``; None: the identity.
        nodes: ``(d, *grid)`` as `draw_nodes` returns them, px.

    Returns:
        ``(d, d + the number of nodes)``, float64.
    """
    vectors = nodes.flatten(1).double()  # (d, nodes)
    one = torch.eye(len(nodes), dtype=torch.float64)
    turn = one if linear is None else linear.double()
    return torch.cat([turn - one, turn @ vectors], dim=1)


def moved_by(
    motion: torch.Tensor,
    shape: Sequence[int],
    grid: Sequence[int],
    *,
    kernel: Kernel = "bicubic",
) -> torch.Tensor:
    """Displacement of every pixel by what `motion_of` returned; the host waits for nothing.

    Args:
        motion: ``(..., d, d + the number of nodes)``, any leading axes.
        shape: sides of the tile, px, `d` of them.
        grid: of `node_grid`.
        kernel: see `interpolate_nodes`.

    Returns:
        ``(..., d, *shape)``, px, float32. Without a map it is that of `interpolate_nodes`
        to the last bit.
    """
    dims = len(shape)
    turn, vectors = motion.float().split([dims, math.prod(grid)], dim=-1)
    field = interpolate_nodes(vectors.unflatten(-1, tuple(grid)), shape, kernel=kernel)
    sides = torch.Size(shape)
    for axis, side in enumerate(shape):
        from_centre = along(axis, sides, field.dtype, field.device, start=(1 - side) / 2)
        field.addcmul_(turn[..., axis].view(*turn.shape[:-1], *[1] * dims), from_centre)
    return field


def farthest(
    motion: torch.Tensor, shape: Sequence[int], *, kernel: Kernel = "bicubic"
) -> torch.Tensor:
    """Bound of every component of `moved_by`, px; zero where nothing moves.

    Args:
        motion: ``(..., d, d + the number of nodes)``, on a CPU, so that nothing waits for it.
        shape: sides of the tile, px.
        kernel: see `interpolate_nodes`.

    Returns:
        One number for each of the leading axes.
    """
    dims = len(shape)
    corner = torch.tensor([(side - 1) / 2 for side in shape], dtype=motion.dtype)
    turned = motion[..., :dims].abs() @ corner  # (..., d)
    deformed = motion[..., dims:].abs().amax(dim=-1) * _OVERSHOOT[kernel] ** dims
    return (turned + deformed).amax(dim=-1)
