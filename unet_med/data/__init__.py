"""Readers and writers of files, data sets, and generated images.

A name imports its module on first use: reading a TIFF needs no SimpleITK, and listing
files needs no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

from unet_med.data.formats import FORMATS

_MODULE_OF = {
    "check_labels": "labels",
    "class_values": "classes",
    "cross_validation": "splits",
    "DeviceImages": "device_images",
    "digest_of_names": "digest",
    "EpochSampler": "dataset",
    "SeededDataset": "dataset",
    "find_images": "datalist",
    "find_pairs": "datalist",
    "guess_label_kind": "label_kind",
    "ImageCache": "image_cache",
    "instance_sizes": "labels",
    "LabelSummary": "labels",
    "summarize_label": "labels",
    "require_objects": "labels",
    "share_of": "datalist",
    "nested_subsets": "splits",
    "split_validation": "splits",
    "stem": "formats",
    "SyntheticCells": "synthetic",
    "SyntheticShapes": "synthetic",
    "AutoReader": "auto_reader",
    "DicomSegWriter": "dicom_seg",
    "label_choice": "auto_reader",
    "replayed_pairs": "replay",
    "load_header": "files",
    "load_image": "files",
    "turned_onto": "files",
    "load_label": "label_reader",
    "LabelReader": "label_reader",
    "register": "files",
    "RoiWriter": "roi_writer",
    "save_image": "files",
    "sha256": "checksum",
}
_MODULE_OF |= {
    dotted.partition(".")[2]: dotted.partition(".")[0]
    for each in FORMATS
    for dotted in (each.reader, each.writer)
    if dotted
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
