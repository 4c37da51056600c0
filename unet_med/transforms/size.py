"""Resampling to the working pixel size of a network, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import InvertibleTransform, MapTransform, SpatialResample
from monai.utils import TransformBackends, ensure_tuple_rep

from unet_med.data.array_writer import UNITS
from unet_med.data.pixel_size import FAR, MICROMETRES, cannot_become, in_words, states_size
from unet_med.geometry.plain import plain
from unet_med.precision import without_autocast
from unet_med.transforms.anti_aliasing import sigmas, smooth, smoothed
from unet_med.transforms.grid import knows_pixel_size, on_grid_of
from unet_med.transforms.majority import most_frequent
from unet_med.transforms.resampling import resample_window, taps_of
from unet_med.transforms.tensors import AnyImage, labels_of, tensor_of, tracked
from unet_med.transforms.windowed import Box, Found, Windowed

Mode = Literal["bilinear", "nearest"]
_UNKNOWN = (
    "the pixel size is unknown{}, so the image cannot be resampled to {}: give it to the reader "
    "(pixel_size of AutoReader, --pixel-size of unet-med), or save the file with it (in Fiji: "
    "Image > Properties)"
)
_FAR = (
    "the file says pixels of {0} {2}, which are to become {1} {2}: images of one kind are no more "
    "than {3:g} times apart, so one of both is wrong; save the file with its true pixel size (in "
    "Fiji: Image > Properties), or train with --scale, which needs none"
)


class ElementSize(InvertibleTransform):
    """Resample an image to a given pixel size, or by a factor.

    Falk et al. 2019 bring every image to the network's element size and the result
    back to the image's; a factor does that for images that do not say their pixel size.
    The centre of the image stays where it is; its sides are
    rounded to whole pixels. MONAI's `Spacing` does nothing where old and new size
    differ by less than 0.001 of the affine's unit (4 nm pixels in micrometres); the
    grid is computed here, MONAI's `SpatialResample` fills it and remembers the way
    back. Before an image becomes smaller by a factor f along an axis, a Gaussian of
    (f - 1) / 2 px smooths it against aliasing, as in scikit-image's `resize`. A label
    takes the value that covers most of the new pixel (the nearest pixel's, where values
    cover as much, and in pixels that become smaller): the nearest pixel alone would shift
    objects by half a pixel where f is even.

    Args:
        element_size: pixel size; one, or one an axis; None: `scale` says it.
        mode: ``"bilinear"``, or ``"nearest"`` for labels.
        scale: new pixels an old one along each axis, such as 0.5 for half as many; one, or
            one an axis; in place of `element_size`.
        unit: of `element_size`, ``"um"`` or ``"mm"``; None: that of the image's affine
            (``meta["spatial_unit"]``).
        spatial_dims: of the network; None: of the image. A volume given to a 2-D network
            keeps its third axis.
        anti_aliasing: smooth images that become smaller.

    Raises:
        ValueError: a size or factor that is not positive, both or none; or another unit.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own convention

    def __init__(
        self,
        element_size: float | Sequence[float] | None = None,
        mode: Mode = "bilinear",
        *,
        scale: float | Sequence[float] | None = None,
        unit: str | None = None,
        spatial_dims: int | None = None,
        anti_aliasing: bool = True,
    ) -> None:
        if (element_size is None) == (scale is None):
            raise ValueError(
                f"element_size {element_size} and scale {scale}: one of them says how large the "
                "new pixels are, the other is None"
            )
        if unit not in (None, *UNITS):
            raise ValueError(f"unit {unit!r} of element_size is not one of {UNITS}")
        self.element_size = _positive("element_size", element_size)
        self.scale = _positive("scale", scale)
        self.mode: Mode = mode
        self.unit = unit
        self.spatial_dims = spatial_dims
        self.anti_aliasing = anti_aliasing
        self.resample = SpatialResample(
            mode=mode, padding_mode="border", align_corners=False, dtype=np.float32
        )

    def __call__(self, img: AnyImage, mode: Mode | None = None) -> torch.Tensor:
        """Resample an image.

        Args:
            img: `(C, *S)`, a MetaTensor whose affine holds the pixel size; with `scale` an array
                or a tensor will do.
            mode: instead of the transform's own.

        Returns:
            `(C, *S')`, float32; labels (integers, ``"nearest"``) keep their dtype.

        Raises:
            ValueError: the pixel size is unknown, or so far from the new one that one of them
                is wrong (`unet_med.data.pixel_size.far_apart`), the number of axes differs, or
                labels are too large for MONAI's resampling.
        """
        mode = mode or self.mode
        known = knows_pixel_size(img)
        placed = cast(MetaTensor, tensor_of(img)) if known else self._assumed(img)
        if mode == "nearest" and not placed.is_floating_point():
            largest = int(labels_of(placed).abs().max())  # in torch a uint8 is more than 2**24
            if largest > 2**24:
                raise ValueError(f"label {largest} exceeds 2**24: number labels from 1 up first")
        flat = _laid_flat(placed)
        affine, shape = self._grid_of(flat.affine, flat.shape[1:], flat.meta)
        old = smoothed(flat, affine) if self.anti_aliasing and mode == "bilinear" else flat
        with without_autocast(old.device):
            resampled = self.resample(old, dst_affine=affine, spatial_size=shape, mode=mode)
        out = cast(MetaTensor, resampled)
        if mode == "nearest":
            out = _covering(old, out, affine)
        if flat is not placed:
            out.affine = _moved(affine, flat.affine, placed.affine)
        return _with_dtype_of(placed, out, mode)

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        """Back to the shape and affine before the transform, with the mode used then."""
        mode = self.resample.get_most_recent_transform(data)["extra_info"]["mode"]
        placed = cast(MetaTensor, data)
        flat = _laid_flat(placed)
        with without_autocast(flat.device):
            out = cast(MetaTensor, self.resample.inverse(flat))
        if flat is not placed:
            out.affine = _moved(out.affine, flat.affine, placed.affine)
        return _with_dtype_of(data, out, mode)

    def by_window(self, image: Windowed, found: Found) -> Windowed:
        """The resampled image, window by window, equal to the whole to rounding.

        Raises:
            ValueError: see a call.
        """
        if not self.scale and not states_size({"affine": image.affine, **image.meta}):
            raise ValueError(self._unknown(image.meta))
        flat = _flat_affine(image.affine, image.shape)
        affine, shape = self._grid_of(flat, image.shape, image.meta)
        taps = taps_of(flat, affine, image.shape, shape, "bilinear")
        widths = sigmas(flat, affine, len(shape)) if self.anti_aliasing else []
        reaches = [int(4 * sigma + 0.5) for sigma in widths or [0.0] * len(shape)]  # scipy's

        def read(box: Box) -> torch.Tensor:
            needed = []
            for tap, side, reach, length in zip(taps, box, reaches, image.shape, strict=True):
                start, stop = tap.needed(*side)
                needed.append((max(0, start - reach), min(length, stop + reach)))
            pixels = smooth(image.read(tuple(needed)), widths)
            return resample_window(pixels, taps, box, [start for start, _ in needed])

        placed = affine if flat is image.affine else _moved(affine, flat, image.affine)
        return replace(image, read=read, shape=tuple(shape), affine=placed)

    def back_by_window(self, image: Windowed, to: Windowed, mode: Mode) -> Windowed:
        """A result on the new grid, brought back to the old one window by window.

        Args:
            image: the result, on the grid of `by_window`.
            to: the image that `by_window` was given.
            mode: ``"bilinear"``, or ``"nearest"`` for labels.
        """
        flat = _flat_affine(to.affine, to.shape)
        source = image.affine if flat is to.affine else _moved(image.affine, to.affine, flat)
        taps = taps_of(source, flat, image.shape, to.shape, mode)

        def read(box: Box) -> torch.Tensor:
            needed = tuple(tap.needed(*side) for tap, side in zip(taps, box, strict=True))
            values = image.read(needed)
            return resample_window(values, taps, box, [start for start, _ in needed])

        return replace(image, read=read, shape=to.shape, affine=to.affine)

    def _assumed(self, img: AnyImage) -> MetaTensor:
        """An image that does not say its pixel size, as one of pixels of size 1."""
        if not self.scale:
            raise ValueError(self._unknown(getattr(img, "meta", {})))
        return tracked(tensor_of(img))

    def _unknown(self, meta: Mapping[str, Any]) -> str:
        """What is said of an image that does not state its pixel size, or not of each axis."""
        axes = meta.get("unknown_axes")
        return _UNKNOWN.format(f" along {axes}" if axes else "", self.element_size)

    def _grid_of(
        self, affine: torch.Tensor, shape: Sequence[int], meta: Mapping[str, Any]
    ) -> tuple[torch.Tensor, list[int]]:
        """Affine and sides of the new pixel grid, centred on the old one."""
        old = affine_to_spacing(affine, len(shape)).tolist()
        ratios = self._ratios(old, meta)
        ratios += [1.0] * (len(old) - len(ratios))  # axes that the network does not see
        to_old = torch.eye(len(affine), dtype=affine.dtype)  # new index -> old index
        sides = []
        for axis, (side, ratio) in enumerate(zip(shape, ratios, strict=True)):
            sides.append(max(1, round(side / ratio)))
            to_old[axis, axis] = ratio
            to_old[axis, -1] = ((side - 1) - (sides[-1] - 1) * ratio) / 2
        return affine @ to_old, sides

    def _ratios(self, old: Sequence[float], meta: Mapping[str, Any]) -> list[float]:
        """Old pixels a new one along the network's axes, of pixels of `old` size."""
        dims = min(self.spatial_dims or 3, len(old))
        name, given = ("scale", self.scale) if self.scale else ("element_size", self.element_size)
        if len(given) not in (1, dims):
            raise ValueError(f"{name} {given} has {len(given)} values for {dims} image axes")
        given *= dims if len(given) == 1 else 1
        if self.scale:
            return [1 / scale for scale in given]
        own = meta.get("spatial_unit") or self.unit
        factor = MICROMETRES[self.unit] / MICROMETRES[own] if self.unit and own else 1.0
        wanted = [size * factor for size in given]
        if cannot_become(old[:dims], wanted):
            raise ValueError(_FAR.format(*map(in_words, (old[:dims], wanted)), own or "", FAR))
        return [size / side for size, side in zip(wanted, old, strict=False)]


