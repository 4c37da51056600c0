"""The blocks of a U-Net, each exactly local.

No block looks further than its own convolution windows (no global statistics, no padding inside
a valid net), because tiles can equal the whole image only if every block is local. Tensors are
`(B, C, *S)` with one, two or three spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.layers.utils import get_act_layer
from torch import Tensor, nn
from torch.nn import functional as F

from unet_med.geometry import PerAxis, alike, per_axis

LayerSpec = str | tuple[str, dict[str, Any]] | None
"""A layer as MONAI names it: `"relu"`, `("group", {"num_groups": 8})`, or `None`."""


def centre_crop(x: Tensor, size: list[int]) -> Tensor:
    """The centred window of `x` with spatial size `size`; a view, nothing is copied."""
    for axis, side in enumerate(size):
        x = x.narrow(axis + 2, (x.shape[axis + 2] - side) // 2, side)
    return x  # (B, C, *size)


def mirrored_up(x: Tensor, strides: list[int]) -> Tensor:
    """`x` with its far ends mirrored until each side is a multiple of its axis's stride, px."""
    border: list[int] = []
    for axis in range(x.dim() - 1, 1, -1):  # F.pad counts from the last one
        border += [0, -x.shape[axis] % strides[axis - 2]]
    return F.pad(x, border, mode="reflect")  # (B, C, *S')


def require_sides(sides: list[int], smallest: list[int], strides: list[int]) -> None:
    """Refuse sides that do not fit, of which the result would lie beside its place.

    Raises:
        ValueError: a side is not its axis's smallest, px, or some strides more.
    """
    for axis in range(len(sides)):
        side, least, step = sides[axis], smallest[axis], strides[axis]
        if side < least or (side - least) % step != 0:
            raise ValueError(
                f"input side {side} px does not fit the network, which takes {least} px and more "
                f"in steps of {step}"
            )


def max_unpool(x: Tensor, skip: Tensor, factor: list[int]) -> Tensor:
    """Put each value where the maximum of its pooling window was; zeros elsewhere.

    The windows are those of the pooling that made the level below, so a crop by whole windows
    keeps them in step (Badrinarayanan et al. 2017, SegNet, section 3).

    Args:
        x: low-resolution map `(B, C, *S)`.
        skip: the map that had been pooled, `(B, C, *T)` with `T >= factor * S`.
        factor: sides of a pooling window, px.

    Returns:
        `(B, C, *(factor * S))`.
    """
    sides = list(x.shape[2:])
    skip = centre_crop(skip, [factor[k] * side for k, side in enumerate(sides)]).detach()
    if skip.dim() == 4:
        _, winners = F.max_pool2d(skip, factor, return_indices=True)
    else:
        _, winners = F.max_pool3d(skip, factor, return_indices=True)
    # windows do not overlap: scatter, because torch calls its max_unpool non-deterministic
    zeros = torch.zeros(skip.shape, dtype=x.dtype, device=x.device)
    return zeros.flatten(2).scatter(2, winners.flatten(2), x.flatten(2)).view(skip.shape)


def pointwise(spatial_dims: int, in_channels: int, out_channels: int) -> Convolution:
    """A 1x1 convolution with bias and nothing after it."""
    return Convolution(
        spatial_dims, in_channels, out_channels, kernel_size=1, padding=0, conv_only=True
    )


