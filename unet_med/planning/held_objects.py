"""Images with objects on both sides of a split: others tell and teach nothing of these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unet_med.data.entries import Item
from unet_med.instances import IGNORED, UNKNOWN
from unet_med.planning.fingerprints import Case

NONE = "; none of them holds an object, so their score says nothing of one: choose with --split"

Sides = tuple[list[Item], list[Item]]
Shown = Sequence[set[int]]  # of each unit its classes, or 1 for objects


def with_objects(
    sides: Sides, units: Sequence[Sequence[Item]], cases: Sequence[Case], kind: str
) -> Sides:
    """Both sides; others where one holds no object, or lacks a class, and an exchange mends it.

    Of files and groups the nearest one takes the place of the one that goes. Of a stack the block
    begins so that its share of the planes with objects is that of all planes.

    Args:
        sides: what is learned from, and what is held out.
        units: what stays together: groups, files, or planes of a single stack; in order.
        cases: that the items are of.
        kind: of the labels.
    """
    held = {id(item) for item in sides[1]}
    apart = {k for k, unit in enumerate(units) if id(unit[0]) in held}
    if len(apart) == len(units):
        return sides
    shown = [_shown(unit, cases, kind) for unit in units]
    if len({item["case"] for unit in units for item in unit}) == 1:
        chosen = _block(shown, apart)
    else:
        chosen = _with_taught(shown, _with_one(shown, apart))
    found: Sides = ([], [])
    for k, unit in enumerate(units):
        found[k in chosen].extend(unit)
    return found


def holds_object(items: Sequence[Item], cases: Sequence[Case]) -> bool:
    """Whether an image of these holds one; of a plane, as far as that is known."""
    return bool(_shown(items, cases, "instances"))


def _shown(unit: Sequence[Item], cases: Sequence[Case], kind: str) -> set[int]:
    found: set[int] = set()
    for item in unit:
        case = cases[item["case"]]
        if case.holds_object and item.get("slice") not in case.planes_without_object:
            values = case.label_values if kind == "classes" else None
            found |= {1} if values is None else values - {0, IGNORED, UNKNOWN}
    return found


def _block(shown: Shown, apart: set[int]) -> set[int]:
    """Planes that follow one another, some of which hold an object if two do."""
    full = [k for k, own in enumerate(shown) if own]
    if len(full) < 2 or apart & {*full}:
        return apart
    first = full[-max(1, round(len(full) * len(apart) / len(shown)))]
    return {*range(first, first + len(apart))}


def _with_one(shown: Shown, apart: set[int]) -> set[int]:
    """What is held out, of which one holds an object if two do."""
    full = [k for k, own in enumerate(shown) if own]
    if len(full) < 2 or apart & {*full}:
        return apart
    gone, come = min(
        ((a, b) for a in sorted(apart) for b in full), key=lambda ab: abs(ab[0] - ab[1])
    )
    return apart - {gone} | {come}


def _with_taught(shown: Shown, apart: set[int]) -> set[int]:
    """What is held out, without what alone holds a class, where others can make up for it."""
    for gone in sorted(apart):
        learned = [k for k in range(len(shown)) if k not in apart]
        if shown[gone] <= _union(shown[k] for k in learned):
            continue
        spared = [
            k
            for k in learned
            if shown[k] <= shown[gone] | _union(shown[other] for other in learned if other != k)
        ]
        if spared:
            come = min(spared, key=lambda k: (not shown[k], abs(k - gone)))
            apart = apart - {gone} | {come}
    return apart


def _union(sets: Iterable[set[int]]) -> set[int]:
    return set().union(*sets)
