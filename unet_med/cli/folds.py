"""`unet-med train --folds`: one network of all images, and K that judge what they have not seen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_med import bundle
from unet_med.bundle.files import ENSEMBLE, FOLDS
from unet_med.cli.fold_progress import Progress
from unet_med.cli.fold_scores import Judged, score
from unet_med.cli.judging import Judge, judge_of
from unet_med.cli.saying import say
from unet_med.data.cases import case_name
from unet_med.data.tensor_file import write_tensors
from unet_med.fitting import (
    around,
    count,
    fits_objects,
    held_out,
    judging,
    pixels_of,
    planned_objects,
    reading,
    spread_evenly,
)
from unet_med.networks import joined_weights
from unet_med.planning import Plan
from unet_med.report.folds import write_card
from unet_med.segmentation import Segmenter

SLACK = 1.25  # what the judging is given, times what was measured
MOST = 0.5  # of the folds' minutes, that the judging may take
LEAST = 0.2  # of a fold's share, that its training has in any case

Settings = Mapping[str, Any]


def train(output: Path, settings: Settings) -> None:
    """Train what is not finished, judge each image by the network that has not seen it.

    Args:
        output: a bundle that was planned with folds.
        settings: ids of its `train.json` for this run.
    """
    plan = Plan.from_json(bundle.read_plan(output))
    progress = Progress.of(output, plan)
    if not progress.is_done("one"):
        begun = time.monotonic()
        bundle.load_workflow(output, "train", settings).run()
        progress.finish("one", seconds=time.monotonic() - begun)
    if progress.images is None:
        _share_out(output, settings, plan, progress)
    for k in range(len(plan.folds)):
        if not progress.is_done(k):
            say(f"fold {k + 1} of {len(plan.folds)}")
            own = {**settings, **_of_fold(output, k), "minutes": progress.minutes, "resume": True}
            bundle.load_workflow(output, "train", own).run()
            progress.finish(k)
    files = [output / FOLDS / str(k) / "model.pt" for k in range(len(plan.folds))]
    write_tensors(joined_weights(files), output / ENSEMBLE)
    judge = judge_of(plan)
    judged = [each for k in range(len(files)) for each in _judged(output, settings, k, progress)]
    write_card(output, score(output, plan, judge, judged, progress))


def _of_fold(output: Path, k: int) -> dict[str, Any]:
    """Ids with which `train.json` trains the network of a fold, also by MONAI alone."""
    return {
        "split_file": (output / "configs" / "folds.json").absolute(),
        "fold": k,
        "output_dir": (output / FOLDS / str(k)).absolute(),
    }


def _share_out(output: Path, settings: Settings, plan: Plan, progress: Progress) -> None:
    """How long each fold trains, and how many of its images are judged, by what one image takes."""
    if progress.total is None:  # epochs end the trainings
        return
    own = Judging.of(output, settings, 0, output / "models" / "model.pt")
    begun = time.monotonic()
    own.judged(own.items[0])
    seconds = SLACK * (time.monotonic() - begun)
    share = 60 * progress.total / len(plan.folds)
    images = max(1, int(MOST * share / max(seconds, 1e-9)))
    # nothing for the fit of the calibration at the end: 0.2 s for 20 images of two classes
    spare = share - progress.overhead - seconds * min(images, len(own.items))
    progress.share(max(spare, LEAST * share) / 60, images)


def _judged(output: Path, settings: Settings, k: int, progress: Progress) -> Iterator[Judged]:
    own = Judging.of(output, settings, k, output / FOLDS / str(k) / "model.pt")
    for item in spread_evenly(own.items, progress.images or len(own.items)):
        yield own.judged(item)


@dataclass(frozen=True)
class Judging:
    """A fold's network, and the images that it has not seen."""

    fold: int
    items: Sequence[Mapping[str, Any]]
    load: Any
    segmenter: Segmenter
    judge: Judge
    choices: Sequence[Mapping[str, Any]]
    fits: bool
    label_kind: str

    @classmethod
    def of(cls, output: Path, settings: Settings, k: int, weights: Path) -> Judging:
        """Load a network, and list what the fold holds out."""
        plan = Plan.from_json(bundle.read_plan(output))
        workflow = bundle.load_workflow(output, "train", {**settings, **_of_fold(output, k)})
        part = workflow.parser.get_parsed_content
        planned, free = planned_objects(plan)
        fits = fits_objects(plan)
        return cls(
            fold=k,
            items=part("split")[1],
            load=reading(part("load")),
            segmenter=judging(output, weights, part("device")),
            judge=judge_of(plan),
            choices=around(planned, free) if fits else [planned],
            fits=fits,
            label_kind=plan.value("label_kind"),
        )

    def judged(self, item: Mapping[str, Any]) -> Judged:
        """What is counted in a held-out image under each choice."""
        found = held_out(self.segmenter, self.load(item))
        counts: np.ndarray[Any, Any] | None = None
        if self.fits:
            assert found.rule is not None
            counts = count(found.probabilities, found.truth, self.choices, found.rule, found.share)
        rows = self.judge.count(found, self.choices)
        near = pixels_of(found, self.label_kind)
        return Judged(case_name(item["image"]), item.get("slice"), self.fold, rows, counts, near)
