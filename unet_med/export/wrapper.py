"""Wrap a network for its consumers: output as large as the input, probabilities, (Y, X)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unet_med.geometry import alike, up_to
from unet_med.inferers.tiling import Tiling


class MirrorPadded(nn.Module):
    """Class probabilities `(B, K, [Z,] Y, X)` of a standardised image `(B, C, [Z,] Y, X)`.

    A consumer that knows nothing of valid convolutions cuts blocks, drops a halo, and puts the
    rest together. That equals one pass over the whole image if blocks begin at multiples of the
    stride. So sides are multiples of the stride, and so is the halo: the margin rounded up. A
    valid network's margin is mirrored on before; behind, as much more as makes the size legal,
    like `OverlapTileInferer`, and what is too much is cut off again.

    Args:
        network: maps `(B, C, X, Y[, Z])` to logits; in evaluation.
        tiling: its geometry; `padding` is known.
    """

    def __init__(self, network: nn.Module, tiling: Tiling) -> None:
        super().__init__()
        self.network = network
        self.stride = tiling.stride
        self.halo = halo(tiling)
        border: list[int] = []
        for axis in reversed(tiling.axes):  # torch pads from the last axis on
            border += [axis.lost, axis.lost + (axis.smallest - 2 * axis.lost) % axis.stride]
        self.border = border  # px
        self.reversed = [0, 1, *range(tiling.spatial_dims + 1, 1, -1)]

    def forward(self, image: Tensor) -> Tensor:
        """`(B, C, [Z,] Y, X)`, sides multiples of the stride, to `(B, K, [Z,] Y, X)`."""
        x = image.permute(self.reversed)  # (B, C, X, Y[, Z])
        if max(self.border) > 0:
            x = F.pad(x, self.border, mode="reflect")
        y = torch.softmax(self.network(x), dim=1)  # (B, K, X', Y'[, Z'])
        y = y.permute(self.reversed)  # (B, K, [Z',] Y', X')
        for axis in range(2, image.dim()):
            y = y.narrow(axis, 0, image.shape[axis])
        return y


def halo(tiling: Tiling) -> int | tuple[int, ...]:
    """Pixels a side that a consumer must drop from a block: the margin, up to the stride.

    An integer where all axes agree, else one an axis of the network, `(X, Y[, Z])`.

    >>> from unet_med.inferers.tiling import tiling_of
    >>> from unet_med.networks import UNet
    >>> import torch
    >>> with torch.device("meta"):
    ...     halo(tiling_of(UNet(), torch.empty(1, 1, 1, 1), margin=None, stride=None))
    96
    """
    return alike([up_to(axis.stride, axis.margin) for axis in tiling.axes])
