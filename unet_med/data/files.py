"""One reader and one function for every file format, chosen by suffix."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from unet_med.data.array_writer import channel_first
from unet_med.data.file_reader import FileReader, Volume, stand_in
from unet_med.data.nifti_reader import NiftiReader, NiftiWriter, write_nifti
from unet_med.data.sitk_reader import SitkReader
from unet_med.data.tiff_reader import TiffReader
from unet_med.data.tiff_writer import TiffWriter, write_tiff
from unet_med.data.zarr_reader import OmeZarrReader, is_zarr
from unet_med.data.zarr_writer import OmeZarrWriter, write_ome_zarr


class PictureReader(FileReader):
    """MONAI reader for PNG, JPEG and BMP with all their bits and channels, through Pillow.

    A palette image gives its indices, which is what label images in that form mean. These
    formats know no pixel size: the affine is 1 and `meta["spacing_source"]` is `"assumed"`.

    Args:
        max_bytes: see `FileReader`.
    """

    suffixes = (".png", ".jpg", ".jpeg", ".bmp")
    kind = "picture"

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        from PIL import Image

        # by these formats alone: others that Pillow knows run programs, such as ghostscript
        with Image.open(path, formats=("PNG", "JPEG", "BMP")) as picture:
            if (frames := getattr(picture, "n_frames", 1)) > 1:
                raise ValueError(f"it holds {frames} pictures; save one a file")
            self.require_memory(picture.width * picture.height * 8)
            array = _picture_to_come(picture) if header_only else _pixels(picture, path)
        has_channels = array.ndim == 3
        array = array.transpose(2, 1, 0) if has_channels else array.T  # ([C,] X, Y)
        return Volume(array, has_channels, np.eye(4), "um", "assumed")


class NpyReader(FileReader):
    """MONAI reader for `.npy` arrays, taken as `(X, Y[, Z])` as MONAI does.

    Args:
        max_bytes: see `FileReader`.
    """

    suffixes = (".npy",)
    kind = "NumPy array"

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        self.require_memory(array.nbytes)
        array = stand_in(array.shape, array.dtype) if header_only else np.array(array)
        return Volume(array, False, np.eye(4), "um", "assumed")


class AutoReader(FileReader):
    """MONAI reader that picks the reader by suffix; what our configs name.

    `LoadImaged(keys, reader="unet_med.data.AutoReader", ensure_channel_first=True)` gives
    `(C, X, Y[, Z])` with the affine in `meta["spatial_unit"]`, whatever the format. A
    folder is read as OME-Zarr where it is one, else as a DICOM series.

    Args:
        max_bytes: see `FileReader`.
        series: of TIFF files, which image of several; see `TiffReader`.
        time: of TIFF files, which time point.
        channel: of TIFF files, which channel.
        pixel_size: um, of files that do not say theirs, such as PNG; one, or one an axis.
            Files that do keep their own.

    Attributes:
        choice: those of the last four that are given.

    Raises:
        ValueError: a pixel size that is not positive, or, when a file is read, not one
            for each of its axes.
    """

    suffixes = tuple(
        suffix
        for reader in (TiffReader, NiftiReader, PictureReader, NpyReader, SitkReader)
        for suffix in reader.suffixes
    )

    def __init__(
        self,
        max_bytes: int | None = None,
        *,
        series: int | None = None,
        time: int | None = None,
        channel: int | None = None,
        pixel_size: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__(max_bytes)
        self.tiff = TiffReader(series, time=time, channel=channel, max_bytes=max_bytes)
        self._sizes = () if pixel_size is None else tuple(np.atleast_1d(pixel_size).tolist())
        if not all(0 < size < np.inf for size in self._sizes):
            raise ValueError(f"pixel_size {pixel_size} is not positive")
        chosen = {"series": series, "time": time, "channel": channel, "pixel_size": pixel_size}
        self.choice = {name: value for name, value in chosen.items() if value is not None}

    def open(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file with the reader of its suffix."""
        volume = self._open(path, header_only)
        known = volume.spacing_source != "assumed"
        return volume if known or not self._sizes else _with_pixel_size(volume, self._sizes, path)

    def _open(self, path: Path, header_only: bool) -> Volume:
        if self.tiff.verify_suffix(str(path)):
            return self.tiff.open(path, header_only=header_only)
        for kind in (NiftiReader, PictureReader, NpyReader):
            reader = kind(max_bytes=self.max_bytes)
            if reader.verify_suffix(str(path)):
                return reader.open(path, header_only=header_only)
        if is_zarr(path):
            return OmeZarrReader(max_bytes=self.max_bytes).open(path, header_only=header_only)
        if not path.is_dir() and not self.verify_suffix(str(path)):
            raise ValueError(
                f"{path} has no suffix of an image; supported are {' '.join(self.suffixes)} "
                "and folders with a DICOM series"
            )
        return SitkReader(max_bytes=self.max_bytes).open(path, header_only=header_only)

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        return self.open(path, header_only=header_only)


def _with_pixel_size(volume: Volume, sizes: tuple[float, ...], path: Path) -> Volume:
    """A volume of no known pixel size with one, um, of all axes or of each."""
    dims = len(volume.spatial_shape)
    if len(sizes) not in (1, dims):
        raise ValueError(f"pixel_size has {len(sizes)} values for the {dims} axes of {path}")
    per_axis = [*(sizes * dims if len(sizes) == 1 else sizes), 1.0]  # a plane is 1 thick
    affine = np.diag([*per_axis[:3], 1.0])
    return replace(volume, affine=affine, spatial_unit="um", spacing_source="given")


