"""Which images a training learns from, and which it is validated on.

What belongs together is never on both sides: the planes of a stack, and what a group names, such
as the sessions of a patient or the frames of a movie.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unet_med.data.cases import files_of, name_within, shown
from unet_med.data.entries import Item
from unet_med.data.split_file import Folder, entries_for, splits_in

SHARES = (0.25, 0.5)  # of what a split learns from, besides all of it
USUAL = 3  # folds, where nothing says how many

Split = tuple[list[Item], list[Item]]


def split_validation(
    items: Sequence[Item],
    fraction: float = 0.1,
    fold: int | str | None = None,
    *,
    group: str | None = None,
    file: str | os.PathLike[str] | None = None,
    folder: Folder = None,
) -> Split:
    """Hold out for validation what a file or the data list says, one of N parts, or a share.

    A data list says it by its section `validation`, or by a `fold` of its items. Shares and parts
    are of groups: those that `group` names, else the files, so that the planes of a stack stay
    together. They are evenly spread over the groups. The planes of a single stack are cut into
    contiguous blocks, of which a share is the last. A single image serves both training and
    validation.

    Args:
        items: all items, in order.
        fraction: share for validation, above 0 and below 1; at least one group is held out.
        fold: `"K/N"` holds out the K-th of N parts, counted from 0; `K` that of `file`, or of a
            data list's folds (0 where neither is named).
        group: what images of one group share: a key of the items, or a regular expression whose
            first bracket names the group in a file's name (or its folders').
        file: names what is on which side, see `unet_med.data.split_file`; other items are on none.
        folder: that the bundle's names are relative to, such as `dataset_dir`: in these names of
            its files groups are looked for, so that where the data lie says nothing of them. None:
            the items have these names.

    Returns:
        Items for training, items for validation.

    Raises:
        ValueError: a fold that is not there, too few groups, a file that names other images, or
            a group on both sides.

    >>> items = [{"image": f"p{patient}_{k}.png"} for patient in range(4) for k in range(2)]
    >>> [item["image"] for item in split_validation(items, fold="1/4", group="(p.)_")[1]]
    ['p1_0.png', 'p1_1.png']
    """
    planned: dict[int, str] = {}
    if file is not None:
        sides = entries_for(items, Path(file), fold, folder)
        split = [items[k] for k in sides[0]], [items[k] for k in sides[1]]
        planned = {id(items[k]): _planned(e) for side in sides for k, e in side.items()}
    elif by_section(items)[1]:
        split = _of_section(items, fold)
    else:
        split = _of_folds(items, fold) or _of_groups(items, fraction, fold, group, folder)
    _require_apart(split, group, lambda i: _group_of(i, group, folder, planned.get(id(i))))
    return split


def cross_validation(
    items: Sequence[Item],
    folds: int | None = None,
    *,
    group: str | None = None,
    file: str | os.PathLike[str] | None = None,
) -> list[Split]:
    """Splits of which each image is held out in one: K networks judge all images.

    Groups, and the planes of a stack, stay together; a single stack is cut into contiguous blocks.

    Args:
        items: all items, in order.
        folds: how many, from 2 to the number of groups; None: as the file or the data list says,
            else three.
        group: see `split_validation`.
        file: a list of so many splits, such as nnU-Net's `splits_final.json`; None: those of the
            data list, where its items have a `fold`, else parts of equal size.

    Raises:
        ValueError: the list or the file has another number, or there are fewer groups.

    >>> items = [{"image": f"{k}.png"} for k in range(5)]
    >>> [[item["image"] for item in held] for _, held in cross_validation(items, 2)]
    [['0.png', '2.png', '4.png'], ['1.png', '3.png']]
    """
    listed = _folds_in(items)
    own = splits_in(Path(file)) if file is not None else len(listed) or None
    folds = (own or USUAL) if folds is None else folds
    named = Path(file).name if file is not None else "the data list"
    if own is not None and own < 2:
        raise ValueError(
            f"{named} has {own} folds of its own, and folds take two or more: add some, or leave "
            "--folds and --learning-curve out, and hold out what it names with --fold 0"
        )
    if own is not None and own != folds:
        raise ValueError(f"--folds {folds}: {named} has {own} folds of its own: give --folds {own}")
    if own is None:
        count = len(parts_of(items, group))
        if not 1 < folds <= count:
            raise ValueError(
                f"--folds {folds}: there are {count} images or groups of them, and each fold holds "
                f"out at least one: "
                + (f"give from 2 to {count}" if count > 1 else "leave --folds out")
            )
        listed = [f"{k}/{folds}" for k in range(folds)]
    names = [str(k) for k in range(folds)] if file is not None else listed
    return [split_validation(items, fold=name, group=group, file=file) for name in names]


def groups_of(items: Sequence[Item], group: str | None, folder: Folder = None) -> list[list[Item]]:
    """Items that belong together, in the order in which they come; see `split_validation`."""
    found: dict[Any, list[Item]] = {}
    for item in items:
        found.setdefault(_group_of(item, group, folder), []).append(item)
    return list(found.values())


def parts_of(items: Sequence[Item], group: str | None) -> list[list[Item]]:
    """What no split parts: groups, else files; of a single stack the planes, each by itself."""
    groups = groups_of(items, group)
    return [[item] for item in items] if len(groups) == 1 and group is None else groups


class Subset(NamedTuple):
    """A part of what one of several splits learns from.

    Attributes:
        share: of its groups, as it was meant.
        split: number of the split.
        items: that are learned from, in order.
    """

    share: float
    split: int
    items: list[Item]


def nested_subsets(
    splits: Sequence[Split], *, group: str | None = None, seed: int = 0
) -> list[Subset]:
    """A quarter and a half of what each split learns from, the one within the other, at random.

    Groups, and the planes of a stack, stay together; of a single stack they are planes that follow
    one another, from a random one on, around the end.

    Args:
        splits: see `cross_validation`.
        group: see `split_validation`.
        seed: of the choice.

    Returns:
        By share, then by split. Where a quarter of the smallest side is a half of it too, halves.

    Raises:
        ValueError: a split learns from a single group: there is no smaller part.

    >>> items = [{"image": f"{k}.png"} for k in range(6)]
    >>> [(s.share, s.split, len(s.items)) for s in nested_subsets(cross_validation(items, 2))]
    [(0.25, 0, 1), (0.25, 1, 1), (0.5, 0, 2), (0.5, 1, 2)]
    """
    everything = [item for split in splits for side in split for item in side]
    stack = group is None and len(groups_of(everything, group)) == 1
    sides = [[[i] for i in side] if stack else groups_of(side, group) for side, _ in splits]
    least = min(len(units) for units in sides)
    if least < 2:
        raise ValueError(
            "--learning-curve: a network would learn from a single image, or group of them, and "
            "a part of that is none: give more images, or more --folds"
        )
    rng = np.random.default_rng(seed)
    orders = [_order(len(units), rng, contiguous=stack) for units in sides]
    shares = [share for share in SHARES if _size(least, share) < _size(least, 2 * share)]
    return [
        Subset(share, k, _first(units, order[: _size(len(units), share)]))
        for share in shares
        for k, (units, order) in enumerate(zip(sides, orders, strict=True))
    ]


def _order(count: int, rng: np.random.Generator, *, contiguous: bool) -> list[int]:
    if contiguous:
        first = int(rng.integers(count))
        return [(first + k) % count for k in range(count)]
    return [int(k) for k in rng.permutation(count)]


def _size(count: int, share: float) -> int:
    return max(1, int(count * share + 0.5))


def _first(units: Sequence[Sequence[Item]], chosen: Sequence[int]) -> list[Item]:
    return [item for k in sorted(chosen) for item in units[k]]


def fold_of(fold: int | str | None) -> tuple[int | None, int | None]:
    """`K/N` as numbers; without N, or both, None in their place.

    Raises:
        ValueError: it is neither `K/N` nor `K`.

    >>> fold_of("3/5"), fold_of("3"), fold_of(None)
    ((3, 5), (3, None), (None, None))
    """
    if fold is None:
        return None, None
    found = re.fullmatch(r"(\d+)(?:/(\d+))?", str(fold))
    which, folds = (int(text) if text else None for text in found.groups()) if found else (0, 0)
    if which is None or (folds is not None and which >= folds):
        raise ValueError(
            f"--fold {fold} is not K/N with K from 0 to N - 1, such as 0/5, nor K alone"
        )
    return which, folds


def _of_section(items: Sequence[Item], fold: int | str | None) -> Split:
    if fold is not None:
        raise ValueError(
            f"--fold {fold} has no effect: the data list says by its 'validation' what is held out"
        )
    return by_section(items)


def by_section(items: Sequence[Item]) -> Split:
    """Items as a data list has them: those of its `validation` are held out."""
    held = [item for item in items if item.get("section") == "validation"]
    return [item for item in items if item.get("section") != "validation"], held


def _folds_in(items: Sequence[Item]) -> list[str]:
    """Names of the folds of a data list; none where it has no folds."""
    return sorted({str(item["fold"]) for item in items if item.get("fold") is not None})


def _of_folds(items: Sequence[Item], fold: int | str | None) -> Split | None:
    """Items of a data list's other folds, and those of one; None where the list has no folds."""
    which, folds = fold_of(fold)
    known = _folds_in(items)
    held = [item for item in items if str(item.get("fold")) == str(which or 0)]
    if known and folds is not None:
        raise ValueError(
            f"--fold {fold}: the data list has folds of its own ({', '.join(known)}): "
            "name one of these"
        )
    if which is not None and folds is None and (not known or not held):
        own = f"the data list has {', '.join(known)}" if known else "no list has folds"
        raise ValueError(
            f"--fold {fold}: {own}; say how many parts there are, such as --fold {which}/5, or "
            "give --split"
        )
    if not held or len(held) == len(items):
        return None
    return [item for item in items if str(item.get("fold")) != str(which or 0)], held


