"""Turns of threads, also where a process is forked while one has its turn."""

from __future__ import annotations

import multiprocessing
import sys
import threading

import pytest

from unet_med.turns import turn_with


class Shared:
    """What threads share."""


def take_turn(shared: Shared) -> None:
    with turn_with(shared):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forks no process")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_worker_waits_for_no_thread_that_was_not_forked_with_it() -> None:
    shared, begun, ended = Shared(), threading.Event(), threading.Event()

    def hold() -> None:
        with turn_with(shared):
            begun.set()
            ended.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(60)
    worker = multiprocessing.get_context("fork").Process(target=take_turn, args=(shared,))
    worker.start()
    worker.join(30)
    found = worker.exitcode  # None: it waits
    worker.kill()
    ended.set()
    thread.join()
    assert found == 0
