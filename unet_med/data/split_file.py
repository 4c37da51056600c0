"""Files that say which images are on which side of a split.

`{"training": [...], "validation": [...]}`, as `configs/split.json` of a bundle is, or nnU-Net's
`splits_final.json`, `[{"train": [...], "val": [...]}, ...]`, one entry a fold. Each name is that of
a file, with as many of its folders as it takes to tell it from others, or of a case; or it is an
item of a data list, where `slices`, `[first, stop]`, names planes of a stack.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from unet_med.data.cases import case_name, files_of, same_name, shown
from unet_med.data.formats import stem
from unet_med.data.list_file import SECTIONS

Item = dict[str, Any]
Names = dict[str, list[int]]


def of_file(
    items: Sequence[Item], path: Path, fold: int | str | None = None
) -> tuple[list[Item], list[Item]]:
    """Items for training and for validation, as a file says; other items are on neither side.

    Args:
        items: all items, in order.
        path: the file.
        fold: which entry of a list of splits, from 0; of a single split, the one that it holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no split, names what is not among the items, or names one on both sides.
    """
    names = _names(items)
    sides = [
        sorted({k for entry in entries for k in _matches(entry, items, names, path)})
        for entries in read_split(path, fold)
    ]
    both = set(sides[0]) & set(sides[1])
    if both and len({*sides[0], *sides[1]}) > 1 and not _seen(path):
        image = shown(items[min(both)]["image"])
        raise ValueError(f"{path} has {image} in training and in validation: leave it in one")
    return [items[k] for k in sides[0]], [items[k] for k in sides[1]]


def entries_by_item(items: Sequence[Item], entries: Iterable[Any], path: Path) -> list[Any]:
    """The entry of a split that names each item.

    Args:
        items: what the entries name, and nothing besides.
        entries: of one side, as `read_split` gives them.
        path: of the split, for messages.
    """
    names = _names(items)
    named = {k: entry for entry in entries for k in _matches(entry, items, names, path)}
    return [named[k] for k in range(len(items))]


def splits_in(path: Path) -> int | None:
    """How many splits a file lists, as nnU-Net's does; None: it is a single one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON.
    """
    content = _content(path)
    return len(content) if isinstance(content, list) else None


def read_split(path: Path, fold: int | str | None = None) -> tuple[list[Any], list[Any]]:
    """What a file names for training and for validation.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no split, or has no such fold.
    """
    content = _content(path)
    if isinstance(content, list):
        content = _entry(content, fold, path)
    elif fold is not None and isinstance(content, dict) and str(content.get("fold")) != str(fold):
        own = content.get("fold")
        held = "no folds" if own is None else f"fold {own} alone"
        raise ValueError(f"--fold {fold} is not in {path}, which has {held}")
    sides = [_side(content, part) for part in ("training", "validation")]
    if not all(sides):
        raise ValueError(
            f'{path} is no split: give {{"training": [...], "validation": [...]}}, or nnU-Net\'s '
            "list of train and val, neither of them empty"
        )
    return sides[0], sides[1]


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None


def _seen(path: Path) -> bool:
    """Whether a split says that what it validates on is trained on as well."""
    content = _content(path)
    return isinstance(content, dict) and content.get("seen") is True


def _entry(content: list[Any], fold: int | str | None, path: Path) -> Any:
    which = str(0 if fold is None else fold)
    if not which.isdigit() or int(which) >= len(content):
        raise ValueError(
            f"--fold {fold} is not in {path}, which has {len(content)} split(s), counted from 0"
        )
    return content[int(which)]


def _side(content: Any, part: str) -> list[Any]:
    found = content if isinstance(content, dict) else {}
    listed: list[Any] = next(
        (found[key] for key in SECTIONS[part] if isinstance(found.get(key), list)), []
    )
    return list(listed)


def _names(items: Sequence[Item]) -> Names:
    """Items by all names that a split may call them."""
    names: Names = {}
    for k, item in enumerate(items):
        files = [*files_of(item["image"]), *([item["label"]] if "label" in item else [])]
        known = {case_name(item["image"]), *(stem(file) for file in files[-1:])}
        for name in {*known, *(Path(file).name for file in files)}:
            names.setdefault(same_name(name), []).append(k)
    return names


def _matches(entry: Any, items: Sequence[Item], names: Names, path: Path) -> list[int]:
    """Positions of the items that an entry of a split names."""
    said = entry if isinstance(entry, Mapping) else {"image": entry}
    listed: Any = said.get("image", said.get("label"))
    if not isinstance(listed, str | list) or not listed or not all(map(_is_text, files_of(listed))):
        raise ValueError(f"{path}: {entry!r} names no image")
    name = same_name(files_of(listed)[0])
    last = PurePosixPath(name.replace("\\", "/")).name
    found = names.get(last, [])
    if not found:
        near = difflib.get_close_matches(last, names, 1)
        advice = f"; the nearest is {near[0]}" if near else ""
        raise ValueError(f"{path} names {name}, which is not among the images{advice}")
    found = _nearest(name, found, items)
    if len({str(items[k]["image"]) for k in found}) > 1:
        raise ValueError(f"{path}: {name} may be several images: write more of its folders")
    first, stop = said.get("slices") or (0, None)
    return [k for k in found if is_within(items[k].get("slice"), first, stop)]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "None"


def _nearest(name: str, found: Iterable[int], items: Sequence[Item]) -> list[int]:
    """Those items whose path has most of the folders of a name."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    shared = {k: max(_shared(parts, file) for file in _files(items[k])) for k in found}
    return [k for k, count in shared.items() if count == max(shared.values())]


def _files(item: Item) -> list[str]:
    return [*files_of(item["image"]), *([item["label"]] if "label" in item else [])]


def _shared(parts: Sequence[str], file: str) -> int:
    """How many last parts a path has in common with those of a name."""
    own = tuple(same_name(part) for part in Path(file).parts)
    count = 0
    while count < min(len(parts), len(own)) and parts[-1 - count] == own[-1 - count]:
        count += 1
    return count


def is_within(plane: int | None, first: int, stop: int | None) -> bool:
    """Whether a plane lies in `[first, stop)`; what is no plane of a stack does."""
    return plane is None or (plane >= first and (stop is None or plane < stop))
