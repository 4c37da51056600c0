"""The `unet-med` command: thin doors to the bundle.

This module only starts commands and reports errors; `options` has the table of
their arguments, and each command lives in a module of its own, which is imported
when it runs, so that `--help` needs neither torch nor MONAI.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

from unet_med.cli.option import build_parser
from unet_med.cli.options import COMMANDS
from unet_med.cli.saying import logged
from unet_med.data.protection import budget
from unet_med.errors import hush_decoder, one_line, user_error

REPEAT_SECONDS = 1.0  # see `_terminable`
STOPPING = (signal.SIGINT, signal.SIGTERM)
REMINDING: tuple[signal.Signals, ...] = ()
if sys.platform != "win32":
    REMINDING = (signal.SIGALRM,)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; `sys.argv` by default.

    Returns:
        Exit code: 0 done, 2 it cannot be done (one sentence on stderr), 3 done but for some
        images that were set aside, 130 stopped by ^C, 141 whoever read what it says has left (as
        `| head` does), 143 stopped by SIGTERM.
    """
    parser, words = build_parser(COMMANDS), sys.argv[1:] if argv is None else argv
    if not words:  # who types the name alone wants to know what there is
        parser.print_help(sys.stderr)
        return 2
    args = parser.parse_args(words)
    hush_decoder()
    try:
        logs = logged(
            getattr(args, "quiet", False),
            getattr(args, "log_file", None),
            words,
        )
        with _terminable(), budget(getattr(args, "max_bytes", None)), logs:
            command = importlib.import_module(f"unet_med.cli.{args.command.replace('-', '_')}")
            code: int | None = command.run(args)
            sys.stdout.flush()  # here, where it can be told who has left
    except KeyboardInterrupt as stop:
        reason, number = stop.args if len(stop.args) == 2 else ("stopped", 130)
        print(f"\nunet-med: {reason}", file=sys.stderr)
        return int(number)
    except Exception as error:
        known = user_error(error)
        if isinstance(known, BrokenPipeError) and _reader_has_left():
            return 128 + 13  # SIGPIPE, which Windows has not
        if known is None:
            raise
        print(f"unet-med: error: {one_line(error)}", file=sys.stderr)
        return 2
    return code or 0


def _reader_has_left() -> bool:
    """Whether nobody reads stdout or stderr any more; what is left for them goes nowhere."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _is_closed(stream)]
    with open(os.devnull, "w") as nowhere:
        for stream in closed:
            os.dup2(nowhere.fileno(), stream.fileno())
    return bool(closed)


def _is_closed(stream: TextIO) -> bool:
    """Whether the other end of a pipe is closed; that of a worker, say, is none of these two."""
    if sys.platform == "win32":
        return False
    with suppress(OSError, ValueError):  # it may be no file
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    return False


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind what runs, as ^C does, so that nothing half-written stays behind.

    What a signal raises is lost where it comes while a finaliser runs, or a callback from C: so
    it is raised again, every `REPEAT_SECONDS`, until it is on its way out.
    """
    stopped_by = signal.SIGINT

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped_by
        if number in STOPPING:
            stopped_by = signal.Signals(number)
            _remind(REPEAT_SECONDS)
        elif _is_stopping(sys.exc_info()[1]):
            return
        raise KeyboardInterrupt("stopped", 128 + stopped_by)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (*STOPPING, *REMINDING)}
    try:
        yield
    finally:
        _remind(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _remind(seconds: float) -> None:
    """Send the alarm every so many seconds, or no more; Windows has none."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


def _is_stopping(error: BaseException | None) -> bool:
    """Whether an exception that is being dealt with goes back to a signal."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
