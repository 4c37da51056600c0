"""Read or write an image in one call, whatever its format; make our formats known to MONAI."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from unet_med.data.array_writer import channel_first, known_unit
from unet_med.data.auto_reader import AutoReader
from unet_med.data.cases import Files, files_of
from unet_med.data.file_reader import Volume
from unet_med.data.formats import FORMATS, format_of
from unet_med.data.grids import Grid, turn_onto
from unet_med.data.label_reader import exact_floats
from unet_med.data.pixel_size import states_size
from unet_med.errors import MISSED_DECODER, hushed


def load_image(path: Files, **choice: Any) -> MetaTensor:
    """Read a whole image of any of our formats, chosen by suffix, in one step.

    Args:
        path: an image file, or a folder with a DICOM series; see `AutoReader`. Several files
            are the channels of one image.
        choice: `series`, `time` or `channel` of a TIFF with several, `pixel_size` of a file
            without one; see `AutoReader`.

    Returns:
        `(C, X, Y[, Z])`, float32, with its affine and `meta["spatial_unit"]`; int64 where
        whole numbers above 2**24 would merge as float32.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it cannot be read in full as one image; one sentence naming the file.
    """
    from monai.transforms import LoadImage

    reader = _ExactReader(**choice)
    with hushed(MISSED_DECODER, logging.ERROR):
        load = LoadImage(reader=reader, ensure_channel_first=True, dtype=None)
    image: MetaTensor = load(path)
    return image


class _ExactReader(AutoReader):
    def get_data(self, img: Sequence[Path]) -> tuple[np.ndarray, dict[str, Any]]:
        array, meta = super().get_data(img)
        return exact_floats(array), meta


def turned_onto(
    array: np.ndarray,
    path: Files,
    other: Files,
    names: tuple[str, str],
    **choice: Any,
) -> np.ndarray:
    """An array that was read from one file, turned onto the grid of another.

    Args:
        array: `(X, Y[, Z])`.
        path: where it is from; the headers of both files are read.
        other: the file on whose grid it is to lie.
        names: of both in errors, such as `("result a.nii", "its truth a.nii")`.
        choice: of the other; see `load_header`.

    Raises:
        ValueError: shape or place differ, and no turn of the axes mends that.
    """
    grid = Grid.of(load_header(path), names[0])
    return turn_onto(grid, Grid.of(load_header(other, **choice), names[1])).of_array(array)


def load_header(path: Files, **choice: Any) -> Volume:
    """Read the header of an image without its pixels.

    Args:
        path: as for `load_image`; of a DICOM series the headers of all files are read.
        choice: `series`, `time` or `channel` of a TIFF with several, `pixel_size` of a file
            without one; see `AutoReader`.

    Returns:
        Shape, affine and unit as `load_image` finds them; the array is a placeholder without
        memory.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: its header cannot be read, or is not one image's.
    """
    files = [Path(file).expanduser() for file in files_of(path)]
    return AutoReader(**choice).open_channels(files, header_only=True)


def save_image(
    path: str | os.PathLike[str],
    array: np.ndarray | torch.Tensor,
    affine: np.ndarray | torch.Tensor | None = None,
    spatial_unit: str | None = "auto",
    *,
    has_channels: bool = True,
    channel_names: tuple[str, ...] = (),
    like: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a whole image as OME-TIFF, NIfTI, OME-Zarr or PNG, by suffix, in one step.

    Args:
        path: `.tif`, `.tiff`, `.nii`, `.nii.gz`, `.zarr`, or for planes `.png`; missing folders
            are made. A reader never sees half a file.
        array: `(C, X, Y[, Z])`, or without channels `(X, Y)`, or `(X, Y, Z)` with
            `has_channels=False`. The dtype is kept, or becomes one that the formats know and
            that holds the values (see `storable`).
        affine: voxel to world in `spatial_unit`; None: that of a MetaTensor which states its pixel
            size, as `load_image` and MONAI's readers give it, else the pixel size is not known.
        spatial_unit: `"um"` or `"mm"`; `"auto"`: the unit that a MetaTensor states, else `"um"` of
            an affine that is given, else none, as MONAI's readers state none: a NIfTI has the
            affine all the same. None: the pixel size is not known.
        has_channels: the first of three or four axes is the channels.
        channel_names: one a channel; only TIFF keeps them.
        like: file on the same grid; a NIfTI states its place in the same way as a NIfTI here.

    Returns:
        The path.

    Raises:
        ValueError: another suffix or unit, a dtype or shape that is no image, or a
            rotation that TIFF and OME-Zarr cannot say.
    """
    path = Path(path)
    image = channel_first(array, 0 if has_channels and array.ndim > 2 else None)
    world, unit = _place_of(array, affine, spatial_unit)
    found = format_of(path)
    ours = found is not None and path.name.lower().endswith(found.written_suffixes or ("\0",))
    writer = found.writer_class() if found and ours else None
    if writer is None:
        *others, last = [suffix for each in FORMATS for suffix in each.written_suffixes]
        raise ValueError(f"cannot write {path}: the suffix must be {', '.join(others)} or {last}")
    options: dict[str, Any] = {"channel_names": channel_names, "like": like}
    writer.save(path, image, world, unit, **{key: options[key] for key in writer.save_options})
    return path


def _place_of(array: Any, affine: Any, unit: str | None) -> tuple[np.ndarray | None, str | None]:
    """Affine and unit to write; none where the pixel size is not known."""
    states = isinstance(array, MetaTensor) and states_size(array.meta)
    own = known_unit(array.meta) if states else None
    if affine is None and unit == "auto" and states:
        return np.asarray(array.affine, dtype=np.float64), own
    if affine is None:
        return None, None
    return np.asarray(affine, dtype=np.float64), (own or "um") if unit == "auto" else unit


def register() -> None:
    """Make MONAI's `LoadImage` and `SaveImage` use our readers and writers by suffix.

    Explicit, process-wide, and harmless to call again. MONAI's own readers and writers
    stay as alternatives, except `PILWriter` for TIFF: of an image that our writer refuses it
    would save one slice.
    """
    from monai.data import image_writer
    from monai.transforms.io.array import SUPPORTED_READERS

    # MONAI fills its table on the first look-up, but only while the table is empty.
    image_writer.resolve_writer("nii.gz", error_if_not_found=False)
    for each in FORMATS:
        if each.registered:
            reader = each.reader_class()
            SUPPORTED_READERS[f"unetmed{reader.__name__.lower()}"] = reader
        writer = each.writer_class()
        for suffix in each.written_suffixes if each.registered else ():
            for key in (suffix[1:], f"ome{suffix}") if each.has_ome else (suffix[1:],):
                theirs = image_writer.SUPPORTED_WRITERS.get(key, ())
                kept = [w for w in theirs if w not in (writer, image_writer.PILWriter)]
                image_writer.SUPPORTED_WRITERS[key] = (writer, *kept)
