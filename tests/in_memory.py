"""A run's own folder for temporary files, in memory: what a killed run leaves, the next removes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "unet-med-tests-"
held: list[int] = []  # open folders; their locks end with this process and those that it forks


def own_folder(place: Path) -> Path:
    """Make a folder for this run, and remove those of runs that are no more.

    Args:
        place: where such folders are; it is locked for a moment, so that no other run takes a
            new folder, which is not locked yet, for one that has no owner.
    """
    gate = os.open(place, os.O_RDONLY)
    try:
        lock(gate)
        for folder in place.glob(f"{PREFIX}*"):
            _remove_without_owner(folder)
        own = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        own.chmod(0o755)  # some tests become another user
        held.append(os.open(own, os.O_RDONLY))
        lock(held[-1])
    finally:
        os.close(gate)
    return own


def lock(folder: int, *, wait: bool = True) -> None:
    """Lock an open folder until it is closed.

    Raises:
        BlockingIOError: it is locked, and not to be waited for.
    """
    import fcntl  # POSIX, as folders in memory are

    fcntl.flock(folder, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _remove_without_owner(folder: Path) -> None:
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:  # of another user
        return
    try:
        lock(opened, wait=False)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(opened)
