"""MetaImage, NRRD and DICOM series through SimpleITK, which is imported on first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.file_reader import FileReader, Volume, placeholder
from unet_med.data.formats import ITK
from unet_med.data.grids import TOLERANCE
from unet_med.data.protection import check_dicom_files, check_dicom_folder, open_itk

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class SitkReader(FileReader):
    """MONAI reader for `.mha`, `.mhd`, `.nrrd` and folders with one DICOM series.

    The affine is turned from ITK's LPS to MONAI's RAS, in millimetres, as these formats
    define.

    Args:
        series_id: UID of the DICOM series to read, in a folder with several.
        max_bytes: see `FileReader`.
    """

    suffixes = ITK.suffixes
    kind = "MetaImage, NRRD or DICOM series"

    def __init__(self, series_id: str | None = None, *, max_bytes: int | None = None) -> None:
        super().__init__(max_bytes)
        self.series_id = series_id

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file or folder; see the class. A folder's pixels are read in any case."""
        import SimpleITK as sitk

        source = self._load_series(path) if path.is_dir() else open_itk(path, self.max_bytes)
        if header_only and not path.is_dir():
            array = _placeholder_for(source)
        else:
            image = source if path.is_dir() else _pixels(source)
            array = sitk.GetArrayFromImage(image)  # ([Z,] Y, X[, C])
        has_channels = array.ndim > source.GetDimension()
        array = np.moveaxis(array, -1, 0) if has_channels else array
        first = int(has_channels)
        array = array.transpose(*range(first), *range(array.ndim - 1, first - 1, -1))
        return Volume(array, has_channels, _affine(source), "mm", "header")

    def _load_series(self, folder: Path) -> Any:
        """Image of a folder with DICOM files."""
        import SimpleITK as sitk

        check_dicom_folder(folder)
        found = _quietly(sitk.ImageSeriesReader.GetGDCMSeriesIDs, str(folder))
        if not found:
            raise ValueError("the folder holds no DICOM series")
        if self.series_id is None and len(found) > 1:
            listed = ", ".join(found[:3])
            raise ValueError(
                f"the folder holds {len(found)} DICOM series ({listed}); "
                "keep one a folder, or choose it in Python with series_id"
            )
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(
            str(folder), self.series_id or found[0]
        )
        check_dicom_files([Path(name) for name in names], self.max_bytes)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(names)
        reader.MetaDataDictionaryArrayUpdateOn()
        image = reader.Execute()
        _check_slices(reader, image)
        return image


def _quietly(function: Callable[[str], Any], argument: str) -> Any:
    """Call ITK without its warnings on stderr; the reader raises errors instead."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return function(argument)
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _pixels(reader: Any) -> Any:
    """Image of a reader that has read the header."""
    try:
        return reader.Execute()
    except RuntimeError as error:
        if "spacing" not in str(error):
            raise
        raise ValueError(
            "its header states a pixel size of 0 or none at all, so that it is unknown: write the "
            "true one there (ElementSpacing of .mha and .mhd), or 1"
        ) from error


def _placeholder_for(reader: Any) -> np.ndarray:
    """Placeholder for the pixels `([Z,] Y, X[, C])` of a reader that has read the header."""
    import SimpleITK as sitk

    pixel = sitk.Image([1] * reader.GetDimension(), reader.GetPixelID())
    channels = reader.GetNumberOfComponents()
    shape = (*reversed(reader.GetSize()), *([channels] if channels > 1 else []))
    return placeholder(shape, sitk.GetArrayFromImage(pixel).dtype)


def _affine(image: Any) -> np.ndarray:
    """4x4 voxel to world, RAS, mm, of a SimpleITK image or of a reader with its header."""
    n = image.GetDimension()
    affine = np.eye(4)
    if n <= 3:
        affine[:n, :n] = np.reshape(image.GetDirection(), (n, n)) * image.GetSpacing()
        affine[:n, 3] = image.GetOrigin()
    return _LPS_TO_RAS @ affine


def _check_slices(reader: Any, image: Any) -> None:
    """Refuse slices that do not lie where the affine says: ITK keeps the first and the last.

    Missing ones and uneven steps make it print a warning at most, and of a tilted gantry it
    drops the sideways shift.
    """
    slices = len(reader.GetFileNames())
    points = _numbers(reader, slices, "0020|0032")  # image position (patient), mm
    cosines = _numbers(reader, slices, "0020|0037")  # image orientation (patient)
    if points is None or slices < 2:
        return
    if cosines is not None and np.ptp(cosines, axis=0).max() > 1e-3:
        raise ValueError("its slices do not have one orientation: save each stack as a series")
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    places = [image.TransformIndexToPhysicalPoint((0, 0, k)) for k in range(slices)]
    off = np.abs((points - places) @ np.reshape(image.GetDirection(), (3, 3))).max(axis=0)
    far = off > TOLERANCE * np.array(image.GetSpacing())
    if np.ptp(steps) > 0.01 * np.median(steps) or (far[2] and not far[:2].any()):
        raise ValueError(
            f"its slices are {steps.min():.4g} to {steps.max():.4g} mm apart: a slice is missing "
            "or the spacing is not even"
        )
    if far.any():
        normal = np.reshape(image.GetDirection(), (3, 3))[:, 2]
        cosine = abs((points[-1] - points[0]) @ normal) / steps.sum()
        raise ValueError(
            f"its slices shift sideways by up to {np.linalg.norm(off[:2]):.3g} mm, by a gantry "
            f"tilt of {np.degrees(np.arccos(min(1.0, cosine))):.3g} degrees, which a straight "
            "stack cannot say: resample it first (dcm2niix does, and writes NIfTI)"
        )


def _numbers(reader: Any, slices: int, tag: str) -> np.ndarray | None:
    """Values of a tag, one row a slice; None where one lacks it."""
    if not all(reader.HasMetaDataKey(k, tag) for k in range(slices)):
        return None
    texts = [reader.GetMetaData(k, tag).split("\\") for k in range(slices)]
    return np.array([[float(number) for number in text] for text in texts])
