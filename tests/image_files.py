"""Image files for the tests of readers and writers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile

from unet_med.data import AutoReader

META_KEYS = {
    "affine", "original_affine", "spatial_shape", "original_channel_dim", "space",
    "spatial_unit", "spacing_source", "unknown_axes", "coloured", "planes", "unnamed",
    "channel_names",
}  # fmt: skip
TURNED = np.diag([-0.8, 0.8, 2.5, 1.0])  # LAS, 0.8 x 0.8 x 2.5 mm


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


def write_noise(path: Path, seed: int) -> Path:
    """Write a TIFF of 40 x 36 px into a folder, which is made, and give the file back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (40, 36), dtype=np.uint8)
    tifffile.imwrite(path, values)
    return path


def write_ct(path: Path, shape: tuple[int, int, int]) -> Path:
    """Write numbers of Hounsfield, which turn as `TURNED` says, and give the file back."""
    grey = np.random.default_rng(0).integers(-500, 500, shape).astype(np.int16)
    image = nibabel.Nifti1Image(grey, TURNED)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def levels_of(path: Path) -> list[np.ndarray]:
    """Pixels of each resolution of a TIFF file."""
    with tifffile.TiffFile(path) as tif:
        return [level.asarray() for level in tif.series[0].levels]


def write_source(path: Path, array: np.ndarray, version: str = "0.5") -> Path:
    """An OME-Zarr image `([C,] [Z,] Y, X)` with 0.5 x 0.25 x 0.25 micrometre pixels."""
    import zarr  # which Python 3.10 and some machines with a GPU lack

    axes = ["c", "z", "y", "x"][-array.ndim :]
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    chunks = tuple(min(n, 16) for n in array.shape)
    group.create_array("0", data=array, chunks=chunks)
    sizes = {"c": 1.0, "z": 0.5, "y": 0.25, "x": 0.25}
    kinds = {"c": {"type": "channel"}}
    space = {"type": "space", "unit": "micrometer"}
    image = {
        "axes": [{"name": a, **kinds.get(a, space)} for a in axes],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [{"type": "scale", "scale": [sizes[a] for a in axes]}],
            }
        ],
    }
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [{"version": "0.4", **image}]
    return path
