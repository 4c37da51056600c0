"""Resampling to the working pixel size of a network, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeGuard

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import InvertibleTransform, MapTransform, SpatialResample
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from scipy import ndimage

from unet_med.data.array_writer import UNITS
from unet_med.data.pixel_size import MICROMETRES
from unet_med.transforms.resampling import resample_window, taps_of
from unet_med.transforms.windowed import Box, Found, Windowed

__all__ = ["ElementSize", "ElementSizeD", "ElementSizeDict", "ElementSized"]

Mode = Literal["bilinear", "nearest"]
_UNKNOWN = (
    "the pixel size is unknown, so the image cannot be resampled to {}: give it to the reader "
    "(pixel_size of AutoReader, --pixel-size of unet-med), or save the file with it (in Fiji: "
    "Image > Properties)"
)


class ElementSize(InvertibleTransform):
    """Resample an image to a given pixel size.

    Falk et al. 2019 bring every image to the network's element size and the result
    back to the image's. The centre of the image stays where it is; its sides are
    rounded to whole pixels. MONAI's `Spacing` does nothing where old and new size
    differ by less than 0.001 of the affine's unit (4 nm pixels in micrometres); the
    grid is computed here, MONAI's `SpatialResample` fills it and remembers the way
    back. Before an image becomes smaller by a factor f along an axis, a Gaussian of
    (f - 1) / 2 px smooths it against aliasing, as in scikit-image's `resize`; labels take
    the nearest pixel.

    Args:
        element_size: pixel size; one, or one an axis.
        mode: ``"bilinear"``, or ``"nearest"`` for labels.
        unit: of `element_size`, ``"um"`` or ``"mm"``; None: that of the image's affine
            (``meta["spatial_unit"]``).
        spatial_dims: of the network; None: of the image. A volume given to a 2-D network
            keeps its third axis.
        anti_aliasing: smooth images that become smaller.

    Raises:
        ValueError: a size that is not positive, or another unit.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own convention

    def __init__(
        self,
        element_size: float | Sequence[float],
        mode: Mode = "bilinear",
        *,
        unit: str | None = None,
        spatial_dims: int | None = None,
        anti_aliasing: bool = True,
    ) -> None:
        sizes = element_size if isinstance(element_size, Sequence) else (element_size,)
        if not sizes or not all(size > 0 for size in sizes):
            raise ValueError(f"element_size {element_size} is not positive")
        if unit not in (None, *UNITS):
            raise ValueError(f"unit {unit!r} of element_size is not one of {UNITS}")
        self.element_size = tuple(float(size) for size in sizes)
        self.mode: Mode = mode
        self.unit = unit
        self.spatial_dims = spatial_dims
        self.anti_aliasing = anti_aliasing
        self.resample = SpatialResample(
            mode=mode, padding_mode="border", align_corners=False, dtype=np.float32
        )

    def __call__(self, img: torch.Tensor, mode: Mode | None = None) -> torch.Tensor:
        """Resample an image.

        Args:
            img: `(C, *S)`, a MetaTensor whose affine holds the pixel size.
            mode: instead of the transform's own.

        Returns:
            `(C, *S')`, float32; labels (integers, ``"nearest"``) keep their dtype.

        Raises:
            ValueError: the pixel size is unknown, the number of axes differs, or labels
                are too large for MONAI's resampling.
        """
        mode = mode or self.mode
        if not knows_pixel_size(img):
            raise ValueError(_UNKNOWN.format(self.element_size))
        if mode == "nearest" and not img.is_floating_point() and img.abs().max() > 2**24:
            raise ValueError(f"label {int(img.max())} exceeds 2**24: number labels from 1 up first")
        affine, shape = self._grid(img)
        if self.anti_aliasing and mode == "bilinear":
            img = _smoothed(img, affine)
        out = self.resample(img, dst_affine=affine, spatial_size=shape, mode=mode)
        return _with_dtype_of(img, out, mode)

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        """Back to the shape and affine before the transform, with the mode used then."""
        mode = self.resample.get_most_recent_transform(data)["extra_info"]["mode"]
        return _with_dtype_of(data, self.resample.inverse(data), mode)

    def by_window(self, image: Windowed, found: Found) -> Windowed:
        """The resampled image, window by window, equal to the whole to rounding.

        Raises:
            ValueError: see a call.
        """
        if image.meta.get("spacing_source") == "assumed":
            raise ValueError(_UNKNOWN.format(self.element_size))
        affine, shape = self._grid_of(image.affine, image.shape, image.meta)
        taps = taps_of(image.affine, affine, image.shape, shape, "bilinear")
        sigmas = _sigmas(image.affine, affine, len(shape)) if self.anti_aliasing else []
        reaches = [int(4 * sigma + 0.5) for sigma in sigmas or [0.0] * len(shape)]  # scipy's

        def read(box: Box) -> torch.Tensor:
            needed = []
            for tap, side, reach, length in zip(taps, box, reaches, image.shape, strict=True):
                start, stop = tap.needed(*side)
                needed.append((max(0, start - reach), min(length, stop + reach)))
            pixels = _smooth(image.read(tuple(needed)), sigmas)
            return resample_window(pixels, taps, box, [start for start, _ in needed])

        return replace(image, read=read, shape=tuple(shape), affine=affine)

    def back_by_window(self, image: Windowed, to: Windowed, mode: Mode) -> Windowed:
        """A result on the new grid, brought back to the old one window by window.

        Args:
            image: the result, on the grid of `by_window`.
            to: the image that `by_window` was given.
            mode: ``"bilinear"``, or ``"nearest"`` for labels.
        """
        taps = taps_of(image.affine, to.affine, image.shape, to.shape, mode)

        def read(box: Box) -> torch.Tensor:
            needed = tuple(tap.needed(*side) for tap, side in zip(taps, box, strict=True))
            values = image.read(needed)
            return resample_window(values, taps, box, [start for start, _ in needed])

        return replace(image, read=read, shape=to.shape, affine=to.affine)

    def _grid(self, img: MetaTensor) -> tuple[torch.Tensor, list[int]]:
        return self._grid_of(img.affine, img.shape[1:], img.meta)

    def _grid_of(
        self, affine: torch.Tensor, shape: Sequence[int], meta: Mapping[str, Any]
    ) -> tuple[torch.Tensor, list[int]]:
        """Affine and sides of the new pixel grid, centred on the old one."""
        old = affine_to_spacing(affine, len(shape)).tolist()
        new = self._sizes(len(shape), meta)
        new += old[len(new) :]  # axes that the network does not see
        to_old = torch.eye(len(affine), dtype=affine.dtype)  # new index -> old index
        sides = []
        for axis, side in enumerate(shape):
            ratio = new[axis] / old[axis]
            sides.append(max(1, round(side / ratio)))
            to_old[axis, axis] = ratio
            to_old[axis, -1] = ((side - 1) - (sides[-1] - 1) * ratio) / 2
        return affine @ to_old, sides

    def _sizes(self, axes: int, meta: Mapping[str, Any]) -> list[float]:
        """New pixel size of the network's axes, in the unit of the image's affine."""
        dims = min(self.spatial_dims or 3, axes)
        if len(self.element_size) not in (1, dims):
            raise ValueError(
                f"element_size {self.element_size} has {len(self.element_size)} values for "
                f"{dims} image axes"
            )
        own = meta.get("spatial_unit") or self.unit
        factor = MICROMETRES[self.unit] / MICROMETRES[own] if self.unit and own else 1.0
        sizes = self.element_size * (dims if len(self.element_size) == 1 else 1)
        return [size * factor for size in sizes]


