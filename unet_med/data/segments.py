"""What the segments of a DICOM SEG are: a label and codes for each class of a mask."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

Codes = tuple[str, str, str]  # value, scheme, meaning

TISSUE: Codes = ("85756007", "SCT", "Tissue")
STRUCTURE: Codes = ("91723000", "SCT", "Anatomical Structure")
ABNORMAL: Codes = ("49755003", "SCT", "Morphologically Abnormal Structure")
PRIVATE = "99UNETMED"  # scheme of names that no list of DICOM has; 99 is for private ones
_CODE = 16  # characters of a code's value (SH)
_LESIONS = (7159, 7194)  # context groups of PS3.16
_GROUPS = (*_LESIONS, 7151, 7153, 7154, 7157, 7158, 7160, 7165, 7166, 7191, 7192, 8135, 4)
_SYNONYMS = {"tumor": "neoplasm", "tumour": "neoplasm"}
_PALETTE = (  # the most different first
    (230, 25, 75), (60, 180, 75), (0, 130, 200), (255, 225, 25), (245, 130, 48), (145, 30, 180),
    (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (170, 110, 40),
)  # fmt: skip
_KEYS = ("label", "category", "type", "color")


@dataclass(frozen=True)
class Segment:
    """One segment.

    Attributes:
        value: of its pixels in masks.
        label: what viewers show.
        category: code of what kind of thing it is.
        type: code of the thing.
        color: red, green and blue, 0 to 255.
    """

    value: int
    label: str
    category: Codes
    type: Codes
    color: tuple[int, ...]


def segments_of(
    names: Sequence[str], values: Sequence[int], table: Mapping[str, Any] | None = None
) -> list[Segment]:
    """Segments of the classes of a mask, background left out.

    A class that a context group of DICOM has by name, such as `liver`, gets its code of SNOMED
    CT; any other a private one, of the scheme `99UNETMED`, whose meaning is the name: the name's
    letters and digits, of which 16 fit, or eight of them and the begin of their SHA-256.

    Args:
        names: of the classes, the background first.
        values: of their pixels.
        table: what is to hold instead, by value or name: `{"1": {"label": "Liver", "type":
            ["10200004", "SCT", "Liver"], "category": [...], "color": [221, 130, 101]}}`; each
            part may be left out.

    Raises:
        ValueError: the table names a class that is none, or says what is no code or colour; or two
            classes would have one code.
    """
    chosen = dict(table or {})
    found = []
    for k, (name, value) in enumerate(list(zip(names, values, strict=True))[1:], 1):
        given = chosen.pop(str(value), None) or chosen.pop(name, None) or {}
        found.append(_segment(name, value, {"color": color_of(k), **given}))
    if chosen:
        known = ", ".join(f"{s.value} ({s.label})" for s in found)
        raise ValueError(f"segments: there is no class {min(chosen)}; there are {known}")
    _refuse_one_code(found)
    return found


def color_of(number: int) -> tuple[int, int, int]:
    """Red, green and blue of a class, by its number from 1."""
    return _PALETTE[(number - 1) % len(_PALETTE)]


def _refuse_one_code(segments: Sequence[Segment]) -> None:
    """Refuse segments of one code and several meanings, which an archive could not tell apart."""
    coded: dict[tuple[str, str], list[Segment]] = defaultdict(list)
    for segment in segments:
        coded[segment.type[:2]].append(segment)
    for (value, scheme), own in coded.items():
        if len({segment.type for segment in own}) > 1:
            named = " and ".join(f"{segment.value} ({segment.label})" for segment in own[:2])
            raise ValueError(
                f"segments: the classes {named} have one code, {value} of {scheme}: give one of "
                "them a type of its own"
            )


def _segment(name: str, value: int, given: Mapping[str, Any]) -> Segment:
    if unknown := set(given) - set(_KEYS):
        raise ValueError(f"segments: {min(unknown)!r} of class {value} is none of {_KEYS}")
    label = str(given.get("label") or name)
    category, kind = _standard(label)
    color = given["color"]
    if not _are(color, int, range(256)):
        raise ValueError(f"segments: color {color} is not red, green and blue from 0 to 255")
    return Segment(
        value,
        label,
        _codes(given.get("category") or category),
        _codes(given.get("type") or kind),
        tuple(color),
    )


def _codes(given: Any) -> Codes:
    if not _are(given, str, None) or not all(given):
        raise ValueError(f"segments: {given!r} is not a code: give [value, scheme, meaning]")
    value, scheme, meaning = given
    return value, scheme, meaning


def _are(given: Any, kind: type, within: Any) -> bool:
    """Whether it is three of a kind."""
    return (
        isinstance(given, Sequence)
        and len(given) == 3
        and all(isinstance(v, kind) and (within is None or v in within) for v in given)
    )


def _standard(label: str) -> tuple[Codes, Codes]:
    """Category and type of a name."""
    word = _plain(label)
    single = word.removesuffix("s")
    for name in (word, single, _SYNONYMS.get(single, word)):
        if found := _known().get(name):
            return found
    return TISSUE, (_private_code(word, label), PRIVATE, label[:64])


def _private_code(word: str, label: str) -> str:
    """Value of a private code, of 16 characters at most, which long names that begin alike fill."""
    if 0 < len(word) <= _CODE:
        return word
    return word[: _CODE // 2] + sha256((word or label).encode()).hexdigest()[: _CODE // 2]


@cache
def _known() -> dict[str, tuple[Codes, Codes]]:
    """Category and type by name, of the context groups for segments."""
    from pydicom.sr.codedict import codes

    found: dict[str, tuple[Codes, Codes]] = {}
    for group in _GROUPS:
        category = ABNORMAL if group in _LESIONS else STRUCTURE
        for name, code in getattr(codes, f"CID{group}").concepts.items():
            type_ = (code.value, code.scheme_designator, code.meaning)
            found.setdefault(_plain(name), (category, type_))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
