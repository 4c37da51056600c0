"""Atomic writes: a file is complete, or it is not there."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; move it to `path` if the block succeeds.

    The temporary path is in a hidden folder `.NAME.HOST.part` beside the target: the move is one
    rename, and no reader ever sees half a file. The next write of the same file on this machine
    removes the remains of a killed process. Machines have a folder each, since a lock of one may
    be unknown to another.

    Args:
        path: of the finished file; missing parent folders are made.

    Raises:
        OSError: the file cannot be written; the message names `path`, and an earlier file
            there stays untouched.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _folder_beside(target) as folder:
            part = folder / target.name
            yield part
            os.replace(part, target)
    except OSError as error:
        raise _naming(target, error) from None


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """A folder beside the target, removed with its content at the end."""
    host = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # a name may be long enough
    folder = target.with_name(f".{target.name}.{host}.part")
    lock = _lock(folder)
    if lock is None:  # another process writes the same file now, or left what is not ours
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Make the folder or take it over from a dead process.

    Returns:
        The lock; None: a living process has it, or the dead one was somebody else's.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    with suppress(FileExistsError):  # `Path.mkdir(exist_ok=True)` fails if it goes meanwhile
        os.mkdir(folder)
    lock = None
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept = os.path.samestat(os.fstat(lock), folder.stat())  # not removed in the meantime
        if kept and os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            return lock
    except OSError:
        pass
    if lock is not None:
        os.close(lock)
    return None


def _naming(target: Path, error: OSError) -> OSError:
    """The same error with the name of the target, unless it is about another file."""
    about = error.filename
    if error.errno is None or (about and not _concerns(target, Path(os.fsdecode(about)))):
        return error
    return OSError(error.errno, f"{target} cannot be written: {error.strerror}")


def _concerns(target: Path, path: Path) -> bool:
    """Whether a path is the target, its temporary path, or a folder above them."""
    hidden = path.name.startswith(f".{target.name}.") or path.parent.name.startswith(
        f".{target.name}."
    )
    return path == target or hidden or path in target.parents


def write_json(
    path: str | os.PathLike[str],
    content: Any,
    *,
    indent: int | None = None,
    ensure_ascii: bool = True,
) -> None:
    """Write a JSON file, which is complete or not there."""
    text = json.dumps(content, indent=indent, ensure_ascii=ensure_ascii)
    with atomic_write(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Content of a JSON file, which may begin with a mark of its bytes' order.

    Raises:
        ValueError: it is no JSON; names the file.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None


def as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a JSON file has them: tuples are lists, and what JSON does not know is text.

    >>> as_json({"tile": (8, 8), "file": Path("a.tif")})
    {'tile': [8, 8], 'file': 'a.tif'}
    """
    return dict(json.loads(json.dumps(dict(settings), default=str)))
