"""Multi-frame DICOM, as enhanced CT and MR: place and pixels of the frames, through pydicom.

GDCM, which reads single slices, takes the frames of such a file in the order in which they are
stored and the first one's rescaling for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

INVERTED = "MONOCHROME1"  # photometric interpretation: the smallest value is white
_STORAGE = "1.2.840.10008.5.1.4.1.1."
MULTI_FRAME = {  # enhanced CT, MR and PET, and what is converted to them
    _STORAGE + end for end in ("2.1", "2.2", "4.1", "4.4", "130", "128.1")
}


_BOUNDED = {  # what pydicom decodes to no more than the header declares, or Pillow allows
    "1.2.840.10008.1.2" + end for end in ("", ".1", ".2", ".5", ".4.50", ".4.90", ".4.91")
}


class Frames(NamedTuple):
    """Where the frames of a file lie, in the order in which they are stored.

    Attributes:
        points: `(N, 3)`, centre of each frame's first pixel, mm, LPS.
        cosines: `(N, 6)`, directions of its rows and columns.
        sizes: of a pixel along X, Y and Z, mm.
    """

    points: np.ndarray
    cosines: np.ndarray
    sizes: tuple[float, float, float]


def frames_of(path: Path) -> Frames:
    """Where the frames of a file lie; no pixels are read.

    Raises:
        ValueError: pydicom is missing, or the frames do not say it.
    """
    dataset = read_dataset(path)
    groups = dataset.get("PerFrameFunctionalGroupsSequence", ())
    measures = [group_of(dataset, k, "PixelMeasures") for k in range(len(groups))]
    points = [group_of(dataset, k, "PlanePosition") for k in range(len(groups))]
    turns = [group_of(dataset, k, "PlaneOrientation") for k in range(len(groups))]
    if not groups or None in (*measures, *points, *turns):
        raise ValueError(
            f"its {dataset.get('NumberOfFrames', 1)} frames do not say where they lie, so they "
            "are no planes of a volume"
        )

    def stated(items: Sequence[Any], tag: str, count: int) -> np.ndarray:
        found = [np.atleast_1d(item.get(tag, ())).tolist() for item in items]
        return np.array([numbers_of(values, tag, count, path) for values in found])

    spacings = stated(measures, "PixelSpacing", 2)  # rows, columns
    if np.ptp(spacings, axis=0).max() > 1e-4:
        raise ValueError("its frames do not have one pixel size")
    thick = measures[0].get("SpacingBetweenSlices") or measures[0].get("SliceThickness") or 1.0
    return Frames(
        stated(points, "ImagePositionPatient", 3),
        stated(turns, "ImageOrientationPatient", 6),
        (float(spacings[0, 1]), float(spacings[0, 0]), float(thick)),
    )


def numbers_of(values: Sequence[Any], tag: str, count: int, file: Path) -> list[float]:
    """Values of a tag as numbers.

    Raises:
        ValueError: they are more or fewer than belong there, or one is none; names the file.
    """
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        said = "\\".join(map(str, values))
        raise ValueError(
            f"its {file.name} states the {tag} {said!r}, where {count} numbers belong: export it "
            "anew, or correct the header (such as with dcmodify)"
        )
    return numbers


def pixels_of(path: Path) -> np.ndarray:
    """Pixels `(N, Y, X)` in the order in which the frames are stored, each rescaled as it says.

    Raises:
        ValueError: see `stored_pixels`.
    """
    dataset = read_dataset(path, pixels=True)
    stored = stored_pixels(dataset)
    if dataset.PhotometricInterpretation == INVERTED:
        signed = bool(dataset.PixelRepresentation)
        stored = _turned_round(stored, dataset.BitsStored, signed=signed)
    scales = np.array([_rescale(dataset, k) for k in range(len(stored))])[..., None, None]
    if (scales == np.round(scales)).all():
        return stored * scales[:, 0].astype(np.int32) + scales[:, 1].astype(np.int32)
    return (stored * scales[:, 0] + scales[:, 1]).astype(np.float32)


def _turned_round(stored: np.ndarray, bits: int, *, signed: bool) -> np.ndarray:
    """Stored pixels of which the smallest value is white, with that of the largest: as GDCM does.

    Of so many bits the smallest value becomes the largest; padding beyond them becomes 0.
    """
    ends = -1 if signed else 2**bits - 1  # the smallest and the largest value, added up
    limits = np.iinfo(stored.dtype)
    found = (ends - stored.astype(np.int64)).clip(limits.min, limits.max)
    return found.astype(stored.dtype)


def stored_pixels(dataset: Any) -> np.ndarray:
    """Pixels `(N, Y, X)` of a data set as they are stored, frame by frame.

    Raises:
        ValueError: they have colours, or are compressed in another way than RLE, JPEG or
            JPEG 2000.
    """
    if dataset.SamplesPerPixel != 1:
        raise ValueError("its frames have colours, which are not read: save it as single images")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in _BOUNDED:
        raise ValueError(
            f"its pixels are stored as {syntax.name}, which is not decoded here: decompress it "
            "first (gdcmconv --raw, dcmdjpeg, dcmdjpls)"
        )
    stored: np.ndarray = dataset.pixel_array
    return stored.reshape(-1, dataset.Rows, dataset.Columns)


def _rescale(dataset: Any, frame: int) -> tuple[float, float]:
    """Slope and intercept of a frame."""
    values = group_of(dataset, frame, "PixelValueTransformation") or dataset
    return float(values.get("RescaleSlope", 1)), float(values.get("RescaleIntercept", 0))


def group_of(dataset: Any, frame: int, name: str) -> Any:
    """Item of the sequence `name` of a frame, or of all frames together; None: there is none."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [{}]
    for groups in (dataset.PerFrameFunctionalGroupsSequence[frame], shared[0]):
        if found := groups.get(f"{name}Sequence"):
            return found[0]
    return None


def read_dataset(path: Path, *, pixels: bool = False) -> Any:
    """Read a file that `unet_med.data.protection` has looked at, by pydicom.

    Raises:
        ValueError: pydicom is missing.
    """
    try:
        import pydicom
    except ImportError:
        raise ValueError(
            "it is a multi-frame DICOM file, which pydicom reads: pip install 'unet-med[dicom]'"
        ) from None
    return pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