def load_image(path: str | os.PathLike[str], **choice: Any) -> MetaTensor:
    """Read a whole image of any of our formats, chosen by suffix, in one step.

    Args:
        path: an image file, or a folder with a DICOM series; see `AutoReader`.
        choice: `series`, `time` or `channel` of a TIFF that holds several, `pixel_size` of a
            file that does not say it; see `AutoReader`.

    Returns:
        `(C, X, Y[, Z])`, float32, with its affine and `meta["spatial_unit"]`.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it cannot be read in full as one image; one sentence naming the file.
    """
    from monai.transforms import LoadImage

    image: MetaTensor = LoadImage(reader=AutoReader(**choice), ensure_channel_first=True)(path)
    return image


def load_header(path: str | os.PathLike[str], **choice: Any) -> Volume:
    """Read what a file says of its image, without its pixels.

    Args:
        path: as for `load_image`; of a folder with a DICOM series the pixels are read too.
        choice: `series`, `time` or `channel` of a TIFF that holds several, `pixel_size` of a
            file that does not say it; see `AutoReader`.

    Returns:
        Shape, affine and unit as `load_image` finds them; the array is a stand-in that
        takes no memory.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: its header cannot be read, or is not one image's.
    """
    return AutoReader(**choice).open(Path(path).expanduser(), header_only=True)


def save_image(
    path: str | os.PathLike[str],
    array: np.ndarray | torch.Tensor,
    affine: np.ndarray | torch.Tensor | None = None,
    spatial_unit: str | None = "um",
    *,
    has_channels: bool = True,
    channel_names: tuple[str, ...] = (),
    like: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a whole image as OME-TIFF, NIfTI or OME-Zarr, by suffix, in one step.

    Args:
        path: `.tif`, `.tiff`, `.nii`, `.nii.gz` or `.zarr`; missing folders are made. A reader
            never sees half a file.
        array: `(C, X, Y[, Z])`, or without channels `(X, Y)`, or `(X, Y, Z)` with
            `has_channels=False`. The dtype is kept; where the formats do not know it, it
            becomes one that holds the values (see `storable`).
        affine: voxel to world in `spatial_unit`; None: the pixel size is not known.
        spatial_unit: `"um"` or `"mm"`; None: the pixel size is not known.
        has_channels: the first of three or four axes is the channels.
        channel_names: one a channel, which only TIFF keeps.
        like: file on the same grid; a NIfTI like a NIfTI says its place in the same way.

    Returns:
        The path.

    Raises:
        ValueError: another suffix or unit, a dtype or shape that is no image, or a
            rotation that TIFF and OME-Zarr cannot say.
    """
    path = Path(path)
    image = channel_first(array, 0 if has_channels and array.ndim > 2 else None)
    world = None if affine is None else np.asarray(affine, dtype=np.float64)
    unit = None if affine is None else spatial_unit
    if path.name.lower().endswith(TiffReader.suffixes):
        write_tiff(path, image, world, unit, channel_names=channel_names)
    elif path.name.lower().endswith(NiftiReader.suffixes):
        is_nifti = str(like or "").lower().endswith(NiftiReader.suffixes)
        write_nifti(path, image, world, unit, like=like if is_nifti else None)
    elif path.name.lower().endswith(OmeZarrReader.suffixes):
        write_ome_zarr(path, image, world, unit)
    else:
        raise ValueError(
            f"cannot write {path}: the suffix must be .tif, .tiff, .nii, .nii.gz or .zarr"
        )
    return path


def register() -> None:
    """Make MONAI's `LoadImage` and `SaveImage` use our readers and writers by suffix.

    Explicit, process-wide, and harmless to call again. MONAI's own readers and writers
    stay, but for one: a TIFF that ours refuses to write is not handed to `PILWriter`,
    which would save one slice of it.
    """
    from monai.data import image_writer
    from monai.transforms.io.array import SUPPORTED_READERS

    SUPPORTED_READERS.update(
        unetmedsitkreader=SitkReader,
        unetmedtiffreader=TiffReader,
        unetmedniftireader=NiftiReader,
        unetmedomezarrreader=OmeZarrReader,
    )
    # MONAI fills its table on the first look-up, but only while the table is empty.
    image_writer.resolve_writer("nii.gz", error_if_not_found=False)
    for suffix in ("tif", "tiff", "ome.tif", "ome.tiff"):
        image_writer.SUPPORTED_WRITERS[suffix] = (TiffWriter,)
    for suffix in ("zarr", "ome.zarr"):
        image_writer.SUPPORTED_WRITERS[suffix] = (OmeZarrWriter,)
    for suffix in ("nii", "nii.gz"):
        if NiftiWriter not in image_writer.SUPPORTED_WRITERS[suffix]:
            image_writer.register_writer(suffix, NiftiWriter)


def _picture_to_come(picture: Any) -> np.ndarray:
    """Stand-in for the array `(Y, X[, C])` of a picture that Pillow opened."""
    shape = (picture.height, picture.width, len(picture.getbands()))
    return stand_in(shape if shape[2] > 1 else shape[:2], np.uint8)


def _pixels(picture: Any, path: Path) -> np.ndarray:
    return _deep_png(path) if _is_deep_colour_png(path) else np.asarray(picture)


def _is_deep_colour_png(path: Path) -> bool:
    """16-bit colour, which Pillow cuts to 8 bits without a word."""
    with path.open("rb") as file:
        header = file.read(26)
    return header[:8] == b"\x89PNG\r\n\x1a\n" and header[24] == 16 and header[25] != 0


def _deep_png(path: Path) -> Any:
    import imagecodecs

    return imagecodecs.png_decode(path.read_bytes())  # (Y, X, C)
