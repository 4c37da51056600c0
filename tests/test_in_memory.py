"""Temporary files in memory go with their run, or with the next."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from in_memory import own_folder
from processes import finish, start

pytestmark = pytest.mark.skipif(os.name != "posix", reason="folders in memory are POSIX's")


def work(place: Path) -> None:
    (own_folder(place) / "file").touch()
    (place / "ready").touch()
    time.sleep(300)


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    killed = start(work, tmp_path)
    while not (tmp_path / "ready").exists():
        assert killed.is_alive()
        time.sleep(0.01)
    [left] = tmp_path.glob("*/file")
    first = own_folder(tmp_path)
    assert left.is_file()  # its owner lives
    killed.kill()
    assert finish(killed) == -signal.SIGKILL
    second = own_folder(tmp_path)
    found = {path for path in tmp_path.iterdir() if path.is_dir()}
    assert found == {first, second}  # both are of this process
