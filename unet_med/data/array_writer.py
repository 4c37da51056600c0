"""Base of all writers: whole images, lossless dtypes, metadata of MONAI."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from monai.data.image_writer import ImageWriter
from monai.utils.type_conversion import get_equivalent_dtype

from unet_med.data.formats import FORMATS
from unet_med.data.pixel_size import states_size

UNITS = ("um", "mm")
MONAI_SUFFIX = ".nii.gz"  # of `SaveImage` where no other is given
_LABEL_DTYPES = (np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32)


def smallest_label_dtype(array: np.ndarray) -> np.ndarray:
    """Cast integers (or floats that are all integers) to the smallest dtype of at most 32 bits.

    Unsigned 8 or 16 bits if they suffice, which every viewer reads.

    Raises:
        ValueError: a value is no integer or needs more than 32 bits.
    """
    if array.dtype.kind == "f" and not (
        np.isfinite(array).all() and (array == array.round()).all()
    ):
        raise ValueError("a label image holds values that are not integers; give a float dtype")
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    for dtype in _LABEL_DTYPES:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    raise ValueError(f"labels from {low} to {high} need more than 32 bits")


def cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    """The same values in another dtype; what integers cannot hold is refused, not wrapped around.

    Raises:
        ValueError: a value beyond the range of an integer dtype, NaN or infinite.
    """
    wanted = np.dtype(dtype)
    if wanted.kind in "iu" and array.dtype.kind in "iuf" and array.size:
        low, high, info = array.min(), array.max(), np.iinfo(wanted)
        if not (info.min <= low and high <= info.max):  # also of NaN
            raise ValueError(
                f"values from {low:g} to {high:g} do not fit into {wanted}: give another "
                "output_dtype, or none"
            )
    return array.astype(wanted)


def storable(array: np.ndarray) -> np.ndarray:
    """Give an array a dtype that TIFF, NIfTI and their viewers know, without loss.

    Booleans become 0 and 1 of 8 bits, 64-bit integers the smallest dtype that holds them, and
    half precision single precision; other dtypes stay.

    Raises:
        ValueError: samples that are no real numbers, or do not fit.
    """
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind == "b" or array.dtype in (np.int64, np.uint64):
        return smallest_label_dtype(array)
    if array.dtype.kind not in "uif" or array.dtype.itemsize > 8:
        raise ValueError(f"samples of type {array.dtype} cannot be saved; use real numbers")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def channel_first(array: np.ndarray | torch.Tensor, channel_dim: int | None = 0) -> np.ndarray:
    """Bring an array to `(C, X, Y[, Z])`, if possible without a copy.

    Args:
        array: image with 2 or 3 spatial axes, `(X, Y[, Z])`, and one of channels anywhere.
        channel_dim: where that is; None: there is none.

    Raises:
        ValueError: not 2 or 3 spatial axes.
    """
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu().as_subclass(torch.Tensor).numpy()
    array = np.asarray(array)
    array = array[None] if channel_dim is None else np.moveaxis(array, channel_dim, 0)
    if array.ndim not in (3, 4):
        raise ValueError(f"shape {array.shape} is not channels and 2 or 3 spatial axes")
    return array


class ArrayWriter(ImageWriter):
    """Base of our MONAI writers, for `SaveImaged` with a `writer` and an `output_ext`.

    Integers stay integers, in the smallest dtype that holds them: MONAI gives all of them 32
    or 64 bits. A floating `output_dtype`, the default of `SaveImage`, applies to floating
    images alone.

    Args:
        output_dtype: dtype to cast to; None keeps the image's.
        scale: MONAI's rescaling to 8-bit pictures; refused, because it changes values.
        kwargs: attributes, as in MONAI's `ImageWriter`.

    Attributes:
        save: writes `(path, array, affine, spatial_unit, **options)` in one step, the array
            `(C, X, Y[, Z])`; without a unit the pixel size is not known.
        save_options: options of `save_image` that `save` takes.

    Raises:
        ValueError: `scale` is given.
    """

    save: ClassVar[Callable[..., None]]
    save_options: ClassVar[tuple[str, ...]] = ()

    data_obj: Any  # (C, X, Y[, Z])
    affine: np.ndarray | None
    spatial_unit: str | None
    output_dtype: Any

    def __init__(self, output_dtype: Any = None, scale: int | None = None, **kwargs: Any) -> None:
        if scale is not None:
            raise ValueError(f"scale={scale} would change the values; scale the image beforehand")
        super().__init__(output_dtype=output_dtype, affine=None, spatial_unit=None, **kwargs)

    def set_data_array(
        self, data_array: np.ndarray | torch.Tensor, channel_dim: int | None = 0, **kwargs: Any
    ) -> None:
        """Take the image, `(C, X, Y[, Z])` unless `channel_dim` says otherwise."""
        self.data_obj = channel_first(data_array, channel_dim)

    def set_metadata(
        self, meta_dict: Mapping[str, Any] | None = None, resample: bool = False, **options: Any
    ) -> None:
        """Take affine and unit from the metadata; resample to the original grid if asked.

        Args:
            meta_dict: `affine`, `spatial_unit`, `spacing_source`; for resampling
                `original_affine` and `spatial_shape`.
            resample: bring the image to `original_affine` first, as MONAI's writers do.
            options: of MONAI's `ImageWriter.resample_if_needed`.
        """
        original, affine, shape = self.get_meta_info(meta_dict)
        self.affine = None if affine is None else np.asarray(affine, dtype=np.float64)
        self.spatial_unit = known_unit(meta_dict or {})
        if resample and original is not None and not np.allclose(original, affine):
            self._resample(original, shape, options)

    def _resample(self, original: Any, shape: Any, options: dict[str, Any]) -> None:
        flat = self.data_obj.ndim == 3
        data = np.moveaxis(self.data_obj, 0, -1)  # (X, Y[, Z], C)
        data = data[:, :, None] if flat else data  # (X, Y, Z, C), MONAI's layout here
        shape = None if shape is None else [int(size) for size in (*shape, 1)[:3]]
        moved, _ = self.resample_if_needed(data, self.affine, original, shape, **options)
        moved = np.moveaxis(moved[:, :, 0] if flat else moved, -1, 0)
        integers = self.data_obj.dtype.kind in "bui"
        self.data_obj = (np.rint(moved) if integers else moved).astype(self.data_obj.dtype)
        self.affine = np.asarray(original, dtype=np.float64)

    def write(self, filename: str | os.PathLike[str], verbose: bool = False, **kwargs: Any) -> None:
        """Write the whole image in one step.

        Args:
            filename: with a suffix of the writer's format. In place of `.nii.gz`, which MONAI
                adds where no `output_ext` is given, stands the writer's own, with a warning.
            verbose: log what was written.
            kwargs: of MONAI's writers; not used.

        Raises:
            ValueError: another format's suffix, or values that `output_dtype` does not hold.
        """
        filename = self._own_path(Path(filename))
        array = self.data_obj
        dtype: Any = get_equivalent_dtype(self.output_dtype, np.ndarray)
        if array.dtype.kind in "bui" and (dtype is None or np.dtype(dtype).kind == "f"):
            array = smallest_label_dtype(array)
        elif dtype is not None:
            array = cast(array, dtype)
        self.save(filename, array, self.affine, self.spatial_unit)
        if verbose:
            logging.getLogger(__name__).info("wrote %s", filename)

    def _own_path(self, path: Path) -> Path:
        """The path with a suffix of the writer's format, so that the name says what is inside."""
        suffixes = next((f.written_suffixes for f in FORMATS if f.writes_with(type(self))), ())
        name = path.name
        if not suffixes or name.lower().endswith(suffixes):
            return path
        advice = f'give SaveImage output_ext="{suffixes[0]}"'
        if not name.lower().endswith(MONAI_SUFFIX):
            raise ValueError(f"{path} is no name for {' or '.join(suffixes)}: {advice}")
        own = path.with_name(name[: -len(MONAI_SUFFIX)] + suffixes[0])
        warnings.warn(f"written as {own}, not {name}: {advice}", stacklevel=3)
        return own


def known_unit(meta: Mapping[str, Any]) -> str | None:
    """Unit of the affine of an image; None if its pixel size is an assumption."""
    return meta.get("spatial_unit") if states_size(meta) else None
