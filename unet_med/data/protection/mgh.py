"""MGH headers, checked before nibabel reads the pixels."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

from unet_med.data.protection.limits import require_in_file, require_memory

_BEFORE_PIXELS = 284  # bytes
_PLACED = slice(28, 30)  # of these, `goodRASFlag`, which nibabel sets where it is not


def check_mgh(path: Path, max_bytes: int | None = None) -> tuple[Any, bool]:
    """Read the header of an MGH, and refuse one that declares too much, or is cut short.

    Args:
        path: an existing file; `.mgz` is deflated.
        max_bytes: see `require_memory`.

    Returns:
        nibabel's `MGHHeader`, and whether the file says that it states a place.

    Raises:
        ValueError: says what is wrong with it.
    """
    from nibabel.freesurfer.mghformat import MGHHeader

    deflated = path.name.lower().endswith(".mgz")
    with gzip.open(path) if deflated else path.open("rb") as file:
        head = file.read(_BEFORE_PIXELS)
    if len(head) < _BEFORE_PIXELS or head[:4] != b"\0\0\0\1":
        raise ValueError("it does not begin as an MGH file does")
    header = MGHHeader(head)
    if min(header["dims"]) < 1:
        raise ValueError(f"its header has sides of {header['dims'].tolist()} voxels")
    size = math.prod(map(int, header["dims"])) * header.get_data_dtype().itemsize
    require_memory(size, max_bytes)
    require_in_file(_BEFORE_PIXELS + size, path, deflated=deflated)
    return header, head[_PLACED] == b"\0\1"
