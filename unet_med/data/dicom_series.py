"""DICOM series: which slices make one, where they lie, and their pixels, through SimpleITK."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.dicom_files import RTSTRUCT, TO_LABELS, is_dicom
from unet_med.data.dicom_frames import MULTI_FRAME, frames_of, numbers_of, pixels_of
from unet_med.data.file_reader import Volume, placeholder
from unet_med.data.protection import (
    check_dicom_files,
    check_dicom_folder,
    dicom_class,
    dicom_header,
)
from unet_med.data.slice_geometry import stack_planes

_SERIES, _MODALITY, _CLASS = "0020|000e", "0008|0060", "0008|0016"
_DESCRIPTION, _IMAGE_TYPE, _FRAMES = "0008|103e", "0008|0008", "0028|0008"
_INTERCEPT = "0028|1052"
_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
_PIXEL_SIZES = {  # of the patient, the detector, the digitised film
    "0028|0030": ("PixelSpacing", 2),
    "0018|1164": ("ImagerPixelSpacing", 2),
    "0018|2010": ("NominalScannedPixelSpacing", 2),
}
_NUMBERS = {  # name of a tag, and how many numbers it holds
    _POSITION: ("ImagePositionPatient", 3),
    _ORIENTATION: ("ImageOrientationPatient", 6),
    **_PIXEL_SIZES,
}
_NO_IMAGES = ("SEG", "SR", "PR", "KO", "REG", "FID", "RTSTRUCT", "RTPLAN", "RTDOSE")
_SHOWN = 4

Headers = dict[Path, Any]  # of each file SimpleITK's reader, which has read its header


@dataclass(frozen=True)
class Series:
    """One series, laid out as a volume.

    Attributes:
        headers: of its files, in the order of the planes.
        affine: 4x4, voxel `(X, Y, Z)` to world, RAS, mm.
        frames: number in the file of each plane, from 0, where one file holds all.
        sized: it states the size of a pixel.
        placed: it states where it lies, and which way its axes run; a radiograph does not.
    """

    headers: Mapping[Path, Any]
    affine: np.ndarray
    frames: tuple[int, ...] | None
    sized: bool
    placed: bool

    @property
    def files(self) -> list[Path]:
        """Its files, in the order of the planes."""
        return list(self.headers)


def open_series(path: Path, uid: str | None = None, max_bytes: int | None = None) -> Series:
    """Find a series and where it lies; no pixels are decoded.

    Files that are no images, and localizers beside other images, are passed over.

    Args:
        path: a folder with its files, or the one file.
        uid: of the series, where the folder holds several.
        max_bytes: see `FileReader`.

    Raises:
        ValueError: there is no series, or several and none is chosen; a slice is missing or
            cannot be read; or its slices are no straight stack.
    """
    check_dicom_folder(path)
    images, broken = _look_at(path)
    headers = _one_series(images, uid)
    kind = _text(next(iter(headers.values())), _CLASS)
    if lost := [file for file in broken if dicom_class(file) in (kind, None)]:
        raise ValueError(f"its {lost[0].name} is damaged or not supported")
    check_dicom_files(headers, max_bytes)
    many = [file for file, header in headers.items() if _is_multi_frame(header)]
    if not many:  # frames have theirs in groups
        _say_unscaled(headers)
    if many and len(headers) > 1:
        raise ValueError(
            f"it holds {len(headers)} files, and {many[0].name} has many frames: give one such "
            "file by its name"
        )
    return _of_frames(many[0], headers) if many else _of_slices(headers)


def series_modality(path: Path, uid: str | None = None) -> str | None:
    """Modality in the header of a DICOM image, such as `CT`; None: it does not say."""
    files = sorted(f for f in path.iterdir() if is_dicom(f)) if path.is_dir() else [path]
    with _quiet():
        headers = (header for file in files if (header := dicom_header(file)) is not None)
        chosen = (header for header in headers if uid in (None, _text(header, _SERIES)))
        kinds = (_text(header, _MODALITY) for header in chosen)
        return next((kind for kind in kinds if kind and kind not in _NO_IMAGES), None)


def load_series(
    path: Path, uid: str | None, max_bytes: int | None, *, header_only: bool = False
) -> Volume:
    """Read a series as a volume `([C,] X, Y, Z)`; see `open_series`."""
    series = open_series(path, uid, max_bytes)
    if header_only:
        header = next(iter(series.headers.values()))
        columns, rows = header.GetSize()[:2]
        array = unread(header, (len(series.frames or series.headers), rows, columns))
    elif series.frames is not None:
        array = pixels_of(series.files[0])[list(series.frames)]
    else:
        array = _decode(series.headers)  # (Z, Y, X[, C])
    has_channels = array.ndim == 4
    array = array.transpose(3, 2, 1, 0) if has_channels else array.transpose(2, 1, 0)
    source = ("header" if series.placed else "spacing") if series.sized else "assumed"
    return Volume(array, has_channels, series.affine, "mm", source)


def _look_at(path: Path) -> tuple[Headers, list[Path]]:
    """Headers of the images among the files, by name, and the DICOM files that cannot be read.

    Raises:
        ValueError: there is no image.
    """
    files = [f for f in (sorted(path.iterdir()) if path.is_dir() else [path]) if f.is_file()]
    with _quiet():
        read = {file: dicom_header(file) for file in files}
    found = {file: header for file, header in read.items() if header is not None}
    images = {f: h for f, h in found.items() if _text(h, _MODALITY) not in _NO_IMAGES}
    broken = [file for file in files if file not in found and is_dicom(file)]
    if images:
        return images, broken
    what = "the folder holds no DICOM series" if path.is_dir() else "it is no DICOM image"
    if kinds := sorted({_text(header, _MODALITY) for header in found.values()}):
        way = f": {TO_LABELS}" if kinds == ["SEG"] else ""
        raise ValueError(f"{what}, only {', '.join(kinds)}{way}")
    if broken and dicom_class(broken[0]) == RTSTRUCT:
        raise ValueError(
            f"{what}: {broken[0].name} is an RTSTRUCT, which is not read; make DICOM SEG or NIfTI "
            "of it, in 3D Slicer for example"
        )
    raise ValueError(f"{what}: {broken[0].name} is damaged or not supported" if broken else what)


def _one_series(headers: Headers, uid: str | None) -> Headers:
    """The series that is asked for, or the only one, without localizers among its slices."""
    by_uid: dict[str, Headers] = {}
    lost: list[Path] = []
    for file, header in headers.items():
        by_uid.setdefault(_text(header, _SERIES), {})[file] = header
    if uid is not None and uid not in by_uid:
        raise ValueError(f"the folder holds no DICOM series {uid}; it holds {_listed(by_uid)}")
    if uid is None:
        kept = _without(by_uid, lambda slices: all(map(_is_localizer, slices.values())))
        lost, by_uid = [file for uid in by_uid if uid not in kept for file in by_uid[uid]], kept
        if len(by_uid) > 1:
            raise ValueError(
                f"the folder holds {len(by_uid)} DICOM series: {_listed(by_uid)}; choose one with "
                "--series UID, or keep one a folder"
            )
        uid = next(iter(by_uid))
    slices = _without(by_uid[uid], _is_localizer)
    _say_passed_over(tuple([*lost, *(file for file in by_uid[uid] if file not in slices)]))
    return slices


@cache
def _say_passed_over(files: tuple[Path, ...]) -> None:
    """Say which localizers are left out; once, however often the series is read."""
    if files:
        logging.getLogger(__name__).warning(
            "%s: %d localizers are passed over, such as %s",
            files[0].parent,
            len(files),
            files[0].name,
        )


def _say_unscaled(headers: Headers) -> None:
    """Say of a CT which does not state how its values become Hounsfield units that they are none.

    A program that copied it may have left that out; all are 1024 too high then, as a rule.
    """
    file, first = next(iter(headers.items()))
    if _text(first, _MODALITY) == "CT" and not _text(first, _INTERCEPT):
        _say_no_units(file.parent)


@cache
def _say_no_units(folder: Path) -> None:
    logging.getLogger(__name__).warning(
        "%s: a CT without RescaleIntercept: its values are taken as they are stored, which may be "
        "no Hounsfield units",
        folder,
    )


def _without(found: dict[Any, Any], unwanted: Callable[[Any], bool]) -> dict[Any, Any]:
    """Leave out what is not wanted, unless nothing else is there."""
    return {key: value for key, value in found.items() if not unwanted(value)} or found


def _listed(by_uid: Mapping[str, Headers]) -> str:
    """Series in words: UID, modality, slices, description."""
    words = []
    for uid, headers in sorted(by_uid.items())[:_SHOWN]:
        first = next(iter(headers.values()))
        about = [_text(first, _MODALITY) or "?", f"{len(headers)} files"]
        about += [text] if (text := _text(first, _DESCRIPTION)) else []
        words.append(f"{uid} ({', '.join(about)})")
    more = len(by_uid) - _SHOWN
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")


def _of_frames(file: Path, headers: Headers) -> Series:
    frames = frames_of(file)
    order, affine = stack_planes(frames.points, frames.cosines, frames.sizes)
    return Series(headers, affine, tuple(order.tolist()), sized=True, placed=True)


def _of_slices(headers: Headers) -> Series:
    files, readers = list(headers), list(headers.values())
    sizes = [np.round(reader.GetSpacing()[:2], 4) for reader in readers]
    for what, values in (("size", [r.GetSize()[:2] for r in readers]), ("pixel size", sizes)):
        if np.ptp(values, axis=0).any():
            raise ValueError(f"its slices do not have one {what}: keep one series a folder")
    points, cosines = _numbers(headers, _POSITION), _numbers(headers, _ORIENTATION)
    if len(files) > 1 and (points is None or cosines is None):
        raise ValueError(
            f"its {len(files)} images do not say where they lie, so they are no volume: give each "
            "by its name"
        )
    placed = points is not None and cosines is not None
    if points is None or cosines is None:
        points, cosines = np.zeros((1, 3)), np.array([[1.0, 0, 0, 0, 1, 0]])
    first = {files[0]: readers[0]}
    stated = [found[0] for tag in _PIXEL_SIZES if (found := _numbers(first, tag)) is not None]
    x, y, z = (*readers[0].GetSpacing(), 1.0)[:3]
    if stated:  # GDCM reads 0 as 1
        y, x = stated[0]
    order, affine = stack_planes(points, cosines, (x, y, z))
    return Series({files[k]: readers[k] for k in order}, affine, None, bool(stated), placed)


def _decode(headers: Mapping[Path, Any]) -> np.ndarray:
    """Pixels `(Z, Y, X[, C])` in stored units, such as Hounsfield's."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(file) for file in headers])
    if len({header.GetPixelID() for header in headers.values()}) > 1:  # as PET, slice by slice
        reader.SetOutputPixelType(sitk.sitkFloat64)
    with _quiet():
        image = reader.Execute()
    array: np.ndarray = sitk.GetArrayFromImage(image)
    return array[None] if image.GetDimension() == 2 else array


