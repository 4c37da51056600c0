"""The table of file formats: suffixes, reader and writer of each.

A new format is one entry here, a reader and, where it can be written, a writer.
"""

from __future__ import annotations

import importlib
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_med.data.array_writer import ArrayWriter
    from unet_med.data.file_reader import FileReader


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        suffixes: of its files, lower case.
        reader: `"module.Class"` within `unet_med.data`, a `FileReader`.
        writer: `"module.Class"` within `unet_med.data`, an `ArrayWriter`; None: read only.
        result_suffix: of the segmentations of its images.
        is_folder: an image is a folder, not a file.
        has_ome: names such as `a.ome.tif` are usual; their stem is `a`.
        registered: `register` makes its reader known to MONAI.
        written: suffixes of what its writer makes, where it does not make all.
        packages: that decode its files; with another version pixels may be others.
        choices: arguments by which its reader picks one image of several; see `AutoReader`.
    """

    suffixes: tuple[str, ...]
    reader: str
    writer: str | None = None
    result_suffix: str = ".tif"
    is_folder: bool = False
    has_ome: bool = False
    registered: bool = True
    written: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def written_suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that its writer makes; none: the format is only read."""
        return () if self.writer is None else self.written or self.suffixes

    def reader_class(self) -> type[FileReader]:
        """Import the reader."""
        found: type[FileReader] = _import(self.reader)
        return found

    def writer_class(self) -> type[ArrayWriter] | None:
        """Import the writer; None: the format is only read."""
        return _import(self.writer) if self.writer else None

    def writes_with(self, writer: type) -> bool:
        """Whether a class is the writer of this format, or made from it."""
        own = self.writer_class()
        return own is not None and issubclass(writer, own)


DICOM = (".dcm", ".ima")  # of one file; a series is a folder, whose files have any name

TIFF = Format(
    (".tif", ".tiff", ".lsm"),
    "tiff_reader.TiffReader",
    "tiff_writer.TiffWriter",
    has_ome=True,
    written=(".tif", ".tiff"),
    packages=("tifffile", "imagecodecs"),
    choices=("series", "time", "channel", "axes"),
)
NIFTI = Format(
    (".nii", ".nii.gz"),
    "nifti_reader.NiftiReader",
    "nifti_writer.NiftiWriter",
    result_suffix=".nii.gz",
    packages=("nibabel",),
)
MGH = Format(
    (".mgz", ".mgh"),
    "mgh_reader.MghReader",
    result_suffix=".nii.gz",
    packages=("nibabel",),
)
PICTURE = Format(
    (".png", ".jpg", ".jpeg", ".bmp"),
    "picture_reader.PictureReader",
    "png_writer.PngWriter",
    registered=False,
    written=(".png",),
    packages=("pillow", "imagecodecs"),
    choices=("channel",),
)
NPY = Format((".npy",), "npy_reader.NpyReader", registered=False)
ITK = Format(
    (".mha", ".mhd", ".nrrd", *DICOM),
    "sitk_reader.SitkReader",
    result_suffix=".nii.gz",
    packages=("SimpleITK", "pydicom", "pyjpegls"),
)
OME_ZARR = Format(
    (".zarr",),
    "zarr_reader.OmeZarrReader",
    "zarr_writer.OmeZarrWriter",
    is_folder=True,
    has_ome=True,
    packages=("zarr", "numcodecs"),
    choices=("series",),
)
BIOIO = Format(
    (".czi", ".nd2", ".lif", ".dv", ".r3d"),
    "bioio_reader.BioioReader",
    packages=("bioio", "bioio-czi", "bioio-nd2", "bioio-lif", "bioio-dv"),
    choices=("series", "time", "channel"),
)
FORMATS = (TIFF, NIFTI, MGH, PICTURE, NPY, ITK, OME_ZARR, BIOIO)
DECODERS = tuple(dict.fromkeys(package for each in FORMATS for package in each.packages))

_ZARR_FILES = ("zarr.json", ".zgroup", ".zattrs")

SUFFIXES = tuple(suffix for each in FORMATS for suffix in each.suffixes)


@cache  # 1 ms each, of every record of a Segmenter
def version_of(package: str) -> str | None:
    """Version of a package; None: it is not installed."""
    with suppress(PackageNotFoundError):
        return installed_version(package)
    return None


def format_of(path: str | Path) -> Format | None:
    """Format of a file by its suffix, upper or lower case; None: none of ours."""
    name = str(path).lower()
    return next((each for each in FORMATS if name.endswith(each.suffixes)), None)


def takes_channel(path: str | Path) -> bool:
    """Whether the reader of a file's format takes one of its channels, `--channel 0`."""
    found = format_of(path)
    return found is not None and "channel" in found.choices


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group, whatever its name: programs leave the suffix out."""
    return any(os.path.isfile(path / name) for name in _ZARR_FILES)  # False of what is unreadable


def format_at(path: str | Path) -> Format | None:
    """Format of a file by its suffix, of a folder without one by what it holds."""
    return format_of(path) or (OME_ZARR if is_zarr(Path(path)) else None)


def stem(path: str | Path) -> str:
    """File name without its image suffix: `a.ome.tif` -> `a`, `b.nii.gz` -> `b`.

    A DICOM file or series, such as `1.2.840.7`, keeps its whole name.
    """
    name = Path(path).name
    found = format_of(name)
    if found is None:
        is_uid = Path(name).suffix[1:].isdigit()  # a name such as 1.2.840.7, of DICOM
        return name if is_uid or Path(path).is_dir() else Path(path).stem
    endings = [suffix for suffix in found.suffixes if name.lower().endswith(suffix)]
    name = name[: -len(max(endings, key=len))]
    return name[: -len(".ome")] if found.has_ome and name.lower().endswith(".ome") else name


def result_suffix(path: str | Path) -> str:
    """Suffix of the segmentations of an image; a path of no format is a DICOM series."""
    found = format_at(path)
    return found.result_suffix if found else ".nii.gz"


def _import(dotted: str) -> Any:
    module, name = dotted.split(".")
    return getattr(importlib.import_module(f"unet_med.data.{module}"), name)
