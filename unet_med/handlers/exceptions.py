"""Call a handler when a run fails."""

from __future__ import annotations

from collections.abc import Callable

from ignite.engine import Engine, Events


def on_exception(engine: Engine, handler: Callable[[Engine, BaseException], None]) -> None:
    """Call a handler when a run fails, and let the exception go on.

    As soon as one handler listens, Ignite treats an exception as handled. It may call the handler
    twice for one failure.
    """
    engine.add_event_handler(Events.EXCEPTION_RAISED, handler)
    if engine.has_event_handler(_go_on, Events.EXCEPTION_RAISED):
        engine.remove_event_handler(_go_on, Events.EXCEPTION_RAISED)
    engine.add_event_handler(Events.EXCEPTION_RAISED, _go_on)  # the last one


def _go_on(engine: Engine, error: BaseException) -> None:
    raise error
