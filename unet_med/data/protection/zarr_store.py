"""Zarr folders: a store limited to the folder's own files, chunks limited to the declared size.

zarr itself follows links and `..`, reads devices, unpickles if the metadata names numcodecs'
`pickle`, and decodes any amount of data from the stream of a chunk. Needs zarr.
"""

from __future__ import annotations

import asyncio
import bz2
import math
import os
import stat
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numcodecs.lz4
import numcodecs.zstd
from zarr.abc.codec import BytesBytesCodec
from zarr.storage import LocalStore

from unet_med.data.protection.limits import require_memory

MAX_METADATA = 16 << 20  # bytes of one JSON file
MAX_PARTS = 1 << 20  # chunks of an array, or of a shard, where they are small
_SMALL_PART = 4096  # samples
_AT_ONCE = 10  # chunks that zarr decodes at a time
_SLACK = 1 << 16  # bytes that a codec may add to incompressible data

_PLAIN = {"bytes", "transpose", "crc32c"}  # of Zarr 3: they keep the length
_FILTERS = {"delta", "fixedscaleoffset", "shuffle"}  # of Zarr 2: at most eight times as long


class GuardedStore(LocalStore):
    """A store that reads only regular files inside its folder, up to a size.

    Args:
        root: the folder, or a link to it.
    """

    def __init__(self, root: Path | str, *, read_only: bool = True) -> None:
        super().__init__(Path(root).resolve(), read_only=read_only)
        self.max_file_bytes = MAX_METADATA

    async def get(self, key: str, *arguments: Any, **named: Any) -> Any:
        """Read one file; see `zarr.storage.LocalStore`."""
        self._check(key)
        return await super().get(key, *arguments, **named)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[Any]) -> list[Any]:
        """Read parts of files; see `zarr.storage.LocalStore`."""
        wanted = list(key_ranges)
        for key, _ in wanted:
            self._check(key)
        return await super().get_partial_values(prototype, wanted)

    def _check(self, key: str) -> None:
        path = self.root / key
        if not Path(os.path.realpath(path)).is_relative_to(self.root):
            raise ValueError(
                f"its {key[:200]} leads outside its folder; copy it with links followed (cp -rL)"
            )
        try:
            found = path.stat()
        except (OSError, ValueError):  # not there, which zarr answers
            return
        if stat.S_ISDIR(found.st_mode):
            return
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"its {key[:200]} is no regular file")
        if found.st_size > self.max_file_bytes:
            raise ValueError(
                f"its {key[:200]} has {found.st_size} bytes, the limit is {self.max_file_bytes}"
            )


