"""The paper's random elastic deformation: coarse nodes -> displacement field -> warp.

Ronneberger et al. 2015, section 3.1: displacement vectors on a coarse 3x3 grid,
Gaussian with 10 px standard deviation, and from them a displacement for every
pixel by bicubic interpolation. Displacements are interpolated, never coordinates, so zero vectors
mean no deformation. A rotation before it is one more term of the displacement (`motion_of`), so
that both resample an image once.

Axes and sign: component `k` of a displacement moves along tensor axis `k` of the
image, in px, and ``output(x) = input(x + displacement(x))``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Literal, Protocol

import torch
from torch.nn import functional as F

__all__ = [
    "Field",
    "draw_nodes",
    "farthest",
    "interpolate_nodes",
    "motion_of",
    "moved_by",
    "node_grid",
    "random_displacement",
    "warp",
]

Kernel = Literal["bicubic", "bspline"]
Mode = Literal["bilinear", "nearest", "bicubic"]
PaddingMode = Literal["reflection", "border"]

# Nodes beyond the tile, on each side. The 2015-19 code draws them as well; the
# interpolating kernel repeats its outermost nodes instead.
_RIM = {"bicubic": 0, "bspline": 1}
_KEYS_A = -0.75  # torch's bicubic
_OVERSHOOT = {"bicubic": 1.375, "bspline": 1.0}  # most that the weights of an axis add up to


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
    grids = _per_axis("grid", grid, spatial_dims)
    sigmas = _per_axis("sigma", sigma, spatial_dims)
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
    return tuple(int(n) + 2 * _rim(kernel) for n in _per_axis("grid", grid, spatial_dims))


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
        field = field @ matrix.T  # (..., side)
    return field


def motion_of(rotation: torch.Tensor | None, nodes: torch.Tensor) -> torch.Tensor:
    """A rotation about the tile's centre and then a deformation, as one matrix.

    The rotation by `L` about the centre `c` is ``r(x) = in(L (x - c) + c)``, and its deformation
    ``r(x + u(x))`` is ``in(x + L u(x) + (L - I) (x - c))``. `u` is linear in the nodes `N`, so
    all that moves a pixel is ``[L - I | L N]``; zeros leave an image in place.

    Args:
        rotation: `L` ``(d, d)``; None: the identity.
        nodes: ``(d, *grid)`` as `draw_nodes` returns them, px.

    Returns:
        ``(d, d + the number of nodes)``, float64.
    """
    vectors = nodes.flatten(1).double()  # (d, nodes)
    one = torch.eye(len(nodes), dtype=torch.float64)
    turn = one if rotation is None else rotation.double()
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
        ``(..., d, *shape)``, px, float32. Without a rotation it is that of `interpolate_nodes`
        to the last bit.
    """
    dims = len(shape)
    turn, vectors = motion.float().split([dims, math.prod(grid)], dim=-1)
    field = interpolate_nodes(vectors.unflatten(-1, tuple(grid)), shape, kernel=kernel)
    sides = torch.Size(shape)
    for axis, side in enumerate(shape):
        from_centre = _along(axis, sides, field.dtype, field.device, start=(1 - side) / 2)
        field.addcmul_(turn[..., axis].view(*turn.shape[:-1], *[1] * dims), from_centre)
    return field


