"""PNG, JPEG and BMP through Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.file_reader import FileReader, Volume, placeholder
from unet_med.data.formats import PICTURE

ORIENTATION = 0x0112  # of EXIF; 1: as the pixels lie


class PictureReader(FileReader):
    """MONAI reader for PNG, JPEG and BMP with all their bits and channels, through Pillow.

    A palette image gives its indices, because label images with a palette mean these. The
    formats have no pixel size: the affine is 1 and `meta["spacing_source"]` is `"assumed"`.

    Args:
        max_bytes: see `FileReader`.
    """

    suffixes = PICTURE.suffixes
    kind = "picture"

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        from PIL import Image

        # these formats alone: for others Pillow runs programs, such as ghostscript
        with Image.open(path, formats=("PNG", "JPEG", "BMP")) as picture:
            if (frames := getattr(picture, "n_frames", 1)) > 1:
                raise ValueError(f"it holds {frames} pictures; save one a file")
            if (turned := _orientation(picture)) not in (0, 1):
                raise ValueError(
                    f"its EXIF data say to show it turned (orientation {turned}), which some "
                    "programs do and others do not, so its label may lie either way: save it turned"
                )
            self.require_memory(picture.width * picture.height * 8)
            array = _placeholder_for(picture) if header_only else _pixels(picture, path)
        has_channels = array.ndim == 3
        array = array.transpose(2, 1, 0) if has_channels else array.T  # ([C,] X, Y)
        return Volume(array, has_channels, np.eye(4), "um", "assumed")


def _orientation(picture: Any) -> int:
    """How the header says to show a picture; its pixels are not decoded for that."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(picture.info.get("exif", b""))
        return int(exif.get(ORIENTATION, 1))
    except Exception:  # damaged data say nothing
        return 1


def _placeholder_for(picture: Any) -> np.ndarray:
    """Placeholder for the pixels `(Y, X[, C])` of a picture that Pillow opened."""
    shape = (picture.height, picture.width, len(picture.getbands()))
    return placeholder(shape if shape[2] > 1 else shape[:2], np.uint8)


def _pixels(picture: Any, path: Path) -> np.ndarray:
    return _deep_png(path) if _is_deep_colour_png(path) else np.asarray(picture)


def _is_deep_colour_png(path: Path) -> bool:
    """Whether a PNG has 16-bit colours, which Pillow cuts to 8 bits without a word."""
    with path.open("rb") as file:
        header = file.read(26)
    return header[:8] == b"\x89PNG\r\n\x1a\n" and header[24] == 16 and header[25] != 0


def _deep_png(path: Path) -> Any:
    import imagecodecs

    return imagecodecs.png_decode(path.read_bytes())  # (Y, X, C)
