"""Headers of medical formats, looked at before nibabel and ITK act on them."""

from __future__ import annotations

import gzip
import struct
from itertools import count
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO, cast

MAX_NIFTI_HEADER = 64 << 20  # bytes before the pixels; nibabel reads all of them
MAX_EXTENSIONS = 10_000
MAX_TEXT_HEADER = 1 << 20
UNCOMPRESSED = {f"1.2.840.10008.1.2{suffix}" for suffix in ("", ".1", ".2")}  # DICOM PS3.5, A
_RUN_LENGTH = "1.2.840.10008.1.2.5"
_FRAGMENTS = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff"  # pixels, in items
_ITEM = b"\xfe\xff\0\xe0"
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


def check_series(folder: Path) -> None:
    """Refuse a folder with pipes, devices, or DICOM files that end the process in GDCM.

    Raises:
        ValueError: names the first.
    """
    for path in sorted(folder.iterdir()):
        if path.is_file():
            if transfer_syntax(path) == _RUN_LENGTH:
                _check_run_lengths(path)
        elif path.exists() and not path.is_dir():
            raise ValueError(f"its {path.name[:200]} is no regular file")


def transfer_syntax(path: Path) -> str:
    """How a DICOM file stores its pixels; the default where it does not say (PS3.10, 7.1)."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = 132 if head[128:132] == b"DICM" else len(head)
    while head[at : at + 2] == b"\2\0":  # elements of group 2, explicit and little endian
        number, kind, length = struct.unpack_from("<2xH2sH", head.ljust(at + 8), at)
        if number == 0x10:
            return head[at + 8 : at + 8 + length].rstrip(b" \0").decode("ascii", "replace")
        long = kind in (b"OB", b"OW", b"SQ", b"UN", b"UT")
        value = at + (12 if long else 8)
        at = value + (int.from_bytes(head[at + 8 : value], "little") if long else length)
    return "1.2.840.10008.1.2"


def _check_run_lengths(path: Path) -> None:
    """A fragment has 1 to 15 segments (PS3.5, G.5); GDCM divides by their number."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        begin = data.find(_FRAGMENTS)
        while begin >= 0:
            at = begin + len(_FRAGMENTS)
            for number in count():
                head = data[at : at + 12]
                if head[:4] != _ITEM or len(head) < 8:
                    break
                segments = int.from_bytes(head[8:], "little")
                if number > 0 and not 1 <= segments <= 15:  # item 0 lists where frames begin
                    raise ValueError(
                        f"its {path.name} has pixels of {segments} segments, 1 to 15 may be"
                    )
                at += 8 + int.from_bytes(head[4:8], "little")
            begin = data.find(_FRAGMENTS, begin + 1)


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
