"""Hold a training to the precision that was chosen for it, gradients included."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from ignite.engine import Engine, Events

from unet_med.handlers.exceptions import on_exception
from unet_med.precision import chosen_precision, rounding


class Rounding:
    """Lets a GPU round float32 in a training as its precision says, and gives the settings back.

    Gradients are computed outside the network's call: so the settings hold for the whole run.

    Args:
        precision: see `unet_med.precision.chosen_precision`.
        device: where the network is trained.
    """

    def __init__(self, precision: str, device: torch.device | str) -> None:
        self.precision = chosen_precision(precision, device, training=True)
        self.device = device
        self._within = ExitStack()

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.COMPLETED, self._end)
        on_exception(engine, self._end)

    def _begin(self, engine: Engine) -> None:
        self._within.enter_context(rounding(self.precision, self.device))

    def _end(self, engine: Engine, error: BaseException | None = None) -> None:
        self._within.close()
