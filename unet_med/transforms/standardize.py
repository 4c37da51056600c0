"""Zero mean and unit standard deviation, by the statistics of the whole image or a fixed scale."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import Transform

from unet_med.data.entries import NOTES
from unet_med.data.grey_values import ROBUST, SAMPLES, inner_scale, is_ruled
from unet_med.geometry.spread import spread_step
from unet_med.transforms.check import name_of
from unet_med.transforms.keywise import KeywiseTransform
from unet_med.transforms.tensors import AnyImage, tensor_of
from unet_med.transforms.windowed import Box, Found, Windowed

FEW = (  # what to do where few pixels rule an image
    "a few of its pixels, far brighter or darker than all others, rule its contrast{}: if they are "
    "hot or dead, remove them (in Fiji Process > Noise > Remove Outliers), or set intensity to "
    '["robust"] in configs/inference.json, a word a channel'
)
RULED = "ruled"  # channels that few pixels rule
INNER = 2**15  # pixels of an image or plane that tell a robust scale: to half a hundredth
Scale = Mapping[str, float] | str | None

_log = logging.getLogger(__name__)


class Standardize(Transform):
    """Subtract the mean and divide by the standard deviation of each channel.

    The paper's networks have no normalisation layers and He's initialisation
    expects inputs of unit variance. The statistics are the whole image's: a
    tile's own would make neighbouring tiles disagree. A volume given to a 2-D
    network is a stack of images, each with its own statistics.

    Values of CT mean the same in every image, so its channels have one scale: clipped to `low`
    and `high`, minus `mean`, divided by `std`, as nnU-Net does it.

    A hot pixel of 65535 among a hundred thousand below 400 makes the deviation of all of them, and
    leaves these no contrast. A channel that is `"robust"` has the scale of its image's values
    without hot and dead pixels (`data.grey_values.inner_scale`), of `INNER` of them, evenly spread.

    Args:
        spatial_dims: of the network; None: of the image.
        intensity: of each channel `low`, `high`, `mean` and `std`, `"robust"`, or None for the
            image's own; None: all channels so.

    A constant image becomes 0.

    Raises:
        ValueError: a scale without one of the four, or whose `std` is not positive; or another
            word.
    """

    def __init__(
        self,
        spatial_dims: int | None = None,
        intensity: Sequence[Scale] | None = None,
    ) -> None:
        self.spatial_dims = spatial_dims
        self.intensity = [_checked(scale) for scale in intensity or ()]

    def __call__(self, image: AnyImage) -> torch.Tensor:
        """Standardise `(C, *S)`; float32 out."""
        image = self._clipped(tensor_of(image).to(torch.float32))
        axes = list(range(1, 1 + (self.spatial_dims or image.ndim - 1)))
        mean = image.mean(dim=axes, keepdim=True)
        std = image.std(dim=axes, keepdim=True, correction=0)
        low = image.amin(dim=axes, keepdim=True)
        flat = low == image.amax(dim=axes, keepdim=True)  # whose mean is off by its rounding
        mean, std = torch.where(flat, low, mean), std.masked_fill(flat, 0)
        for channel, scale in self._fixed():
            mean[channel], std[channel] = scale["mean"], scale["std"]
        for channel in self._robust():
            planes = image[channel : channel + 1].flatten(1, len(axes))[0]  # (pixels[, Z])
            step = spread_step(image.shape[1 : 1 + len(axes)], INNER)
            sample = planes[::step].numpy(force=True)
            rows = [inner_scale(_finite(row)) for row in np.atleast_2d(sample.T)]
            low, high, mean[channel], std[channel] = torch.tensor(rows).to(image).T
            image[channel] = image[channel].clamp(low, high)
        return _scaled(image, mean, std)

    def first_pass(self, image: Windowed, boxes: Iterable[Box]) -> dict[str, np.ndarray]:
        """Mean and deviation of an image that is never in memory as a whole, see the module.

        Args:
            image: the image.
            boxes: that together are the image.

        Returns:
            `mean` and `std`, both `(planes, C)`; one row for the whole. Where every channel has
            a fixed scale, no pixel is read for it. With robust ones also `low` and `high`; and
            `ruled`, the channels of own mean and deviation that few pixels rule, if there are any.
        """
        if self.intensity and all(isinstance(scale, Mapping) for scale in self.intensity):
            fixed = [[[scale[name] for _, scale in self._fixed()]] for name in ("mean", "std")]
            return {"mean": np.array(fixed[0]), "std": np.array(fixed[1])}
        by_plane = (self.spatial_dims or len(image.shape)) < len(image.shape)
        robust = self._robust()
        own = sorted(set(range(image.channels)) - {*robust, *dict(self._fixed())})
        sample = _Sample(image, robust, INNER, by_plane=by_plane)
        spread = _Sample(replace(image, read=sample.read), own, SAMPLES, by_plane=False)
        mean, std = mean_and_deviation(replace(image, read=spread.read), boxes, by_plane=by_plane)
        whole = np.sqrt((std**2).mean(0) + mean.var(0))  # (C,), planes have equal sizes
        few = [k for k, row in zip(own, spread.values, strict=True) if is_ruled(row[0], whole[k])]
        ruled = {RULED: np.array(few)} if few else {}
        for channel, scale in self._fixed():
            mean[:, channel], std[:, channel] = scale["mean"], scale["std"]
        if not robust:
            return {"mean": mean, "std": std, **ruled}
        low, high = np.full((2, *mean.shape), np.inf)
        low *= -1
        for k, channel in enumerate(robust):
            rows = [inner_scale(_finite(row)) for row in sample.values[k]]
            low[:, channel], high[:, channel], mean[:, channel], std[:, channel] = np.array(rows).T
        return {"mean": mean, "std": std, "low": low, "high": high, **ruled}

    def by_window(self, image: Windowed, found: Found) -> Windowed:
        """The standardised image, window by window, in the type of the windows that come.

        Args:
            image: the image.
            found: of `first_pass`.
        """

        def read(box: Box) -> torch.Tensor:
            pixels = image.read(box)
            pixels = pixels if pixels.is_floating_point() else pixels.to(torch.float32)
            pixels = self._clipped(pixels)
            planes = slice(*box[-1]) if len(found["mean"]) > 1 else slice(None)
            mean, std = (_row(found[name][planes], pixels) for name in ("mean", "std"))
            if "low" in found:
                low, high = (_row(found[name][planes], pixels) for name in ("low", "high"))
                pixels = pixels.clamp(low, high)
            return _scaled(pixels, mean, std)

        return replace(image, read=read)

    def _fixed(self) -> Iterator[tuple[int, Mapping[str, float]]]:
        """Channels that have a fixed scale, with it."""
        return ((k, scale) for k, scale in enumerate(self.intensity) if isinstance(scale, Mapping))

    def _robust(self) -> list[int]:
        """Channels that have the scale of an image without its hot and dead pixels."""
        return [k for k, scale in enumerate(self.intensity) if scale == ROBUST]

    def _clipped(self, image: torch.Tensor) -> torch.Tensor:
        if not self.intensity:
            return image
        if len(self.intensity) != image.shape[0]:
            raise ValueError(
                f"intensity has {len(self.intensity)} scale(s), the image {image.shape[0]} "
                "channel(s): give one a channel"
            )
        image = image.clone()  # robust channels are clipped later
        for channel, scale in self._fixed():
            image[channel] = image[channel].clamp(scale["low"], scale["high"])
        return image


class Standardized(KeywiseTransform):
    """Dictionary version of `Standardize`.

    Args:
        keys: images `(C, *S)`.
        spatial_dims: of the network; None: of the image.
        allow_missing_keys: no error when a key is absent.
        intensity: of each channel its scale; see `Standardize`.
    """

    rule: Standardize

    def __init__(
        self,
        keys: KeysCollection,
        spatial_dims: int | None = None,
        allow_missing_keys: bool = False,
        intensity: Sequence[Scale] | None = None,
    ) -> None:
        rule = Standardize(spatial_dims, intensity)
        super().__init__(keys, rule, allow_missing_keys=allow_missing_keys)

    def first_pass(self, image: Windowed, boxes: Iterable[Box]) -> dict[str, np.ndarray]:
        """See `Standardize.first_pass`; `notes` say which channels few pixels rule, if any."""
        found = self.rule.first_pass(image, boxes)
        if RULED not in found:
            return found
        notes = [about_ruled(number, image.channels) for number in found[RULED].tolist()]
        said = "; ".join(notes)
        _log.warning("%s is far from what was trained on: %s", name_of(image, "image"), said)
        return {**found, NOTES: np.array(notes, dtype=np.str_)}

    def by_window(self, image: Windowed, found: Found) -> Windowed:
        """See `Standardize.by_window`."""
        return self.rule.by_window(image, found)


def about_ruled(number: int, channels: int) -> str:
    """What is said of a channel that few pixels rule."""
    return FEW.format(f" in channel {number}" if channels > 1 else "")


def mean_and_deviation(
    image: Windowed, boxes: Iterable[Box], *, by_plane: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, in float64.

    Planes are merged as Chan, Golub and LeVeque (1983) do, without cancellation.

    Args:
        image: the image.
        boxes: that together are the image.
        by_plane: of each plane of a volume, its last axis; else of the whole.

    Returns:
        Both `(planes, C)`, one row for the whole; a deviation of 0 stays 0.
    """
    rows = image.shape[-1] if by_plane else 1
    count = np.zeros((rows, 1))
    mean, squares = np.zeros((2, rows, image.channels))
    for box in boxes:
        pixels = image.read(box)  # (C, X, Y[, Z])
        planes = pixels.movedim(-1, 0) if pixels.ndim > 3 else pixels[None]  # (Z, C, X, Y)
        for depth, plane in enumerate(planes):
            row = box[-1][0] + depth if by_plane else 0
            flat = plane.flatten(1).double().numpy()  # (C, pixels), one plane at a time
            low, n = flat.min(-1), flat.shape[-1]  # (C,)
            here = np.where(low == flat.max(-1), low, flat.mean(-1))  # a constant's exactly
            total, step = count[row] + n, here - mean[row]
            spread = ((flat - here[:, None]) ** 2).sum(-1)
            squares[row] += spread + step**2 * count[row] * n / total
            mean[row] += step * (n / total)
            count[row] = total
    return mean, np.sqrt(squares / count)


