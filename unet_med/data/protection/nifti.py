"""NIfTI headers, checked before nibabel reads the pixels."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from unet_med.data.protection.limits import require_in_file, require_memory

MAX_HEADER = 64 << 20  # bytes before the pixels; nibabel reads all of them
MAX_EXTENSIONS = 10_000
MAX_REST = 64 << 20  # bytes behind the pixels


def check_nifti(path: Path, max_bytes: int | None = None) -> None:
    """Refuse a NIfTI that is no image on a grid, declares too much, or is cut short.

    Nibabel opens more than images: connectivity matrices, packed RGB.

    Raises:
        ValueError: the first thing that is wrong with it; one sentence without its name.
    """
    import nibabel as nib

    _check_header(path)
    try:
        image: Any = nib.load(path)  # the header alone
    except nib.filebasedimages.ImageFileError:
        if is_gzip(path):
            check_checksum(path, 0)  # of a small file, of which all is read here
        raise
    if not isinstance(image, (nib.Nifti1Image, nib.Nifti2Image)):
        name = type(image).__name__.removesuffix("Image")  # of the format, such as Cifti2
        raise ValueError(f"it holds {name} data, not an image on a grid")
    if image.get_data_dtype().names:
        raise ValueError("its samples are packed RGB; convert it to one channel a colour")
    proxy: Any = image.dataobj
    scaled = (proxy.slope, proxy.inter) != (1, 0)
    itemsize = 8 if scaled else image.get_data_dtype().itemsize  # scaled becomes float64
    samples = math.prod(map(int, image.shape))
    require_memory(samples * itemsize, max_bytes)
    stored = samples * image.get_data_dtype().itemsize
    require_in_file(stored, path, deflated=is_gzip(path))


@contextmanager
def whole_gzip(path: Path) -> Iterator[gzip.GzipFile]:
    """A deflated file as a stream; what is left is read at the end, for the checksum lies there.

    Nibabel ends with the last pixel, so that damage which inflates would not be noticed.

    Raises:
        ValueError: the checksum is wrong, or the file cut short or too long.
    """
    try:
        with gzip.GzipFile(path) as stream:
            yield stream
            rest = stream.tell() + MAX_REST
            while stream.read(1 << 20):
                if stream.tell() > rest:
                    raise ValueError(f"more than {MAX_REST} bytes follow its pixels")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"it is damaged, copy it anew: {error}") from error


def check_checksum(path: Path, size: int) -> None:
    """Refuse a deflated file whose checksum is wrong.

    Args:
        path: an existing file.
        size: bytes of its pixels.

    Raises:
        ValueError: see `whole_gzip`.
    """
    with whole_gzip(path) as stream:
        stream.seek(size)


def is_gzip(path: Path) -> bool:
    """Whether a NIfTI is deflated, by its name."""
    return path.name.lower().endswith(".gz")


def _check_header(path: Path) -> None:
    """Refuse a NIfTI with too long a header or extension; nibabel finds other damage.

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
        if not begin <= MAX_HEADER:  # NaN, too
            raise ValueError(f"its pixels begin at byte {begin:g}, the limit is {MAX_HEADER}")
        _check_extensions(file, order, int(begin) - size - 4)


def _check_extensions(file: BinaryIO, order: str, left: int) -> None:
    """Refuse extensions that claim too many bytes, because nibabel believes them."""
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


def _opened(path: Path) -> BinaryIO:
    if is_gzip(path):
        return cast(BinaryIO, gzip.GzipFile(path))
    return path.open("rb")


def _int32(order: str, value: int) -> bytes:
    return struct.pack(order + "i", value)
