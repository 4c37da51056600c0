"""Compressed tiles of a TIFF, whose own headers may claim far more pixels than a tile has.

JPEG, JPEG 2000, JPEG XL, JPEG XR and PNG decode to the size in their stream. Codecs without a
size of their own (deflate, LZW, ...) are limited by tifffile.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

_AT_LEAST = 1 << 20  # px; smaller streams are always harmless
_PADDED = 4  # times the pixels of a tile: the last strip may be a full one
_HEAD = 4096  # bytes to read, except for JPEG: its size may follow long comments
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF markers


def check_streams(series: Any, *, several_files: bool = False) -> None:
    """Refuse tiles whose streams hold larger images than a tile.

    Args:
        series: a `tifffile.TiffPageSeries` without missing pages.
        several_files: its pages may be in files of different codecs.

    Raises:
        ValueError: says how much larger.
    """
    if int(series.keyframe.compression) not in _MEASURES and not several_files:
        return
    for page in series.pages:
        key, file = page.keyframe, page.parent.filehandle
        measure = _MEASURES.get(int(key.compression))
        if measure is None:
            continue
        rows, columns = key.tilelength, key.tilewidth
        sides = (rows, columns) if key.is_tiled else (key.rowsperstrip, key.imagewidth)
        most = max(_AT_LEAST, _PADDED * sides[0] * sides[1])
        with _opened(file):
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                file.seek(offset)
                found = measure(file, count)
                if found > most:
                    raise ValueError(
                        f"a tile of {sides[0]} x {sides[1]} px holds an image of {found} px"
                    )


@contextmanager
def _opened(file: Any) -> Iterator[None]:
    """Open other files of a data set, which tifffile closes until it reads their pixels."""
    was_closed = file.closed
    if was_closed:
        file.open()
    try:
        yield
    finally:
        if was_closed:
            file.close()


def _jpeg(file: BinaryIO, count: int) -> int:
    """Pixels by the frame header, after any number of other segments."""
    end = file.tell() + count
    if file.read(2) != b"\xff\xd8":
        return 0
    while file.tell() < end:
        lead, marker = file.read(1), file.read(1)
        while marker == b"\xff":  # fill bytes
            marker = file.read(1)
        length = int.from_bytes(file.read(2), "big")
        if lead != b"\xff" or not marker or marker == b"\xda" or length < 2:
            return 0
        if marker[0] in _JPEG_SIZES:
            data = file.read(5)
            return int.from_bytes(data[1:3], "big") * int.from_bytes(data[3:5], "big")
        file.seek(length - 2, 1)
    return 0


def _jpeg2000(file: BinaryIO, count: int) -> int:
    data = file.read(min(count, _HEAD))
    at = data.find(b"\xff\x4f\xff\x51")  # start of codestream, size marker
    if at < 0 or len(data) < at + 24:
        return 0
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    return int(max(0, right - left) * max(0, bottom - top))


def _png(file: BinaryIO, count: int) -> int:
    data = file.read(min(count, 24))
    if len(data) < 24 or data[12:16] != b"IHDR":
        return 0
    width, height = struct.unpack_from(">II", data, 16)
    return int(width * height)


def _jpegxr(file: BinaryIO, count: int) -> int:
    data = file.read(min(count, _HEAD))
    at = data.find(b"WMPHOTO\0")
    if at < 0 or len(data) < at + 20:
        return 0
    short = data[at + 10] & 0x80
    width, height = struct.unpack_from(">HH" if short else ">II", data, at + 12)
    return int((width + 1) * (height + 1))


def _jpegxl(file: BinaryIO, count: int) -> int:
    """Pixels by the size header; bits begin at the low end of a byte (ISO 18181-1, D.2)."""
    data = file.read(min(count, _HEAD))
    if data[4:8] == b"JXL ":  # in boxes
        data = data[data.find(b"\xff\x0a", 12) :]
    if data[:2] != b"\xff\x0a":
        return 0
    bits = _bits(data[2:])
    small = next(bits)

    def side() -> int:
        if small:
            return 8 * (_take(bits, 5) + 1)
        return _take(bits, (9, 13, 18, 30)[_take(bits, 2)]) + 1

    height = side()
    ratio = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[_take(bits, 3)]
    width = height * ratio[0] // ratio[1] if ratio[0] else side()
    return height * width


def _bits(data: bytes) -> Iterator[int]:
    for byte in data + bytes(16):
        for k in range(8):
            yield byte >> k & 1


def _take(bits: Iterator[int], count: int) -> int:
    return sum(next(bits) << k for k in range(count))


_MEASURES: dict[int, Callable[[BinaryIO, int], int]] = {
    **dict.fromkeys((6, 7, 33007, 34892), _jpeg),
    **dict.fromkeys((33003, 33004, 33005, 34712), _jpeg2000),
    **dict.fromkeys((22610, 34934), _jpegxr),
    **dict.fromkeys((50002, 52546), _jpegxl),
    34933: _png,
}
