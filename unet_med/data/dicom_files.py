"""Which files and folders are DICOM; nothing here decodes them."""

from __future__ import annotations

from pathlib import Path

from unet_med.data.formats import DICOM, format_of
from unet_med.data.protection import dicom_class

_SEGS = {f"1.2.840.10008.5.1.4.1.1.66.{number}" for number in (4, 7)}  # segments, and label maps
TO_LABELS = "make label images of them with unet-med labels"  # of annotation that is no image
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
_PREAMBLE = 128  # bytes before `DICM` (PS3.10, 7.1)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its suffix or, where that is of no format, its first bytes.

    The table of contents of a disc is none: `DICOMDIR`, beside the folders of its images.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file() or path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    if path.name.lower().endswith(DICOM):
        return True
    if format_of(path):
        return False
    with path.open("rb") as file:
        return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def is_seg(path: Path) -> bool:
    """Whether a file is a DICOM SEG, as its first bytes have it.

    Raises:
        OSError: it cannot be read.
    """
    return is_dicom(path) and dicom_class(path) in _SEGS


def holds_dicom(folder: Path) -> bool:
    """Whether a folder holds DICOM files, not counting those of its folders.

    One that cannot be looked at may, and fails by its name when it is read.
    """
    try:
        return folder.is_dir() and any(is_dicom(path) for path in folder.iterdir())
    except OSError:
        return True


def is_series(path: Path) -> bool:
    """Whether a path names a DICOM image: a folder of slices, or one file, whatever its suffix."""
    if path.is_dir():
        return holds_dicom(path)
    return path.name.lower().endswith(DICOM) or (format_of(path) is None and is_dicom(path))