def guard_array(array: Any, max_bytes: int | None = None) -> None:
    """Refuse an array whose chunks need too much memory; limit the output of its codecs.

    Args:
        array: a `zarr.Array` in a `GuardedStore`; its codecs are replaced by limited ones.
        max_bytes: see `unet_med.data.protection.limits.byte_budget`.

    Raises:
        ValueError: samples that are no real numbers, a codec that is not known as harmless,
            chunks that are too large or too many.
    """
    if array.dtype.kind not in "buif":
        raise ValueError(f"its samples are {array.dtype}, only real numbers make an image")
    parts = array.shards or array.chunks
    count = math.prod(-(-size // part) for size, part in zip(array.shape, parts, strict=True))
    within = math.prod(parts) // max(1, math.prod(array.chunks))
    if max(count, within) > MAX_PARTS and math.prod(array.chunks) < _SMALL_PART:
        raise ValueError(f"its {max(count, within)} chunks hold {math.prod(array.chunks)} px each")
    part_bytes = math.prod(parts) * array.dtype.itemsize
    require_memory(min(count, _AT_ONCE) * part_bytes, max_bytes)
    inner = array.async_array
    inner.store_path.store.max_file_bytes = _most(part_bytes)
    codecs = [_guarded(codec, part_bytes) for codec in inner.codec_pipeline]
    object.__setattr__(inner, "codec_pipeline", type(inner.codec_pipeline).from_codecs(codecs))


def decode_at_most(codec: str, data: bytes, most: int) -> bytes:
    """Decode one stream of at most so many bytes.

    Args:
        codec: its name in the metadata.
        data: the stream.
        most: bytes.

    Raises:
        ValueError: it holds more.
    """
    if codec in _STREAMS:
        return _inflate(_STREAMS[codec], data, most)
    if codec == "zstd" and _zstd_claim(data) is None:  # a stream of unknown length
        import imagecodecs

        return bytes(imagecodecs.zstd_decode(data, out=most))
    claim, decode = _BLOCKS[codec]
    if (claim(data) or 0) > most:
        raise ValueError(_TOO_LONG.format(most))
    return bytes(decode(data))


def _inflate(start: Callable[[], Any], data: bytes, most: int) -> bytes:
    """Decode all members of a stream, one after another, within a limit."""
    found, left = [], most
    while data:
        decoder = start()
        found.append(decoder.decompress(data, left + 1))
        left -= len(found[-1])
        if left < 0:
            raise ValueError(_TOO_LONG.format(most))
        if not decoder.eof:
            raise ValueError("a chunk of it is cut short")
        data = decoder.unused_data.lstrip(b"\0")  # padding, as gzip allows
    return found[0] if len(found) == 1 else b"".join(found)


def _blosc_claim(data: bytes) -> int | None:
    return int.from_bytes(data[4:8], "little")


def _lz4_claim(data: bytes) -> int | None:
    return int.from_bytes(data[:4], "little")


def _zstd_claim(data: bytes) -> int | None:
    """Content size of the first frame (RFC 8878, 3.1.1.1); None if it is missing."""
    flags = data[4] if len(data) > 4 else 0
    single, code = bool(flags & 32), flags >> 6
    length = (int(single), 2, 4, 8)[code]
    at = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    if length == 0:
        return None
    return int.from_bytes(data[at : at + length], "little") + (256 if length == 2 else 0)


_TOO_LONG = "a chunk of it decodes to more than {} bytes, which is more than its shape holds"
_STREAMS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "zlib": zlib.decompressobj,
    "bz2": bz2.BZ2Decompressor,
}
_BLOCKS: dict[str, tuple[Callable[[bytes], int | None], Callable[[bytes], Any]]] = {
    "blosc": (_blosc_claim, numcodecs.blosc.decompress),
    "lz4": (_lz4_claim, numcodecs.lz4.decompress),
    "zstd": (_zstd_claim, numcodecs.zstd.decompress),
}


@dataclass(frozen=True)
class _BoundedCompressor:
    """A compressor of Zarr 2."""

    codec: str
    most: int

    def decode(self, data: Any) -> bytes:
        return decode_at_most(self.codec, bytes(data), self.most)


@dataclass(frozen=True)
class _BoundedCodec(BytesBytesCodec):
    """A compressor of Zarr 3."""

    codec: str
    is_fixed_size = False

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        # Called only for codecs of the index of a shard, whose length must be fixed.
        raise NotImplementedError(f"its index of a shard is compressed by {self.codec}")

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        declared = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        data = chunk_bytes.to_bytes()
        decoded = await asyncio.to_thread(decode_at_most, self.codec, data, _most(declared))
        return chunk_spec.prototype.buffer.from_bytes(decoded)


def _guarded(codec: Any, part_bytes: int) -> Any:
    """The same codec with output limited to the length of a chunk."""
    if hasattr(codec, "compressor"):  # all of Zarr 2
        names = [found.codec_id for found in codec.filters or ()]
        _require_known(set(names) - _FILTERS)
        if codec.compressor is None:
            return codec
        name = codec.compressor.codec_id
        _require_known({name} - _COMPRESSORS)
        return replace(codec, compressor=_BoundedCompressor(name, _most(part_bytes)))
    name = str(codec.to_dict()["name"])
    if name == "sharding_indexed":
        inner, index = (
            tuple(_guarded(each, part_bytes) for each in codecs)
            for codecs in (codec.codecs, codec.index_codecs)
        )
        return replace(codec, codecs=inner, index_codecs=index)
    _require_known({name} - _COMPRESSORS - _PLAIN)
    return _BoundedCodec(name) if name in _COMPRESSORS else codec


def _require_known(others: set[str]) -> None:
    if others:
        raise ValueError(
            f"its codec {sorted(others)[0][:80]!r} is not among those that are read: "
            f"{', '.join(sorted(_COMPRESSORS | _FILTERS))}"
        )


def _most(declared_bytes: int) -> int:
    """Limit of a stored chunk: incompressible data grow a little, and filters lengthen them."""
    return 2 * declared_bytes + _SLACK


_COMPRESSORS = set(_STREAMS) | set(_BLOCKS)
