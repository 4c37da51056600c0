"""The chain of image file directories (IFDs) of a TIFF, checked before tifffile follows it.

tifffile follows a loop of more than a hundred IFDs for ever, loads a table once for each IFD
that shares it, and compares all IFDs with all others to find duplicates.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAX_IFDS = 1 << 16
_SIZE_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8,
                 13: 4, 16: 8, 17: 8, 18: 8}  # fmt: skip
_SUBIFDS = 330
_SIDES = (256, 257)  # width and length
_SHARED = 4  # tags may name a byte of the file this often


class Layout(NamedTuple):
    """Layout of numbers: count of entries, an entry, an offset."""

    how_many: struct.Struct
    entry: struct.Struct
    offset: struct.Struct

    def number(self, kind: int, value: int) -> int:
        """A single value inside the entry itself, in the first bytes of the offset."""
        order = "<" if self.offset.format[0] == "<" else ">"
        code = {1: "B", 3: "H", 4: "I"}.get(kind)
        front = self.offset.pack(value)
        return int(struct.unpack_from(order + code, front)[0]) if code else value


class Ifd(NamedTuple):
    """An IFD: offsets of the next one and of sub-IFDs, bytes that tags name, width x length."""

    next_offset: int = 0
    sub_offsets: tuple[int, ...] = ()
    tag_bytes: int = 0
    pixels: int = 0


class Chain(NamedTuple):
    """Number of IFDs of a file, and the pixels of the smallest."""

    length: int
    smallest: int


def check_ifds(path: Path) -> Chain:
    """Refuse a TIFF whose directories form a loop or claim more than the file holds.

    Other damage passes: tifffile finds it.

    Returns:
        The IFDs up to the end of the chain, or to its break.

    Raises:
        ValueError: a loop, too many IFDs, or tags that name the same bytes again and again.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        layout = _layout(file.read(4))
        if layout is None:
            return Chain(0, 0)
        file.seek(8 if layout.offset.size == 8 else 4)
        count = tag_bytes = 0
        smallest = 1 << 64
        for ifd in _walk(file, layout, size):
            count += 1
            tag_bytes += ifd.tag_bytes
            smallest = min(smallest, ifd.pixels)
            if count > MAX_IFDS:
                raise ValueError(f"it holds more than {MAX_IFDS} images, thumbnails counted")
            if tag_bytes > _SHARED * size:
                raise ValueError(f"its tags name {tag_bytes} bytes of a file of {size}")
    return Chain(count, smallest)


def _layout(head: bytes) -> Layout | None:
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 4:
        return None
    version = struct.unpack(f"{order}H", head[2:])[0]
    codes = {42: ("H", "HHII", "I"), 43: ("Q", "HHQQ", "Q")}.get(version)
    return codes and Layout(*(struct.Struct(order + code) for code in codes))


def _walk(file: BinaryIO, layout: Layout, size: int) -> Iterator[Ifd]:
    """The IFDs of the chain, each followed by its sub-IFDs, up to a break."""
    seen: set[int] = set()
    offset = _read_offset(file, layout)
    while 8 <= offset < size:
        if offset in seen:
            raise ValueError(f"its chain of images is a loop: back to byte {offset}")
        seen.add(offset)
        ifd = _read_ifd(file, layout, offset, size)
        if ifd is None:
            return
        yield ifd
        for sub_offset in ifd.sub_offsets:
            yield _read_ifd(file, layout, sub_offset, size) or Ifd()
        offset = ifd.next_offset


def _read_offset(file: BinaryIO, layout: Layout) -> int:
    data = file.read(layout.offset.size)
    return int(layout.offset.unpack(data)[0]) if len(data) == layout.offset.size else 0


def _read_ifd(file: BinaryIO, layout: Layout, offset: int, size: int) -> Ifd | None:
    file.seek(offset)
    head = file.read(layout.how_many.size)
    entries = layout.how_many.unpack(head)[0] if len(head) == layout.how_many.size else 1 << 20
    if entries > 4096:  # tifffile's own limit
        return None
    data = file.read(entries * layout.entry.size)
    next_offset = _read_offset(file, layout)
    tag_bytes, pixels = 0, 1
    sub_offsets: tuple[int, ...] = ()
    for code, kind, count, value in _records(layout.entry, data):
        length = count * _SIZE_OF_TYPE.get(kind, 1)
        if layout.offset.size < length <= size - value:  # else inside the entry, or not loaded
            tag_bytes += length
        if code == _SUBIFDS:
            sub_offsets = _sub_offsets(file, layout, count, value)
        elif code in _SIDES:
            pixels *= layout.number(kind, value)
    return Ifd(next_offset, sub_offsets, tag_bytes, pixels)


def _sub_offsets(file: BinaryIO, layout: Layout, count: int, value: int) -> tuple[int, ...]:
    if count == 1:
        return (value,)
    file.seek(value)
    data = file.read(min(count, MAX_IFDS + 1) * layout.offset.size)
    return tuple(offset for (offset,) in _records(layout.offset, data))


def _records(record: struct.Struct, data: bytes) -> Iterator[tuple[int, ...]]:
    """Unpack the whole records in some bytes."""
    return record.iter_unpack(data[: len(data) // record.size * record.size])
