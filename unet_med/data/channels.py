"""nnU-Net's names: `case_0000.nii.gz`, `case_0001.nii.gz` are the channels of one case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from unet_med.data.cases import SEPARATORS, Case, files_of, same_name, shown
from unet_med.data.formats import stem

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_BETWEEN = re.compile(f"[/{re.escape(SEPARATORS)}]+")


def channel_of(name: str) -> tuple[str, int] | None:
    """Case and channel that a file's stem names; None where it names none.

    >>> channel_of("BRATS_001_0003")
    ('BRATS_001', 3)
    """
    found = _CHANNEL.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def channel_cases(files: Sequence[str]) -> dict[str, Case] | None:
    """The files of each case, in the order of their channels; None where a name has no channel.

    A case of one file is that file.

    Raises:
        ValueError: two files of one case and channel.
    """
    cases: dict[str, dict[int, str]] = {}
    for file in files:
        split = channel_of(same_name(stem(file)))
        if split is None:
            return None
        case, channel = split
        if (other := cases.setdefault(case, {}).setdefault(channel, file)) != file:
            raise ValueError(f"{other} and {file} are one channel of one case: remove one")
    ordered = {case: [found[k] for k in sorted(found)] for case, found in cases.items()}
    return {case: found[0] if len(found) == 1 else found for case, found in ordered.items()}


def require_complete(cases: dict[str, Case], count: int | None = None) -> None:
    """Refuse cases that lack a channel that another one has.

    Args:
        cases: of `channel_cases`.
        count: of channels; None: as many as the case with the most.

    Raises:
        ValueError: names the case, what it has and what it lacks.
    """
    channels = {case: _numbers(files) for case, files in cases.items()}
    wanted = set(range(count)) if count else set().union(*channels.values())
    for case, found in channels.items():
        if missing := sorted(wanted - found):
            raise ValueError(
                f"case {case} has {shown(cases[case])} and lacks channel _{missing[0]:04}: "
                "add that file, or remove the case"
            )


def group_channels(files: Sequence[str], channels: int) -> list[Case]:
    """Cases of so many channels, where the names of all files say so; else the files.

    Files of a case that lacks some, where most have all, stay apart: each has too few channels to
    be an image, and the other cases are whole.
    """
    cases = channel_cases(files) if channels > 1 else None
    wanted = set(range(channels))
    numbers = [_numbers(found) for found in (cases or {}).values()]
    most = 2 * numbers.count(wanted) > len(numbers)
    if not cases or not most or not all(own <= wanted for own in numbers):
        return list(files)
    grouped: list[Case] = []
    for found, own in zip(cases.values(), numbers, strict=True):
        grouped += [found] if own == wanted else files_of(found)
    return grouped


def in_other_places(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether a channel that two images name is not the same one of both.

    Names that an image has twice say nothing.

    >>> in_other_places(["DAPI", "GFP"], ["GFP", "DAPI"]), in_other_places(["DAPI"], ["GFP"])
    (True, False)
    """
    if any(len(set(each)) < len(each) for each in (names, others)):
        return False
    return any(name in others and others.index(name) != k for k, name in enumerate(names))


def words_apart(files: Sequence[str]) -> tuple[str, ...]:
    """What names and folders say of each file of a case, and not of all: its channel, as a rule.

    Empty where it is one file, or two are called alike.

    >>> words_apart(["p1/p1_T1.nii.gz", "p1/p1_flair.nii.gz"])
    ('t1', 'flair')
    """
    paths = [Path(file).with_name(stem(file)).as_posix() for file in files]
    names = [_BETWEEN.split(same_name(path).casefold()) for path in paths]
    first = _begin_alike(names)
    last = _begin_alike([name[first:][::-1] for name in names])
    own = [name[first : len(name) - last] for name in names]
    common: set[str] = set(own[0]).intersection(*own[1:]) if own else set()
    words = [
        " ".join(word for word in each if word not in common) or name[-1]
        for each, name in zip(own, names, strict=True)
    ]
    return tuple(words) if len(set(words)) == len(words) > 1 else ()


def in_another_order(words: Sequence[str], others: Sequence[str]) -> bool:
    """Whether the files of two cases have the same words, and not in the same order.

    Other words say nothing: those of a plane and its neighbours move on with the plane.

    >>> in_another_order(["t1", "t2"], ["t2", "t1"]), in_another_order(["z1", "z2"], ["z2", "z3"])
    (True, False)
    """
    return list(words) != list(others) and sorted(words) == sorted(others)


def _begin_alike(names: Sequence[Sequence[str]]) -> int:
    """How many words all names begin with."""
    return sum(1 for _ in takewhile(lambda same: len(set(same)) == 1, zip(*names, strict=False)))


def _numbers(case: Case) -> set[int]:
    return {split[1] for file in files_of(case) if (split := channel_of(same_name(stem(file))))}
