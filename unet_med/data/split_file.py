"""Files that say which images are on which side of a split.

`{"training": [...], "validation": [...]}`, as `configs/split.json` of a bundle is, or nnU-Net's
`splits_final.json`, `[{"train": [...], "val": [...]}, ...]`, one entry a fold. Each name is that of
a file, with as many of its folders as it takes to tell it from others, or relative to the folder of
the data, or of a case; or it is an item of a data list, where `slices`, `[first, stop]`, names
planes of a stack.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from unet_med.data.atomic import read_json
from unet_med.data.cases import case_name, files_of, name_within, same_name, shown
from unet_med.data.entries import Item
from unet_med.data.formats import stem
from unet_med.data.list_file import section_of

Folder = str | os.PathLike[str] | None


def entries_for(
    items: Sequence[Item], path: Path, fold: int | str | None = None, folder: Folder = None
) -> tuple[dict[int, Any], dict[int, Any]]:
    """What a file says of items for training and for validation; others are on neither side.

    Args:
        items: all items, in order.
        path: the file.
        fold: which entry of a list of splits, from 0; of a single split, the one that it holds.
        folder: that names may be relative to; None: the items' own may be.

    Returns:
        Of each side the positions of its items, in order, with the entry of each.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no split, names what is not among the items, or names one on both sides.
    """
    index = _Index.of(items, folder)
    sides: list[dict[int, Any]] = []
    for entries in read_split(path, fold):
        named = {k: e for e in entries for k in _matches(e, items, index, path)}
        sides.append(dict(sorted(named.items())))
    both = sides[0].keys() & sides[1].keys()
    if both and len({*sides[0], *sides[1]}) > 1 and not _seen(path):
        image = shown(items[min(both)]["image"])
        raise ValueError(f"{path} has {image} in training and in validation: leave it in one")
    return sides[0], sides[1]


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
    named = content if isinstance(content, dict) else {}
    sides = [section_of(named, part) for part in ("training", "validation")]
    if not all(sides):
        raise ValueError(
            f'{path} is no split: give {{"training": [...], "validation": [...]}}, or nnU-Net\'s '
            "list of train and val, neither of them empty"
        )
    return sides[0], sides[1]


def _content(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist") from None


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


@dataclass(frozen=True)
class _Index:
    """Positions of the items by all that a split may call them, made once for all its entries.

    Attributes:
        names: by the name of a case or file.
        paths: by the path of a file, as far as it lies in the folder of the data relative to that.
        ends: by the last parts of a file's path, as many as there are.
    """

    names: dict[str, list[int]] = field(default_factory=dict)
    paths: dict[str, list[int]] = field(default_factory=dict)
    ends: dict[tuple[str, ...], list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Sequence[Item], folder: Folder) -> _Index:
        """Of all items; what planes of one stack share is looked at once."""
        cases: dict[tuple[Any, ...], list[int]] = {}
        for k, item in enumerate(items):
            cases.setdefault((*files_of(item["image"]), item.get("label")), []).append(k)
        index = cls()
        for own in cases.values():
            image, files = items[own[0]]["image"], _files(items[own[0]])
            names = {case_name(image), stem(files[-1]), *(Path(file).name for file in files)}
            ends = {parts[k:] for parts in map(_parts, files) for k in range(len(parts))}
            paths = {name_within(file, folder) for file in files}
            for named, keys in ((index.names, names), (index.paths, paths)):
                for key in {same_name(key) for key in keys}:
                    named.setdefault(key, []).extend(own)
            for end in ends:
                index.ends.setdefault(end, []).extend(own)
        return index

    def called(self, name: str) -> list[int]:
        """Items of which a file is called so, all folders below that of the data included.

        Else those whose path has most of the folders of the name; none, where none has its last
        part for its own name, or that of a file.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        found = self.names.get(parts[-1] if parts else "", [])
        if not found or name in self.paths:
            return found and self.paths[name]
        ends = (parts[k:] for k in range(len(parts)))
        return next((self.ends[end] for end in ends if end in self.ends), found)


def _matches(entry: Any, items: Sequence[Item], index: _Index, path: Path) -> list[int]:
    """Positions of the items that an entry of a split names."""
    said = entry if isinstance(entry, Mapping) else {"image": entry}
    listed: Any = said.get("image", said.get("label"))
    if not isinstance(listed, str | list) or not listed or not all(map(_is_text, files_of(listed))):
        raise ValueError(f"{path}: {entry!r} names no image")
    name = same_name(files_of(listed)[0])
    found = index.called(name)
    if not found:
        last = PurePosixPath(name.replace("\\", "/")).name
        near = difflib.get_close_matches(last, index.names, 1)
        advice = f"; the nearest is {near[0]}" if near else ""
        raise ValueError(f"{path} names {name}, which is not among the images{advice}")
    if len({str(items[k]["image"]) for k in found}) > 1:
        raise ValueError(f"{path}: {name} may be several images: write more of its folders")
    return [k for k in found if names_plane(said, items[k].get("slice"))]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "None"


def _files(item: Item) -> list[str]:
    return [*files_of(item["image"]), *([item["label"]] if "label" in item else [])]


def _parts(file: str) -> tuple[str, ...]:
    return tuple(same_name(part) for part in Path(os.path.normpath(file)).parts)


def names_plane(entry: Mapping[str, Any], plane: int | None) -> bool:
    """Whether an entry of a split names a plane of its stack; what is no plane it names as well."""
    first, stop = entry.get("slices") or (0, None)
    return plane is None or (plane >= first and (stop is None or plane < stop))