class _Sample:
    """Pixels of an image that is read box by box: those that its whole has at the same step.

    Args:
        image: the image.
        channels: of which they are.
        most: so many of a plane, or of the whole, at most.
        by_plane: of each plane of a volume; else of the whole.

    Attributes:
        values: `(channels, planes, pixels)`; one row for the whole.
    """

    def __init__(
        self, image: Windowed, channels: Sequence[int], most: int, *, by_plane: bool
    ) -> None:
        self.image, self.channels, self.by_plane = image, list(channels), by_plane
        sides = image.shape[:-1] if by_plane else image.shape
        places = np.arange(0, math.prod(sides), spread_step(sides, most))
        self.places = np.stack(np.unravel_index(places, sides))  # (axes, pixels)
        rows = image.shape[-1] if by_plane else 1
        self.values = np.zeros((len(self.channels), rows, len(places)), np.float32)

    def read(self, box: Box) -> torch.Tensor:
        """The pixels of a box, of which those of the sample are kept."""
        pixels = self.image.read(box)
        if not self.channels:
            return pixels
        own = np.array(box[: len(self.places)])
        first, last = np.searchsorted(self.places[0], own[0])  # places are in the order of rows
        places = self.places[:, first:last]
        inside = ((places >= own[:, :1]) & (places < own[:, 1:])).all(axis=0)
        at = tuple((places - own[:, :1])[:, inside])
        rows = slice(*box[-1]) if self.by_plane else slice(None)
        for k, channel in enumerate(self.channels):
            taken = pixels[channel].numpy(force=True)[at]  # (pixels[, Z])
            kept = self.values[k][rows, first:last]
            kept[:, inside] = taken.T if self.by_plane else taken
        return pixels


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _checked(scale: Scale) -> Scale:
    if scale is None or scale == ROBUST:
        return scale
    if isinstance(scale, str):
        raise ValueError(f"intensity {scale!r} is no scale: give {ROBUST!r}, or four numbers")
    if missing := {"low", "high", "mean", "std"} - set(scale):
        raise ValueError(f"intensity {dict(scale)} has no {min(missing)}")
    if not scale["std"] > 0:
        raise ValueError(f"intensity {dict(scale)}: std is not positive")
    return scale


def _scaled(image: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """The one place where an image is standardised."""
    return (image - mean) / torch.where(std > 0, std, torch.ones_like(std))


def _row(values: np.ndarray, pixels: torch.Tensor) -> torch.Tensor:
    """A number a channel and plane, `(planes, C)`, as `(C, 1, 1, planes)` or `(C, 1, ...)`."""
    rows = torch.from_numpy(values).to(pixels).T  # (C, planes)
    return rows.reshape(rows.shape[0], *[1] * (pixels.ndim - 2), rows.shape[1])


StandardizeD = StandardizeDict = Standardized
