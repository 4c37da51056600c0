"""`unet-med train --folds`: one network of all images, and K that judge what they have not seen.

With `--learning-curve` there are more of each fold, which learn from fewer images.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from unet_med import bundle
from unet_med.bundle.files import ENSEMBLE, FOLDS, SUBSETS
from unet_med.cli.fold_progress import Progress
from unet_med.cli.fold_scores import Files, Judged, calibrations_of, score
from unet_med.cli.learning_curve import carry_on
from unet_med.cli.saying import say
from unet_med.data.bars import with_bar
from unet_med.data.cases import files_of
from unet_med.data.image_cache import ImageCache
from unet_med.data.split_file import entries_for
from unet_med.data.tensor_file import write_tensors
from unet_med.fitting import (
    around,
    by_pixels,
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
from unet_med.planning.counting import held_in, pixels_in, units_in
from unet_med.report.folds import write_card
from unet_med.scoring.judging import Judge, judge_of
from unet_med.segmentation import Segmenter
from unet_med.transforms import Calibrate

SLACK = 1.25  # what the judging is given, times what was measured
MOST = 0.5  # of a network's share of the minutes, that the judging may take
LEAST = 0.2  # of it, that its training has in any case

NAMED = "named"  # key of an item: its files, as the plan names them

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Network:
    """One of those beside the network of all images.

    Attributes:
        name: in `progress.json`.
        folder: of its weights, in the bundle.
        splits: file of the bundle that lists what it learns from.
        position: there.
        fold: that holds out what it is judged by.
    """

    name: str
    folder: str
    splits: str
    position: int
    fold: int

    def ids(self, output: Path) -> dict[str, Any]:
        """Ids with which `train.json` trains it, also by MONAI alone."""
        return {
            "split_file": (output / "configs" / self.splits).absolute(),
            "fold": self.position,
            "output_dir": (output / self.folder).absolute(),
        }

    def weights(self, output: Path) -> Path:
        """File of its weights."""
        return output / self.folder / "model.pt"


def of_folds(plan: Plan) -> list[Network]:
    """Networks of all that a fold does not hold out."""
    return [Network(str(k), f"{FOLDS}/{k}", "folds.json", k, k) for k in range(len(plan.folds))]


def of_subsets(plan: Plan) -> list[Network]:
    """Networks of a part of that."""
    return [
        Network(f"subset {k}", f"{SUBSETS}/{k}", "subsets.json", k, split["fold"])
        for k, split in enumerate(plan.subsets)
    ]


def train(output: Path, settings: Settings) -> None:
    """Train what is not finished, judge each image by networks that have not seen it.

    Args:
        output: a bundle that was planned with folds.
        settings: ids of its `train.json` for this run.
    """
    with _one_cache(output, settings) as cached:
        _train_all(output, cached)


@contextmanager
def _one_cache(output: Path, settings: Settings) -> Iterator[Settings]:
    """Settings with one cache of images for all networks, which learn from the same ones."""
    parser = bundle.load_workflow(output, "train", settings).parser
    cache = parser.get_parsed_content("cache")
    if not isinstance(cache, ImageCache):  # a config of the user's has none
        yield settings
        return
    with cache.shared():
        yield {**settings, "cache": cache}


def _train_all(output: Path, settings: Settings) -> None:
    plan = Plan.from_json(bundle.read_plan(output))
    progress = Progress.of(output, plan)
    if not progress.is_done("one"):
        took = _train_one(output, settings)
        progress.finish("one", overhead=took - _spared(settings, len(plan.folds)))
    if progress.images is None:
        _share_out(output, settings, plan, progress)
    networks, judge = of_folds(plan), judge_of(plan)
    _train(output, settings, networks, progress, "fold")
    write_tensors(joined_weights([each.weights(output) for each in networks]), output / ENSEMBLE)
    look = partial(_judge, output, settings, progress=progress, calibrated=judge.calibrated)
    judged = [each for own in look(networks, near=True) for each in own]
    write_card(output, score(output, plan, judge, judged))
    if plan.subsets:
        smaller = of_subsets(plan)
        _train(output, settings, smaller, progress, "network of fewer images")
        shares = [split["share"] for split in plan.subsets]  # growing
        sizes = [[n for n, own in zip(smaller, shares, strict=True) if own == share]
                 for share in dict.fromkeys(shares)]  # fmt: skip
        found = [own for size in sizes for own in look(size)]
        carry_on(output, plan, judge, judged, found)


def _train_one(output: Path, settings: Settings) -> float:
    """Train the network of all images; seconds that this run took besides those of its budget."""
    began = time.monotonic()
    workflow = bundle.load_workflow(output, "train", settings)
    workflow.run()
    budget = workflow.parser.get_parsed_content("budget")
    return time.monotonic() - began - 60 * float(budget.run_minutes)


def _spared(settings: Settings, folds: int) -> float:
    """Seconds that each network after the first need not load images for.

    Those that its fold holds out it loads, for validations do without what tiles need.
    """
    cache = settings.get("cache")
    return cache.before.seconds * (1 - 1 / folds) if cache else 0.0


def _train(
    output: Path, settings: Settings, networks: Sequence[Network], progress: Progress, what: str
) -> None:
    """Train those that are not finished."""
    for number, network in enumerate(networks, start=1):
        if not progress.is_done(network.name):
            say(f"{what} {number} of {len(networks)}")
            own = {**settings, **network.ids(output), "minutes": progress.minutes, "resume": True}
            bundle.load_workflow(output, "train", own).run()
            progress.finish(network.name)


def _share_out(output: Path, settings: Settings, plan: Plan, progress: Progress) -> None:
    """How long each network trains, and how many images judge it, by what one image takes."""
    if progress.total is None:  # epochs end the trainings
        return
    share = 60 * progress.total / (len(plan.folds) + len(plan.subsets))
    loading, held = _seconds(output, settings, plan)

    def seconds(images: int) -> float:
        """Seconds that a network's images take, mean over folds."""
        return loading + mean(sum(spread_evenly(own, images)) for own in held)

    counts = range(1, 1 + max(map(len, held)))
    images = max(1, bisect_right(counts, MOST * share, key=seconds))
    # nothing for the fit of the calibration at the end: 0.2 s for 20 images of two classes
    spare = share - progress.overhead - seconds(images)
    progress.share(max(spare, LEAST * share) / 60, images)


