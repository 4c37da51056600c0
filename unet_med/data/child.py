"""A program that answers requests in a process of its own, and is started anew if it dies."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np


class Child:
    """A module that is run as `python -m MODULE`, and asked by lines of JSON.

    Its answer is a line of JSON, and after it the pixels, where these were asked for.

    Args:
        module: what is run.
    """

    def __init__(self, module: str) -> None:
        self._command = [sys.executable, "-m", module]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # process that started it: after a fork the other half has its own
        atexit.register(self.close)

    def ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], np.ndarray[Any, Any] | None]:
        """Ask, and wait for the answer.

        Returns:
            The answer, and pixels where the request has `take`.

        Raises:
            ValueError: the answer is an error; or the program died, which says how.
        """
        with self._lock:
            process = self._running()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    raise EOFError
                answer: dict[str, Any] = json.loads(line)
                if "error" in answer:
                    raise ValueError(answer["error"])
                pixels = _pixels(process.stdout, answer) if "take" in request else None
            except (EOFError, OSError, KeyboardInterrupt) as error:
                code = self._stop()
                if isinstance(error, KeyboardInterrupt):
                    raise
                raise ValueError(
                    f"the library that reads such files ended{_how(code)}: the file is damaged, or "
                    "needs more memory than it may take"
                ) from None
        return answer, pixels

    def close(self) -> None:
        """End the program."""
        if self._owner == os.getpid():
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            path = os.pathsep.join(word for word in sys.path if word)
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
            self._owner = os.getpid()
        return self._process

    def _stop(self) -> int | None:
        """End the program; how it ended."""
        process, self._process = self._process, None
        if process is None:
            return None
        with suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        return code


def _pixels(stream: Any, answer: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Pixels that follow an answer."""
    array = np.empty(answer["shape"], np.dtype(answer["dtype"]))
    buffer = memoryview(array.reshape(-1).view(np.uint8).data)
    done = 0
    while done < len(buffer):
        count = stream.readinto(buffer[done:])
        if not count:
            raise EOFError
        done += count
    return array


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return "" if not code else f" (status {code})"
    with suppress(ValueError):
        return f" ({signal.Signals(-code).name})"
    return f" (signal {-code})"
