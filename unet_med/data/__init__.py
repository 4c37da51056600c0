"""Files in and out, data sets, and generated images.

Names load with the module they live in, on first use: reading a TIFF needs no
SimpleITK, and listing files needs no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULE_OF = {
    "count_classes": "labels",
    "EpochSampler": "dataset",
    "SeededDataset": "dataset",
    "find_images": "datalist",
    "find_pairs": "datalist",
    "guess_label_kind": "labels",
    "instance_sizes": "labels",
    "LabelSummary": "labels",
    "summarize_label": "labels",
    "share_of": "datalist",
    "split_validation": "datalist",
    "stem": "datalist",
    "SyntheticCells": "synthetic",
    "SyntheticShapes": "synthetic",
    "AutoReader": "files",
    "load_header": "files",
    "load_image": "files",
    "register": "files",
    "save_image": "files",
    "sha256": "checksum",
    "NiftiReader": "nifti_reader",
    "NiftiWriter": "nifti_reader",
    "OmeZarrReader": "zarr_reader",
    "OmeZarrWriter": "zarr_writer",
    "SitkReader": "sitk_reader",
    "TiffReader": "tiff_reader",
    "TiffWriter": "tiff_writer",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