def farthest(
    motion: torch.Tensor, shape: Sequence[int], *, kernel: Kernel = "bicubic"
) -> torch.Tensor:
    """What no component of `moved_by` exceeds, px; zero where nothing moves.

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


class Field:
    """A displacement with the sampling places that several warps by it share.

    Args:
        displacement: ``(d, *S)``, or ``(B, d, *S)`` with one field an item, px.
        reach: what no component exceeds, px; None: it is looked for, for which the host waits
            until a GPU is done.
    """

    def __init__(self, displacement: torch.Tensor, reach: float | None = None) -> None:
        self.displacement = displacement
        if reach is not None:
            self.reach = reach
        self._places: dict[torch.dtype, torch.Tensor] = {}
        self._mirrored: dict[torch.dtype, torch.Tensor] = {}

    @cached_property
    def reach(self) -> float:
        """The longest component, px."""
        return max(abs(float(end)) for end in self.displacement.aminmax())

    def places(self, dims: int, dtype: torch.dtype) -> torch.Tensor:
        """Where every pixel comes from, as `grid_sample` reads it, ``(1 or B, *S, d)``."""
        if dtype not in self._places:
            self._places[dtype] = _places(self.items(dims), dtype)
        return self._places[dtype]

    def mirrored_places(self, dims: int, dtype: torch.dtype) -> torch.Tensor | None:
        """`places` that lie outside brought back by one mirror; None where one is not enough."""
        if self.reach > min(self.displacement.shape[-dims:]) - 1:
            return None
        if dtype not in self._mirrored:
            places = self.places(dims, dtype)
            self._mirrored[dtype] = places.clamp(-1, 1).mul_(2).sub_(places)  # exact inside
        return self._mirrored[dtype]

    def items(self, dims: int) -> torch.Tensor:
        """The displacement ``(1 or B, d, *S)``."""
        return self.displacement.reshape(-1, *self.displacement.shape[-dims - 1 :])


def warp(
    x: torch.Tensor,
    displacement: torch.Tensor | Field,
    *,
    mode: Mode = "bilinear",
    padding_mode: PaddingMode = "reflection",
) -> torch.Tensor:
    """Image resampled at displaced positions; a zero displacement returns `x` itself.

    Args:
        x: ``(C, *S)`` or ``(B, C, *S)``, two or three spatial axes.
        displacement: ``(d, *S)``, or ``(B, d, *S)`` with one field an item, px. Both of
            shape ``(3, 2, H, W)`` are read as a batch of images, not as a volume. A `Field`
            of it saves work where several images are warped alike.
        mode: ``"bilinear"`` (trilinear in 3-D); ``"nearest"`` for labels; ``"bicubic"``
            (2-D only; may overshoot the image's range).
        padding_mode: beyond the image: ``"reflection"``, mirrored without repeating the
            edge pixel, as often as needed; or ``"border"``, the edge pixel.

    Returns:
        As `x`. ``"nearest"`` copies values and keeps any dtype; the others return `x`'s
        floating dtype, or float32 for integers, and compute in float32 (float64 for
        float64).

    Raises:
        ValueError: shapes do not fit, or a mode is unknown or not offered in 3-D.
    """
    field = displacement if isinstance(displacement, Field) else Field(displacement)
    dims = _spatial_dims(x, field.displacement)
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"mode {mode!r} is none of 'bilinear', 'nearest', 'bicubic'")
    if mode == "bicubic" and dims == 3:
        raise ValueError("torch samples no volume with mode 'bicubic'; use 'bilinear' in 3-D")
    if padding_mode not in ("reflection", "border"):
        raise ValueError(f"padding_mode {padding_mode!r} is neither 'reflection' nor 'border'")
    if mode != "nearest" and not x.is_floating_point():
        x = x.float()
    if field.reach == 0:
        return x
    batch = x.unsqueeze(0) if x.ndim == dims + 1 else x  # (B, C, *S)
    if mode == "nearest" and dims == 2 and batch.dtype == torch.int32:
        # what only copies may take them for the floats of the same bits
        out = _sample(batch.view(torch.float32), field, mode, padding_mode).view(torch.int32)
    elif mode == "nearest" and not (dims == 2 and _float32_holds(batch)):
        out = _copy_nearest(batch, field, padding_mode)
    else:
        out = _sample(batch, field, mode, padding_mode)
    return out.view(x.shape)


def _sample(x: torch.Tensor, field: Field, mode: str, padding_mode: str) -> torch.Tensor:
    """`x` (B, C, *S) displaced by one `grid_sample`; its dtype is kept."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    images = x.to(dtype)
    places, dims = None, x.ndim - 2
    if dims == 3 and padding_mode == "reflection":  # torch's own mirror takes half its time there
        places = field.mirrored_places(dims, dtype)
        padding_mode = padding_mode if places is None else "border"
    if places is None:
        places = field.places(dims, dtype)
    bands = _bands(x)
    if bands == 1:
        grid = places.expand(x.shape[0], *places.shape[1:])  # (B, *S, d)
    else:
        images = images.expand(bands, *x.shape[1:])  # one image, seen as often as there are bands
        grid = places[0].unflatten(0, (bands, -1))  # (bands, S0 / bands, ..., d)
    sampled = F.grid_sample(images, grid, mode, padding_mode, align_corners=True)
    if bands > 1:
        sampled = sampled.movedim(0, 1).flatten(1, 2).unsqueeze(0)  # (1, C, *S)
    return sampled.to(x.dtype)


def _bands(x: torch.Tensor) -> int:
    """Bands to sample `x` (B, C, *S) in: `grid_sample` shares out items among cores, not pixels."""
    if x.shape[0] > 1 or x.device.type != "cpu":
        return 1
    return max(n for n in range(1, torch.get_num_threads() + 1) if x.shape[2] % n == 0)


def _places(displacement: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Displaced positions (N, *S, d) of fields (N, d, *S), -1 to 1 and the last axis first."""
    shape = displacement.shape[2:]
    # (d, N, *S); a component lies together: faster to write
    places = torch.empty(
        len(shape), displacement.shape[0], *shape, dtype=dtype, device=displacement.device
    )
    for axis, side in enumerate(shape):
        # align_corners=True: -1 and 1 are the centres of the outermost pixels
        scale = 2 / max(side - 1, 1)
        line = _along(axis, shape, dtype, displacement.device, scale=scale, start=-1)
        torch.add(line, displacement[:, axis], alpha=scale, out=places[-1 - axis])
    return places.movedim(0, -1)


def _float32_holds(x: torch.Tensor) -> bool:
    """Whether every value of `x` passes through float32 unchanged."""
    if x.is_floating_point() or x.dtype in (torch.bool, torch.uint8, torch.int8, torch.int16):
        return x.dtype != torch.float64
    low, high = x.aminmax()
    return int(low) >= -(2**24) and int(high) <= 2**24


def _copy_nearest(x: torch.Tensor, field: Field, padding_mode: str) -> torch.Tensor:
    """Nearest pixel of `x` (B, C, *S), by index: no value passes through a float."""
    shape = x.shape[2:]
    displacement = field.items(len(shape))
    exact = torch.float32 if shape.numel() <= 2**24 else torch.float64
    flat = torch.zeros(1, dtype=exact, device=x.device)
    for axis, side in enumerate(shape):
        index = _along(axis, shape, exact, x.device) + displacement[:, axis]
        index.round_()  # (1 or B, *S)
        if padding_mode == "reflection":  # a triangle wave of period 2 * (side - 1)
            index.abs_()
            if field.reach >= side - 1:  # beyond the first mirror image
                index.remainder_(max(2 * side - 2, 1))
            index.sub_(side - 1).abs_().neg_().add_(side - 1)
        else:
            index.clamp_(0, side - 1)
        flat = index.add_(flat, alpha=side)
    pixels = flat.long().flatten(1).unsqueeze(1).expand(*x.shape[:2], -1)  # (B, C, pixels)
    return x.flatten(2).gather(2, pixels).view(x.shape)


@lru_cache(maxsize=64)
def _along(
    axis: int,
    shape: torch.Size,
    dtype: torch.dtype,
    device: torch.device,
    *,
    scale: float = 1,
    start: float = 0,
) -> torch.Tensor:
    """Positions along one axis, px by default, shaped to broadcast over the others."""
    with torch.inference_mode(False), torch.no_grad():  # cached: must serve any later caller
        line = torch.arange(shape[axis], dtype=dtype, device=device) * scale + start
    return line.view(-1, *[1] * (len(shape) - 1 - axis))


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


def _per_axis(name: str, value: float | Sequence[float], dims: int) -> tuple[float, ...]:
    values = tuple(value) if isinstance(value, Sequence) else (value,) * dims
    if len(values) != dims:
        raise ValueError(f"{name} {value} has {len(values)} values for {dims} axes")
    return values


def _spatial_dims(x: torch.Tensor, displacement: torch.Tensor) -> int:
    """Spatial axes that make both shapes fit; a batch of images goes before a volume."""
    for dims in (2, 3):
        lead, fields = x.shape[:-dims], displacement.shape[: -dims - 1]
        if (
            len(lead) in (1, 2)
            and displacement.shape[-dims - 1 :] == (dims, *x.shape[-dims:])
            and (len(fields) == 0 or (len(lead) == 2 and fields in ((1,), lead[:1])))
        ):
            return dims
    raise ValueError(
        f"displacement of shape {tuple(displacement.shape)} for an image of shape "
        f"{tuple(x.shape)}; the rule is (d, *S) for (C, *S) or (B, C, *S), or (B, d, *S) for "
        "(B, C, *S), with d = 2 or 3"
    )
