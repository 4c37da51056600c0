"""PNG of planes with 8 or 16 bits, through Pillow."""

from __future__ import annotations

import os

import numpy as np

from unet_med.data.array_writer import ArrayWriter, channel_first, smallest_label_dtype, storable
from unet_med.data.atomic import atomic_write
from unet_med.data.pixel_size import say_left_out


def write_png(
    path: str | os.PathLike[str],
    array: np.ndarray,
    affine: np.ndarray | None = None,
    spatial_unit: str | None = "um",
) -> None:
    """Write a plane as grey PNG, without loss and without a pixel size, which PNG does not have.

    Args:
        path: file to write, in one step.
        array: `(1, X, Y)`, whole numbers from 0 to 65535, of any integer dtype.
        affine: not kept; where it is stated, a warning says so once.
        spatial_unit: not kept; None: the pixel size is not known.

    Raises:
        ValueError: a volume, channels, fractions, or values above 65535.
    """
    from PIL import Image

    array = storable(channel_first(array))
    if array.dtype.kind in "iu" and array.dtype not in (np.uint8, np.uint16):
        array = smallest_label_dtype(array)
    if array.ndim != 3 or len(array) != 1:
        raise ValueError(
            f"a PNG holds one plane of one channel, and this is {array.shape} (C, X, Y[, Z]): "
            "save it as .tif or .nii.gz"
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"a PNG holds whole numbers from 0 to 65535, and these are {array.dtype}: save them as "
            ".tif"
        )
    if affine is not None and spatial_unit is not None:
        say_left_out("the pixel size", "PNG")
    with atomic_write(path) as part:
        Image.fromarray(np.ascontiguousarray(array[0].T)).save(part, format="PNG")


class PngWriter(ArrayWriter):
    """MONAI writer of PNG, for `SaveImaged` with this `writer` and `output_ext=".png"`.

    See `write_png` for the content of the file and `ArrayWriter` for the arguments.
    """

    save = staticmethod(write_png)
