"""Planes of a stack are alike: where several files are held out, they count with their file's."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from numpy.typing import NDArray

from unet_med.data.cases import files_of

Files = tuple[str, ...]  # of an image, as a plan names them


def units_of_files(files: Sequence[Hashable]) -> list[int]:
    """A number for each image: that of its file, or its own where all are planes of one.

    >>> units_of_files(["a", "a", "b"]), units_of_files(["a", "a"])
    ([0, 0, 1], [0, 1])
    """
    numbers = {file: k for k, file in enumerate(dict.fromkeys(files))}
    return [*range(len(files))] if len(numbers) == 1 else [numbers[file] for file in files]


def units_of_items(items: Sequence[Mapping[str, Any]], known: Mapping[Files, int]) -> list[int]:
    """A number for each image: that of its unit in a plan; see `units_of_files` of one file.

    Args:
        items: with their `image`.
        known: of each image, by the names of its files in the plan, which end the items' paths;
            an image that is not there is a unit of its own.
    """
    files = [tuple(files_of(item["image"])) for item in items]
    if len(set(files)) == 1:
        return [*range(len(files))]
    tails = {PurePath(names[0]).parts: unit for names, unit in known.items()}
    own = {file: _unit(PurePath(file[0]).parts, tails) for file in set(files)}
    keys = [file if own[file] is None else own[file] for file in files]
    numbers = {key: k for k, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def _unit(path: tuple[str, ...], tails: Mapping[tuple[str, ...], int]) -> int | None:
    """Of the longest name that a path ends with."""
    return next((tails[path[k:]] for k in range(len(path)) if path[k:] in tails), None)


def summed(counts: Sequence[NDArray[Any]], units: Sequence[Hashable]) -> list[NDArray[Any]]:
    """What is counted in the images of each unit together, in the order in which units come."""
    found: dict[Hashable, NDArray[Any]] = {}
    for unit, own in zip(units, counts, strict=True):
        found[unit] = found[unit] + own if unit in found else own
    return list(found.values())


def in_words(files: Sequence[Hashable], units: Sequence[int] = ()) -> tuple[str, str]:
    """How many images are held out, and what is left out of a fit to see what it is worth.

    >>> in_words(["a", "b", "c"]), in_words(["a", "a", "b"])
    (('3 held-out images', 'images'), ('3 held-out planes of 2 stacks', 'stacks'))
    >>> in_words(["a", "b", "c"], [0, 0, 1]), in_words(["a", "a", "b", "c"], [0, 0, 0, 1])[0]
    (('3 held-out images in 2 groups', 'groups'), '4 held-out planes of 3 stacks in 2 groups')
    >>> in_words(["a", "a", "a"])
    ('3 held-out planes of one stack', 'planes of it')
    """
    count, stacks = len(files), len(set(files))
    if stacks == 1 < count:
        return f"{count} held-out planes of one stack", "planes of it"
    planes = stacks < count
    what = f"{count} held-out planes of {stacks} stacks" if planes else f"{count} held-out images"
    if 0 < (groups := len(set(units))) < stacks:  # copies are one too
        return f"{what} in {groups} groups", "groups"
    return what, "stacks" if planes else "images"
