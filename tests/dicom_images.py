"""DICOM images for the tests, by pydicom alone: slices in shuffled files, and enhanced MR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian

TURN = np.array([[0.8, -0.6, 0.0], [0.36, 0.48, -0.8], [0.48, 0.64, 0.6]])  # a rotation
GEOMETRIES: dict[str, tuple[list[float], tuple[float, float, float]]] = {
    # directions of rows and columns (LPS), mm a pixel along X, Y, Z
    "axial": ([1, 0, 0, 0, 1, 0], (0.7, 0.8, 1.5)),
    "sagittal": ([0, 1, 0, 0, 0, -1], (0.9, 0.9, 1.2)),
    "oblique": ([*TURN[0], *TURN[1]], (0.7, 0.8, 1.5)),
    "thick": ([1, 0, 0, 0, 1, 0], (0.5, 0.5, 6.0)),
}
ORIGIN = np.array([-31.25, 12.5, -88.125])  # mm, LPS


def affine_of(geometry: str) -> np.ndarray:
    """4x4, voxel (X, Y, Z) to world, RAS, from the definition (PS3.3, C.7.6.2.1.1)."""
    turn, sizes = GEOMETRIES[geometry]
    row, column = np.array(turn[:3]), np.array(turn[3:])
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row, column, np.cross(row, column)], axis=1) * sizes
    affine[:3, 3] = ORIGIN
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def point_of(geometry: str, k: int) -> list[float]:
    """Centre of the first pixel of plane k, mm, LPS."""
    turn, sizes = GEOMETRIES[geometry]
    point = ORIGIN + k * sizes[2] * np.cross(turn[:3], turn[3:])
    return [round(float(number), 6) for number in point]


def write_series(
    folder: Path, volume: np.ndarray, geometry: str = "axial", *, series: str = "1.2.826.7.1",
    image_type: str = "AXIAL", skip: tuple[int, ...] = (), **tags: Any,
) -> list[Path]:  # fmt: skip
    """A CT of `(X, Y, Z)` numbers of Hounsfield, in files whose names say nothing.

    Returns:
        Its files, plane by plane.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(volume.shape[2]).permutation(volume.shape[2])
    files = []
    for k in set(range(volume.shape[2])) - set(skip):
        dataset = _patient(CTImageStorage, f"{series}.{k + 1}", series, "CT")
        turn, sizes = GEOMETRIES[geometry]
        dataset.ImageType = ["ORIGINAL", "PRIMARY", image_type]
        dataset.InstanceNumber = int(names[k]) + 1
        dataset.ImagePositionPatient = point_of(geometry, k)
        dataset.ImageOrientationPatient = [round(float(cosine), 9) for cosine in turn]
        dataset.PixelSpacing = [sizes[1], sizes[0]]
        dataset.SliceThickness = sizes[2]
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        _put_pixels(dataset, (volume[:, :, k].T + 1024).astype(np.uint16))
        for name, value in tags.items():
            setattr(dataset, name, value[k] if isinstance(value, list) else value)
        files.append(folder / f"IM{names[k]:04d}")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def write_enhanced(
    path: Path, volume: np.ndarray, geometry: str = "axial", *, order: list[int] | None = None,
    slopes: list[float] | None = None,
) -> None:  # fmt: skip
    """An enhanced MR of `(X, Y, Z)`, its planes stored in an order, with slopes of their own."""
    turn, sizes = GEOMETRIES[geometry]
    order = list(range(volume.shape[2])) if order is None else order
    dataset = _patient(EnhancedMRImageStorage, "1.2.826.9.1", "1.2.826.9", "MR")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER", "NONE"]
    dataset.InstanceNumber = 1
    dataset.NumberOfFrames = len(order)
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = [round(float(cosine), 9) for cosine in turn]
    measures.PixelSpacing, measures.SliceThickness = [sizes[1], sizes[0]], sizes[2]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for k, slope in zip(order, slopes or [1.0] * len(order), strict=True):
        frame, position, content, values = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = point_of(geometry, k)
        content.StackID, content.InStackPositionNumber = "1", k + 1
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = slope, 0, "US"
        frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
        frame.PixelValueTransformationSequence = [values]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    _put_pixels(dataset, volume.transpose(2, 1, 0)[order].astype(np.uint16))
    dataset.save_as(path, enforce_file_format=True)


def _patient(kind: UID, instance: str, series: str, modality: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, instance
    dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.PatientName, dataset.PatientID = "Test^Phantom", "P1"
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "O"
    dataset.StudyInstanceUID, dataset.StudyID, dataset.AccessionNumber = "1.2.826.7", "1", "A1"
    dataset.StudyDate, dataset.StudyTime, dataset.ReferringPhysicianName = "20260101", "120000", ""
    dataset.SeriesInstanceUID, dataset.Modality = series, modality
    dataset.SeriesNumber, dataset.SeriesDescription = int(series.split(".")[-1]), "phantom"
    dataset.FrameOfReferenceUID = "1.2.826.7.99"
    dataset.PositionReferenceIndicator, dataset.Manufacturer = "", "none"
    return dataset


def _put_pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    """Pixels `([N,] Y, X)` of 16 bits."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
