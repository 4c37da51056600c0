"""Stop a training on ^C or SIGTERM after the current iteration, and keep that iteration."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from ignite.engine import Engine, Events

from unet_med.handlers.checkpoints import Checkpoints
from unet_med.handlers.exceptions import on_exception

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal:
    """Finish the iteration, write a checkpoint, and stop with `KeyboardInterrupt`.

    A second signal stops at once, with the last checkpoint that is there. Signals that come
    during a validation wait for its end. The exception's arguments are a sentence and the
    exit code by convention: 130 for ^C, 143 for SIGTERM. Only the main thread can listen;
    elsewhere nothing changes. Attach it behind all handlers whose state is in the checkpoint.

    Args:
        checkpoints: handler that writes the checkpoint.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self._received: int | None = None
        self._before: dict[int, Any] = {}
        self._process = 0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._listen)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop_within_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._stop)
        engine.add_event_handler(Events.COMPLETED, self._leave)
        on_exception(engine, self._leave)

    def _listen(self, engine: Engine) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._received, self._process = None, os.getpid()
        self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a loader's worker, which inherits this handler:
            if number == signal.SIGTERM:  # it ends with its parent, not with the parent's ^C
                os._exit(128 + number)
        elif self._received is None:
            self._received = number
        else:
            raise KeyboardInterrupt("stopped at once", 128 + number)

    def _stop_within_epoch(self, engine: Engine) -> None:
        if self._received is not None and self.checkpoints.within_epoch(engine):
            self._stop(engine)

    def _stop(self, engine: Engine) -> None:
        if self._received is None:
            return
        self.checkpoints.save(engine)
        where = f"iteration {engine.state.iteration} (epoch {engine.state.epoch})"
        code = 128 + self._received
        held = f"{self.checkpoints.last} holds: --resume goes on"
        raise KeyboardInterrupt(f"stopped after {where}, which {held}", code)

    def _leave(self, engine: Engine, error: BaseException | None = None) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
