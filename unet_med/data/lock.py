"""One process at a time: a lock beside a file, for any file system."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SECONDS = 60.0  # what is done under a lock takes a fraction of one


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a lock beside a file, so that reading, changing and writing it is one step.

    The lock is a file that must not be there, `.NAME.lock`: NFS and Windows keep to that as local
    disks do, and nothing of it stays. One that a killed process left goes at once where that ran
    on this machine, and else after a minute in which nobody else had it.

    Args:
        path: what is locked; its folder is made if missing.
    """
    from filelock import SoftFileLock, Timeout

    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = SoftFileLock(place.with_name(f".{place.name}.lock"), timeout=SECONDS)
    while True:
        before = _identity(lock.lock_file)
        try:
            lock.acquire()
            break
        except Timeout:
            if before is not None:
                _remove_stale(Path(lock.lock_file), before)
    try:
        yield
    finally:
        lock.release()


def _remove_stale(lock: Path, identity: tuple[int, int]) -> None:
    """Remove a lock that was there all the time, and no other.

    Of several that wait, one alone looks and removes at a time: else a second one could look while
    the stale lock is there, and remove the lock that the first has made since.
    """
    guard = lock.with_name(f"{lock.name}.removed")
    try:
        os.close(os.open(guard, os.O_CREAT | os.O_EXCL))
    except FileExistsError:  # by another; or by one that died at it
        with suppress(FileNotFoundError):
            if time.time() - guard.stat().st_mtime > SECONDS:
                guard.unlink()
        return
    try:
        if _identity(lock) == identity:
            lock.unlink()
    finally:
        guard.unlink(missing_ok=True)


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        found = os.stat(path)
        return found.st_ino, found.st_mtime_ns
    return None
