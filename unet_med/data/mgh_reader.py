"""MGH and MGZ of FreeSurfer, through nibabel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unet_med.data.file_reader import FileReader, Volume, placeholder
from unet_med.data.formats import MGH
from unet_med.data.protection import check_mgh, whole_gzip


class MghReader(FileReader):
    """MONAI reader for `.mgh` and `.mgz`: images and labels, as FreeSurfer has them.

    The affine is that of the header, to the scanner's world (RAS), in millimetres. A header that
    is not marked as good (`goodRASFlag`) states neither place nor voxel size. A fourth axis is
    channels.

    Args:
        max_bytes: see `FileReader`.
    """

    suffixes = MGH.suffixes
    kind = "MGH"

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        header, placed = check_mgh(path, self.max_bytes)
        shape = header.get_data_shape()
        array = placeholder(shape, header.get_data_dtype()) if header_only else _pixels(path)
        has_channels = len(shape) == 4
        array = np.moveaxis(array, 3, 0) if has_channels else array  # (C, X, Y, Z)
        affine = header.get_affine()
        return Volume(array, has_channels, affine, "mm", "header" if placed else "assumed")


def _pixels(path: Path) -> np.ndarray:
    """`(X, Y, Z[, C])` in native byte order."""
    from nibabel.freesurfer.mghformat import MGHImage

    deflated = path.name.lower().endswith(".mgz")
    with whole_gzip(path) if deflated else path.open("rb") as stream:
        array = np.asanyarray(MGHImage.from_stream(stream).dataobj)
        return array.astype(array.dtype.newbyteorder("="), copy=False)
