"""The processes of the tests take nothing along when they are killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from processes import start
from tqdm.std import tqdm


def hold_the_lock(sign: Path) -> None:
    tqdm.get_lock().acquire()
    sign.touch()
    time.sleep(60)


def test_a_killed_process_leaves_the_lock_of_progress_bars(tmp_path: Path) -> None:
    tqdm.get_lock()  # made on first use, and from then on shared
    process = start(hold_the_lock, tmp_path / "held")
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert all(lock.acquire(True, 1) for lock in tqdm.get_lock().locks)
    tqdm.get_lock().release()
