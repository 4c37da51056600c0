"""What a command says: results on stdout, all else on stderr, and everything in a log file.

A command prints its results and where they are with `result`, and tells the rest with `say`.
`--quiet` leaves warnings and errors; `--log-file` takes all, with the time of each line.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from unet_med import __version__
from unet_med.data.bars import BARS
from unet_med.errors import one_line, user_error

SAID = logging.getLogger("unet_med.cli")
DONE = logging.getLogger("unet_med.done")  # what is on stdout, or was printed as an error
TELL = (SAID.name, "unet_med.scoring", "unet_med.folds")  # what these and their modules say
PROGRESS = "unet_med.handlers.progress"
ENGINE = "ignite.engine."  # loggers; their errors end a run, and the command says them
FORMAT = "%(asctime)s %(levelname)s %(message)s"

LEFT = 3  # exit code: done but for some that were set aside


def say(text: str) -> None:
    """Tell what is going on."""
    SAID.info(text)


def warn(text: str) -> None:
    """Tell what a user has to look at."""
    SAID.warning(text)


def result(text: str) -> None:
    """Print a result, or where it is."""
    print(text, flush=True)
    DONE.info(text)


@contextmanager
def logged(
    quiet: bool = False, log_file: str | None = None, words: Sequence[str] = ()
) -> Iterator[None]:
    """Send what the block says where it belongs.

    Args:
        quiet: only warnings and errors on stderr, and no bars.
        log_file: a file that all of it is appended to; its folder is made if missing.
        words: the command, for the file.
    """
    ours, root = logging.getLogger("unet_med"), logging.getLogger()
    handlers: list[logging.Handler] = [_Terminal(logging.WARNING if quiet else logging.INFO)]
    if log_file:
        Path(log_file).absolute().parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
        handlers[-1].setFormatter(logging.Formatter(FORMAT))
    before = ours.level, root.level, BARS.level
    ours.setLevel(logging.INFO)
    root.setLevel(logging.INFO if log_file else root.level)
    BARS.setLevel(logging.ERROR if quiet else logging.NOTSET)
    for handler in handlers:
        root.addHandler(handler)
    try:
        DONE.info("unet-med %s: %s", __version__, shlex.join(words))
        yield
    except (Exception, KeyboardInterrupt) as error:
        known = isinstance(error, KeyboardInterrupt) or user_error(error) is not None
        text = "stopped" if isinstance(error, KeyboardInterrupt) else one_line(error)
        DONE.error(text, exc_info=None if known else error)
        raise
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
        for logger, level in zip((ours, root, BARS), before, strict=True):
            logger.setLevel(level)


class _Terminal(logging.Handler):
    """Writes to stderr what a user should see there; lines of progress where there are no bars."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith(ENGINE) and record.levelno == logging.ERROR:
            return False
        if record.name == DONE.name:
            return False
        if record.name == PROGRESS:
            return not sys.stderr.isatty()
        return record.name.startswith(TELL) or record.levelno >= logging.WARNING

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr, flush=True)