class ConvBlock(nn.Module):
    """The convolutions of one level: 3x3, each followed by normalisation and activation.

    Args:
        spatial_dims: 2 or 3.
        channels: input channels, then the channels after each convolution.
        kernel: width of the convolutions along each axis, odd; None: 3, as in the paper.
        padding: `"valid"`, the paper's unpadded convolutions (section 2), or `"same"`.
        norm: normalisation as MONAI names it, or `None`.
        act: activation as MONAI names it, or `None`.
        residual: add the block's input, centre-cropped and with a 1x1 convolution where the
            channels change, before the last activation (He et al. 2016, figure 2).
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: Sequence[int],
        *,
        kernel: Sequence[int] | None = None,
        padding: str = "valid",
        norm: LayerSpec = None,
        act: LayerSpec = "relu",
        residual: bool = False,
    ) -> None:
        super().__init__()
        last = len(channels) - 2
        sides = (3,) * spatial_dims if kernel is None else tuple(kernel)
        around = [side // 2 if padding == "same" else 0 for side in sides]
        self.convs = nn.Sequential()
        for i, (before, after) in enumerate(pairwise(channels)):
            self.convs.append(
                Convolution(
                    spatial_dims,
                    before,
                    after,
                    kernel_size=sides,
                    padding=around,
                    norm=norm,
                    act=None if residual and i == last else act,
                )
            )
        self.shortcut: nn.Module | None = None
        self.act: nn.Module = nn.Identity()
        if residual:
            same = channels[0] == channels[-1]
            self.shortcut = (
                nn.Identity() if same else pointwise(spatial_dims, channels[0], channels[-1])
            )
            self.act = nn.Identity() if act is None else get_act_layer(act)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` to `(B, C', *(S - 2 per unpadded convolution))`."""
        y = self.convs(x)
        if self.shortcut is not None:
            y = self.act(y + self.shortcut(centre_crop(x, list(y.shape[2:]))))
        return y


class BilinearUp(nn.Module):
    """1x1 convolution, then (bi/tri)linear interpolation with `align_corners=False`.

    The two commute (the interpolation weights sum to 1), and the convolution is cheaper first.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels in.
        out_channels: channels out.
        factor: enlargement along each axis.
        crop: px dropped per side afterwards, along each axis. In a valid net `factor // 2`: the
            pixels whose interpolation was clamped at the border would otherwise reach the output.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        factor: Sequence[int],
        crop: Sequence[int],
    ) -> None:
        super().__init__()
        self.conv = pointwise(spatial_dims, in_channels, out_channels)
        mode = "bilinear" if spatial_dims == 2 else "trilinear"
        scale = alike([float(side) for side in factor])
        self.up = nn.Upsample(scale_factor=scale, mode=mode, align_corners=False)
        self.crop = list(crop)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` to `(B, C', *(factor * S - 2 * crop))`."""
        x = self.up(self.conv(x))  # (B, C', *(factor * S))
        sides = list(x.shape[2:])
        return centre_crop(x, [side - 2 * self.crop[k] for k, side in enumerate(sides)])


class PixelShuffleUp(nn.Module):
    """1x1 convolution, then its channels side by side as pixels (Shi et al. 2016).

    MONAI's `SubpixelUpsample` for factors that differ by axis, without its pad-pool, which looks
    beyond the tile's border.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels in.
        out_channels: channels out.
        factor: enlargement along each axis.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, *, factor: Sequence[int]
    ) -> None:
        super().__init__()
        self.conv_block = pointwise(spatial_dims, in_channels, out_channels * prod(factor))
        self.out_channels, self.factor = out_channels, list(factor)
        order = [0, 1]  # (B, C', f1, .., fd, S1, .., Sd) to (B, C', S1, f1, .., Sd, fd)
        for axis in range(spatial_dims):
            order += [2 + spatial_dims + axis, 2 + axis]
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` to `(B, C', *(factor * S))`."""
        x = self.conv_block(x)  # (B, C' * prod(factor), *S)
        sides, first = list(x.shape[2:]), [x.shape[0], self.out_channels]
        large = [self.factor[k] * side for k, side in enumerate(sides)]
        x = x.reshape(first + self.factor + sides)
        return x.permute(self.order).reshape(first + large)


