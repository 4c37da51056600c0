"""Whether a command can write where it is asked to, before the work is done."""

from __future__ import annotations

import os
from pathlib import Path


def check_file(option: str, file: str | os.PathLike[str]) -> None:
    """Refuse an output file that cannot be written.

    Args:
        option: that names it.
        file: with folders above it, which are made.

    Raises:
        IsADirectoryError: it is a folder.
        NotADirectoryError: a folder above it is a file.
        PermissionError: its folder is read-only.
    """
    if Path(file).is_dir():
        raise IsADirectoryError(f"{option} {file} is a folder: name a file in it")
    check_folder(Path(file).absolute().parent, option)


def check_folder(folder: str | os.PathLike[str], option: str = "--output") -> None:
    """Refuse an output folder that cannot be written or made.

    Args:
        folder: which is made, if it is missing.
        option: that names it.

    Raises:
        NotADirectoryError: the folder, or one above it, is a file.
        PermissionError: it is read-only.
    """
    path = Path(folder).absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{option} {folder}: {there} is a file; choose another folder")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{option} {folder}: {there} is read-only; choose another folder")
