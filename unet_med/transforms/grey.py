"""Random grey-value curves: they change stain, exposure and gain, not the order of brightness."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import RandomizableTransform
from monai.utils import TransformBackends, convert_to_tensor

from unet_med.data.grey_values import RARE
from unet_med.geometry.spread import spread_step
from unet_med.transforms.shared_random_state import SharedRandomTransform, no_draw
from unet_med.transforms.tensors import AnyImage, as_tensor, with_metadata_of

Range = Sequence[float]  # (least, greatest)
Number = float | torch.Tensor  # of one image, or of each of a batch
SAMPLES = 4096  # values of an image that tell its range, evenly spread: to sort all takes longer


class RandGreyValue(RandomizableTransform):
    """Map grey values through a random, strictly increasing curve.

    The paper varies grey values (Ronneberger et al. 2015, section 3.1); the method is that
    of the authors' caffe_unet. The image's range is scaled to 0..1; black and white move to
    random levels; the curve between them is bent at points found by bisection, and every
    piece keeps its slope within limits.

    Args:
        prob: of a change.
        black: limits of the level that the darkest value moves to, of the range.
        white: limits of the level that the brightest value moves to.
        slope: least and greatest slope of the curve, the least above 0.
        levels: rounds of bisection; the curve has ``2**levels`` straight pieces.
        value_range: grey values taken as 0 and 1; those of the image by default, whatever a
            few hot pixels say (`own_range`). Values beyond continue the outermost pieces.

    Raises:
        ValueError: limits that are out of order, or that no curve can keep.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own convention

    def __init__(
        self,
        prob: float = 1.0,
        black: Range = (-0.05, 0.05),
        *,
        white: Range = (0.95, 1.05),
        slope: Range = (0.8, 1.2),
        levels: int = 2,
        value_range: Range | None = None,
    ) -> None:
        super().__init__(prob)
        for name, limits in (("black", black), ("white", white), ("slope", slope)):
            _check_limits(name, limits)
        if value_range is not None and not value_range[0] < value_range[1]:
            raise ValueError(f"value_range {tuple(value_range)} is empty; it is (least, greatest)")
        least, greatest = white[0] - black[1], white[1] - black[0]
        if not 0 < slope[0] <= least <= greatest <= slope[1]:
            raise ValueError(
                f"slope {tuple(slope)} does not hold the rise from black to white, which is "
                f"{least:g} to {greatest:g}; widen slope to at least that, above 0"
            )
        if levels < 0:
            raise ValueError(f"levels {levels} is less than 0")
        self.black, self.white, self.slope = black, white, slope
        self.levels = levels
        self.value_range = value_range
        self._curve: torch.Tensor | None = None

    def randomize(self, data: Any = None) -> None:
        """Draw whether and how values change; the data are not read."""
        super().randomize(None)
        if self._do_transform:
            self._curve = torch.tensor(self._draw_curve(), dtype=torch.float64)

    def _draw_curve(self) -> list[float]:
        """Heights of the curve at evenly spaced positions from 0 to 1."""
        (black, lighter), (white, brighter), (shallow, steep) = self.black, self.white, self.slope
        curve = [self.R.uniform(black, lighter), self.R.uniform(white, brighter)]
        for level in range(1, self.levels + 1):
            step = 0.5**level
            finer = curve[:1]
            for low, high in pairwise(curve):
                # both halves keep their slope within the limits
                least = max(low + shallow * step, high - steep * step)
                greatest = min(low + steep * step, high - shallow * step)
                finer += [self.R.uniform(least, max(least, greatest)), high]
            curve = finer
        return curve

    def curve(self) -> torch.Tensor:
        """Heights of the last draw's curve, `2**levels + 1` of them; NaN: no change.

        Raises:
            RuntimeError: nothing was drawn yet.
        """
        if not self._do_transform:
            return torch.full((2**self.levels + 1,), math.nan, dtype=torch.float64)
        if self._curve is None:
            raise no_draw()
        return self._curve

    def __call__(self, img: AnyImage, randomize: bool = True) -> torch.Tensor:
        """Change the grey values of an image.

        Args:
            img: `(C, *S)`; all channels follow one curve.
            randomize: draw anew; False repeats the last draw.

        Returns:
            `(C, *S)` in the image's own units, floating (float32 for integers), not
            clipped; an image of one grey value stays unchanged.
        """
        img = as_tensor(img)
        if randomize:
            self.randomize()
        if not img.is_floating_point():
            img = img.float()  # one dtype, changed or not
        if not self._do_transform or img.numel() == 0:
            return img
        curve, plain = self.curve(), convert_to_tensor(img, track_meta=False)
        low, high = self.value_range or (float(end) for end in own_range(plain[None]))
        if low == high:
            return img
        return with_metadata_of(img, _follow(curve, plain, low, high))