def _of_groups(
    items: Sequence[Item],
    fraction: float,
    fold: int | str | None,
    group: str | None,
    folder: Folder,
) -> Split:
    which, folds = fold_of(fold)
    groups = groups_of(items, group, folder)
    if len(items) == 1 and folds is None:
        return list(items), list(items)
    if len(groups) == 1 and group is not None:
        raise ValueError(
            f"--group {group} puts all {len(items)} images into one group, and a group is never "
            "on both sides: leave it out, or name smaller ones"
        )
    stack = len(groups) == 1
    units = [[item] for item in items] if stack else groups
    if folds is not None and which is not None:
        held = _part(len(units), which, folds, contiguous=stack)
    else:
        held = _share(len(units), fraction, contiguous=stack)
    sides: Split = ([], [])
    for k, unit in enumerate(units):
        sides[k in held].extend(unit)
    return sides


def _planned(entry: Any) -> str:
    """The name of an image in the split of a bundle; of others, which have no hashes, none."""
    own = isinstance(entry, Mapping) and "sha256" in entry
    return files_of(entry["image"])[0] if own else ""


def _group_of(
    item: Item, group: str | None, folder: Folder = None, planned: str | None = None
) -> Any:
    files = files_of(item["image"])
    if group is None:
        return tuple(files)
    if group in item:
        return str(item[group])
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ValueError(f"--group {group} is no regular expression: {error}") from None
    if not pattern.groups:
        raise ValueError(
            f"--group {group} is no key of {shown(item['image'])} in a data list, and has no "
            r"bracket that names the group in a file's name, such as (sub-\d+)"
        )
    name = planned or name_within(files[0], folder)
    match = pattern.search(Path(name).name) or pattern.search(name)
    if match is None or match[1] is None:
        raise ValueError(f"--group {group} finds no group in the name {name}")
    return match[1]


