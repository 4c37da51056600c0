"""What networks make of the images that their folds hold out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unet_med import bundle
from unet_med.data.bars import with_bar
from unet_med.data.cases import files_of
from unet_med.data.split_file import entries_for
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
from unet_med.folds.fits import calibrations_of
from unet_med.folds.judged import Files, Judged
from unet_med.folds.networks import Network
from unet_med.folds.progress import Progress
from unet_med.planning import Plan
from unet_med.planning.counting import held_in, units_in
from unet_med.scoring.judging import Judge, judge_of
from unet_med.segmentation import Segmenter
from unet_med.transforms import Calibrate

NAMED = "named"  # key of an item: its files, as the plan names them

Settings = Mapping[str, Any]


def judged_by(
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
        settings: ids of its `train.json` for this run.
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
