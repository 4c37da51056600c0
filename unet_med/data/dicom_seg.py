"""Masks as DICOM SEG, through highdicom: coded segments on the planes of their source.

https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_A.51.html
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.atomic import atomic_write, read_json
from unet_med.data.checksum import sha256
from unet_med.data.class_names import names_of
from unet_med.data.dicom_files import is_series
from unet_med.data.dicom_frames import read_dataset
from unet_med.data.dicom_series import Series, open_series
from unet_med.data.segments import Codes, Segment, segments_of

_SERIES_NUMBER = 1000  # added to the source's
_TEXT = 64  # characters of a long string (LO)
_STATED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
# may be empty (type 2): anonymisers take them out, or write what a form of DICOM does not have
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)


class DicomSegWriter:
    """Writes the classes of a mask as DICOM SEG beside the mask; see `write_dicom_seg`.

    Args:
        segments: what the classes are; see `unet_med.data.segments.segments_of`.
        metadata: the bundle's `metadata.json`, whose `channel_def` names the classes.
        classes: how many there are, with the background.
        values: of the classes' pixels; None: 0 to `classes` - 1.
        weights: file of the network's weights.
        label_kind: what the network was trained on.
        reader: of the images; a `series` that it chooses in their folders is the source.
    """

    def __init__(
        self,
        segments: Mapping[str, Any] | None = None,
        *,
        metadata: str | os.PathLike[str],
        classes: int,
        values: Sequence[int] | None = None,
        weights: str | os.PathLike[str],
        label_kind: str = "classes",
        reader: Any = None,
    ) -> None:
        self.table = dict(segments or {})
        self.metadata = Path(metadata)
        self.values = list(range(classes) if values is None else values)
        self.weights = Path(weights)
        self.label_kind = label_kind
        self.series: str | None = getattr(reader, "choice", {}).get("series")

    @cached_property
    def segments(self) -> list[Segment]:
        """The segments, in the order of their numbers."""
        return segments_of(self._names(), self.values, self.table)

    @cached_property
    def _sha256(self) -> str:
        return sha256(self.weights)

    def write(
        self, path: str | os.PathLike[str], mask: np.ndarray, source: str | os.PathLike[str]
    ) -> str:
        """Write a mask `(X, Y, Z)`; see `write_dicom_seg`."""
        require_classes(self.label_kind)
        require_highdicom()
        require_series(source)
        return write_dicom_seg(
            Path(path),
            mask,
            Path(source),
            self.segments,
            weights=self._sha256,
            series=self.series,
        )

    def _names(self) -> list[str]:
        """Names of the classes, the background first."""
        try:
            content = read_json(self.metadata)
            given = content["network_data_format"]["outputs"]["pred"]["channel_def"]
        except (OSError, ValueError, KeyError, TypeError):  # a bundle without, or by others
            given = {}
        return [str(given.get(str(k), name)) for k, name in enumerate(names_of(self.values))]


def require_classes(label_kind: str) -> None:
    """Refuse instances, of which a DICOM SEG would need a segment each.

    Raises:
        ValueError: says so.
    """
    if label_kind == "instances":
        raise ValueError(
            "the bundle finds instances, and a DICOM SEG holds classes: leave out --dicom-seg"
        )


def require_highdicom() -> None:
    """Refuse where what writes DICOM SEG is not installed.

    Raises:
        ImportError: names what to install.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise ImportError(
            "DICOM SEG needs pydicom and highdicom: pip install 'unet-med[dicom]'"
        ) from None


def require_series(path: str | os.PathLike[str]) -> None:
    """Refuse an image that is no DICOM, of which there can be no DICOM SEG.

    Raises:
        ValueError: names it.
    """
    if not is_series(Path(path)):
        raise ValueError(
            f"{path} is no DICOM series, and a DICOM SEG refers to one: leave out --dicom-seg, or "
            "give the folder of the series"
        )


