"""Readers and writers of files, data sets, and generated images.

A name imports its module on first use: reading a TIFF needs no SimpleITK, and listing
files needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_med.data.formats import FORMATS
from unet_med.first_use import on_first_use

_MODULE_OF = {
    "check_labels": "label_checks",
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
    "require_objects": "label_checks",
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

if TYPE_CHECKING:  # the same names; a checker reads no table
    from unet_med.data.auto_reader import AutoReader as AutoReader
    from unet_med.data.auto_reader import label_choice as label_choice
    from unet_med.data.bioio_reader import BioioReader as BioioReader
    from unet_med.data.checksum import sha256 as sha256
    from unet_med.data.classes import class_values as class_values
    from unet_med.data.datalist import find_images as find_images
    from unet_med.data.datalist import find_pairs as find_pairs
    from unet_med.data.datalist import share_of as share_of
    from unet_med.data.dataset import EpochSampler as EpochSampler
    from unet_med.data.dataset import SeededDataset as SeededDataset
    from unet_med.data.device_images import DeviceImages as DeviceImages
    from unet_med.data.dicom_seg import DicomSegWriter as DicomSegWriter
    from unet_med.data.digest import digest_of_names as digest_of_names
    from unet_med.data.files import load_header as load_header
    from unet_med.data.files import load_image as load_image
    from unet_med.data.files import register as register
    from unet_med.data.files import save_image as save_image
    from unet_med.data.files import turned_onto as turned_onto
    from unet_med.data.formats import stem as stem
    from unet_med.data.image_cache import ImageCache as ImageCache
    from unet_med.data.label_checks import check_labels as check_labels
    from unet_med.data.label_checks import require_objects as require_objects
    from unet_med.data.label_kind import guess_label_kind as guess_label_kind
    from unet_med.data.label_reader import LabelReader as LabelReader
    from unet_med.data.label_reader import load_label as load_label
    from unet_med.data.labels import LabelSummary as LabelSummary
    from unet_med.data.labels import instance_sizes as instance_sizes
    from unet_med.data.labels import summarize_label as summarize_label
    from unet_med.data.mgh_reader import MghReader as MghReader
    from unet_med.data.nifti_reader import NiftiReader as NiftiReader
    from unet_med.data.nifti_writer import NiftiWriter as NiftiWriter
    from unet_med.data.npy_reader import NpyReader as NpyReader
    from unet_med.data.picture_reader import PictureReader as PictureReader
    from unet_med.data.png_writer import PngWriter as PngWriter
    from unet_med.data.replay import replayed_pairs as replayed_pairs
    from unet_med.data.roi_writer import RoiWriter as RoiWriter
    from unet_med.data.sitk_reader import SitkReader as SitkReader
    from unet_med.data.splits import cross_validation as cross_validation
    from unet_med.data.splits import nested_subsets as nested_subsets
    from unet_med.data.splits import split_validation as split_validation
    from unet_med.data.synthetic import SyntheticCells as SyntheticCells
    from unet_med.data.synthetic import SyntheticShapes as SyntheticShapes
    from unet_med.data.tiff_reader import TiffReader as TiffReader
    from unet_med.data.tiff_writer import TiffWriter as TiffWriter
    from unet_med.data.zarr_reader import OmeZarrReader as OmeZarrReader
    from unet_med.data.zarr_writer import OmeZarrWriter as OmeZarrWriter

else:

    def __getattr__(name: str) -> Any:
        return on_first_use(__name__, _MODULE_OF, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
