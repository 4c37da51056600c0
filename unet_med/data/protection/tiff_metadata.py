"""The XML of a TIFF, checked before tifffile parses it: its size, its planes, other files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from unet_med.data.protection.limits import check_xml
from unet_med.data.protection.tiff_directories import Chain, check_ifds

ONE_FILE = (
    "save the set as one file (in Fiji: File > Save As > Tiff), or read it in Python with "
    "allow_multifile=True"
)
MAX_PLANES = 1 << 20
_LISTED = 1 << 26  # places that tifffile may list, half a gigabyte
_XML_TAGS = (270, 700, 65001)  # description, XMP, EER


def check_descriptions(tif: Any, chain: Chain) -> None:
    """Refuse XML that would fill the memory, before tifffile parses it.

    Raises:
        ValueError: too much XML, or OME-XML with too many planes.
    """
    for code in _XML_TAGS:
        for tag in tif.pages[0].tags.getall(code) or ():
            value = tag.value
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            if text.lstrip("\ufeff \t\r\n").startswith("<"):
                check_ome_xml(text, chain)


def check_ome_xml(text: str, chain: Chain) -> None:
    """Refuse XML that is too large, defines entities, or lists too many planes.

    Raises:
        ValueError: says what is wrong.
    """
    check_xml(text, _Planes(chain))


def check_ome_files(xml: str | None, own_name: str, allow_multifile: bool) -> str | None:
    """Refuse OME-XML that names other files, or files outside the folder; tifffile opens them.

    A file that was renamed still knows itself by its UUID.

    Args:
        xml: OME-XML of a file; None: it has none.
        own_name: name of that file.
        allow_multifile: other files in the same folder are fine.

    Returns:
        Name of the file that holds the OME-XML, where it is not this one.

    Raises:
        ValueError: names the other file.
    """
    if xml is None:
        return None
    root = ElementTree.fromstring(xml)
    for element in root.iter():
        name = element.get("FileName") if element.tag.endswith("}UUID") else None
        name = element.get("MetadataFile") if element.tag.endswith("}BinaryOnly") else name
        if name is None or name == own_name or element.text == root.get("UUID", ""):
            continue
        if not allow_multifile:
            raise ValueError(f"its OME-XML refers to another file, {name!r}; {ONE_FILE}")
        if Path(name).name != name or "\\" in name:
            raise ValueError(f"its OME-XML refers to {name!r}, which is outside its folder")
    binary = next((e for e in root.iter() if e.tag.endswith("}BinaryOnly")), None)
    return None if binary is None else binary.get("MetadataFile")


def check_other_files(xml: str | None, path: Path) -> None:
    """Check the directories of the files that OME-XML names, before tifffile opens them.

    Args:
        xml: OME-XML of `path`; None: it has none.
        path: the file whose folder holds the others.

    Raises:
        ValueError: names the file, and says what is wrong with it.
    """
    elements = ElementTree.fromstring(xml or "<OME/>").iter()
    names = {e.get("FileName", path.name) for e in elements if e.tag.endswith("}UUID")}
    for name in sorted(names - {path.name}):
        other = path.with_name(name)
        if not other.exists():
            continue  # tifffile says which planes that costs
        if not other.is_file():
            raise ValueError(f"its OME-XML refers to {name!r}, which is no regular file")
        try:
            check_ifds(other)
        except ValueError as error:
            raise ValueError(f"of {name!r}, to which its OME-XML refers: {error}") from None


class _Planes:
    """Counts the planes that elements of OME-XML declare, because tifffile lists them all."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.total = 0

    def __call__(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "Pixels":
            sizes = [_whole(attributes.get(f"Size{axis}", "1")) for axis in "XYZCT"]
            self._require(math.prod(sizes[2:]), MAX_PLANES)
            self._require(math.prod(sizes) // max(1, self.chain.smallest), _LISTED)
        elif name == "TiffData":
            default = "1" if "IFD" in attributes else str(self.chain.length)
            count = attributes.get("PlaneCount", attributes.get("NumPlanes", default))
            self.total += _whole(count) or self.chain.length
            self._require(self.total, MAX_PLANES)
        elif "Start" in attributes and "End" in attributes:  # tifffile lists these, too
            start, end, step = (_real(attributes.get(key, "1")) for key in ("Start", "End", "Step"))
            self._require(int(abs(end - start) / max(abs(step), 1e-300)), MAX_PLANES)

    def _require(self, planes: int, limit: int) -> None:
        if planes > limit:
            raise ValueError(f"its OME-XML lists {planes} planes, the limit is {limit}")


def _whole(text: str) -> int:
    """Read an integer as tifffile does; 0 for other text."""
    try:
        return abs(int(text))
    except ValueError:
        return 0


def _real(text: str) -> float:
    try:
        return min(max(float(text), -1e300), 1e300)
    except ValueError:
        return 0.0