def _part(count: int, which: int, folds: int, *, contiguous: bool) -> set[int]:
    if not 1 < folds <= count:
        raise ValueError(
            f"--fold {which}/{folds}: there are {count} images or groups of them, and each part "
            f"takes at least one: give from 2 to {count} parts"
            if count > 1
            else f"--fold {which}/{folds}: a single image has no parts; leave --fold out"
        )
    if contiguous:
        return set(range(which * count // folds, (which + 1) * count // folds))
    return set(range(which, count, folds))


def _share(count: int, fraction: float, *, contiguous: bool) -> set[int]:
    if not 0 < fraction < 1:
        raise ValueError(
            f"--validation {fraction:g} is no share above 0 and below 1: what is learned from "
            "says nothing of other images"
        )
    size = min(count - 1, max(1, round(count * fraction)))
    if contiguous:
        return set(range(count - size, count))
    return {int((k + 0.5) * count / size) for k in range(size)}


def _require_apart(split: Split, group: str | None, of: Callable[[Item], Any]) -> None:
    """Refuse a group on both sides, but for images that are on both themselves."""
    if group is None:
        return
    learned = {id(item) for item in split[0]}
    apart = [item for item in split[1] if id(item) not in learned]
    training, held = ({of(item): item for item in side} for side in (split[0], apart))
    for name in sorted(training.keys() & held.keys()):
        raise ValueError(
            f"group {name} of --group {group} is on both sides: {shown(training[name]['image'])} "
            f"to learn from, {shown(held[name]['image'])} to validate on"
        )
