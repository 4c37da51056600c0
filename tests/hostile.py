"""Files that a stranger might send, each made to take the machine; written byte by byte."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Write = Callable[[Path], None]
SHORT, LONG, LONG8, ASCII = 3, 4, 16, 2


class Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def tags(**changes: Any) -> list[tuple[int, int, Sequence[int] | bytes]]:
    """Those of a grey 8-bit page of 16 x 16 with its pixels at byte 8; None drops one."""
    names = {"width": 256, "length": 257, "bits": 258, "compression": 259, "photometric": 262,
             "description": 270, "offsets": 273, "samples": 277, "rows": 278, "counts": 279,
             "tile_width": 322, "tile_length": 323, "tile_offsets": 324, "tile_counts": 325,
             "sub": 330, "xmp": 700}  # fmt: skip
    values: dict[str, Any] = {"width": 16, "length": 16, "bits": 8, "compression": 1,
                              "photometric": 1, "offsets": 8, "samples": 1, "rows": 16,
                              "counts": 256}  # fmt: skip
    values |= changes
    found = []
    for name, code in names.items():
        value = values.get(name)
        if value is None:
            continue
        kind = ASCII if isinstance(value, bytes) else LONG
        found.append((code, kind, [value] if isinstance(value, int) else value))
    return found


def ifd(
    at: int, entries: list[Any], next_at: int | None = None, tables: dict[int, int] | None = None
) -> bytes:
    """One directory of a little-endian classic TIFF at byte `at`, its long values behind it."""
    head = struct.pack("<H", len(entries))
    behind, long_at = b"", at + 2 + 12 * len(entries) + 4
    for code, kind, value in entries:
        data = value if isinstance(value, bytes) else struct.pack(f"<{len(value)}I", *value)
        count = len(value)
        if tables and code in tables:
            head += struct.pack("<HHII", code, kind, count, tables[code])
        elif len(data) <= 4:
            head += struct.pack("<HHI", code, kind, count) + data.ljust(4, b"\0")
        else:
            head += struct.pack("<HHII", code, kind, count, long_at + len(behind))
            behind += data
    end = long_at + len(behind)
    return head + struct.pack("<I", end if next_at is None else next_at) + behind


def tiff(pages: Sequence[list[Any]], data: bytes = bytes(256), loop_to: int | None = None) -> bytes:
    """A TIFF of some pages that all show the same pixels; the last may lead back to a page."""
    parts, begins, at = [data], [], 8 + len(data)
    for number, entries in enumerate(pages):
        begins.append(at)
        last = number == len(pages) - 1
        back = 0 if loop_to is None or not last else begins[loop_to]
        parts.append(ifd(at, entries, back if last else None))
        at += len(parts[-1])
    return struct.pack("<2sHI", b"II", 42, begins[0]) + b"".join(parts)


def written(content: bytes | Callable[[], bytes]) -> Write:
    """What writes the content, or what makes it: every worker collects the names of all files."""
    return lambda path: path.write_bytes(content() if callable(content) else content) and None


def many_pages(count: int) -> bytes:
    """Pages of two kinds, so that no fast way through them applies."""
    common = [tags()[:2], tags(width=17)[:2]]
    return tiff([common[k == 1] for k in range(count)])


def shared_table(pages: int, length: int) -> bytes:
    """All pages name one table of offsets of a length that hurts."""
    table = struct.pack(f"<{length}I", *([8] * length))
    content = bytes(256) + table
    for k in range(pages):
        at = 8 + len(content)
        entries = tags(offsets=[8] * length, counts=[8] * length)
        content += ifd(at, entries, 0 if k == pages - 1 else None, {273: 264, 279: 264})
    return struct.pack("<2sHI", b"II", 42, 264 + len(table)) + content


def ome(pixels: str = 'SizeX="16" SizeY="16" SizeZ="1" SizeC="1" SizeT="1"', inside: str = "",
        before: str = "", first: str = "") -> bytes:  # fmt: skip
    head = '<?xml version="1.0"?>' + before
    namespace = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return (
        f'{head}<OME xmlns="{namespace}">{first}<Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYZCT" Type="uint8" {pixels}><Channel ID="C:0" SamplesPerPixel="1"/>'
        f"{inside or '<TiffData/>'}</Pixels></Image></OME>"
    ).encode() + b"\0"


def laughs() -> bytes:
    entities = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(9)
    )
    return ome(before=f"<!DOCTYPE x [{entities}]>", inside="<TiffData/>&j;")


def stranger(name: bytes) -> bytes:
    other = f'<TiffData IFD="0"><UUID FileName="{name.decode()}">urn:uuid:1</UUID></TiffData>'
    return ome(inside=other)


def tile(codec: int, data: bytes, **changes: Any) -> bytes:
    """One compressed tile of 16 x 16."""
    described = {"tile_width": 16, "tile_length": 16, "tile_offsets": 8, "tile_counts": len(data)}
    dropped = dict.fromkeys(("offsets", "counts", "rows"))
    return tiff([tags(compression=codec, **(described | dropped | changes))], data)


def zeros_deflated(count: int) -> bytes:
    """A zlib stream of zeros, one part repeated, since to deflate gigabytes takes long."""
    packer = zlib.compressobj(9, wbits=-15)
    part = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    adler = (count % 65521) << 16 | 1
    return b"\x78\xda" + part * (count >> 20) + b"\x03\0" + struct.pack(">I", adler)


def zeros_gzipped(count: int) -> bytes:
    return gzip.compress(bytes(1 << 20)) * (count >> 20)


def nifti_header(shape: Sequence[int] = (8, 8, 8), offset: float = 352) -> bytes:
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header["vox_offset"], header["magic"] = offset, b"n+1"
    return bytes(header.binaryblock)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zeros_deflated(1 << 22)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose header says another size."""
    import imagecodecs

    data = bytearray(imagecodecs.jpeg_encode(np.zeros((16, 16), np.uint8)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg2000(width: int, height: int) -> bytes:
    import imagecodecs

    data = bytearray(
        imagecodecs.jpeg2k_encode(np.zeros((16, 16), np.uint8), codecformat="j2k", reversible=True)
    )
    at = data.index(b"\xff\x4f\xff\x51")
    data[at + 8 : at + 16] = struct.pack(">II", width, height)
    data[at + 24 : at + 32] = struct.pack(">II", width, height)  # one tile
    return bytes(data)


def encoded(codec: str, side: int) -> bytes:
    """A true image of zeros by another codec, far larger than the tile it stands in."""
    import imagecodecs

    return bytes(getattr(imagecodecs, f"{codec}_encode")(np.zeros((side, side), np.uint8)))


def npy(array_or_payload: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array_or_payload, allow_pickle=True)
    return file.getvalue()


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text.encode()


def npz(marker: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../outside.npy", npy(np.zeros(3)))
        archive.writestr("image.npy", npy(np.array([Payload(marker)], dtype=object)))
    return file.getvalue()


IMAGEJ = b"ImageJ=1.53\nimages=900000000\nslices=900000000\n"
EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 16 16
%%EndComments
(marker) (w) file closefile
showpage
"""


def element(group: int, number: int, kind: str, value: bytes, claim: int | None = None) -> bytes:
    """One of DICOM, explicit little endian, padded to even length."""
    value += b" " * (len(value) % 2) if kind not in ("OB", "OW", "UI") else b"\0" * (len(value) % 2)
    length = len(value) if claim is None else claim
    head = struct.pack("<HH2s", group, number, kind.encode())
    long = kind in ("OB", "OW", "SQ", "UN")
    return (
        head + (b"\0\0" + struct.pack("<I", length) if long else struct.pack("<H", length)) + value
    )


def dicom(
    rows: int, columns: int, *, frames: int = 1, syntax: str = "1.2.840.10008.1.2.1",
    pixels: bytes = bytes(256), claim: int | None = None, slice_number: int = 0,
) -> bytes:  # fmt: skip
    """A secondary capture of 8-bit pixels; with a codec its `pixels` are one fragment."""
    kind = b"1.2.840.10008.5.1.4.1.1.7.2" if frames > 1 else b"1.2.840.10008.5.1.4.1.1.7"
    instance = b"1.2.3.%d" % (slice_number + 4)
    short = struct.Struct("<H").pack
    meta = element(2, 2, "UI", kind) + element(2, 3, "UI", instance)
    meta += element(2, 0x10, "UI", syntax.encode())
    meta = element(2, 0, "UL", struct.pack("<I", len(meta))) + meta
    body = element(8, 0x16, "UI", kind) + element(8, 0x18, "UI", instance)
    body += element(0x20, 0xD, "UI", b"1.2.3.1") + element(0x20, 0xE, "UI", b"1.2.3.2")
    body += element(0x20, 0x32, "DS", b"0\\0\\%d" % slice_number)
    body += element(0x20, 0x37, "DS", b"1\\0\\0\\0\\1\\0")
    body += element(0x28, 2, "US", short(1)) + element(0x28, 4, "CS", b"MONOCHROME2")
    body += element(0x28, 8, "IS", b"%d" % frames) if frames > 1 else b""
    body += element(0x28, 0x10, "US", short(rows)) + element(0x28, 0x11, "US", short(columns))
    body += element(0x28, 0x100, "US", short(8)) + element(0x28, 0x101, "US", short(8))
    body += element(0x28, 0x102, "US", short(7)) + element(0x28, 0x103, "US", short(0))
    if syntax.startswith(("1.2.840.10008.1.2.4", "1.2.840.10008.1.2.5")):
        pixels += b"\0" * (len(pixels) % 2)
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
        item += struct.pack("<HHI", 0xFFFE, 0xE000, len(pixels)) + pixels
        item += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        body += element(0x7FE0, 0x10, "OB", item, 0xFFFFFFFF)
    else:
        body += element(0x7FE0, 0x10, "OB", pixels, claim)
    if syntax.endswith("1.99"):
        packer = zlib.compressobj(9, wbits=-15)
        body = packer.compress(body) + packer.flush(zlib.Z_FULL_FLUSH) + zeros_deflated(3 << 30)[2:]
    return bytes(128) + b"DICM" + meta + body


def folder(**files: bytes | Write) -> Write:
    """A folder with files by name, `__` for `/`."""

    def write(path: Path) -> None:
        for name, content in files.items():
            file = path / name.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            (written(content) if isinstance(content, bytes) else content)(file)

    return write


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link(target: str) -> Write:
    return lambda path: path.symlink_to(target)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)


def zarr2(chunk: bytes | Write = bytes(256), level: str = "0", attributes: bytes = b"",
          **changes: Any) -> Write:  # fmt: skip
    """An OME-Zarr 0.4 image of 16 x 16 bytes in one chunk."""
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scales = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": [{"path": level}]}]}
    array = {"zarr_format": 2, "shape": [16, 16], "chunks": [16, 16], "dtype": "|u1", "order": "C",
             "compressor": None, "filters": None, "fill_value": 0}  # fmt: skip
    return folder(**{
        ".zgroup": b'{"zarr_format": 2}', ".zattrs": json.dumps(scales).encode() + attributes,
        "0__.zarray": json.dumps(array | changes).encode(), "0__0.0": chunk,
    })  # fmt: skip


def zarr3(chunk: bytes, *codecs: Any, **changes: Any) -> Write:
    """An OME-Zarr 0.5 image of 16 x 16 bytes in one chunk."""
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scales = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": scales}}
    array: dict[str, Any] = {
        "zarr_format": 3, "node_type": "array", "shape": [16, 16], "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [16, 16]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "attributes": {},
        "codecs": [{"name": "bytes"}, *codecs],
    }  # fmt: skip
    return folder(**{
        "zarr.json": json.dumps(group).encode(), "0__c__0__0": chunk,
        "0__zarr.json": json.dumps(array | changes).encode(),
    })  # fmt: skip


def zeros_zstd(count: int, *, says_size: bool) -> bytes:
    """A frame of blocks that each repeat one byte 131,072 times (RFC 8878, 3.1.1.2.2)."""
    block = struct.pack("<I", (1 << 17) << 3 | 1 << 1)[:3] + b"\0"
    last = struct.pack("<I", (1 << 17) << 3 | 1 << 1 | 1)[:3] + b"\0"
    window = b"\x48"  # 2 ** 19
    head = b"\xc0" + window + struct.pack("<Q", count) if says_size else b"\0" + window
    return b"\x28\xb5\x2f\xfd" + head + block * ((count >> 17) - 1) + last


def sharded(inner: bytes, shard: int, chunk: int, codec: str, *, packed: bool = False) -> Write:
    """A Zarr 3 array of one shard, whose index leads to one chunk; it may be said to be packed."""
    index = struct.pack("<QQ", 0, len(inner))
    codecs = [{"name": "bytes"}, {"name": codec, "configuration": {"level": 1, "checksum": False}}]
    settings = {"chunk_shape": [chunk] * 2, "codecs": codecs}
    settings["index_codecs"] = codecs if packed else codecs[:1]
    grid = {"name": "regular", "configuration": {"chunk_shape": [shard] * 2}}
    array = {"chunk_grid": grid, "shape": [shard] * 2}
    array |= {"codecs": [{"name": "sharding_indexed", "configuration": settings}]}
    return zarr3(inner + index, **array)


def hostile_zarrs(marker: Path) -> dict[str, tuple[Write, str]]:
    """OME-Zarr folders, as `hostile_files`."""
    side, bomb = 1 << 20, 3 << 30
    blosc = b"\x02\x01\x21\x01" + struct.pack("<III", 2**31 - 100, 1 << 18, 256) + bytes(240)
    zstd = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
    program = [{"id": "pickle", "protocol": 4}]
    payload = pickle.dumps(Payload(marker))
    longer = "a chunk of it decodes to more than 66048 bytes"
    return {
        "terabyte.zarr": (zarr2(shape=[side, side], chunks=[1024, 1024]), "GB once decoded"),
        "chunk.zarr": (zarr2(chunks=[side, side]), "GB once decoded"),
        "chunks.zarr": (zarr2(shape=[20000, 20000], chunks=[1, 1]), "400000000 chunks hold 1 px"),
        "shards.zarr": (sharded(b"", 1 << 14, 1, "zstd"), "268435456 chunks hold 1 px each"),
        "blosc.zarr": (zarr2(blosc, compressor={"id": "blosc"}), longer),
        "lz4.zarr": (zarr2(struct.pack("<I", 2**31 - 1) + bytes(99), compressor={"id": "lz4"}),
                     longer),
        "zlib.zarr": (zarr2(zeros_deflated(bomb), chunks=[2048, 2048], compressor={"id": "zlib"}),
                      "decodes to more than 8454144 bytes"),
        "gzip.zarr": (zarr2(zeros_gzipped(bomb), compressor={"id": "gzip"}), "has 3228672 bytes"),
        "members.zarr": (zarr2(gzip.compress(bytes(60_000)) * 9, compressor={"id": "gzip"}),
                         longer),
        "bz2.zarr": (zarr2(bz2.compress(bytes(4 << 20)), compressor={"id": "bz2"}), longer),
        "gzip3.zarr": (zarr3(zeros_gzipped(16 << 20),
                             {"name": "gzip", "configuration": {"level": 1}}), longer),
        "zstd.zarr": (zarr3(zeros_zstd(64 << 20, says_size=True), zstd), longer),
        "stream.zarr": (zarr3(zeros_zstd(1 << 30, says_size=False), zstd), "damaged"),
        "twice.zarr": (zarr3(zeros_zstd(1 << 30, says_size=False), zstd, zstd), "damaged"),
        "index.zarr": (sharded(b"", 16, 8, "zstd", packed=True), "index of a shard is compressed"),
        "shard.zarr": (sharded(zeros_zstd(64 << 20, says_size=True), 16, 16, "zstd"), longer),
        "outside.zarr": (zarr2(level="../blosc.zarr/0"), "'..'|outside its folder"),
        "absolute.zarr": (zarr2(level="/etc"), "etc|no array"),
        "link.zarr": (zarr2(link("../../../secret.tif")), "leads outside its folder"),
        "zero.zarr": (zarr2(link("/dev/zero")), "leads outside its folder"),
        "fifo.zarr": (zarr2(fifo), "is no regular file"),
        "sparse.zarr": (zarr2(sparse), "has 3221225472 bytes, the limit is"),
        "attributes.zarr": (zarr2(attributes=b" " * (17 << 20)), "the limit is 16777216"),
        "pickle.zarr": (zarr2(payload, filters=program), "pickle"),
        "object.zarr": (zarr2(payload, filters=program, dtype="|O"), "pickle"),
        "base64.zarr": (zarr2(filters=[{"id": "base64"}]), "codec 'base64' is not among"),
        "lzma.zarr": (zarr2(compressor={"id": "lzma"}), "codec 'lzma' is not among"),
        "group.zarr": (folder(**{".zgroup": b'{"zarr_format": 2}', "0__.zgroup":
                                 b'{"zarr_format": 2}', ".zattrs": b'{"multiscales": [{"axes": '
                                 b'["y", "x"], "datasets": [{"path": "0"}]}]}'}),
                       "level 0 is no array"),
    }  # fmt: skip


def hostile_series(_: Path) -> dict[str, tuple[Write, str]]:
    """Folders that should hold a DICOM series, as `hostile_files`."""
    run_length = "1.2.840.10008.1.2.5"  # no bound by the size of the file
    segment = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0"
    wide = {
        f"{k}.dcm": dicom(4000, 4000, syntax=run_length, pixels=segment, slice_number=k)
        for k in range(70)
    }
    nothing = dicom(16, 16, syntax=run_length)  # GDCM divides by its 0 segments
    codec = "1.2.840.10008.1.2.4."
    bomb = dicom(16, 16, syntax="1.2.840.10008.1.2.1.99", pixels=b"", claim=3 << 30)
    return {
        "frames.dicom": (folder(a=dicom(60000, 60000, frames=100000)), "GB once decoded"),
        "series.dicom": (folder(**wide), "GB once decoded"),
        "segments.dicom": (folder(a=nothing), "pixels of 0 segments"),
        "cut.dicom": (folder(a=dicom(6000, 6000)), "cut short, or its header is wrong"),
        "claim.dicom": (folder(a=dicom(6000, 6000, claim=36_000_000)), "holds no DICOM series"),
        "deflated.dicom": (folder(a=bomb), "holds no DICOM series"),
        "jpeg.dicom": (folder(a=dicom(16, 16, syntax=codec + "50", pixels=jpeg(65500, 65500))),
                       "GB once decoded"),
        "jpeg2000.dicom": (folder(a=dicom(16, 16, syntax=codec + "90",
                                          pixels=jpeg2000(60000, 60000))),
                           "damaged or not supported"),
        "fifo.dicom": (folder(a=dicom(16, 16), b=fifo), "is no regular file"),
        "zero.dicom": (folder(a=dicom(16, 16), b=link("/dev/zero")), "is no regular file"),
    }  # fmt: skip


@cache
def hostile_files(marker: Path) -> dict[str, tuple[Write, str]]:
    """By file name: what writes it, and what the refusal must say.

    Args:
        marker: file that a payload would make.
    """
    pickled = np.empty((2, 2), dtype=object)
    pickled[:] = Payload(marker)
    nrrd = "NRRD0004\ntype: uint8\ndimension: 2\nsizes: 16 16\nencoding: raw\ndata file: {}\n\n"
    mhd = "ObjectType = Image\nNDims = 2\nDimSize = {0} {0}\nElementType = MET_UCHAR\n" \
          "ElementDataFile = {1}\n"  # fmt: skip
    billion = 'SizeX="16" SizeY="16" SizeZ="1000000000" SizeC="1" SizeT="1"'
    wide = 'SizeX="60000" SizeY="60000" SizeZ="1" SizeC="1" SizeT="1"'
    along = '<Value><Modulo><ModuloAlongT Start="0" End="9e11" Step="1"/></Modulo></Value>'
    modulo = '<XMLAnnotation ID="A" Namespace="modulo">' + along + "</XMLAnnotation>"
    modulo = f"<StructuredAnnotations>{modulo}</StructuredAnnotations>"
    shaped = b'{"shape": [1000000000, 16, 16], "truncated": false}\0'
    plane = '<TiffData IFD="0" PlaneCount="1000000000"/>'
    extension = nifti_header(offset=384) + b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 6)
    files: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
        # headers that claim terabytes
        "terabyte.tif": (tiff([tags(width=1 << 20, length=1 << 20, rows=1 << 20)]),
                         "GB once decoded"),
        "shape.tif": (tiff([tags(description=shaped)]), "GB once decoded"),
        "tile.tif": (tile(8, zlib.compress(bytes(256)), tile_width=1 << 17, tile_length=1 << 17),
                     "GB once decoded"),
        "imagej.tif": (tiff([tags(description=IMAGEJ)]),
                       "damaged"),
        "terabyte.npy": (npy_header("{'descr': '|u1', 'fortran_order': False, "
                                    "'shape': (1000000, 1000000), }"), "greater than file size"),
        "terabyte.nii": (nifti_header((30000, 30000, 30000)) + bytes(14), "GB once decoded"),
        "terabyte.nii.gz": (gzip.compress(nifti_header((800, 800, 800)) + bytes(600)),
                            "cut short, or its header is wrong"),
        "terabyte.mhd": (mhd.format(1 << 20, "pixels.raw").encode(), "GB once decoded"),
        "terabyte.png": (png(65000, 65000), "it declares 33.8 GB once decoded, the limit"),
        # bombs
        "deflate.tif": (tile(8, zeros_deflated(3 << 30)), "INSUFFICIENT_SPACE"),
        "jpeg.tif": (tile(7, jpeg(65500, 65500)), "holds an image of 4290250000 px"),
        "jpeg2000.tif": (tile(34712, jpeg2000(60000, 60000)), "holds an image of 3600000000 px"),
        "png.tif": (tile(34933, png(60000, 60000)), "holds an image of 3600000000 px"),
        "jpegxl.tif": (lambda: tile(50002, encoded("jpegxl", 1100)),
                       "holds an image of 1210000 px"),
        "jpegxr.tif": (lambda: tile(22610, encoded("jpegxr", 1100)),
                       "holds an image of 1210000 px"),
        # chains of directories
        "loop3.tif": (tiff([tags()] * 3, loop_to=0), "chain of images is a loop"),
        "loop300.tif": (tiff([tags()] * 300, loop_to=120), "chain of images is a loop"),
        "pages.tif": (lambda: many_pages(70_000), "more than 65536 images"),
        "subifds.tif": (tiff([tags(sub=[8] * 70_000)]), "more than 65536 images"),
        "shared.tif": (lambda: shared_table(10, 100_000), "its tags name"),
        # XML
        "planes.tif": (tiff([tags(description=ome(billion, plane))]), "lists 1000000000 planes"),
        "planes2.tif": (tiff([tags(description=ome(inside=plane))]), "lists 1000000000 planes"),
        "wide.tif": (tiff([tags(description=ome(wide, '<TiffData IFD="1"/>')),
                           tags(width=1, length=1)]), "planes, the limit"),
        "modulo.tif": (tiff([tags(description=ome(first=modulo))]), "planes, the limit"),
        "laughs.tif": (tiff([tags(description=laughs())]), "declares entities"),
        "long.tif": (tiff([tags(description=ome(inside=" " * (40 << 20)))]), "characters"),
        "elements.tif": (tiff([tags(description=ome(inside="<a/>" * 600_000))]), "elements"),
        "outside.tif": (tiff([tags(description=stranger(b"../secret.tif"))]),
                        "refers to another file"),
        # pixels from elsewhere
        "outside.mhd": (mhd.format(16, "../secret.tif").encode(), "outside its folder"),
        "absolute.mha": (mhd.format(16, "/etc/hostname").encode(), "outside its folder"),
        "list.mhd": (mhd.format(16, "LIST\n../secret.tif").encode(), "outside its folder"),
        "outside.nrrd": (nrrd.format("../secret.tif").encode(), "outside its folder"),
        # NIfTI extensions and offsets
        "extension.nii": (extension + bytes(5000), "extension of its header claims"),
        "endless.nii": (extension[:-8] + struct.pack("<ii", 0, 6) + bytes(5000),
                        "extension of its header claims"),
        "offset.nii": (nifti_header(offset=3e38) + bytes(5000), "pixels begin at byte"),
        # pickles and other programs
        "pickled.npy": (npy(pickled), "Python objects|allow_pickle"),
        "pickle.npy": (pickle.dumps(Payload(marker)), "pickle"),
        "archive.npy": (npz(marker), "NumPy array"),
        "archive.npz": (npz(marker), "no suffix of an image"),
        "nested.npy": (npy_header("(" * 50_000), "NumPy array"),
        "program.png": (EPS.replace(b"marker", str(marker).encode()), "cannot identify"),
    }  # fmt: skip
    writers: dict[str, tuple[Write, str]] = {
        name: (written(content), match) for name, (content, match) in files.items()
    }
    head = gzip.compress(nifti_header(offset=float(3 << 30)) + bytes(4))
    writers["bomb.nii.gz"] = (written(head + zeros_gzipped(3 << 30)), "begin at byte")
    head = gzip.compress(extension)
    writers["extension.nii.gz"] = (written(head + zeros_gzipped(3 << 30)), "claims")
    whole = gzip.compress(nifti_header() + bytes(4) + np.random.default_rng(0).bytes(512))
    writers["cut.nii.gz"] = (written(whole[:-200]), "NIfTI")
    writers |= hostile_series(marker)
    if find_spec("zarr"):
        writers |= hostile_zarrs(marker)
    return writers
