"""A case: one image in one file, or in several that hold a channel each."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from string import Formatter
from typing import Any

from unet_med.data.formats import stem

Files = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Case = str | list[str]  # as an item of a data list has it

SEPARATORS = "_-. "
NAME = "{stem}"  # template of a result's name
FIELDS = ("stem", "parent", "parent2", "parent3")


def files_of(case: Files) -> list[str]:
    """The files of a case, in the order of its channels."""
    return [str(file) for file in ([case] if isinstance(case, str | os.PathLike) else case)]


def files_named(value: Any, *, folders: bool = True) -> list[Path]:
    """The files that a value names; none if it is anything but the names of files that exist.

    Args:
        value: entry of an item of a data list.
        folders: folders count as well, such as a DICOM series.
    """
    names = list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(name, str | os.PathLike) and name for name in names):
        return []
    paths = [Path(name).expanduser() for name in names]
    return paths if all(path.exists() if folders else path.is_file() for path in paths) else []


def name_within(file: str, folder: str | os.PathLike[str] | None) -> str:
    """A file's path relative to a folder that holds it, as a bundle names it; else as it is.

    >>> name_within("/data/p1/ct.nii.gz", "/data"), name_within("p1/ct.nii.gz", None)
    ('p1/ct.nii.gz', 'p1/ct.nii.gz')
    """
    if folder is not None:
        place, above = (Path(os.path.abspath(path)) for path in (file, folder))
        if place.is_relative_to(above):
            return place.relative_to(above).as_posix()
    return Path(os.path.normpath(file)).as_posix()


def case_name(case: Files) -> str:
    """Name of a case and of its results: of one file its stem, of several what they share.

    They share whole words; files that share none are named after their folder.

    >>> case_name("a/x_0000.nii.gz")
    'x_0000'
    >>> case_name(["a/x_0000.nii.gz", "a/x_0001.nii.gz"]), case_name(["p1/t1.nii", "p1/t2.nii"])
    ('x', 'p1')
    """
    files = files_of(case)
    stems = [stem(file) for file in files]
    if len(files) == 1:
        return stems[0]
    words = zip(*(re.split(f"([{re.escape(SEPARATORS)}])", name) for name in stems), strict=False)
    same = takewhile(lambda word: len(set(word)) == 1, words)
    shared = "".join(word[0] for word in same).rstrip(SEPARATORS)
    return shared or Path(files[0]).absolute().parent.name or stems[0]


def names_apart(cases: Sequence[Files]) -> list[str]:
    """A name for each case by which no other is called: its own, with folders where that repeats.

    Args:
        cases: no two of the same files.

    >>> names_apart(["a/p1/t1.nii", "a/p2/t1.nii", "a/p2/t2.nii"])
    ['p1/t1', 'p2/t1', 't2']
    """
    names = [case_name(case) for case in cases]
    for depth in range(1, 1 + max((len(Path(files_of(c)[0]).parts) for c in cases), default=0)):
        repeated = _repeated(names)
        names = [
            "/".join([*Path(files_of(case)[0]).parent.parts[-depth:], case_name(case)])
            if name in repeated
            else name
            for name, case in zip(names, cases, strict=True)
        ]
    repeated = _repeated(names)  # of one folder, such as a.png and a.tif
    return [
        ", ".join(Path(file).as_posix() for file in files_of(case)) if name in repeated else name
        for name, case in zip(names, cases, strict=True)
    ]


def _repeated(names: Sequence[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


_NO_NAME = re.compile(r'[/\\:*?"<>|\x00-\x1f]')


def result_name(case: Files, template: str = NAME) -> str:
    """Name of a case's results, by a template.

    Args:
        case: its file, or files.
        template: with `{stem}`, the case's own name, and `{parent}`, `{parent2}`, `{parent3}`, the
            names of the folders above its first file.

    Raises:
        ValueError: a template with other fields, or what comes out is no name of a file.

    >>> result_name("bids/sub-01/anat/t1.nii.gz", "{parent2}_{stem}")
    'sub-01_t1'
    """
    if template == NAME:
        return case_name(case)
    folders = [path.name for path in Path(files_of(case)[0]).absolute().parents]
    values = dict(zip(FIELDS, [case_name(case), *folders, "", "", ""], strict=False))
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"--name {template!r}: {error}") from None
    unknown = [name for _, name, spec, turned in parts
               if name is not None and (name not in FIELDS or spec or turned)]  # fmt: skip
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise ValueError(f"--name {template!r}: {{{unknown[0]}}} is none of {known}")
    name = template.format(**values)
    if not is_portable(name):
        raise ValueError(
            f"--name {template!r} makes {name!r} of {shown(case)}, which is no name of a file"
        )
    return name


def is_portable(name: str) -> bool:
    """Whether every system takes this for the name of a file."""
    return bool(name) and not name.startswith(".") and not _NO_NAME.search(name)


def as_template(name: str) -> str:
    """The template that gives this name to any case."""
    return name.replace("{", "{{").replace("}", "}}")


def same_name(name: str) -> str:
    """A name in one Unicode form: macOS writes an umlaut as two characters, Linux as one."""
    return unicodedata.normalize("NFC", name)


def one_place(name: str) -> str:
    """What names have in common that some disk takes for one: Windows and macOS ignore case.

    >>> one_place("A.tif") == one_place("a.tif"), same_name("A.tif") == same_name("a.tif")
    (True, False)
    """
    return same_name(same_name(name).casefold())  # which may take a form apart


def files_in(meta: Mapping[str, Any]) -> list[str]:
    """Files that the metadata of an image name."""
    return files_of(meta.get("files") or str(meta["filename_or_obj"]))


def shown(case: Files) -> str:
    """File names of a case for a message."""
    return ", ".join(Path(file).name for file in files_of(case))