def _seconds(output: Path, settings: Settings, plan: Plan) -> tuple[float, list[list[float]]]:
    """What it takes to load a network, and to judge each image that each fold holds out."""
    began = time.monotonic()
    own = Judging.of(output, settings, of_folds(plan)[0], output / "models" / "model.pt")
    loading = time.monotonic() - began

    def seconds_of(k: int) -> float:
        began = time.monotonic()
        own.judged(own.items[k])
        return time.monotonic() - began

    pixels = pixels_in(plan)
    timed = [pixels[tuple(files_of(item[NAMED]))] for item in own.items]
    takes = dict(zip(pixels, by_pixels(timed, seconds_of, [*pixels.values()]), strict=True))
    given = SLACK * (2 if own.judge.calibrated else 1)  # times that it is loaded, and each judged
    return given * loading, [[given * takes[each] for each in held] for held in held_in(plan)]


def _judge(
    output: Path,
    settings: Settings,
    networks: Sequence[Network],
    progress: Progress,
    *,
    calibrated: bool,
    near: bool = False,
) -> list[list[Judged]]:
    """What each network of a size makes of the images that it has not seen.

    Where probabilities count, they do as they are calibrated by the other folds' images, which
    takes a second look: all folds have to be seen before.

    Args:
        output: the bundle.
        settings: see `train`.
        networks: of one size.
        progress: how many images judge each.
        calibrated: whether probabilities count.
        near: keep pixels near borders, which calibrate the network of all images.
    """
    look = partial(_judged, output, settings, progress=progress)
    found = [list(look(one, near=near or calibrated)) for one in networks]
    if not calibrated:
        return found
    rules = calibrations_of([each for own in found for each in own])
    return [
        list(look(one, calibration=rule, near=near)) if (rule := rules[one.fold]) else own
        for one, own in zip(networks, found, strict=True)
    ]


def _judged(
    output: Path,
    settings: Settings,
    network: Network,
    *,
    progress: Progress,
    calibration: Mapping[str, Any] | None = None,
    near: bool,
) -> Iterator[Judged]:
    own = Judging.of(output, settings, network, network.weights(output))
    items = spread_evenly(own.items, progress.images or len(own.items))
    for item in with_bar(items, "held-out images"):
        yield own.judged(item, calibration, near=near)


@dataclass(frozen=True)
class Judging:
    """A network, and the images that it has not seen.

    Attributes:
        fold: that holds these out.
        items: the images, each with its `NAMED`.
        load: reads one of them.
        segmenter: the network.
        judge: of what it finds.
        choices: how objects may be made.
        fits: whether the images have such a choice.
        label_kind: of the truth.
        units: what each image is drawn with, see `units_in`.
        images: how many all folds hold out, planes of stacks one by one.
    """

    fold: int
    items: Sequence[Mapping[str, Any]]
    load: Any
    segmenter: Segmenter
    judge: Judge
    choices: Sequence[Mapping[str, Any]]
    fits: bool
    label_kind: str
    units: Mapping[Files, int]
    images: int

    @classmethod
    def of(cls, output: Path, settings: Settings, network: Network, weights: Path) -> Judging:
        """Load a network, and list what its fold holds out."""
        plan = Plan.from_json(bundle.read_plan(output))
        workflow = bundle.load_workflow(output, "train", {**settings, **network.ids(output)})
        part = workflow.parser.get_parsed_content
        planned, free = planned_objects(plan)
        fits = fits_objects(plan)
        pairs, splits = part("pairs"), output / "configs" / network.splits
        _, entries = entries_for(pairs, splits, network.position, part("dataset_dir"))
        return cls(
            fold=network.fold,
            items=[{**pairs[k], NAMED: entry["image"]} for k, entry in entries.items()],
            load=reading(part("load")),
            segmenter=judging(output, weights, part("device")),
            judge=judge_of(plan),
            choices=around(planned, free) if fits else [planned],
            fits=fits,
            label_kind=plan.value("label_kind"),
            units=units_in(plan),
            images=sum(map(len, held_in(plan))),
        )

    def judged(
        self,
        item: Mapping[str, Any],
        calibration: Mapping[str, Any] | None = None,
        *,
        near: bool = True,
    ) -> Judged:
        """What is counted in a held-out image under each choice.

        Args:
            item: the image.
            calibration: of the probabilities that count; None: as predicted.
            near: keep its pixels near borders.
        """
        found = held_out(self.segmenter, self.load(item))
        pixels = pixels_of(found, self.label_kind, images=self.images) if near else None
        counts: np.ndarray[Any, Any] | None = None
        if self.fits:
            assert found.rule is not None
            counts = count(found.probabilities, found.truth, self.choices, found.rule, found.ratios)
        if calibration:
            calibrated = Calibrate(**calibration)(found.probabilities)
            found = replace(found, probabilities=calibrated)
        rows = self.judge.count(found, self.choices)
        image = tuple(files_of(item[NAMED]))
        unit, plane = self.units[image], item.get("slice")
        return Judged(image, plane, unit, self.fold, rows, counts, pixels, calibration)