class ElementSized(MapTransform, InvertibleTransform):
    """Resample all keys to a given pixel size, or by a factor; see `ElementSize`.

    A label whose file has no room for a pixel size (PNG) and whose shape is that of
    the first image that has one lies on that image's grid, and gets its affine and unit.

    Args:
        keys: images and labels `(C, *S)`.
        element_size: pixel size; one, or one an axis; None: `scale` says it.
        mode: one, or one a key: ``"bilinear"``, or ``"nearest"`` for labels.
        scale: new pixels an old one along each axis, in place of `element_size`.
        unit: of `element_size`, as in `ElementSize`.
        spatial_dims: of the network; None: of the image.
        allow_missing_keys: no error when a key is absent.
    """

    backend = ElementSize.backend

    def __init__(
        self,
        keys: KeysCollection,
        element_size: float | Sequence[float] | None = None,
        *,
        mode: Mode | Sequence[Mode] = "bilinear",
        scale: float | Sequence[float] | None = None,
        unit: str | None = None,
        spatial_dims: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.modes: tuple[Mode, ...] = ensure_tuple_rep(mode, len(self.keys))
        self.sizer = ElementSize(element_size, scale=scale, unit=unit, spatial_dims=spatial_dims)

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
                img = on_grid_of(known[0], img)
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


def _positive(name: str, given: float | Sequence[float] | None) -> tuple[float, ...]:
    """One number, or one an axis; none where none is given."""
    if given is None:
        return ()
    given = plain(given)
    numbers = tuple(given) if isinstance(given, Sequence) else (given,)
    if not numbers or not all(number > 0 for number in numbers):
        raise ValueError(f"{name} {given} is not positive")
    return tuple(float(number) for number in numbers)


def _laid_flat(img: MetaTensor) -> MetaTensor:
    """A plane that stands in space, as one of X and Y around 0; what lies in these stays as it is.

    MONAI's resampling takes of a plane's affine the rows of X and Y alone, which say nothing of
    a sagittal or coronal one.
    """
    affine = _flat_affine(img.affine, img.shape[1:])
    if affine is img.affine:
        return img
    flat = img.clone()
    flat.affine = affine
    return flat


def _flat_affine(affine: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Affine of an image of such sides laid flat; the same where it lies already."""
    dims = len(shape)
    sizes = torch.linalg.norm(affine[:-1, :dims], dim=0)
    if torch.allclose(torch.linalg.norm(affine[:dims, :dims], dim=0), sizes):
        return affine
    flat = torch.eye(len(affine), dtype=affine.dtype)
    for axis, (size, side) in enumerate(zip(sizes, shape, strict=True)):
        flat[axis, axis], flat[axis, -1] = size, -size * (side - 1) / 2
    return flat


def _moved(affine: torch.Tensor, own: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
    """An affine, with the grid of affine `own` brought to where `to` has it."""
    return to @ torch.linalg.solve(own, affine.to(own))


def _covering(label: MetaTensor, picked: MetaTensor, affine: torch.Tensor) -> MetaTensor:
    """A label of which the nearest pixels were `picked`, with the values that cover most."""
    to_old = np.linalg.solve(label.affine.numpy(), affine.numpy())  # new index -> old index
    grid = [(to_old[axis, axis], to_old[axis, -1]) for axis in range(label.ndim - 1)]
    old, near = (values.detach().cpu().numpy() for values in (label, picked))
    values = torch.from_numpy(most_frequent(old, near, grid))
    return cast(MetaTensor, picked.clone().copy_(values))


def _with_dtype_of(img: torch.Tensor, out: torch.Tensor, mode: str) -> torch.Tensor:
    """Give resampled labels their integer dtype back (MONAI returns float32)."""
    return out.to(img.dtype) if mode == "nearest" and not img.is_floating_point() else out


ElementSizeD = ElementSizeDict = ElementSized
