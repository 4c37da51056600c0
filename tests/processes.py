"""Processes of their own for the tests that kill, starve or stop one.

They are forked, so they need not import torch and MONAI again.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any


def start(function: Callable[..., Any], *args: Any, **options: Any) -> BaseProcess:
    """A forked process that calls a function."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_alone, args=(function, *args), kwargs=options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside pytest's threads
        process.start()
    return process


def _alone(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a function under a lock of its own for progress bars.

    Forked processes share the one of tqdm: one that is killed while it holds it would stop the
    tests and all processes after it.
    """
    from tqdm.std import tqdm

    tqdm.set_lock(threading.RLock())
    return function(*args, **options)


def finish(process: BaseProcess) -> int | None:
    """Exit code, negative for a signal."""
    process.join(timeout=300)
    return process.exitcode


def start_command(
    words: list[Any], folder: Path, prepare: Callable[[], Any] | None = None
) -> BaseProcess:
    """`unet-med WORDS`; what it says goes to `stdout` and `stderr` in the folder."""
    from unet_med.cli import main

    return start(redirected, lambda: main([str(word) for word in words]), folder, prepare)


def start_module(
    module: str, words: list[Any], folder: Path, prepare: Callable[[], Any] | None = None
) -> BaseProcess:
    """`python -m MODULE WORDS`; what it says goes to `stdout` and `stderr` in the folder."""

    def run() -> None:
        sys.argv = [module, *map(str, words)]
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    return start(redirected, run, folder, prepare)


def redirected(
    run: Callable[[], int | None], folder: Path, prepare: Callable[[], Any] | None = None
) -> None:
    """Call a function in a process of its own; what it says goes to files in the folder."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    code: Any = 1
    try:
        if prepare is not None:
            prepare()
        code = run()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


@contextmanager
def ended(*processes: BaseProcess) -> Iterator[None]:
    """Whatever fails in between, no process group (`prepare=os.setsid`) outlives the block."""
    try:
        yield
    finally:
        for process in processes:
            kill(process)


def kill(process: BaseProcess) -> None:
    """Kill a whole process group with -9, if any of it is left."""
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
