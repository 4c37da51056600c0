"""Where resampled pixels come from, axis by axis, so that a window needs no more than its own.

MONAI's `SpatialResample` is asked itself: it resamples a line that is 0 and 1 in turn, and what
comes out are the weights that it gives, to the last bit of their coordinates. A window that is
resampled with them equals the same window of the whole to the rounding of the sums (1e-7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data.utils import to_affine_nd
from monai.networks.layers import AffineTransform

from unet_med.transforms.windowed import Box

_UNCHANGED = 1e-3  # MONAI's AFFINE_TOL: below it the image is left as it is


@dataclass(frozen=True)
class Taps:
    """The pixels of one axis from which those of another grid are made.

    Attributes:
        first: of two neighbours the first, one a new pixel.
        weights: of the two, `(2, n)`, float32; the second is 0 where one pixel is picked.
        last: last pixel of the old axis.
    """

    first: np.ndarray
    weights: torch.Tensor
    last: int

    def needed(self, start: int, stop: int) -> tuple[int, int]:
        """Old pixels that the new ones from `start` to `stop` are made of."""
        first = self.first[start:stop]
        return int(first.min()), min(self.last, int(first.max()) + 1) + 1

    def apply(
        self, values: torch.Tensor, axis: int, new: tuple[int, int], old: int
    ) -> torch.Tensor:
        """New pixels of one axis.

        Args:
            values: old pixels from `old` on.
            axis: of `values`.
            new: first and last but one new pixel.
            old: where `values` begin.
        """
        places = self.first[slice(*new)]
        shape = [-1 if k == axis else 1 for k in range(values.ndim)]
        low, high = (w.to(values)[slice(*new)].view(shape) for w in self.weights)
        one = values.index_select(axis, torch.from_numpy(places - old))
        if not bool(high.any()):
            return one
        other = np.minimum(places + 1, self.last) - old
        return one * low + values.index_select(axis, torch.from_numpy(other)) * high


def taps_of(
    source: torch.Tensor,
    target: torch.Tensor,
    shape: Sequence[int],
    new_shape: Sequence[int],
    mode: str,
) -> list[Taps]:
    """Taps of every axis, as `SpatialResample` with the padding mode `border` has them.

    Args:
        source: affine of the image.
        target: affine of the new grid, which lies along the axes of the old.
        shape: sides of the image, px.
        new_shape: sides of the new grid, px.
        mode: `"bilinear"` or `"nearest"`.

    Raises:
        ValueError: the new grid is turned against the old.
    """
    rank = len(shape)
    old, new = (to_affine_nd(rank, affine.numpy()) for affine in (source, target))
    xform = np.linalg.solve(old, new)  # new index -> old index
    if np.abs(xform[:rank, :rank] - np.diag(np.diag(xform)[:rank])).max() > 1e-6:
        raise ValueError("the new grid is turned against the image's: resample the file beforehand")
    if tuple(shape) == tuple(new_shape) and np.allclose(xform, np.eye(rank + 1), atol=_UNCHANGED):
        return [_picked(np.arange(side), side) for side in shape]
    return [
        _axis(xform[axis, axis], xform[axis, rank], (side, new_side), rank, mode)
        for axis, (side, new_side) in enumerate(zip(shape, new_shape, strict=True))
    ]


def resample_window(
    values: torch.Tensor, taps: Sequence[Taps], box: Box, starts: Sequence[int]
) -> torch.Tensor:
    """A box of the new grid.

    Args:
        values: old pixels `(C, *sides)` that hold what the box needs.
        taps: of every axis.
        box: in the new grid, px.
        starts: where `values` begin in the old grid, px.

    Returns:
        `(C, *sides of the box)`.
    """
    for axis, (tap, new, old) in enumerate(zip(taps, box, starts, strict=True), start=1):
        values = tap.apply(values, axis, new, old)
    return values


def _axis(ratio: float, offset: float, sides: tuple[int, int], rank: int, mode: str) -> Taps:
    """Taps of one axis, found on a line of odd and even pixels as thin as an image can be."""
    side, new_side = sides
    theta = torch.eye(rank + 1)
    theta[0, 0], theta[0, rank] = ratio, offset
    places = torch.arange(side, dtype=torch.float32)
    line = torch.stack([places, places % 2, 1 - places % 2])  # (3, N)
    resample = AffineTransform(
        normalized=False, mode=mode, padding_mode="border", align_corners=False,
        reverse_indexing=True,
    )  # fmt: skip
    thin = line.view(1, 3, side, *[1] * (rank - 1))
    found = resample(thin, theta=theta, spatial_size=(new_side, *[1] * (rank - 1)))
    place, odd, even = found.reshape(3, new_side)
    if mode == "nearest":
        return _picked(place.round().long().numpy(), side)
    near = place.round().long()
    # Where a pixel is all but hit, which neighbour has the rest shows in the place alone.
    hit = torch.where(near % 2 == 1, odd, even) > 0.99
    first = torch.where(hit, near - (place < near).long(), place.floor().long())
    first = first.clamp(0, side - 1)
    starts_odd = first % 2 == 1
    weights = torch.stack([torch.where(starts_odd, odd, even), torch.where(starts_odd, even, odd)])
    return Taps(first.numpy(), weights, side - 1)


def _picked(places: np.ndarray, side: int) -> Taps:
    weights = torch.stack([torch.ones(len(places)), torch.zeros(len(places))])
    return Taps(places, weights, side - 1)
