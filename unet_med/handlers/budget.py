"""End a training after its budget, and set the learning rate over that time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import cos, inf, pi
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from unet_med.handlers.training_state import of_first

AT_MOST = 1.0  # s between two looks at the clock of the first process,
SHARE = 0.01  # and of the minutes


class TrainingBudget:
    """Learning rate over a budget of epochs or minutes, whichever ends first.

    The rate rises linearly during `warmup`, then falls along half a cosine to `final` times its
    peak. The peak is the rate that the optimiser has when the training starts. With `minutes` the
    run ends when they are over, validation included, and the rate is low by then. Processes that
    train together use the clock of the first, because all must end at the same step, with one rate;
    they look at it once a second, because a GPU is waited for then.

    A trainer that runs on after its end, as those of federated learning do round by round, gives
    each round a budget and a schedule of its own.

    Args:
        optimizer: whose rates are set, each iteration.
        minutes: wall-clock budget, None for no limit.
        warmup: share of the budget, 0 to 1.
        final: last learning rate as a share of the peak; 1.0 keeps the rate
            constant after the warm-up.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        minutes: float | None = None,
        *,
        warmup: float = 0.02,
        final: float = 0.01,
    ) -> None:
        self.optimizer = optimizer
        self.minutes = minutes
        self.warmup = warmup
        self.final = final
        self.elapsed_minutes = 0.0
        self._went_on_at = 0.0  # min, of those before this run
        self._reserved: dict[str, float] = {}
        self._accounts: dict[str, dict[str, Any]] = {}
        self._peaks = [group["lr"] for group in optimizer.param_groups]
        self._tick = 0.0
        self._ran = 0.0  # min, that no other process knows of
        self._steps = 0  # in which it ran so long
        self._look_after = 1  # steps
        self._first = 0  # iterations of the rounds before

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rate)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop_in_time)

    def reserve(self, minutes: float, name: str) -> None:
        """End the training so much earlier: what follows it belongs to the budget too.

        Args:
            minutes: to reserve; the same in all processes.
            name: what for; another reserve of the same name takes the place of this one.
        """
        self._reserved[name] = minutes

    def account(self, name: str) -> dict[str, Any]:
        """Plain values that one who reserves time notes about it; kept for a resumed run."""
        return self._accounts.setdefault(name, {})

    @property
    def reserved_minutes(self) -> float:
        """What is reserved for all that follows the training."""
        return sum(self._reserved.values())

    @property
    def run_minutes(self) -> float:
        """What this run takes of the budget: since it began or went on, reserves included."""
        return self.elapsed_minutes + self.reserved_minutes - self._went_on_at

    @property
    def left_minutes(self) -> float:
        """Until the training ends for what follows it; infinite without a budget of minutes."""
        if not self.minutes:
            return inf
        return self.minutes - self.reserved_minutes - self.elapsed_minutes

    def fraction(self, engine: Engine) -> float:
        """Share of the budget of this round that is used, 0 to 1."""
        state = engine.state
        total = (state.max_epochs or 1) * (state.epoch_length or 1) - self._first
        fraction = max(state.iteration - 1 - self._first, 0) / max(total, 1)
        if self.minutes:
            limit = self.minutes - self.reserved_minutes
            fraction = max(fraction, self.elapsed_minutes / limit) if limit > 0 else 1.0
        return min(fraction, 1.0)

    def rate(self, fraction: float) -> float:
        """Learning rate at a share of the budget, as a multiple of the peak."""
        if fraction < self.warmup:
            return (fraction + 1e-3) / (self.warmup + 1e-3)
        progress = (fraction - self.warmup) / max(1 - self.warmup, 1e-9)
        return self.final + (1 - self.final) * (1 + cos(pi * progress)) / 2

    def _start(self, engine: Engine) -> None:
        self._tick = time.monotonic()
        if engine.state.iteration > 0:  # a resumed training is set to its place after this
            self._first = engine.state.iteration
            self.elapsed_minutes = self._ran = self._went_on_at = 0.0

    def _set_rate(self, engine: Engine) -> None:
        factor = self.rate(self.fraction(engine))
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

    def _stop_in_time(self, engine: Engine) -> None:
        now = time.monotonic()
        self._ran += (now - self._tick) / 60
        self._tick = now
        self._steps += 1
        if not self.minutes:
            self.elapsed_minutes, self._ran = self.elapsed_minutes + self._ran, 0.0
        elif self._steps >= self._look_after:
            self._look(self.minutes)
        if self.left_minutes <= 0:
            engine.terminate()

    def _look(self, minutes: float) -> None:
        """Set all clocks by that of the first process, and say after how many steps again."""
        wanted = min(AT_MOST / 60, SHARE * minutes) * self._steps / max(self._ran, 1e-9)
        most = 2 * self._look_after if idist.get_world_size() > 1 else 1  # a step may be odd
        elapsed, steps = of_first(self.elapsed_minutes + self._ran, min(wanted, most))
        self.elapsed_minutes, self._ran, self._steps = elapsed, 0.0, 0
        self._look_after = max(1, int(steps))

    def state_dict(self) -> dict[str, Any]:
        """The minutes already spent, where the round began, and accounts, for a resumed run."""
        return {
            "elapsed_minutes": self.elapsed_minutes + self._ran,
            "first": self._first,
            "accounts": {name: dict(account) for name, account in self._accounts.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue a budget that was begun."""
        self.elapsed_minutes = self._went_on_at = float(state["elapsed_minutes"])
        self._first = int(state.get("first", 0))
        for name, account in state.get("accounts", {}).items():
            self.account(name).update(account)
