"""Headers of medical formats, looked at before nibabel and ITK act on them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import BinaryIO, cast

MAX_NIFTI_HEADER = 64 << 20  # bytes before the pixels; nibabel reads all of them
MAX_EXTENSIONS = 10_000
MAX_TEXT_HEADER = 1 << 20
_DATA_FILE_KEYS = {"elementdatafile", "data file", "datafile"}


def check_nifti_header(path: Path) -> None:
    """Refuse a NIfTI whose header or extensions are longer than they may be.

    What is broken otherwise passes: nibabel says so.

    Raises:
        ValueError: pixels that begin too far into the file, or an extension beyond them.
    """
    with _opened(path) as file:
        head = file.read(4)
        order = next((o for o in "<>" if head in (_int32(o, 348), _int32(o, 540))), None)
        if order is None:
            return
        size = struct.unpack(order + "i", head)[0]
        head += file.read(size - 4)
        if len(head) < size:
            return
        code, where = ("f", 108) if size == 348 else ("q", 168)
        begin = struct.unpack_from(order + code, head, where)[0]
        if not begin <= MAX_NIFTI_HEADER:  # NaN, too
            raise ValueError(f"its pixels begin at byte {begin:g}, the limit is {MAX_NIFTI_HEADER}")
        _check_extensions(file, order, int(begin) - size - 4)


def check_data_files(path: Path) -> None:
    """Refuse a MetaImage or NRRD header that takes its pixels from outside its folder.

    Raises:
        ValueError: names the file that it refers to.
    """
    with path.open("rb") as file:
        text = file.read(MAX_TEXT_HEADER).decode("latin-1")
    lines = iter(text.split("\n\n", 1)[0].splitlines() if text.startswith("NRRD") else
                 text.splitlines())  # fmt: skip
    for line in lines:
        key, _, value = line.replace(":", "=", 1).partition("=")
        if key.strip().lower() not in _DATA_FILE_KEYS:
            continue
        name = value.strip()
        listed = name.upper().startswith("LIST")
        for entry in [each.strip() for each in lines] if listed else [name]:
            _require_beside(entry)
        return


def _require_beside(name: str) -> None:
    """A plain file name, or a pattern with numbers behind it: `slice%03d.raw 1 40 1`."""
    if "/" in name or "\\" in name or name.startswith(".."):
        raise ValueError(f"its pixels are in {name[:200]!r}, which is outside its folder")


def _opened(path: Path) -> BinaryIO:
    if path.name.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(path))
    return path.open("rb")


def _int32(order: str, value: int) -> bytes:
    return struct.pack(order + "i", value)


def _check_extensions(file: BinaryIO, order: str, left: int) -> None:
    """An extension says its own length, which nibabel believes."""
    flag = file.read(4)
    if left <= 0 or len(flag) < 4 or flag[0] == 0:
        return
    for _ in range(MAX_EXTENSIONS):
        data = file.read(8)
        if left < 16 or len(data) < 8:  # as nibabel counts
            return
        length = struct.unpack(order + "i", data[:4])[0]
        if not 8 <= length <= left:
            raise ValueError(f"an extension of its header claims {length} bytes of {left}")
        file.read(length - 8)
        left -= length
    raise ValueError(f"its header has more than {MAX_EXTENSIONS} extensions")
