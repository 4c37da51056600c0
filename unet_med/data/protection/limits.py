"""Limits of a file: decoded bytes, size on disk, length of its XML."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from xml.parsers import expat

from unet_med.memory import available_bytes

MAX_BYTES_VARIABLE = "UNET_MED_MAX_BYTES"
MAX_XML_CHARACTERS = 32 << 20  # 100,000 planes of OME-XML; ElementTree takes 20 times that
MAX_XML_ELEMENTS = 500_000
DEFLATE_RATIO = 1032  # no deflated byte decodes to more (RFC 1951: 258 bytes in two bits)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_bytes(text: str) -> int:
    """Read a number of bytes.

    Args:
        text: digits, and K, M, G or T for powers of 1024; `B` and `iB` after it are fine.

    Raises:
        ValueError: something else, or zero.

    >>> parse_bytes("1500"), parse_bytes("1.5 GB"), parse_bytes("2k")
    (1500, 1610612736, 2048)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    count = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if count < 1:
        raise ValueError(f"{text!r} is no number of bytes: write 8000000, 500M or 2G")
    return count


def byte_budget(max_bytes: int | None = None) -> int:
    """Limit of the decoded bytes of one file.

    Args:
        max_bytes: limit of the caller; None: the environment variable
            `UNET_MED_MAX_BYTES`, else half of the free memory.
    """
    if max_bytes:
        return max_bytes
    given = os.environ.get(MAX_BYTES_VARIABLE)
    return parse_bytes(given) if given else available_bytes() // 2


@contextmanager
def budget(text: str | None) -> Iterator[None]:
    """Set the byte budget of this process and its workers for a block; None changes nothing."""
    if text is None:
        yield
        return
    before = os.environ.get(MAX_BYTES_VARIABLE)
    os.environ[MAX_BYTES_VARIABLE] = str(parse_bytes(text))
    try:
        yield
    finally:
        del os.environ[MAX_BYTES_VARIABLE]
        if before is not None:
            os.environ[MAX_BYTES_VARIABLE] = before


def require_memory(declared_bytes: int, max_bytes: int | None = None) -> None:
    """Refuse a file that declares more bytes than the budget, before it is decoded.

    Args:
        declared_bytes: of the decoded pixels.
        max_bytes: see `byte_budget`.
    """
    limit = byte_budget(max_bytes)
    if declared_bytes > limit:
        raise ValueError(
            f"it declares {declared_bytes / 1e9:.3g} GB once decoded, the limit is "
            f"{limit / 1e9:.3g} GB; raise it with max_bytes or {MAX_BYTES_VARIABLE}"
        )


def require_in_file(declared_bytes: int, path: Path, *, deflated: bool = False) -> None:
    """Refuse a header that declares more bytes than a file of this size can hold."""
    size = path.stat().st_size
    most = size * DEFLATE_RATIO if deflated else size
    if declared_bytes > most:
        raise ValueError(
            f"it declares {declared_bytes} bytes, and a file of {size} holds at most {most}: "
            "it is cut short, or its header is wrong"
        )


def check_xml(text: str, each: Callable[[str, Mapping[str, str]], None] | None = None) -> None:
    """Refuse XML that would fill the memory, and entities, which no image needs.

    Malformed XML passes: its parser refuses it.

    Args:
        text: the document.
        each: called with the local name and the attributes of each element.

    Raises:
        ValueError: too long, too many elements, or an entity declaration.
    """
    if len(text) > MAX_XML_CHARACTERS:
        raise ValueError(f"its XML has {len(text)} characters, the limit is {MAX_XML_CHARACTERS}")
    count = 0

    def begin(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal count
        count += 1
        if count > MAX_XML_ELEMENTS:
            raise ValueError(f"its XML has more than {MAX_XML_ELEMENTS} elements")
        if each is not None:
            each(name.rpartition(":")[2], attributes)

    def refuse(*_: object) -> None:
        raise ValueError("its XML declares entities, which can grow without bound")

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.EntityDeclHandler = refuse
    with suppress(expat.ExpatError):
        parser.Parse(text, True)
