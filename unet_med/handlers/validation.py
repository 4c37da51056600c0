"""Validate during a training."""

from __future__ import annotations

import logging
import time
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler

from unet_med.handlers.budget import TrainingBudget
from unet_med.handlers.training_state import of_first, rank

SHARE = 0.1  # of the time of a training
FREE_SECONDS = 5.0  # of validations that are never too many: no clock decides on short trainings
NAME = "validation"  # under which time is reserved for the last one

_log = logging.getLogger(__name__)


class Validation(ValidationHandler):
    """Validate every few epochs, and once more at the end of the training.

    A budget of minutes ends in the middle of an epoch, when the learning rate is lowest, and the
    last network is often the best one.

    With a budget, validations take no more than a `share` of the time. One that would take more
    is left out, as is one that the last would follow at once; the first and the last always come.
    Of a budget of minutes the time of the last is reserved. There a single validation takes half
    the share: the first ends when that is over, and all others look at as many images, which are
    of the whole list where the data set shuffles it (`SeededDataset`). Processes that train
    together do as the first of them. What is left out changes neither weights nor
    random numbers. A resumed training goes on with the account, which the budget keeps; with other
    minutes it sees anew what a validation takes, and how many images it may look at. Where
    validations choose the weights (`Checkpoints(evaluator=...)`), let none be left out. A validator
    keeps no batch and no output after a run.

    Args:
        interval: epochs between validations.
        validator: the evaluator to run.
        budget: of the training; None: no validation is left out, and no time reserved.
        share: of the training's time that validations may take; None: as without a budget.
    """

    def __init__(
        self,
        interval: int,
        validator: Any,
        *,
        budget: TrainingBudget | None = None,
        share: float | None = SHARE,
    ) -> None:
        super().__init__(interval, validator)
        self.budget = None if share is None else budget
        self.share = share or 0.0
        self._began: float | None = None  # s; None: it is not at it
        self._account: dict[str, Any] = {} if self.budget is None else self.budget.account(NAME)
        self._account |= {
            "spent": 0.0,  # s, by all validations so far
            "price": None,  # s, of one; None: there was none yet
            "batches": None,  # that one looks at; None: all
            "minutes": None,  # of the budget that both were found for
        }

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        super().attach(engine)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._reserve)  # the account may be loaded
        engine.add_event_handler(Events.COMPLETED, self._validate_last)
        if self.budget is not None and self.validator is not None:
            self.validator.add_event_handler(Events.ITERATION_COMPLETED, self._end_in_time)

    def __call__(self, engine: Engine) -> None:
        """Validate, if there is time."""
        if self.budget is None or of_first(self._is_affordable())[0]:
            self._validate(engine)

    def _start(self, engine: Engine) -> None:
        if engine.state.iteration > 0:  # another round, whose time begins anew, as the budget's
            self._account["spent"] = 0.0

    def _reserve(self) -> None:
        """Keep time for the last validation: what one took, until then what it may take."""
        if self.budget is None:
            return
        if self._account["minutes"] != self.budget.minutes:
            self._account |= {"price": None, "batches": None, "minutes": self.budget.minutes}
        if self.budget.minutes:
            self.budget.reserve(self._expected() / 60, NAME)

    def _most(self) -> float:
        """Seconds that one validation may take; without a budget of minutes without end."""
        minutes = self.budget.minutes if self.budget is not None else None
        return 60 * minutes * self.share / 2 if minutes else float("inf")

    def _expected(self) -> float:
        """Seconds that the next validation takes, as far as they are known."""
        price: float | None = self._account["price"]
        return self._most() if price is None else price

    def _is_affordable(self) -> bool:
        """Whether validations keep to their share, and the last one to the budget."""
        assert self.budget is not None
        if 60 * self.budget.left_minutes < self._expected() < float("inf"):
            return False
        price = self._account["price"]
        if price is None:
            return True
        elapsed = 60 * self.budget.elapsed_minutes + price
        return bool(self._account["spent"] + price <= max(FREE_SECONDS, self.share * elapsed))

    def _validate(self, engine: Engine) -> None:
        began = self._began = time.monotonic()
        try:
            super().__call__(engine)
        finally:
            if self.validator is not None:  # a GPU would keep the last image and its result
                self.validator.state.batch = self.validator.state.output = None
        self._began, seconds = None, time.monotonic() - began
        self._account["spent"] += seconds
        if self.budget is not None and self._account["price"] is None:
            price, batches = of_first(seconds, self._account["batches"] or 0)
            self._account |= {"price": price, "batches": int(batches) or None}
            self._reserve()

    def _end_in_time(self, validator: Engine) -> None:
        """Let the first validation end when its time is over, and the others where it did."""
        if self._began is None:  # another runs it
            return
        done, every = validator.state.iteration, validator.state.epoch_length or 0
        late = time.monotonic() - self._began > self._most()
        if self._account["price"] is None and late and done < every:
            self._account["batches"] = done
            if rank() == 0:
                text = "validation takes too much of the minutes: it looks at %d in %d images"
                _log.warning(text, done, every)
        if done == self._account["batches"]:
            validator.terminate_epoch()

    def _validate_last(self, engine: Engine) -> None:
        if self.validator is not None and self.validator.state.epoch != engine.state.epoch:
            self._validate(engine)