def unread(header: Any, sides: Sequence[int]) -> np.ndarray:
    """Placeholder for pixels `([Z,] Y, X[, C])`, by SimpleITK's reader of the header."""
    import SimpleITK as sitk

    pixel = sitk.GetArrayFromImage(sitk.Image([1, 1], header.GetPixelID()))
    channels = header.GetNumberOfComponents()
    return placeholder((*sides, *([channels] if channels > 1 else [])), pixel.dtype)


def _is_localizer(header: Any) -> bool:
    return "LOCALIZER" in _text(header, _IMAGE_TYPE).split("\\")


def _is_multi_frame(header: Any) -> bool:
    return int(_text(header, _FRAMES) or 1) > 1 or _text(header, _CLASS) in MULTI_FRAME


def _text(header: Any, tag: str) -> str:
    """Value of a tag; empty where there is none."""
    return header.GetMetaData(tag).strip(" \0") if header.HasMetaDataKey(tag) else ""


def _numbers(headers: Headers, tag: str) -> np.ndarray | None:
    """Values of a tag, one row a slice; None where one lacks it."""
    texts = {file: _text(header, tag) for file, header in headers.items()}
    if not all(texts.values()):
        return None
    name, count = _NUMBERS[tag]
    return np.array([numbers_of(t.split("\\"), name, count, f) for f, t in texts.items()])


@contextmanager
def _quiet() -> Iterator[None]:
    """ITK without its warnings on stderr; the reader raises errors instead."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
