"""What a file may ask of the machine: bytes once decoded, length of its XML, size of its header.

Everything here looks before anything is decoded, and raises ValueError with one sentence that
the readers put the file's name before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from xml.parsers import expat

MAX_BYTES_VARIABLE = "UNET_MED_MAX_BYTES"
MAX_XML_CHARACTERS = 32 << 20  # 100,000 planes of OME-XML; ElementTree takes 20 times that
MAX_XML_ELEMENTS = 500_000
DEFLATE_RATIO = 1032  # no deflated byte decodes to more (RFC 1951: 258 bytes in two bits)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_CGROUP_FILES = (  # (limit, use); version 2, version 1
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


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
    """Bytes that one file may take once decoded.

    Args:
        max_bytes: what the caller allows; None: the environment variable
            `UNET_MED_MAX_BYTES`, else half of the memory that is free.
    """
    if max_bytes:
        return max_bytes
    given = os.environ.get(MAX_BYTES_VARIABLE)
    return parse_bytes(given) if given else available_bytes() // 2


@contextmanager
def budget(text: str | None) -> Iterator[None]:
    """Set the budget of this process and its workers for a while; None leaves it as it is."""
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
    """Refuse what declares more bytes than the budget, before it is decoded."""
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


def available_bytes() -> int:
    """Memory that this process can still take: of the machine, its container, its own limit."""
    return max(0, min([_free_on_machine(), *_free_in_container(), *_free_in_process()]))


def check_xml(text: str, each: Callable[[str, Mapping[str, str]], None] | None = None) -> None:
    """Refuse XML that would fill the memory once parsed, and entities, which no image needs.

    What is not well-formed passes: its reader says so.

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


def _free_on_machine() -> int:
    """Free and reclaimable where Linux says so, else all that is built in."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_in_container(root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """What a container's limit leaves, which /proc/meminfo does not know."""
    for limit, use in _CGROUP_FILES:
        try:
            most, used = (int((root / name).read_text(encoding="utf-8")) for name in (limit, use))
            lines = (root / limit).with_name("memory.stat").read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError):  # no such limit, or "max"
            continue
        stat = dict(line.split() for line in lines if line)
        cached = sum(int(stat.get(name, 0)) for name in ("active_file", "inactive_file"))
        yield most - used + cached  # the cache of files is given up when needed


def _free_in_process() -> Iterator[int]:
    """What `ulimit -v` leaves."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        used = (
            int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
            * resource.getpagesize()
        )
    except (ImportError, OSError):
        return
    if limit != resource.RLIM_INFINITY:
        yield limit - used
