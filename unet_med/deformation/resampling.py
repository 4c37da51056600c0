"""Images resampled at displaced positions."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
from torch.nn import functional as F

from unet_med.deformation.positions import along

Mode = Literal["bilinear", "nearest", "bicubic"]
PaddingMode = Literal["reflection", "border"]

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


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
    if x.dtype in _SIGNED:  # only copied, whatever number their bits are
        signed = warp(x.view(_SIGNED[x.dtype]), field, mode=mode, padding_mode=padding_mode)
        return signed.view(x.dtype)
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
        line = along(axis, shape, dtype, displacement.device, scale=scale, start=-1)
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
        index = along(axis, shape, exact, x.device) + displacement[:, axis]
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