def write_dicom_seg(
    path: Path,
    mask: np.ndarray,
    source: Path,
    segments: Sequence[Segment],
    *,
    weights: str,
    series: str | None = None,
) -> str:
    """Write a mask as binary DICOM SEG, one segment a class, in one step.

    The UIDs follow from source, weights, segments and mask, so that an archive knows a
    repetition.

    Args:
        path: file to write.
        mask: `(X, Y, Z)`, on the grid of its source.
        source: folder or file of the series.
        segments: in the order of their numbers.
        weights: SHA-256 of the network's weights.
        series: UID, where the folder holds several.

    Returns:
        UID of the instance.

    Raises:
        ValueError: the source lacks what a SEG states.
    """
    found = open_series(source, series)
    numbers = _numbers(mask, segments, found)
    datasets = [read_dataset(file) for file in found.files]
    if missing := [name for name in _STATED if not datasets[0].get(name)]:
        raise ValueError(f"{source} lacks what a DICOM SEG states: {missing[0]}")
    if len({dataset.get("SOPInstanceUID") for dataset in datasets}) < len(datasets):
        raise ValueError(
            f"{source} has slices of one SOPInstanceUID, as some anonymisers leave them, so that a "
            "DICOM SEG cannot say on which it lies: give each its own"
        )
    _complete(datasets[0], None if found.frames else float(np.linalg.norm(found.affine[:3, 2])))
    try:
        content = _segmentation(datasets, numbers, segments, weights)
    except (AttributeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{source} lacks what a DICOM SEG states: {reason}") from error
    with atomic_write(path) as beside:
        content.save_as(beside)
    return str(content.SOPInstanceUID)


def _numbers(mask: np.ndarray, segments: Sequence[Segment], source: Series) -> np.ndarray:
    """Segment of each pixel `(N, Y, X)`, in the order of the source's files or frames."""
    planes = mask.transpose(2, 1, 0)
    numbers = np.zeros(planes.shape, np.uint8 if len(segments) < 256 else np.uint16)
    for number, segment in enumerate(segments, 1):
        numbers[planes == segment.value] = number
    if source.frames is None:
        return numbers
    return numbers[np.argsort(source.frames)]


def _complete(first: Any, step: float | None) -> None:
    """Give the first of the sources what a SEG takes over from it: empty where it says nothing.

    Args:
        first: data set; changed.
        step: from slice to slice, mm, for the thickness; None: frames say theirs.
    """
    for name in _MAY_BE_EMPTY:
        value = first.get(name) or ""
        setattr(first, name, value if _has_form(name, value) else "")
    if step and not first.get("SliceThickness"):
        first.SliceThickness = round(step, 6)


def _has_form(name: str, value: Any) -> bool:
    """Whether a value of an attribute has the form that DICOM asks for."""
    from pydicom.valuerep import DA, TM

    if name == "PatientSex":
        return value in ("M", "F", "O")
    form = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}.get(name, str)
    with suppress(ValueError):
        form(value)
        return True
    return False


def _segmentation(
    datasets: Sequence[Any], numbers: np.ndarray, segments: Sequence[Segment], weights: str
) -> Any:
    import highdicom
    from pydicom.uid import generate_uid

    from unet_med import __version__

    mask = hashlib.sha256(np.ascontiguousarray(numbers).data).hexdigest()
    about = [weights, __version__, repr(segments), mask]
    entropy = [dataset.SOPInstanceUID for dataset in datasets] + about
    first = datasets[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a segment is empty
        content = highdicom.seg.Segmentation(
            source_images=datasets,
            pixel_array=numbers,
            segmentation_type="BINARY",
            segment_descriptions=_descriptions(segments, weights),
            series_instance_uid=generate_uid(entropy_srcs=["series", *entropy]),
            series_number=_SERIES_NUMBER + int(first.get("SeriesNumber") or 0),
            sop_instance_uid=generate_uid(entropy_srcs=["instance", *entropy]),
            instance_number=1,
            manufacturer="unet-med",
            manufacturer_model_name="unet-med",
            software_versions=__version__,
            device_serial_number=weights[:_TEXT],
            content_label="SEGMENTATION",
            content_description="segmented by a U-Net",
        )
    content.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: names of classes and patients
    content.SeriesDescription = f"unet-med: {first.get('SeriesDescription', '')}"[:_TEXT]
    return content


def _descriptions(segments: Sequence[Segment], weights: str) -> list[Any]:
    import highdicom
    from pydicom.sr.codedict import codes

    from unet_med import __version__

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="unet-med",
        family=codes.DCM.ArtificialIntelligence,
        version=f"{__version__}, weights {weights[:16]}",
        parameters={"weights_sha256": weights},
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.label[:_TEXT],
            segmented_property_category=_concept(segment.category),
            segmented_property_type=_concept(segment.type),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor.from_rgb(*segment.color),
        )
        for number, segment in enumerate(segments, 1)
    ]


def _concept(code: Codes) -> Any:
    from highdicom.sr import CodedConcept

    value, scheme, meaning = code
    return CodedConcept(value, scheme, meaning)
