"""One reader of all formats; the suffix chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.dicom_files import is_series
from unet_med.data.file_reader import FileReader, Volume, unreadable
from unet_med.data.formats import BIOIO, FORMATS, ITK, OME_ZARR, format_of, is_zarr
from unet_med.data.sitk_reader import SitkReader
from unet_med.data.tiff_axes import checked
from unet_med.planes import APART


class AutoReader(FileReader):
    """MONAI reader of all formats, which our configs name: the suffix of a file decides.

    `LoadImaged(keys, reader="unet_med.data.AutoReader", ensure_channel_first=True)` gives
    `(C, X, Y[, Z])`, the affine in the unit that `meta["spatial_unit"]` names, whatever the format.
    A folder is read as OME-Zarr where it is one, else as a DICOM series.

    Args:
        max_bytes: see `FileReader`.
        series: of TIFF files, those of microscopes, and what `bioformats2raw` wrote, which image of
            several; of folders with several DICOM series the UID of one.
        time: of the same files, which time point.
        channel: of the same files, and of PNG, JPEG and BMP, which channel.
        axes: of TIFF files, names of the axes in place of their own; see `TiffReader`.
        pixel_size: um, of files without one, such as PNG; one, or one an axis. Files with a
            pixel size keep it.
        for_label: the choice is that of a label's image, and holds where the label has the same
            axes; see `TiffReader`.

    Attributes:
        choice: the given ones of all these arguments but `max_bytes` and `for_label`.

    Raises:
        ValueError: a pixel size that is not positive, or, when a file is read, not one
            for each of its axes.
    """

    suffixes = tuple(s for each in FORMATS if not each.is_folder for s in each.suffixes)

    def __init__(
        self,
        max_bytes: int | None = None,
        *,
        series: int | str | None = None,
        time: int | None = None,
        channel: int | None = None,
        axes: str | None = None,
        pixel_size: float | Sequence[float] | None = None,
        for_label: bool = False,
    ) -> None:
        super().__init__(max_bytes)
        self._for_label = for_label
        checked(axes)
        self._sizes = () if pixel_size is None else tuple(np.atleast_1d(pixel_size).tolist())
        if not all(0 < size < np.inf for size in self._sizes):
            raise ValueError(f"pixel_size {pixel_size} is not positive")
        which = {"series": series, "time": time, "channel": channel, "axes": axes}
        self._which = {name: value for name, value in which.items() if value is not None}
        self.choice = self._which | ({} if pixel_size is None else {"pixel_size": pixel_size})

    def open(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file with the reader of its suffix."""
        try:
            reader = self._reader_of(path)
        except OSError as error:  # a folder that may not be looked at
            raise unreadable(path, error, self.kind) from error
        volume = reader.open(path, header_only=header_only)
        if volume.states_size or not self._sizes:
            return volume
        return _with_pixel_size(volume, self._sizes, path)

    def _reader_of(self, path: Path) -> FileReader:
        """The reader of a file's suffix; of a folder, that of OME-Zarr or DICOM."""
        found = format_of(path)
        if found is None or found.is_folder:
            if not path.is_dir() and not is_series(path):
                raise ValueError(
                    f"{path} has no suffix of an image; supported are {' '.join(self.suffixes)} "
                    "and folders with a DICOM series"
                )
            found = OME_ZARR if is_zarr(path) else ITK
        series = self._which.get("series")
        uid = series if isinstance(series, str) else None
        in_dicom = found is ITK and uid is not None and is_series(path)
        taken = [name for name in found.choices if name != "series" or uid is None]
        taken += ["series"] * in_dicom
        others = [f"--{name} {value}" for name, value in self._which.items() if name not in taken]
        if others and not self._for_label:
            raise ValueError(_of_another_format(others[0], path))
        if in_dicom:
            return SitkReader(uid, max_bytes=self.max_bytes)
        options = {name: self._which[name] for name in taken if name in self._which}
        if "time" in taken:
            options["for_label"] = self._for_label
        return found.reader_class()(max_bytes=self.max_bytes, **options)

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        return self.open(path, header_only=header_only)


def _of_another_format(choice: str, path: Path) -> str:
    """Why a choice among several images in a file means nothing for this file."""
    if choice.startswith("--series ") and "." in choice:
        return f"{choice} is the UID of a DICOM series, and {path.name} is none: leave it out"
    if choice.startswith("--series ") and is_series(path):
        return (
            f"{choice} is for TIFF files, and {path.name} is DICOM: give the UID of a series, "
            "such as 1.2.840.7, or leave it out"
        )
    if choice.startswith("--axes ") and format_of(path) is BIOIO:
        return f"--axes is for TIFF files, and {path.name} names its own: leave it out"
    files = "TIFF and picture files" if choice.startswith("--channel ") else "TIFF files"
    return f"{choice} is for {files}, and {path.name} is none: leave it out, or give {files} alone"


def _with_pixel_size(volume: Volume, sizes: tuple[float, ...], path: Path) -> Volume:
    """Give a volume a pixel size, um: one for all axes, or one an axis.

    One says nothing of planes that the file does not place.
    """
    dims = len(volume.spatial_shape)
    if len(sizes) not in (1, dims):
        raise ValueError(f"pixel_size has {len(sizes)} values for the {dims} axes of {path}")
    per_axis = [*(sizes * dims if len(sizes) == 1 else sizes), 1.0]  # a plane is 1 thick
    return replace(
        volume,
        affine=np.diag([*per_axis[:3], 1.0]),
        spatial_unit="um",
        spacing_source="given",
        unknown_axes="",
        pages=volume.planes == APART and (volume.pages or len(sizes) == 1),
    )


def label_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the reader of labels whose images are read with a choice.

    A label has one channel and one series, so only the time and the names of the axes are its
    as well.
    """
    shared = {name: choice[name] for name in ("time", "axes") if choice.get(name) is not None}
    return {**shared, "for_label": True} if shared else {}
