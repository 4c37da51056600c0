"""Keep the history of a training as a table, a curve, and a picture of its last result."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from torch import Tensor

from unet_med import devices
from unet_med.data.atomic import write_json
from unet_med.engines import last_loss, read_losses, read_now
from unet_med.errors import one_line
from unet_med.handlers import rank
from unet_med.report.comparison import comparison_figure, middle_plane
from unet_med.report.curve import learning_curve_figure
from unet_med.report.model_card import write_training
from unet_med.report.provenance import TRAINING, now, versions
from unet_med.report.scale_bar import PixelSize
from unet_med.report.table import write_csv

PREVIEW_IMAGES = 3
Plane = NDArray[Any]  # (C, X, Y)
Shown = tuple[Plane, Plane, Plane, PixelSize | None]  # image, label, result
DRAW_SECONDS = 60.0  # between two drawings, which take half a second


class TrainingRecord:
    """Handler that writes a table, a curve, a picture and a record of a training.

    `learning_curve.csv` has a row an epoch: epoch, minutes, mean training loss and, if the
    epoch was validated, the validation scores. The table and `learning_curve.png` are written
    anew after a validation, and at the end. So is `preview.png` (image, truth, result and
    differences of the first validation images); both are drawn once a minute at most.
    `training.json` (versions, device, epochs) is written at the end, and the model card of a bundle
    that has a plan. If `Checkpoints` has this handler among its `parts`, a resumed training
    continues the table. If several processes train together, only the first writes.

    Args:
        folder: where the files go.
        evaluator: MONAI evaluator that validates; its output holds `image`,
            `label` and `pred`, the latter two one-hot.
        facts: more to say in `training.json`, such as the precision that was used; plain values.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        evaluator: Any,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.facts = dict(facts or {})
        self.folder = Path(folder)
        self.table = self.folder / "learning_curve.csv"
        self.evaluator = evaluator
        self.history: list[dict[str, float]] = []
        self._written: list[dict[str, float]] = []
        self._drawn: list[dict[str, float]] = []
        self._losses: list[float | Tensor] = []  # tensors where they are still on a GPU
        self._items: list[Shown] = []
        self._began = self._draw_at = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, after the handler that validates, before `Checkpoints`."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep_loss)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        engine.add_event_handler(Events.COMPLETED, self._end)
        self.evaluator.add_event_handler(Events.STARTED, lambda _: self._items.clear())
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._keep_items)

    def _start(self, engine: Engine) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The table so far, and the losses of the epoch at hand."""
        minutes = (time.monotonic() - self._began) / 60
        return {"history": self.history, "losses": self._read_losses(), "minutes": minutes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the table of the run that is resumed."""
        self.history, self._losses = list(state["history"]), list(state["losses"])
        self._began = time.monotonic() - 60 * state["minutes"]

    def _keep_loss(self, engine: Engine) -> None:
        self._losses.append(last_loss(engine))
        if read_now(engine):
            self._read_losses()

    def _read_losses(self) -> list[float]:
        read = read_losses(self._losses)
        self._losses[:] = read
        return read

    def _keep_items(self, evaluator: Engine) -> None:
        output: Any = evaluator.state.output
        room = PREVIEW_IMAGES - len(self._items)
        self._items += map(_shown, (output if isinstance(output, list) else [output])[:room])

    def _end_epoch(self, engine: Engine) -> None:
        self._add_row(engine)
        self._losses.clear()

    def _add_row(self, engine: Engine) -> None:
        read = self._read_losses()
        row = {
            "epoch": engine.state.epoch,
            "minutes": round((time.monotonic() - self._began) / 60, 3),
            "loss": sum(read) / len(read),
        }
        if self.history and self.history[-1]["epoch"] == engine.state.epoch:
            self.history.pop()  # of a run that ended within this epoch
        self.history.append(row)
        self._add_scores(engine)

    def _add_scores(self, engine: Engine) -> None:
        if self.evaluator.state.epoch == engine.state.epoch:
            scores = {k: float(v) for k, v in self.evaluator.state.metrics.items()}
            self.history[-1] |= {k: v for k, v in scores.items() if not isnan(v)}  # none to draw
            self._write()

    def _end(self, engine: Engine) -> None:
        if self._losses:  # the budget ended within an epoch, which a longer one may complete
            self._add_row(engine)
        elif self.history:
            self._add_scores(engine)
            self._write()
        if rank() > 0:
            return
        if self._drawn != self.history:
            self._draw()
        write_json(self.folder / TRAINING, self._facts(engine), indent=2)
        try:
            write_training(self.folder.parent, getattr(engine, "network", None))
        except Exception as error:  # the weights are still to be written: a card is no reason to
            logging.getLogger(__name__).warning(
                "docs/README.md is not renewed: %s", one_line(error)
            )

    def _facts(self, engine: Engine) -> dict[str, Any]:
        state: Any = engine.state
        return {
            "finished": now(),
            "versions": versions(),
            "device": devices.describe(state.device),
            **self.facts,
            **self._validated(),
            "epochs": state.epoch,
            "iterations": state.iteration,
        }

    def _validated(self) -> dict[str, str]:
        """Of how many images the last scores are, where these were not all."""
        done, every = self.evaluator.state.iteration, self.evaluator.state.epoch_length
        return {"validated": f"{done} in {every}"} if done and every and done < every else {}

    def _write(self) -> None:
        if rank() > 0 or self.history == self._written:
            return
        self._written = [dict(row) for row in self.history]
        columns = list(dict.fromkeys(name for row in self.history for name in row))
        write_csv(self.table, columns, self.history)
        if time.monotonic() >= self._draw_at:
            self._draw()

    def _draw(self) -> None:
        self._drawn = [dict(row) for row in self.history]
        if self.history:
            learning_curve_figure(self.history, self.table.with_suffix(".png"), x="minutes")
        if self._items:
            self._draw_preview()
        self._draw_at = time.monotonic() + DRAW_SECONDS

    def _draw_preview(self) -> None:
        images, labels, results, sizes = zip(*self._items, strict=True)
        path = self.folder / "preview.png"
        comparison_figure(images, labels, results, path, kind="classes", pixel_sizes=sizes)


def _shown(item: Mapping[str, Tensor]) -> Shown:
    """What the picture shows of a validated item: planes of its image, label and result.

    They are copies in main memory: a view would keep a whole volume, on a GPU perhaps.
    """
    planes = (middle_plane(item[key]) for key in ("image", "label", "pred"))
    image, label, result = (np.array(plane.detach().cpu().numpy()) for plane in planes)
    return image, _class_numbers(label), _class_numbers(result), PixelSize.of(item["image"])


def _class_numbers(label: Plane) -> Plane:
    """`(1, *S)`, of such, or of one-hot maps, which bundles of earlier versions make."""
    return label if len(label) == 1 else label.argmax(axis=0, keepdims=True)
