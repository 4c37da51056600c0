"""The SHA-256 of a file, of several, of a folder that is one image, or of plain values."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.data.cases import Files, files_of

SETTLED = 5.0  # s; a younger change may share its time with the next one, as file systems count it

_known: dict[str, str] = {}  # by the state of files


def sha256(path: Files) -> str:
    """SHA-256 of a file, or of files one after the other, in hexadecimal.

    A folder's files are taken by name. Files that have not changed since they were read last are
    not read again.
    """
    files = [
        file
        for root in map(Path, files_of(path))
        for file in (sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root])
    ]
    state = _state_of(files)
    if state is None:
        return _read(files)
    if state not in _known:
        _known[state] = _read(files)
    return _known[state]


def sha256_of_values(value: Any) -> str:
    """SHA-256 of plain values, in hexadecimal: of their JSON, keys in order, all else as text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def bytes_of(array: NDArray[Any] | np.generic) -> memoryview:
    """The bytes of an array in the order of its axes: no copy where they lie so.

    >>> bytes_of(np.array([[1, 2], [3, 4]], np.uint8).T).tolist()
    [1, 3, 2, 4]
    """
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _read(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _state_of(files: Sequence[Path]) -> str | None:
    """What changes with each change of files; None: not for sure, for one has just changed.

    A copied file may bring its times along, but for the one at which it came to its place.
    """
    digest, settled = hashlib.sha256(), time.time_ns() - SETTLED * 1e9
    for file in files:
        at = file.stat()
        if max(at.st_mtime_ns, at.st_ctime_ns) > settled:
            return None
        facts = (str(file.absolute()), at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns)
        digest.update(repr(facts).encode())
    return digest.hexdigest()
