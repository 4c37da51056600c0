"""Fit what a prediction becomes, objects and probabilities, when a training has ended."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from unet_med import bundle
from unet_med.data import load_header
from unet_med.data.bars import with_bar
from unet_med.data.cases import files_of
from unet_med.fitting.calibration import (
    GROUPS,
    NearBorders,
    calibrate,
    pixels_of,
    write_calibration,
)
from unet_med.fitting.predicted import held_out, judging, reading
from unet_med.fitting.search import around, choose, count
from unet_med.fitting.stacks import in_words, summed, units_of_items
from unet_med.fitting.timing import by_pixels, timed, within
from unet_med.fitting.verdicts import fits_objects, forget, planned_objects, write_verdict
from unet_med.handlers import TrainingBudget, rank
from unet_med.handlers.training_state import of_first, random_state, set_random_state
from unet_med.networks import unwrapped
from unet_med.planning import Plan
from unet_med.planning.counting import units_in
from unet_med.planning.objects import LEAST
from unet_med.segmentation import Segmenter

SHARE = 0.1  # of the minutes that the fit may take
SLACK = 1.25  # what it is given, times what was measured
UNFITTED = "nothing is fitted to held-out images, neither objects nor probabilities"
AT_ONCE = 3.0  # s; loading the weights, writing the configs

Item = Mapping[str, Any]


class FitObjects:
    """Choose thresholds, the smallest object and a calibration by the held-out images of a bundle.

    After the last weights are written, the held-out images are predicted as `unet-med predict`
    would, one at a time, and scored under each choice (`unet_med.fitting.around`). The verdict
    (`unet_med.fitting.choose`) goes into the bundle's plan and configs, with the scores as its
    reason. What the plan did not decide by itself stays as it was asked for. Masks and classes have
    no such choices. Then probabilities are calibrated (`unet_med.fitting.calibrate`), which no mask
    and no object depends on. With fewer than three held-out images, of which planes of a stack,
    copies and those of a group count as one, and where the fit fails, the planned values stay.

    It needs a bundle with a plan. What was fitted to the weights that a training replaces is
    taken back when it begins, and a resumed training fits again, from the plan's values. Where a
    budget of minutes holds, one image is timed at the start, and the training ends as much
    earlier as all take, by their pixels; if that is more than a tenth of the minutes, fewer are
    used, and none of the largest. Of several processes the first fits. Attach it behind the
    handlers that write the weights.

    Args:
        folder: of the bundle that is trained.
        weights: file of its weights.
        held_out: items `image` and `label`.
        training: those of the training: what serves both tells nothing.
        load: the chain of the training by name, of which those in `READING` are used: they give
            image and instances, `(C, *S)` and `(1, *S)`, on the image's grid. A chain without
            them, of images that are no files, is not fitted to.
        network: that is trained, to time it at the start.
        budget: of the training; None: no minutes are reserved.
        enabled: whether to do anything.
    """

    def __init__(
        self,
        folder: str | Path,
        weights: str | Path,
        held_out: Sequence[Item],
        *,
        training: Sequence[Item],
        load: Mapping[str, Any],
        network: torch.nn.Module,
        budget: TrainingBudget | None = None,
        enabled: bool = True,
    ) -> None:
        self.folder, self.weights = Path(folder), Path(weights)
        reads = {"image", "label"} <= {*load}  # else the images are no files
        self.items = _unlearned(held_out, training) if reads else []
        self.load = reading(load)
        self.network = network
        self.budget = budget
        self._forgotten = False
        self.enabled = enabled and len(self.items) >= LEAST

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, behind what writes the weights."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._forget)
        if self.enabled:
            engine.add_event_handler(Events.STARTED, self._reserve)
            engine.add_event_handler(Events.COMPLETED, self._fit)

    def _forget(self, engine: Engine) -> None:
        """Take back what was fitted to the bundle's old weights, before others are written."""
        own = (self.folder / "models" / "model.pt").absolute() == self.weights.absolute()
        if rank() == 0 and own and not self._forgotten:
            self._forgotten = True
            with _said_if_it_fails("what was fitted to the weights before stays"):
                forget(self.folder)

    def _reserve(self, engine: Engine) -> None:
        """End the training early enough for the fit."""
        if self.budget is None or not self.budget.minutes:
            return
        reserved = 0.0
        if rank() == 0:
            self.items, reserved = self._affordable(engine, self.budget.minutes)
        self.budget.reserve(of_first(reserved)[0], "fit")

    def _affordable(self, engine: Engine, minutes: float) -> tuple[list[Item], float]:
        """Images that a tenth of the minutes suffices for, and the minutes that they take."""
        seconds = [0.0] * len(self.items)
        said = _said_if_it_fails("how long held-out images take is not known")
        with said, _without_a_trace(), tempfile.TemporaryDirectory() as scratch:
            seconds = self._seconds(Path(scratch) / "model.pt", engine)
        first_look = 60 * minutes < AT_ONCE / SHARE
        chosen = [] if first_look else within(seconds, 60 * minutes * SHARE / SLACK)
        if not chosen:
            _log().warning(
                "%s: to load the network and predict %d of them takes more than a tenth of "
                "%g minutes",
                *(UNFITTED, LEAST, minutes),
            )
            return [], 0.0
        total = sum(seconds[k] for k in chosen)
        return [self.items[k] for k in chosen], (SLACK * total + AT_ONCE) / 60

    def _seconds(self, weights: Path, engine: Engine) -> list[float]:
        """How long each image takes."""
        pixels = self._pixels()
        return by_pixels(pixels, lambda k: self._seconds_of(self.items[k], weights, engine), pixels)

    def _pixels(self) -> list[int]:
        """Of each image, or plane, as its header says."""
        plan = self._plan()
        dims, choice = plan.value("spatial_dims"), plan.seen.reader
        files = [item["image"] for item in self.items]
        heads = {str(file): load_header(file, **choice) for file in files}  # planes share a file
        return [prod(heads[str(file)].spatial_shape[:dims]) for file in files]

    def _seconds_of(self, item: Item, weights: Path, engine: Engine) -> float:
        """How long one image takes; a truth in place of a prediction has as many objects."""
        torch.save(unwrapped(self.network).state_dict(), weights)
        segmenter, choices = self._segmenter(weights, engine), self._choices()
        return timed(lambda: self._look(segmenter, item, choices, likely=True), segmenter.device)

    def _fit(self, engine: Engine) -> None:
        if rank() == 0 and self.items:
            with _said_if_it_fails(f"{UNFITTED}, the planned values stay"), _without_a_trace():
                self._search(engine)

    def _search(self, engine: Engine) -> None:
        """Score all choices on all images, one image at a time, and write the verdicts."""
        units = self._units()
        words, left_out = in_words([str(item["image"]) for item in self.items], units)
        if len(set(units)) < LEAST:
            raise ValueError(f"{words} are too few")
        choices, segmenter = self._choices(), self._segmenter(self.weights, engine)
        items = with_bar(self.items, "held-out images")
        seen = [self._look(segmenter, item, choices) for item in items]
        if choices:
            counts = summed([counts for counts, _ in seen], units)
            verdict = choose(choices, np.stack(counts))
            write_verdict(self.folder, verdict, *planned_objects(self._plan()), words)
        pixels = [
            (near, unit) for (_, near), unit in zip(seen, units, strict=True) if len(near.classes)
        ]
        if len({unit for _, unit in pixels}) < LEAST:
            return
        with _said_if_it_fails("probabilities are not calibrated"):  # objects may be fitted
            groups = in_groups([unit for _, unit in pixels])
            found = calibrate([near for near, _ in pixels], groups)
            write_calibration(self.folder, found, words, left_out)

    def _segmenter(self, weights: Path, engine: Engine) -> Segmenter:
        device = getattr(engine.state, "device", None)
        return judging(self.folder, weights, device)

    def _plan(self) -> Plan:
        return Plan.from_json(bundle.read_plan(self.folder))

    def _units(self) -> list[int]:
        """A number for each image, equal for those that the plan's splits do not part."""
        plan = bundle.read_plan(self.folder)
        return units_of_items(self.items, units_in(Plan.from_json(plan)) if plan else {})

    def _choices(self) -> list[dict[str, Any]]:
        """How objects may be made; none where there is nothing to choose."""
        plan = self._plan()
        planned, free = planned_objects(plan)
        return around(planned, free) if free and fits_objects(plan) else []

    def _look(
        self,
        segmenter: Segmenter,
        item: Item,
        choices: Sequence[Mapping[str, Any]],
        *,
        likely: bool = False,
    ) -> tuple[Any, NearBorders]:
        """See `count`, and `pixels_of`; `likely`: as if the network had found the truth."""
        found = held_out(segmenter, self.load(item))
        near = pixels_of(found, self._plan().value("label_kind"), images=len(self.items))
        if not choices:
            return None, near
        probabilities = found.probabilities
        if likely:
            true = torch.from_numpy(found.truth > 0).to(probabilities)
            probabilities = torch.stack([1 - true, true])
        assert found.rule is not None
        return count(probabilities, found.truth, choices, found.rule, found.ratios), near


def _unlearned(held_out: Sequence[Item], training: Sequence[Item]) -> list[Item]:
    learned = {_key(item) for item in training}
    return [item for item in held_out if _key(item) not in learned]


def _key(item: Item) -> tuple[tuple[str, ...], int | None]:
    """What tells an image, or a plane of a stack, from all others: files, and the plane."""
    return tuple(files_of(item["image"])), item.get("slice")


def in_groups(units: Sequence[int]) -> list[int]:
    """Number of the group of each image, by the number of its unit; neighbours are of one.

    >>> in_groups([0, 0, 1]), in_groups(range(12))
    ([0, 0, 1], [0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9])
    """
    places = {unit: k for k, unit in enumerate(dict.fromkeys(units))}
    count = len(places)
    return [places[unit] * min(GROUPS, count) // count for unit in units]


@contextmanager
def _without_a_trace() -> Iterator[None]:
    """Leave the random generators as they were: a training does not change by being timed."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


@contextmanager
def _said_if_it_fails(what: str) -> Iterator[None]:
    """A training that has ended is not lost by what follows it."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        _log().warning("%s: %s", what, reason)


def _log() -> logging.Logger:
    return logging.getLogger(__name__)
