"""How far a run is: a bar on a terminal, and a line every half minute in the log."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm

from unet_med.data.bars import no_bar
from unet_med.engines.batch import last_loss, read_now
from unet_med.handlers.budget import TrainingBudget
from unet_med.handlers.exceptions import on_exception
from unet_med.handlers.training_state import rank

EVERY_SECONDS = 30.0
_log = logging.getLogger(__name__)


class _Progress(ABC):
    """A bar, and lines; a subclass says what stands in them."""

    layout: str | None = None

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._began = self._due = 0.0  # s

    def attach(self, engine: Engine) -> None:
        """Register with an engine."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED, self._close)
        on_exception(engine, self._close)

    def _start_bar(self, total: int, name: str) -> None:
        hidden = no_bar(rank() == 0)
        self._bar = tqdm(total=total, desc=name, bar_format=self.layout, disable=hidden)
        self._began = time.monotonic()
        self._due = self._began + EVERY_SECONDS

    @abstractmethod
    def _open(self, engine: Engine) -> None:
        """Start the bar."""

    def _step(self, engine: Engine) -> None:
        if self._bar is None:
            return
        self._move(self._bar, engine)
        if rank() == 0 and time.monotonic() >= self._due:
            _log.info(self._line(engine))
            self._due = time.monotonic() + EVERY_SECONDS

    @abstractmethod
    def _move(self, bar: tqdm[Any], engine: Engine) -> None:
        """Show on the bar what is done."""

    @abstractmethod
    def _line(self, engine: Engine) -> str:
        """The same in words, for a log."""

    def _left(self, fraction: float) -> str:
        """Time left, from the time that a share of the work took in this run."""
        if fraction <= 0:
            return "time left unknown"
        seconds = (time.monotonic() - self._began) * (1 - fraction) / fraction
        return f"{_in_words(seconds)} left"

    def _close(self, engine: Engine, error: BaseException | None = None) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class ProgressBar(_Progress):
    """The whole training: budget used, loss, last validation score, time left.

    On a terminal it is a bar. Every half minute a line goes to the log of this module, which
    `unet-med` shows where there is no terminal.

    Args:
        budget: the `TrainingBudget` whose share is shown.
        evaluator: whose last key metric is shown, if any.
    """

    layout = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"

    def __init__(self, budget: TrainingBudget, evaluator: Any = None) -> None:
        super().__init__()
        self.budget = budget
        self.evaluator = evaluator
        self._loss: float | None = None  # the last that was read
        self._begun_at: float | None = None  # share of the budget that earlier runs used

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        super().attach(engine)
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin)

    def _open(self, engine: Engine) -> None:
        self._begun_at = None
        self._start_bar(100, "training")

    def _begin(self, engine: Engine) -> None:
        """See where a resumed run begins; when the run starts, its checkpoint may be unread."""
        if self._begun_at is None:
            self._begun_at = self.budget.fraction(engine)
            self._began = time.monotonic()

    def _facts(self, engine: Engine) -> dict[str, Any]:
        if read_now(engine):
            self._loss = float(last_loss(engine))
        shown = "..." if self._loss is None else f"{self._loss:.3f}"
        facts = {"epoch": engine.state.epoch, "loss": shown}
        if self.evaluator is not None and self.evaluator.state.metrics:
            name = self.evaluator.state.key_metric_name
            facts[name] = f"{float(self.evaluator.state.metrics[name]):.4f}"
        return facts

    def _move(self, bar: tqdm[Any], engine: Engine) -> None:
        bar.n = round(100 * self.budget.fraction(engine), 1)
        bar.set_postfix(self._facts(engine), refresh=False)
        bar.update(0)

    def _line(self, engine: Engine) -> str:
        used = self.budget.fraction(engine)
        begun_at = self._begun_at or 0.0
        here = (used - begun_at) / max(1 - begun_at, 1e-9)
        facts = ", ".join(f"{name} {value}" for name, value in self._facts(engine).items())
        return f"step {engine.state.iteration}, {facts}, {used:.0%} done, {self._left(here)}"


class CasesBar(_Progress):
    """How many of the images are through, how many were set aside, time left.

    Shown as `ProgressBar` is.
    """

    layout = "{desc}: {n_fmt}/{total_fmt} images |{bar}| {elapsed}<{remaining}"

    def _open(self, engine: Engine) -> None:
        self._start_bar(engine.state.epoch_length or 0, "segmenting")

    def _move(self, bar: tqdm[Any], engine: Engine) -> None:
        bar.update(1)

    def _line(self, engine: Engine) -> str:
        count, total = engine.state.iteration, engine.state.epoch_length or 1
        failed = len(getattr(engine, "faults", ()))
        aside = f", {failed} set aside" if failed else ""
        return f"{count} of {total} images done{aside}, {self._left(count / total)}"


def _in_words(seconds: float) -> str:
    """A time to the minute, or to the second where it is short.

    >>> _in_words(5000), _in_words(90), _in_words(29.6)
    ('1 h 23 min', '2 min', '30 s')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
