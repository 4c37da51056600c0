"""NumPy arrays as images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unet_med.data.file_reader import FileReader, Volume, placeholder
from unet_med.data.formats import NPY
from unet_med.data.pixel_size import ASSUMED


class NpyReader(FileReader):
    """MONAI reader for `.npy` arrays, taken as `(X, Y[, Z])` as MONAI does.

    Args:
        max_bytes: see `FileReader`.
    """

    suffixes = NPY.suffixes
    kind = "NumPy array"

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        self.require_memory(array.nbytes)
        array = placeholder(array.shape, array.dtype) if header_only else np.array(array)
        return Volume(array, False, np.eye(4), "um", ASSUMED)
