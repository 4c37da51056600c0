"""Processes of their own for the tests that kill, starve or stop one."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any


def start(function: Callable[..., Any], *args: Any, **options: Any) -> BaseProcess:
    """A process of its own, forked: it need not import torch again."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=function, args=args, kwargs=options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside pytest's threads
        process.start()
    return process


def finish(process: BaseProcess) -> int | None:
    """Exit code, negative for a signal."""
    process.join(timeout=300)
    return process.exitcode


def start_command(words: list[Any], folder: Path, prepare: Callable[[], Any] | None = None) -> Any:
    """`unet-med WORDS` in a forked process; what it says goes to `stdout` and `stderr` there."""
    return start(_command, [str(word) for word in words], folder, prepare)


def _command(words: list[str], folder: Path, prepare: Callable[[], Any] | None) -> None:
    from unet_med.cli import main

    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    code = 1
    try:
        if prepare is not None:
            prepare()
        code = main(words)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
