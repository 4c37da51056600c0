"""Held-out images, of which one at least holds an object: others tell nothing of a network."""

from __future__ import annotations

from collections.abc import Sequence

from unet_med.data.splits import Item
from unet_med.planning.fingerprints import Case

NONE = "; none of them holds an object, so their score says nothing of one: choose with --split"

Sides = tuple[list[Item], list[Item]]


def with_objects(sides: Sides, units: Sequence[Sequence[Item]], cases: Sequence[Case]) -> Sides:
    """Both sides; others where nothing that is held out holds an object, and two units do.

    Of files and groups the nearest that holds one is held out in the place of one that holds none.
    Of a stack the block begins so that its share of the planes with objects is that of all planes.

    Args:
        sides: what is learned from, and what is held out.
        units: what stays together: groups, files, or planes of a single stack; in order.
        cases: that the items are of.
    """
    held = {id(item) for item in sides[1]}
    apart = [k for k, unit in enumerate(units) if id(unit[0]) in held]
    full = [k for k, unit in enumerate(units) if holds_object(unit, cases)]
    if len(full) < 2 or holds_object(sides[1], cases):
        return sides
    if len({item["case"] for unit in units for item in unit}) == 1:
        first = full[-max(1, round(len(full) * len(apart) / len(units)))]
        chosen = {*range(first, first + len(apart))}
    else:
        gone, come = min(((a, b) for a in apart for b in full), key=lambda ab: abs(ab[0] - ab[1]))
        chosen = {*apart} - {gone} | {come}
    found: Sides = ([], [])
    for k, unit in enumerate(units):
        found[k in chosen].extend(unit)
    return found


def holds_object(items: Sequence[Item], cases: Sequence[Case]) -> bool:
    """Whether an image of these holds one; of a plane, as far as that is known."""
    return any(
        cases[item["case"]].holds_object
        and ("slice" not in item or item["slice"] not in cases[item["case"]].planes_without_object)
        for item in items
    )
