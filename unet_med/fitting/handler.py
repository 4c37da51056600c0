"""Fit how a prediction becomes objects, when a training has ended."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events

from unet_med import bundle
from unet_med.fitting.search import Verdict, around, choose, count
from unet_med.handlers import TrainingBudget, rank
from unet_med.handlers.training_state import random_state, set_random_state
from unet_med.planning import Plan
from unet_med.planning.objects import FITTED, LEAST, decide_objects
from unet_med.segmentation import Segmenter
from unet_med.transforms import compose

__all__ = ["FitObjects"]

IDS = ("threshold", "mask_threshold", "min_size")
SHARE = 0.1  # of the minutes that the fit may take
SLACK = 1.25  # what it is given, times what was measured
AT_ONCE = 3.0  # s; loading the weights, writing the configs

READING = ("image", "label", "channel_first", "reorient", "orient", "plane", "label_instances")

Item = Mapping[str, Any]


class FitObjects:
    """Choose thresholds and the smallest object by the held-out images of a trained bundle.

    After the last weights are written, the held-out images are predicted as `unet-med predict`
    would, one at a time, and scored under each choice (`unet_med.fitting.around`). The verdict
    (`unet_med.fitting.choose`) goes into the bundle's plan and configs, with the scores as its
    reason. What the plan did not decide by itself stays as it was asked for. With fewer than three
    held-out images, and where the fit fails, the planned values stay.

    It needs a bundle with a plan. A resumed training fits again, from the plan's values. Where a
    budget of minutes holds, one image is timed at the start, and the training ends as much
    earlier as all take; if that is more than a tenth of the minutes, fewer images are used. Of
    several processes the first fits. Attach it behind the handlers that write the weights.

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
        self.items = [item for item in held_out if item not in training]
        self.load = compose([{name: load[name] for name in READING if name in load}])
        self.network = network
        self.budget = budget
        self.enabled = enabled and len(self.items) >= LEAST and {"image", "label"} <= {*load}

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, behind what writes the weights."""
        if self.enabled:
            engine.add_event_handler(Events.STARTED, self._reserve)
            engine.add_event_handler(Events.COMPLETED, self._fit)

    def _reserve(self, engine: Engine) -> None:
        """End the training early enough for the fit."""
        if self.budget is None or not self.budget.minutes:
            return
        seconds = 0.0
        if rank() == 0:
            with _said_if_it_fails(), _without_a_trace(), tempfile.TemporaryDirectory() as scratch:
                seconds = self._seconds_an_image(Path(scratch) / "model.pt", engine)
        seconds = cast(float, idist.broadcast(seconds))
        affordable = int(SHARE * 60 * self.budget.minutes / (SLACK * max(seconds, 1e-9)))
        if 60 * self.budget.minutes < AT_ONCE / SHARE:  # a first look
            affordable = 0
        if affordable < LEAST:
            self.items = []
            _log().warning(
                "objects are not fitted: to predict %d held-out images takes more than a tenth of "
                "%g minutes",
                LEAST,
                self.budget.minutes,
            )
            return
        self.items = _spread_evenly(self.items, affordable)
        self.budget.reserve((SLACK * seconds * len(self.items) + AT_ONCE) / 60)

    def _seconds_an_image(self, weights: Path, engine: Engine) -> float:
        """How long one image takes; a truth in place of a prediction has as many objects."""
        parallel = isinstance(self.network, torch.nn.parallel.DistributedDataParallel)
        network = cast(torch.nn.Module, self.network.module if parallel else self.network)
        torch.save(network.state_dict(), weights)
        segmenter, choices = self._segmenter(weights, engine), around(*self._planned())
        started = time.perf_counter()
        self._counts(segmenter, self.items[0], choices, likely=True)
        return time.perf_counter() - started

    def _fit(self, engine: Engine) -> None:
        if rank() == 0 and self.items:
            with _said_if_it_fails(), _without_a_trace():
                self._search(engine)

    def _search(self, engine: Engine) -> None:
        """Score all choices on all images, one image at a time, and write the verdict."""
        planned, free = self._planned()
        if not free:
            return
        segmenter, choices = self._segmenter(self.weights, engine), around(planned, free)
        counts = [self._counts(segmenter, item, choices) for item in self.items]
        verdict = choose(choices, np.stack(counts))
        ids = {id: verdict.choice[id] for id in free}
        reason = self._reason(verdict, changed=verdict.choice != planned)
        bundle.write_settings(self.folder, [], ids, reason=reason)

    def _reason(self, verdict: Verdict, *, changed: bool) -> str:
        said = f"{FITTED}{len(self.items)} held-out images: AP {verdict.score:.3f}"
        if changed:
            return f"{said} instead of {verdict.before:.3f} as planned"
        return f"{said}, and no other choice is better by more than the images scatter"

    def _segmenter(self, weights: Path, engine: Engine) -> Segmenter:
        device = getattr(engine.state, "device", None)
        return Segmenter(self.folder, checkpoint=weights, device=device, trust=True)

    def _planned(self) -> tuple[dict[str, Any], list[str]]:
        """The choice of the plan, and which of its ids the user did not set."""
        plan = Plan.from_json(bundle.read_plan(self.folder))
        values = {id: decision.value for id, decision in plan.ids.items()}
        planned = decide_objects(plan.seen, values)
        free = [
            id
            for id in IDS
            if plan.ids[id] == planned[id] or plan.ids[id].reason.startswith(FITTED)
        ]
        return {id: (planned if id in free else plan.ids)[id].value for id in IDS}, free

    def _counts(
        self,
        segmenter: Segmenter,
        item: Item,
        choices: Sequence[Mapping[str, Any]],
        *,
        likely: bool = False,
    ) -> Any:
        """See `count`; `likely`: as if the network had found the truth."""
        loaded = self.load(item)
        truth = np.asarray(loaded["label"])[0].astype(np.int64)
        result = segmenter(loaded["image"])
        probabilities = torch.from_numpy(np.ascontiguousarray(result.probabilities))
        if likely:
            true = torch.from_numpy(truth > 0).to(probabilities)
            probabilities = torch.stack([1 - true, true])
        assert segmenter.rule is not None
        return count(probabilities, truth, choices, segmenter.rule, result.share)


def _spread_evenly(items: Sequence[Item], count: int) -> list[Item]:
    if count >= len(items):
        return list(items)
    return [items[int((k + 0.5) * len(items) / count)] for k in range(count)]


@contextmanager
def _without_a_trace() -> Iterator[None]:
    """Leave the random generators as they were: a training does not change by being timed."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


@contextmanager
def _said_if_it_fails() -> Iterator[None]:
    """A training that has ended is not lost by what follows it."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        _log().warning("objects are not fitted, the planned values stay: %s", reason)


def _log() -> logging.Logger:
    return logging.getLogger(__name__)