def up_layer(
    mode: str,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    *,
    factor: PerAxis,
    crop: PerAxis = 0,
    bias: bool = True,
) -> nn.Module:
    """The layer that changes resolution and channels on the way up.

    Args:
        mode: `"deconv"`, `"bilinear"`, `"pixelshuffle"`, or `"unpool"` (here the channels only;
            `max_unpool` needs the skip and follows in `Expand`).
        spatial_dims: 2 or 3.
        in_channels: channels in.
        out_channels: channels out.
        factor: enlargement, the pooling factor; one, or one an axis.
        crop: px per side that a bilinear layer drops; one, or one an axis.
        bias: whether the up-convolution has a bias.
    """
    factors = per_axis("factor", factor, spatial_dims)
    crops = per_axis("crop", crop, spatial_dims)
    if mode == "deconv":
        return Convolution(
            spatial_dims,
            in_channels,
            out_channels,
            strides=factors,
            kernel_size=factors,
            padding=0,
            output_padding=0,
            is_transposed=True,
            conv_only=True,
            bias=bias,
        )
    if mode == "bilinear":
        return BilinearUp(spatial_dims, in_channels, out_channels, factor=factors, crop=crops)
    if mode == "unpool":
        return pointwise(spatial_dims, in_channels, out_channels)
    return PixelShuffleUp(spatial_dims, in_channels, out_channels, factor=factors)


class AttentionGate(nn.Module):
    """Additive attention on the skip (Oktay et al. 2018, equations 1 and 2).

    1x1 convolutions at the resolution of the skip, no normalisation: the gate of a pixel
    depends on that pixel alone, so it adds nothing to the margin. (The paper gates with the map
    before up-sampling and resamples the coefficients linearly.)

    Args:
        spatial_dims: 2 or 3.
        skip_channels: channels of the skip.
        gate_channels: channels of the up-sampled map.
    """

    def __init__(self, spatial_dims: int, skip_channels: int, gate_channels: int) -> None:
        super().__init__()
        inner = max(skip_channels // 2, 1)
        self.from_skip = pointwise(spatial_dims, skip_channels, inner)
        self.from_gate = pointwise(spatial_dims, gate_channels, inner)
        self.score = pointwise(spatial_dims, inner, 1)

    def forward(self, skip: Tensor, gate: Tensor) -> Tensor:
        """`skip` `(B, C, *S)` times its coefficient `(B, 1, *S)` in (0, 1)."""
        return skip * torch.sigmoid(
            self.score(torch.relu(self.from_skip(skip) + self.from_gate(gate)))
        )


class Expand(nn.Module):
    """One level of the expanding path: up-sampling, skip, convolutions.

    Args:
        up: layer that enlarges and sets the channels.
        up_act: activation after `up`; the paper has none.
        block: the level's convolutions.
        gate: attention on the skip, or `None`.
        skip: `"crop-concat"`, `"add"` or `"none"`.
        factor: of the pooling at this level, along each axis.
        unpool: whether max-unpooling follows `up`.
    """

    def __init__(
        self,
        up: nn.Module,
        up_act: nn.Module,
        block: nn.Module,
        *,
        gate: nn.Module | None = None,
        skip: str = "crop-concat",
        factor: Sequence[int] = (2, 2),
        unpool: bool = False,
    ) -> None:
        super().__init__()
        self.up, self.up_act, self.block, self.gate = up, up_act, block, gate
        self.skip, self.factor, self.unpool = skip, list(factor), unpool

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """`x` `(B, C, *S)` from below and `skip` of this level to `(B, C', *S')`."""
        x = self.up_act(self.up(x))  # (B, C', *(2 S)), figure 1: up-conv 2x2
        if self.unpool:
            x = max_unpool(x, skip, self.factor)
        skip = centre_crop(skip, list(x.shape[2:]))  # figure 1: copy and crop
        if self.gate is not None:
            skip = self.gate(skip, x)
        if self.skip == "crop-concat":
            x = torch.cat([x, skip], dim=1)  # up-sampled first, as in the release
        elif self.skip == "add":
            x = x + skip
        return self.block(x)
