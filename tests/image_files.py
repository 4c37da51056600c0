"""Image files for the tests of readers and writers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data import AutoReader

META_KEYS = {
    "affine", "original_affine", "spatial_shape", "original_channel_dim", "space",
    "spatial_unit", "spacing_source", "unknown_axes", "coloured", "planes", "unnamed",
}  # fmt: skip


def load(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Array and metadata as our readers give them to MONAI."""
    reader = AutoReader()
    return reader.get_data(reader.read(str(path)))


def write_by_itk(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    """Write `(X, Y, Z)` by other people's code."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(volume.transpose(2, 1, 0))
    image.SetSpacing([affine[k, k] for k in range(3)])
    sitk.WriteImage(image, str(path))