class ElementSized(MapTransform, InvertibleTransform):
    """Resample all keys to a given pixel size; see `ElementSize`.

    A label whose file has no room for a pixel size (PNG) and whose shape is that of
    the first image that has one lies on that image's grid, and gets its affine.

    Args:
        keys: images and labels `(C, *S)`.
        element_size: pixel size; one, or one an axis.
        mode: one, or one a key: ``"bilinear"``, or ``"nearest"`` for labels.
        unit: of `element_size`, as in `ElementSize`.
        spatial_dims: of the network; None: of the image.
        allow_missing_keys: no error when a key is absent.
    """

    backend = ElementSize.backend

    def __init__(
        self,
        keys: KeysCollection,
        element_size: float | Sequence[float],
        *,
        mode: Mode | Sequence[Mode] = "bilinear",
        unit: str | None = None,
        spatial_dims: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.modes: tuple[Mode, ...] = ensure_tuple_rep(mode, len(self.keys))
        self.sizer = ElementSize(element_size, unit=unit, spatial_dims=spatial_dims)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample every key.

        Raises:
            ValueError: a pixel size is unknown; the message names the key.
        """
        d = dict(data)
        known = [d[key] for key in self.key_iterator(d) if knows_pixel_size(d[key])]
        for key, mode in self.key_iterator(d, self.modes):
            img = d[key]
            if not knows_pixel_size(img) and known and img.shape[1:] == known[0].shape[1:]:
                img = convert_to_tensor(img, track_meta=True).clone()
                img.affine = known[0].affine
                img.meta.pop("spacing_source", None)
            try:
                d[key] = self.sizer(img, mode)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        return d

    def by_window(self, image: Windowed, found: Found) -> Windowed:
        """See `ElementSize.by_window`."""
        return self.sizer.by_window(image, found)

    def back_by_window(self, image: Windowed, to: Windowed, mode: Mode) -> Windowed:
        """See `ElementSize.back_by_window`."""
        return self.sizer.back_by_window(image, to, mode)

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Every key back to its shape and affine before the transform."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.sizer.inverse(d[key])
        return d


def _smoothed(img: MetaTensor, affine: torch.Tensor) -> MetaTensor:
    """An image without what pixels of the size of `affine` cannot hold."""
    sigmas = _sigmas(img.affine, affine, img.ndim - 1)
    if not sigmas:
        return img
    out: MetaTensor = convert_to_dst_type(_smooth(img, sigmas), img, dtype=torch.float32)[0]
    return out


def _sigmas(affine: torch.Tensor, new_affine: torch.Tensor, dims: int) -> list[float]:
    """Gaussian of each axis, px; none where the pixels do not become larger."""
    old, new = (affine_to_spacing(a, dims).tolist() for a in (affine, new_affine))
    sigmas = [max(0.0, (n / o - 1) / 2) for n, o in zip(new, old, strict=True)]
    return sigmas if any(sigma > 1e-3 for sigma in sigmas) else []


def _smooth(img: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    """Pixels `(C, *S)` in float32, smoothed where there are `sigmas`."""
    pixels = img.detach().cpu().numpy().astype(np.float32, copy=False)
    if sigmas:
        pixels = ndimage.gaussian_filter(pixels, [0.0, *sigmas], mode="nearest")
    return torch.from_numpy(pixels)


def knows_pixel_size(img: object) -> TypeGuard[MetaTensor]:
    """Whether the affine of an image comes from its file, not from an assumption."""
    return isinstance(img, MetaTensor) and img.meta.get("spacing_source") != "assumed"


def _with_dtype_of(img: torch.Tensor, out: torch.Tensor, mode: str) -> torch.Tensor:
    """Give resampled labels their integer dtype back (MONAI returns float32)."""
    return out.to(img.dtype) if mode == "nearest" and not img.is_floating_point() else out


ElementSizeD = ElementSizeDict = ElementSized
