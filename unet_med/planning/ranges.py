"""Many integers in few characters: label values as a fingerprint keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_RANGES = 1000  # of one file; more are instance numbers


def as_ranges(values: Iterable[float]) -> str | None:
    """Integers as ranges, ascending; None where one is no integer, or there are too many ranges.

    >>> as_ranges([0, 1, 2, 3, 255]), as_ranges([-1, 0, 7]), as_ranges([0, 0.5])
    ('0..3 255', '-1..0 7', None)
    """
    numbers = sorted(set(values))
    if not all(float(number).is_integer() for number in numbers):
        return None
    ranges: list[list[int]] = []
    for number in map(int, numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    if len(ranges) > MAX_RANGES:
        return None
    return " ".join(str(a) if a == b else f"{a}..{b}" for a, b in ranges)


def from_ranges(text: str) -> set[int]:
    """The integers that `as_ranges` wrote.

    >>> sorted(from_ranges("-1..1 7"))
    [-1, 0, 1, 7]
    """
    found: set[int] = set()
    for part in text.split():
        first, _, last = part.partition("..")
        if not re.fullmatch(r"-?\d+", first) or not re.fullmatch(r"(-?\d+)?", last):
            raise ValueError(f"{part!r} is no range of label values such as 0..3")
        found |= set(range(int(first), int(last or first) + 1))
    return found
