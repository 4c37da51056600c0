"""Arrays of any order of axes as MONAI's images, and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray

from unet_med.data.entries import CHANNEL_NAMES
from unet_med.data.grids import RAS
from unet_med.data.orientation import affine_along
from unet_med.data.plane_kind import PLANES
from unet_med.data.sources import DiskImage
from unet_med.planes import APART, JOINED

NAMELESS = "image.tif"  # results of what is no file's are named after it
ORIENTED_NAMELESS = "image.nii.gz"  # which can state an orientation
_ORDER = "CXYZ"  # MONAI's
_NO_IMAGE = "{} is no image: give a file, a list of files, each a channel, or one array of numbers"


def require_one_image(image: Any) -> None:
    """Refuse lists of anything but files, and batches, whose first axis would count as channels.

    Raises:
        TypeError: a list holds something else, or nothing.
        ValueError: a MetaTensor is a batch.
    """
    if isinstance(image, list | tuple):
        wrong = [each for each in image if not isinstance(each, str | os.PathLike)]
        if wrong or not image:
            what = type(wrong[0]).__name__ if wrong else "nothing"
            raise TypeError(_NO_IMAGE.format(f"a list of {what}"))
    if isinstance(image, MetaTensor) and image.is_batch:
        raise ValueError(
            f"a batch of {len(image)}, where one image is expected: give them one by one "
            "(monai.data.decollate_batch)"
        )


def from_array(
    array: NDArray[np.generic] | torch.Tensor,
    axes: str | None,
    spacing: float | Sequence[float] | None,
    unit: str,
    orientation: str | None = None,
) -> tuple[MetaTensor, str]:
    """An array as `(C, X, Y[, Z])`, float32, and its axes as letters.

    Args:
        array: grey values, of any shape that `axes` names.
        axes: letters of X, Y, Z and C, one an axis; None: ``"YX"``.
        spacing: pixel size, one, or one a spatial axis in the order of `axes`; None: not known.
            One says nothing of planes, which are images of their own then (`data.plane_kind`).
        unit: of `spacing`.
        orientation: where X, Y and Z end, in this order, such as ``"LPS"``; None: not known.

    Raises:
        TypeError: it holds no real numbers.
        ValueError: axes or spacing do not fit the array, which may have no pixels, or an
            orientation has no spacing.
    """
    values = _real_numbers(array)
    axes = _checked_axes(axes, values.ndim)
    space = [axis for axis in axes if axis != "C"]
    order = [axis for axis in _ORDER if axis in axes]
    image = values.permute([axes.index(axis) for axis in order]).to(torch.float32)
    image = image if "C" in axes else image[None]
    sizes, each = _sizes_along(space, spacing)
    if orientation is not None and spacing is None:
        raise ValueError(
            f"orientation {orientation!r} is stated with the pixel size: give spacing as well "
            "(of a layer of napari: its scale and units)"
        )
    along = [size for _, size in sorted(zip(space, sizes, strict=True))]  # X, Y, Z
    affine = affine_along(orientation or RAS, along)
    meta = {
        "filename_or_obj": ORIENTED_NAMELESS if orientation else NAMELESS,
        "spatial_unit": unit,
        "spacing_source": _source_of(spacing, orientation),
        PLANES: JOINED if each else APART,
        "spatial_shape": tuple(image.shape[1:]),
        "original_affine": torch.from_numpy(affine),
    }
    return MetaTensor(image.contiguous(), affine=torch.from_numpy(affine), meta=meta), axes


def _real_numbers(array: Any) -> torch.Tensor:
    """The pixels of an array or tensor, as a tensor."""
    pixels = array if isinstance(array, torch.Tensor) else np.asarray(array)
    if isinstance(pixels, torch.Tensor):
        real = not pixels.is_complex()
    else:
        real = pixels.dtype.kind in "buif"
    if not real:
        raise TypeError(_NO_IMAGE.format(f"{type(array).__name__} of {pixels.dtype}"))
    if 0 in pixels.shape:
        raise ValueError(f"an array of shape {tuple(pixels.shape)} has no pixels")
    return pixels if isinstance(pixels, torch.Tensor) else torch.as_tensor(native(pixels))


def _sizes_along(
    space: Sequence[str], spacing: float | Sequence[float] | None
) -> tuple[list[float], bool]:
    """Pixel size along each spatial axis, 1 where it is not known; and if each has its own."""
    if spacing is None:
        return [1.0] * len(space), False
    sizes = list(np.atleast_1d(spacing).tolist())
    each = len(sizes) == len(space)
    sizes = sizes * len(space) if len(sizes) == 1 else sizes
    if len(sizes) != len(space) or not all(0 < size < np.inf for size in sizes):
        raise ValueError(
            f"spacing {spacing} is not one positive size for each of the spatial axes "
            f"{''.join(space)}"
        )
    return sizes, each


def _source_of(spacing: float | Sequence[float] | None, orientation: str | None) -> str:
    """What `Grid` reads: a header states a place as well, which a given size does not."""
    if spacing is None:
        return "assumed"
    return "given" if orientation is None else "header"


def from_source(source: DiskImage) -> MetaTensor:
    """All pixels of an opened volume, as `unet_med.data.load_image` reads its file."""
    pixels = source.read([slice(None, side) for side in source.shape])  # (C, [Z,] Y, X)
    image = torch.as_tensor(native(pixels)).to(torch.float32)
    image = image.swapaxes(1, -1).contiguous()  # (C, X, Y[, Z])
    return _placed(image, source)


def without_pixels(source: DiskImage) -> MetaTensor:
    """An opened volume as `from_source` gives it, all zeros, which take no memory."""
    image = _placed(torch.zeros(1).expand(source.channels, *source.shape[::-1]), source)
    return MetaTensor(image, meta={**image.meta, **files_of_channels(source)})


def files_of_channels(source: DiskImage) -> dict[str, list[str]]:
    """What an image of several files has in its metadata besides `meta_of`, as readers state it."""
    files = source.identity.get("files")  # of a data list, channel by channel
    return {"files": list(files)} if files else {}


def _placed(image: torch.Tensor, source: DiskImage) -> MetaTensor:
    affine = affine_of(source)
    meta = {**meta_of(source), "spatial_shape": tuple(image.shape[1:]), "original_affine": affine}
    return MetaTensor(image, affine=affine, meta=meta)


def affine_of(source: DiskImage) -> torch.Tensor:
    """Voxel to world of an opened volume, `(4, 4)`, for indices in the order X, Y, Z."""
    if source.affine is not None:
        return torch.from_numpy(source.affine)
    sizes = [*source.spacing[::-1], 1.0, 1.0][:3]
    return torch.diag(torch.tensor([*sizes, 1.0], dtype=torch.float64))


def meta_of(source: DiskImage) -> dict[str, str]:
    """Name and unit of an opened volume, as a `MetaTensor` has them."""
    return {
        "filename_or_obj": str(source.path),
        "spatial_unit": source.unit or "um",
        "spacing_source": source.spacing_source or ("header" if source.unit else "assumed"),
        PLANES: source.planes,
        CHANNEL_NAMES: "\n".join(source.channel_names),
    }


def to_axes(values: torch.Tensor, axes: str) -> NDArray[np.generic]:
    """A result `(K, X, Y[, Z])` in the caller's axes; without "C" in them K comes first.

    Args:
        values: the result, `(K, X, Y[, Z])`.
        axes: of the caller's image.
    """
    wanted = axes if "C" in axes else f"C{axes}"
    order = [axis for axis in _ORDER if axis in wanted]
    array = np.asarray(values.detach().cpu())
    return np.ascontiguousarray(array.transpose([order.index(axis) for axis in wanted]))


def native(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """As torch takes it: writable, in native byte order, no unsigned integers above 8 bits."""
    pixels = np.asarray(pixels)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize > 1:
        wider = {2: np.int32, 4: np.int64, 8: np.float64}
        return pixels.astype(wider[pixels.dtype.itemsize])
    pixels = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))
    return pixels if pixels.flags.writeable else pixels.copy()  # a memory map is not


def _checked_axes(axes: str | None, count: int) -> str:
    """The letters of all axes, which must be given where there are more than two."""
    if count < 2:
        raise ValueError(f"an array of {count} axes is no image, which has X and Y")
    if axes is None:
        if count != 2:
            raise ValueError(
                f"an array of {count} axes could be a volume or several channels: say which, such "
                f'as axes="ZYX" or axes="CYX"'
            )
        return "YX"
    letters = axes.upper()
    known = set(letters) <= set(_ORDER) and len(set(letters)) == len(letters)
    if len(letters) != count or not known or not {"X", "Y"} <= set(letters):
        raise ValueError(
            f"axes {axes!r} do not name the {count} axes of the array: X and Y, Z and C where "
            f"there are any, each once"
        )
    return letters
