"""MetaImage, NRRD and DICOM headers, checked before ITK and GDCM read the pixels."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from itertools import count
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from unet_med.data.protection.limits import require_in_file, require_memory

MAX_TEXT_HEADER = 1 << 20
_UNCOMPRESSED = {f"1.2.840.10008.1.2{suffix}" for suffix in ("", ".1", ".2")}  # DICOM PS3.5, A
_DEFLATED = "1.2.840.10008.1.2.1.99"
_RUN_LENGTH = "1.2.840.10008.1.2.5"
_FRAGMENTS = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff"  # pixels, in items
_ITEM = b"\xfe\xff\0\xe0"
_DATA_FILE_KEYS = {"elementdatafile", "data file", "datafile"}
_BITS_ALLOCATED = "0028|0100"


def open_itk(path: Path, max_bytes: int | None = None) -> Any:
    """Read the header of a MetaImage or NRRD whose pixels fit the memory and are in its folder.

    Returns:
        SimpleITK's `ImageFileReader`, ready to read the pixels.

    Raises:
        ValueError: says what is wrong with it.
    """
    import SimpleITK as sitk

    _check_data_files(path)
    reader = sitk.ImageFileReader()
    require_memory(_declared_bytes(reader, path), max_bytes)
    return reader


def check_dicom_folder(folder: Path) -> None:
    """Refuse a folder with pipes, devices, or DICOM files that crash GDCM; or one such file.

    Raises:
        ValueError: names the first.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
        if path.is_file():
            if _transfer_syntax(path) == _RUN_LENGTH:
                _check_run_lengths(path)
        elif path.exists() and not path.is_dir():
            raise ValueError(f"its {path.name[:200]} is no regular file")


def check_dicom_file(path: Path) -> None:
    """Refuse a DICOM file that pydicom would inflate as a whole, to any size.

    Raises:
        ValueError: says so.
    """
    if _transfer_syntax(path) == _DEFLATED:
        raise ValueError(f"{path} is deflated, which is not read: decompress it (gdcmconv --raw)")


def dicom_header(path: Path) -> Any:
    """Read the header of a DICOM image, and no pixels.

    Args:
        path: an existing file, in a folder that `check_dicom_folder` has looked at.

    Returns:
        SimpleITK's `ImageFileReader`; None: it is no DICOM image that GDCM can read.
    """
    import SimpleITK as sitk

    if _transfer_syntax(path) == _DEFLATED:  # of any size, once inflated
        return None
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return reader


def check_dicom_files(headers: Mapping[Path, Any], max_bytes: int | None = None) -> None:
    """Refuse slices that declare more than the memory or their files hold.

    GDCM gives noise for the missing pixels of a file that was cut short.

    Args:
        headers: of the files of one series, as `dicom_header` gives them.
        max_bytes: see `require_memory`.

    Raises:
        ValueError: names the slice.
    """
    require_memory(sum(map(_bytes_of, headers.values())), max_bytes)
    for path, reader in headers.items():
        if _transfer_syntax(path) in _UNCOMPRESSED:
            stored = int(reader.GetMetaData(_BITS_ALLOCATED))
            samples = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
            try:
                require_in_file(samples * stored // 8, path)
            except ValueError as error:
                raise ValueError(f"of {path.name}: {error}") from None


def _check_data_files(path: Path) -> None:
    """Refuse a MetaImage or NRRD header that names pixels outside its folder.

    Raises:
        ValueError: names the file with the pixels.
    """
    lines = iter(_text_header(path))
    for line in lines:
        key, name = _field(line)
        if key not in _DATA_FILE_KEYS:
            continue
        listed = name.upper().startswith("LIST")
        for entry in [each.strip() for each in lines] if listed else [name]:
            _require_beside(entry)
        return


def itk_fields(path: Path) -> dict[str, str]:
    """What the text header of a MetaImage or NRRD says, by its fields' names in lower case."""
    fields: dict[str, str] = {}
    for line in _text_header(path):
        key, value = _field(line)
        fields.setdefault(key, value)
        if key == "elementdatafile":  # what follows are pixels, or names of files
            break
    return fields


def _text_header(path: Path) -> list[str]:
    """Lines of a header; those of a MetaImage go on with what follows it."""
    with path.open("rb") as file:
        text = file.read(MAX_TEXT_HEADER).decode("latin-1")
    return (text.split("\n\n", 1)[0] if text.startswith("NRRD") else text).splitlines()


def _field(line: str) -> tuple[str, str]:
    key, _, value = line.replace(":", "=", 1).partition("=")
    return key.strip().lower(), value.strip()


def _declared_bytes(reader: Any, path: Path) -> int:
    """Read the header of a file with SimpleITK's reader; bytes of its decoded pixels."""
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return _bytes_of(reader)


def _bytes_of(reader: Any) -> int:
    """Bytes of the decoded pixels of a file whose header SimpleITK's reader has read."""
    import SimpleITK as sitk

    pixel = sitk.Image([1] * reader.GetDimension(), reader.GetPixelID())
    samples = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
    return samples * pixel.GetSizeOfPixelComponent()


def dicom_class(path: Path) -> str | None:
    """What kind of DICOM a file says that it is, the UID of its class; None: it does not say."""
    return _meta_of(path, 0x02)


def _transfer_syntax(path: Path) -> str:
    """Transfer syntax of a DICOM file: how it stores pixels, or the default."""
    return _meta_of(path, 0x10) or "1.2.840.10008.1.2"


def _meta_of(path: Path, wanted: int) -> str | None:
    """UID of an element `(0002, wanted)`, of what comes before the data set (PS3.10, 7.1)."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = 132 if head[128:132] == b"DICM" else len(head)
    while head[at : at + 2] == b"\2\0":  # elements of group 2, explicit and little endian
        number, kind, length = struct.unpack_from("<2xH2sH", head.ljust(at + 8), at)
        if number == wanted:
            return head[at + 8 : at + 8 + length].rstrip(b" \0").decode("ascii", "replace")
        long = kind in (b"OB", b"OW", b"SQ", b"UN", b"UT")
        value = at + (12 if long else 8)
        at = value + (int.from_bytes(head[at + 8 : value], "little") if long else length)
    return None


def _check_run_lengths(path: Path) -> None:
    """Refuse fragments without 1 to 15 segments (PS3.5, G.5): GDCM divides by their number."""
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
    """Refuse all but plain names and patterns with numbers: `slice%03d.raw 1 40 1`."""
    if "/" in name or "\\" in name or name.startswith(".."):
        raise ValueError(f"its pixels are in {name[:200]!r}, which is outside its folder")