class RandGreyValued(SharedRandomTransform):
    """Map all keys through one random curve; see `RandGreyValue`.

    Args:
        keys: images `(C, *S)`.
        prob: of a change.
        black: limits of the level that the darkest value moves to.
        white: limits of the level that the brightest value moves to.
        slope: least and greatest slope of the curve.
        levels: rounds of bisection.
        value_range: grey values taken as 0 and 1; each image's own by default.
        allow_missing_keys: no error when a key is absent.
    """

    backend = RandGreyValue.backend
    drawn: RandGreyValue

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        *,
        black: Range = (-0.05, 0.05),
        white: Range = (0.95, 1.05),
        slope: Range = (0.8, 1.2),
        levels: int = 2,
        value_range: Range | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        drawn = RandGreyValue(
            prob, black, white=white, slope=slope, levels=levels, value_range=value_range
        )
        super().__init__(keys, drawn, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Change every key.

        Args:
            data: dictionary with the keys.
            randomize: draw anew; False repeats the last draw.
        """
        d = dict(data)
        if randomize:
            self.randomize()
        for key in self.key_iterator(d):
            d[key] = self.drawn(d[key], randomize=False)
        return d


def own_range(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and greatest grey value of each image, hot and dead pixels aside, `(B, 1)`.

    Few values that lie further beyond all others than these are apart do not count: the range
    reaches that far and no further. So it is that of all values in most images. Where all but such
    few are equal they are the signal; of a single one, least and greatest are the others' value.

    Args:
        images: `(B, C, *S)`, floating, not empty; the channels of an image have one range.
    """
    values = images.flatten(1)
    ends = values.new_empty(len(values), 2)
    torch.aminmax(values, dim=1, keepdim=True, out=(ends[:, :1], ends[:, 1:]))
    sample = values[:, :: spread_step(images.shape[1:], SAMPLES)].sort(dim=1).values
    rare = int(RARE * sample.shape[1])
    inner, outer = (_without(sample, few) for few in (rare, min(rare, 1)))
    inner = torch.where(inner[:, :1] == inner[:, -1:], outer, inner)
    low, high = inner[:, :1], inner[:, -1:]
    # low - span and high + span in a kernel each, and both ends in one
    within = ends.clamp(torch.lerp(low, high, -1.0), torch.lerp(low, high, 2.0))
    return within[:, :1], within[:, 1:]


def _without(ordered: torch.Tensor, few: int) -> torch.Tensor:
    """Least and greatest of ordered values `(B, N)` but for a few at either end, `(B, 2 or 1)`."""
    return ordered[:, few :: max(1, ordered.shape[1] - 1 - 2 * few)]


def change_batch(
    images: torch.Tensor, curves: torch.Tensor, value_range: Range | None = None
) -> torch.Tensor:
    """What `RandGreyValue` does, for a batch where it is; the host waits for nothing.

    Args:
        images: `(B, C, *S)`, floating.
        curves: `(B, heights)` of `RandGreyValue.curve`, float64.
        value_range: as in `RandGreyValue`.
    """
    if value_range is not None:
        low, high = (torch.full_like(curves[:, :1], end) for end in value_range)
    else:
        low, high = own_range(images)
    changed = _follow(curves, images, low, high)  # NaN: no curve, or an image of one value
    return torch.where(changed.isnan(), images, changed)


def _follow(curve: torch.Tensor, values: torch.Tensor, low: Number, high: Number) -> torch.Tensor:
    """Map `values` through the curve; beyond `low` and `high` its outermost pieces continue.

    One curve `(n,)` and numbers, or those of a batch, `(B, n)` and `(B, 1)`.
    """
    pieces, span = curve.shape[-1] - 1, high - low
    heights = low + span * curve
    rises = heights.diff()
    parts: list[Number] = [low, span / pieces]
    parts += [heights[..., :1], rises[..., :1], rises.diff()]
    first, width, black, rise, *bends = _numbers(parts, values)
    at = (values - first) / width  # in pieces
    out = at * rise + black
    for node, bend in enumerate(bends, start=1):
        beyond = (at - node).clamp_(min=0)
        if isinstance(bend, torch.Tensor):
            out.addcmul_(beyond, bend)
        else:
            out.add_(beyond, alpha=bend)
    return out


def _numbers(parts: Sequence[Number], values: torch.Tensor) -> list[Number]:
    """Numbers one by one: of one image, or of each of a batch, where they lie beside it."""
    if not isinstance(parts[0], torch.Tensor):
        lists = (part.tolist() if isinstance(part, torch.Tensor) else [part] for part in parts)
        return [number for each in lists for number in each]
    tables = [part for part in parts if isinstance(part, torch.Tensor)]
    columns = torch.cat(tables, dim=1).to(values.dtype).unbind(1)  # cast once
    return [_beside(column, values) for column in columns]


def _beside(column: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """`(B,)` as it broadcasts over images `(B, C, *S)`."""
    return column.view(-1, *[1] * (images.ndim - 1))


def _check_limits(name: str, limits: Range) -> None:
    if len(limits) != 2 or not -math.inf < limits[0] <= limits[1] < math.inf:
        raise ValueError(f"{name} {tuple(limits)} is no pair of (least, greatest)")


RandGreyValueD = RandGreyValueDict = RandGreyValued
