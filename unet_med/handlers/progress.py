"""The progress bar of a training."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm

from unet_med.engines.batch import last_loss
from unet_med.handlers.budget import TrainingBudget
from unet_med.handlers.exceptions import on_exception
from unet_med.handlers.training_state import rank


class ProgressBar:
    """One bar for the whole training: budget used, loss, last validation score.

    Args:
        budget: the `TrainingBudget` whose share is shown.
        evaluator: whose last key metric is shown, if any.
    """

    def __init__(self, budget: TrainingBudget, evaluator: Any = None) -> None:
        self.budget = budget
        self.evaluator = evaluator
        self._bar: tqdm[Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED, self._close)
        on_exception(engine, self._close)

    def _open(self, engine: Engine) -> None:
        layout = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(total=100, desc="training", bar_format=layout, disable=rank() > 0)

    def _step(self, engine: Engine) -> None:
        if self._bar is None:
            return
        self._bar.n = round(100 * self.budget.fraction(engine), 1)
        shown = {"epoch": engine.state.epoch, "loss": f"{last_loss(engine):.3f}"}
        if self.evaluator is not None and self.evaluator.state.metrics:
            name = self.evaluator.state.key_metric_name
            shown[name] = f"{float(self.evaluator.state.metrics[name]):.4f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(0)

    def _close(self, engine: Engine, error: BaseException | None = None) -> None:
        if self._bar is not None:
            self._bar.close()
