"""Whether a command can write where it is asked to, before the work is done."""

from __future__ import annotations

import os
from pathlib import Path


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Refuse an output folder that cannot be written or made.

    Raises:
        NotADirectoryError: the folder, or one above it, is a file.
        PermissionError: it is read-only.
    """
    path = Path(folder).absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"--output {folder}: {there} is a file; choose another folder")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"--output {folder}: {there} is read-only; choose another folder")
