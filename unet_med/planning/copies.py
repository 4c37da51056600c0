"""Images that no split may part: those of one group, and copies of an image under other names.

A network that has learned from a copy has seen the image, whatever it is called. Images of one
label show one scene, in another focus or stain; or the label was saved under a wrong name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from scipy.cluster.hierarchy import DisjointSet

from unet_med.data.cases import files_of
from unet_med.data.entries import Item
from unet_med.data.splits import Split, groups_of
from unet_med.planning.fingerprints import Case

TOGETHER = "together"  # key of an item: the number of its unit
SUBJECT = "(sub-[A-Za-z0-9]+)"  # as BIDS names one, in files and folders


def units_of(items: Sequence[Item], cases: Sequence[Case], group: str | None) -> list[int]:
    """A number for each item, equal for those of a group, else a file, of copies and of a label."""
    groups = groups_of(items, group)
    own = {id(item): number for number, members in enumerate(groups) for item in members}
    joined = DisjointSet(range(len(groups)))
    first: dict[str, int] = {}
    for item in items:
        number = own[id(item)]
        for content in _contents(cases[item["case"]]):
            joined.merge(first.setdefault(content, number), number)
    return [joined[own[id(item)]] for item in items]


def _contents(case: Case) -> list[str]:
    """SHA-256 by which an image is another one too: its own, and of a label that tells it apart."""
    return [case.image.sha256, *([case.label.sha256] if _tells(case) else ())]


def _tells(case: Case) -> bool:
    """Whether a label is of one scene alone: not if it is empty, or an object all over."""
    return case.holds_object and (case.label_values is None or len(case.label_values) > 1)


def kept_together(
    items: Sequence[Item], cases: Sequence[Case], group: str | None
) -> tuple[list[Item], str | None]:
    """Items and the `group` by which no split parts copies.

    Where all images are copies of one there is nothing else to hold out, and all stays as it is.
    """
    units = units_of(items, cases, group)
    if len(set(units)) in (1, len(groups_of(items, group))):
        return list(items), group
    return [{**item, TOGETHER: f"unit {k}"} for item, k in zip(items, units, strict=True)], TOGETHER


def about_copies(sides: Sequence[Split], cases: Sequence[Case]) -> str:
    """What the reason of a split, or of several, adds where images are copies; else nothing.

    Args:
        sides: items to learn from, and held-out ones, of each split.
        cases: of which the items are.
    """
    files = {item["case"]: cases[item["case"]].image.sha256 for s in sides for i in s for item in i}
    said = _about_labels([cases[k] for k in sorted(files)])
    if not (copies := len(files) - len(set(files.values()))):
        return said
    parted: set[int] = set()
    for training, held in sides:
        learned: dict[str, set[int]] = {}
        for item in training:
            learned.setdefault(files[item["case"]], set()).add(item["case"])
        own = {item["case"] for item in held}
        parted |= {case for case in own if learned.get(files[case], set()) - {case}}
    if parted:
        return f"; {len(parted)} held-out image(s) are copies of some that are learned from{said}"
    return f"; {copies} image(s) are copies of others, and stay with them{said}"


def about_subjects(sides: Sequence[Split]) -> str:
    """What the reason of a split, or of several, adds where it parts a subject; else nothing.

    Sessions of a subject look alike. Only a user says what belongs together, so this is said, and
    no split changes.

    Args:
        sides: items to learn from, and held-out ones, of each split.
    """
    parted: set[str] = set()
    for training, held in sides:
        own = {item["case"] for item in held}  # the planes of a stack may be on both sides
        parted |= _subjects(i for i in training if i["case"] not in own) & _subjects(held)
    if not parted:
        return ""
    return (
        f"; sessions of {len(parted)} subject(s), such as {min(parted)}, are on both sides, so the "
        f"score flatters: --group '{SUBJECT}' keeps each together"
    )


def _subjects(items: Iterable[Item]) -> set[str]:
    found = (re.search(f"(?:^|[/_]){SUBJECT}", files_of(item["image"])[0]) for item in items)
    return {match[1] for match in found if match}


def _about_labels(cases: Sequence[Case]) -> str:
    """Which label is that of another image, byte for byte; nothing where none is."""
    first: dict[str, Case] = {}
    alike = [
        (case, other)
        for case in filter(_tells, cases)
        if (other := first.setdefault(case.label.sha256, case)).image.sha256 != case.image.sha256
    ]
    if not alike:
        return ""
    names = (each.label.name for each in alike[0])
    return f"; {len(alike)} label(s) are those of other images, such as {' and '.join(names)}"
