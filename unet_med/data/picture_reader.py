"""PNG, JPEG and BMP through Pillow."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from unet_med.data.file_reader import FileReader, Volume, placeholder, require_upright
from unet_med.data.formats import PICTURE
from unet_med.data.grey_values import is_ramp
from unet_med.data.pixel_size import ASSUMED
from unet_med.data.tiff_axes import arrange, selection

GREY = 0  # colour type of a PNG
_CHANNELS = {GREY: 1, 2: 3, 4: 2, 6: 4}  # of a PNG with 16 bits, by the colour type of its header
_OPENING = Lock()
ORIENTATION = 0x0112  # of EXIF; 1: as the pixels lie


class PictureReader(FileReader):
    """MONAI reader for PNG, JPEG and BMP with all their bits and channels, through Pillow.

    Grey of 2 or 4 bits gives the numbers that are stored, 0 to 3 or 15, where Pillow spreads them
    over 0 to 255. A palette image gives its indices, because label images with a palette mean
    these; where the palette does not become brighter or darker with them, `meta["coloured"]` is
    True. The formats have no pixel size: the affine is 1 and `meta["spacing_source"]` is
    `"assumed"`.

    Args:
        max_bytes: see `FileReader`.
        channel: number of the only channel to read; grey pictures have one, 0.
    """

    suffixes = PICTURE.suffixes
    kind = "picture"

    def __init__(self, max_bytes: int | None = None, *, channel: int | None = None) -> None:
        super().__init__(max_bytes)
        self.select = selection(None, channel)

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        with _opened(path) as picture:
            if (frames := getattr(picture, "n_frames", 1)) > 1:
                raise ValueError(f"it holds {frames} pictures; save one a file")
            require_upright(_orientation(picture), "its EXIF data say")
            self.require_memory(picture.width * picture.height * 8)
            array = _placeholder_for(picture, path) if header_only else _pixels(picture, path)
            coloured = picture.mode == "P" and not header_only and not _is_ramp(picture, array)
        array, has_channels = arrange(array, "YXC"[: array.ndim], self.select)  # ([C,] X, Y)
        return Volume(array, has_channels, np.eye(4), "um", ASSUMED, coloured=coloured)


def _opened(path: Path) -> Any:
    """A picture of which Pillow has read the header, of any size: `require_memory` is the limit."""
    from PIL import Image

    with _OPENING:
        most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:  # these formats alone: for others Pillow runs programs, such as ghostscript
            return Image.open(path, formats=("PNG", "JPEG", "BMP"))
        finally:
            Image.MAX_IMAGE_PIXELS = most


def _orientation(picture: Any) -> int:
    """How the header says to show a picture; its pixels are not decoded for that."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(picture.info.get("exif", b""))
        return int(exif.get(ORIENTATION, 1))
    except Exception:  # damaged data say nothing
        return 1


def _placeholder_for(picture: Any, path: Path) -> np.ndarray:
    """Placeholder for the pixels `(Y, X[, C])` of a picture that Pillow opened."""
    from PIL import ImageMode

    deep = _deep_channels(path)
    shape = (picture.height, picture.width, deep or len(picture.getbands()))
    dtype = np.uint16 if deep else np.dtype(ImageMode.getmode(picture.mode).typestr)
    return placeholder(shape if shape[2] > 1 else shape[:2], dtype)


def _pixels(picture: Any, path: Path) -> np.ndarray:
    if _deep_channels(path):
        return _deep_png(path)
    bits, colours = _png_samples(path)
    pixels = np.asarray(picture)
    return pixels // (255 // (2**bits - 1)) if colours == GREY and bits in (2, 4) else pixels


def _is_ramp(picture: Any, array: np.ndarray) -> bool:
    return is_ramp(np.reshape(picture.getpalette("RGB"), (-1, 3)), array)


def _deep_channels(path: Path) -> int | None:
    """How many a PNG of 16 bits has besides grey alone, which Pillow cuts to 8 without a word."""
    bits, colours = _png_samples(path)
    return _CHANNELS.get(colours) if bits == 16 and colours != GREY else None


def _png_samples(path: Path) -> tuple[int, int]:
    """Bits of a sample and colour type, of a PNG's header; (0, 0) of other formats."""
    with path.open("rb") as file:
        header = file.read(26)
    return (header[24], header[25]) if header[:8] == b"\x89PNG\r\n\x1a\n" else (0, 0)


def _deep_png(path: Path) -> Any:
    import imagecodecs

    return imagecodecs.png_decode(path.read_bytes())  # (Y, X, C)
