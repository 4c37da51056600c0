"""Which `.npy` files hold pixels, by their headers alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from numpy.lib import format as npy

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def holds_objects(path: Path) -> bool:
    """Whether a file holds pickled Python objects, as cellpose's `_seg.npy` does.

    What has no header of version 1 or 2, or cannot be opened, is none: whoever reads it says why.
    """
    with suppress(OSError, ValueError), path.open("rb") as file:
        read = _HEADERS.get(npy.read_magic(file))
        return read is not None and bool(read(file)[2].hasobject)
    return False
