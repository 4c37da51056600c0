"""NumPy arrays as images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unet_med.data.file_reader import FileReader, Volume, placeholder
from unet_med.data.formats import NPY
from unet_med.data.npy_files import holds_objects
from unet_med.data.pixel_size import ASSUMED

COLOURS = (3, 4)  # values of a pixel, RGB and RGBA
PICTURE = 16  # px: sides of pictures; a stack of more planes is wider than a few pixels


class NpyReader(FileReader):
    """MONAI reader for `.npy` arrays, `([Z,] Y, X)` as the TIFF that tifffile writes of them.

    So hold scikit-image, cellpose and napari their pictures; MONAI's own reader takes the first
    axis for x. Nothing in the file says it, so beside one that states its axes, such as a NIfTI,
    it is refused (`grids.turn_onto`).

    Args:
        max_bytes: see `FileReader`.
    """

    suffixes = NPY.suffixes
    kind = "NumPy array"

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        if holds_objects(path):
            raise ValueError(
                "it holds Python objects, not pixels; of cellpose's _seg.npy save the masks: "
                "File > Save masks as PNG/tif"
            )
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.ndim > 3:
            raise ValueError(
                f"it has shape {array.shape}, and a file holds one image, (Y, X) or (Z, Y, X): "
                "save each by itself, as TIFF or PNG"
            )
        if array.ndim == 3 and array.shape[2] in COLOURS and min(array.shape[:2]) >= PICTURE:
            raise ValueError(
                f"it has shape {array.shape}, as colours have it, and three axes are (Z, Y, X) "
                "here: save it as PNG or TIFF"
            )
        self.require_memory(array.nbytes)
        array = placeholder(array.shape, array.dtype) if header_only else np.array(array)
        return Volume(array.T, False, np.eye(4), "um", ASSUMED, unnamed=True)
