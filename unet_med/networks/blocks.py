"""The blocks of a U-Net, each exactly local.

No block looks further than its own convolution windows (no global statistics, no padding inside
a valid net), because tiles can equal the whole image only if every block is local. Tensors are
`(B, C, *S)` with one, two or three spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.blocks.upsample import SubpixelUpsample
from monai.networks.layers.utils import get_act_layer
from torch import Tensor, nn
from torch.nn import functional as F

LayerSpec = str | tuple[str, dict[str, Any]] | None
"""A layer as MONAI names it: `"relu"`, `("group", {"num_groups": 8})`, or `None`."""


def centre_crop(x: Tensor, size: list[int]) -> Tensor:
    """The centred window of `x` with spatial size `size`; a view, nothing is copied."""
    for axis, side in enumerate(size):
        x = x.narrow(axis + 2, (x.shape[axis + 2] - side) // 2, side)
    return x  # (B, C, *size)


def mirrored_up(x: Tensor, stride: int) -> Tensor:
    """`x` with its far ends mirrored until each side is a multiple of the stride, px."""
    border: list[int] = []
    for axis in range(x.dim() - 1, 1, -1):  # F.pad counts from the last one
        border += [0, -x.shape[axis] % stride]
    return F.pad(x, border, mode="reflect")  # (B, C, *S')


def max_unpool(x: Tensor, skip: Tensor, factor: int) -> Tensor:
    """Put each value where the maximum of its pooling window was; zeros elsewhere.

    The windows are those of the pooling that made the level below, so a crop by whole windows
    keeps them in step (Badrinarayanan et al. 2017, SegNet, section 3).

    Args:
        x: low-resolution map `(B, C, *S)`.
        skip: the map that had been pooled, `(B, C, *T)` with `T >= factor * S`.
        factor: side of a pooling window, px.

    Returns:
        `(B, C, *(factor * S))`.
    """
    skip = centre_crop(skip, [factor * side for side in x.shape[2:]]).detach()
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
        padding: 0 for the paper's unpadded convolutions (section 2), 1 for *same*.
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
        padding: int = 0,
        norm: LayerSpec = None,
        act: LayerSpec = "relu",
        residual: bool = False,
    ) -> None:
        super().__init__()
        last = len(channels) - 2
        self.convs = nn.Sequential()
        for i, (before, after) in enumerate(pairwise(channels)):
            self.convs.append(
                Convolution(
                    spatial_dims,
                    before,
                    after,
                    kernel_size=3,
                    padding=padding,
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
        factor: enlargement.
        crop: px dropped per side afterwards. In a valid net `factor // 2`: the pixels whose
            interpolation was clamped at the border would otherwise reach the output.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, *, factor: int, crop: int
    ) -> None:
        super().__init__()
        self.conv = pointwise(spatial_dims, in_channels, out_channels)
        mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.up = nn.Upsample(scale_factor=float(factor), mode=mode, align_corners=False)
        self.crop = crop

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` to `(B, C', *(factor * S - 2 * crop))`."""
        x = self.up(self.conv(x))  # (B, C', *(factor * S))
        return centre_crop(x, [side - 2 * self.crop for side in x.shape[2:]])


def up_layer(
    mode: str,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    *,
    factor: int,
    crop: int = 0,
    bias: bool = True,
) -> nn.Module:
    """The layer that changes resolution and channels on the way up.

    Args:
        mode: `"deconv"`, `"bilinear"`, `"pixelshuffle"`, or `"unpool"` (here the channels only;
            `max_unpool` needs the skip and follows in `Expand`).
        spatial_dims: 2 or 3.
        in_channels: channels in.
        out_channels: channels out.
        factor: enlargement, the pooling factor.
        crop: px per side that a bilinear layer drops.
        bias: whether the up-convolution has a bias.
    """
    if mode == "deconv":
        return Convolution(
            spatial_dims,
            in_channels,
            out_channels,
            strides=factor,
            kernel_size=factor,
            padding=0,
            output_padding=0,
            is_transposed=True,
            conv_only=True,
            bias=bias,
        )
    if mode == "bilinear":
        return BilinearUp(spatial_dims, in_channels, out_channels, factor=factor, crop=crop)
    if mode == "unpool":
        return pointwise(spatial_dims, in_channels, out_channels)
    return SubpixelUpsample(
        spatial_dims,
        in_channels,
        out_channels,
        factor,
        conv_block=pointwise(spatial_dims, in_channels, out_channels * factor**spatial_dims),
        apply_pad_pool=False,  # the pooling looks beyond the tile's border
    )


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
