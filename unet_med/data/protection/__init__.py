"""Protection from hostile files: the only module of this package that others import.

Each function checks a file before a library decodes it, and raises `ValueError` with one
sentence; the reader adds the name of the file. The import is light: libraries such as tifffile
are imported with the first file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unet_med.data.protection.itk import (
    check_dicom_file,
    check_dicom_files,
    check_dicom_folder,
    dicom_class,
    dicom_header,
    itk_fields,
    open_itk,
)
from unet_med.data.protection.limits import budget, byte_budget, require_memory
from unet_med.data.protection.mgh import check_mgh
from unet_med.data.protection.nifti import check_checksum, check_nifti, is_gzip, whole_gzip
from unet_med.data.protection.tiff import open_tiff

__all__ = [
    "budget",
    "byte_budget",
    "check_checksum",
    "check_dicom_file",
    "check_dicom_files",
    "check_dicom_folder",
    "check_mgh",
    "check_nifti",
    "dicom_class",
    "dicom_header",
    "guard_zarr_array",
    "guarded_zarr_store",
    "is_gzip",
    "itk_fields",
    "open_itk",
    "open_tiff",
    "require_memory",
    "whole_gzip",
]


def guarded_zarr_store(path: str | Path) -> Any:
    """A Zarr store that reads only regular files inside its folder, up to a size."""
    from unet_med.data.protection.zarr_store import GuardedStore

    return GuardedStore(path)


def guard_zarr_array(array: Any, max_bytes: int | None = None) -> None:
    """Refuse an array whose chunks need too much memory; limit the output of its codecs.

    Args:
        array: a `zarr.Array` in a `guarded_zarr_store`.
        max_bytes: see `require_memory`.

    Raises:
        ValueError: says what is wrong with it.
    """
    from unet_med.data.protection.zarr_store import guard_array

    guard_array(array, max_bytes)
