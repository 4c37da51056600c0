"""Planes of a stack are alike: where several files are held out, they count with their file's."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from numpy.typing import NDArray

__all__ = ["in_words", "summed", "units_of_files"]


def units_of_files(files: Sequence[Hashable]) -> list[int]:
    """A number for each image: that of its file, or its own where all are planes of one.

    >>> units_of_files(["a", "a", "b"]), units_of_files(["a", "a"])
    ([0, 0, 1], [0, 1])
    """
    numbers = {file: k for k, file in enumerate(dict.fromkeys(files))}
    return [*range(len(files))] if len(numbers) == 1 else [numbers[file] for file in files]


def summed(counts: Sequence[NDArray[Any]], units: Sequence[Hashable]) -> list[NDArray[Any]]:
    """What is counted in the images of each unit together, in the order in which units come."""
    found: dict[Hashable, NDArray[Any]] = {}
    for unit, own in zip(units, counts, strict=True):
        found[unit] = found[unit] + own if unit in found else own
    return list(found.values())


def in_words(files: Sequence[Hashable]) -> tuple[str, str]:
    """How many images are held out, and what is left out of a fit to see what it is worth.

    >>> in_words(["a", "b", "c"]), in_words(["a", "a", "b"])
    (('3 held-out images', 'images'), ('3 held-out planes of 2 stacks', 'stacks'))
    >>> in_words(["a", "a", "a"])
    ('3 held-out planes of one stack', 'planes of it')
    """
    count, stacks = len(files), len(set(files))
    if stacks == count:
        return f"{count} held-out images", "images"
    if stacks == 1:
        return f"{count} held-out planes of one stack", "planes of it"
    return f"{count} held-out planes of {stacks} stacks", "stacks"
