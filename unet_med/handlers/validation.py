"""Validate during a training."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler


class Validation(ValidationHandler):
    """Validate every few epochs, and once more at the end of the training.

    A budget of minutes ends in the middle of an epoch, when the learning rate is lowest, and the
    last network is often the best one.

    Args:
        interval: epochs between validations.
        validator: the evaluator to run.
    """

    def __init__(self, interval: int, validator: Any) -> None:
        super().__init__(interval, validator)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        super().attach(engine)
        engine.add_event_handler(Events.COMPLETED, self._validate_last)

    def _validate_last(self, engine: Engine) -> None:
        if self.validator is not None and self.validator.state.epoch != engine.state.epoch:
            self.validator.run(engine.state.epoch)
