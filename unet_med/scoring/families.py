"""Families of scores: which files each reads, how it reads a pair, what it counts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unet_med import data
from unet_med.data.class_names import ClassNames
from unet_med.data.file_reader import Volume
from unet_med.data.formats import stem
from unet_med.data.grids import Grid, Turn, turn_onto
from unet_med.data.label_kind import is_mask
from unet_med.data.label_reader import open_label
from unet_med.data.orientation import turn_towards
from unet_med.instances import IGNORED, separate
from unet_med.metrics.score import Score
from unet_med.planes import APART, Planes
from unet_med.scoring import scores
from unet_med.scoring.clinical import Clinical, size_of
from unet_med.scoring.pictures import open_result
from unet_med.scoring.recorded import planes_of, recorded_of, require_one_meaning
from unet_med.scoring.scores import Column, Counted
from unet_med.scoring.tables import Classes

Array = np.ndarray[Any, Any]

_log = logging.getLogger(__name__)

CLINICAL, PROBABILITIES = "clinical", "_probabilities"
FAMILIES: dict[str, Mapping[str, Score]] = {
    "isbi": scores.ISBI,
    "instances": scores.INSTANCES,
    "ctc": scores.CTC,
    "ap": scores.AP,
}
SUFFIXES = {
    CLINICAL: ("_mask", ""),
    "isbi": (PROBABILITIES, "_mask", ""),
    "instances": ("_instances", ""),
    "ctc": ("_instances", ""),
    "ap": ("_instances", ""),
}
METRICS_OF_KIND: dict[str, tuple[str, ...]] = {
    "mask": ("isbi", CLINICAL),
    "classes": (CLINICAL,),
    "instances": ("isbi", "ctc", "ap"),
}


@dataclass(frozen=True)
class Files:
    """Files of one case.

    Attributes:
        result: the result's.
        truth: the label's.
        choice: `time` and `axes` with which the image was read.
        unknown: the truth's value of pixels that nobody annotated.
        planes: what somebody says of the planes of stacks; see `recorded.planes_of`.
        guessed_mask: the truths look like masks, and nobody said so.
    """

    result: str
    truth: str
    choice: Mapping[str, Any] = field(default_factory=dict)
    unknown: int | None = None
    planes: Planes | None = None
    guessed_mask: bool = False

    def open(self, kind: str) -> tuple[Volume, Volume]:
        """Result and truth, each read once, `(X, Y[, Z])`."""
        truth = self.open_truth(kind)
        return open_result(self.result, kind), truth

    def open_truth(self, kind: str) -> Volume:
        """The truth, `(X, Y[, Z])`."""
        return open_label(self.truth, kind, unknown=self.unknown, **self.choice)

    def turned(self, array: Array, result: Volume, truth: Volume) -> Array:
        """What was read from the result, turned onto the grid of the truth."""
        own = Grid.of(result, f"result {Path(self.result).name}")
        return turn_onto(own, Grid.of(truth, f"its truth {Path(self.truth).name}")).of_array(array)


@dataclass(frozen=True)
class Family:
    """How cases are scored.

    Attributes:
        name: as `--metrics` calls it.
        columns: of the table.
        count: from the files of one case to what is counted in it.
        classes: of the table.
    """

    name: str
    columns: Mapping[str, Column]
    count: Callable[[Files], Counted]
    classes: Classes | None = None


def choose(metrics: str | None, kind: str, *, millimetres: bool) -> str:
    """The family asked for, or that of the labels' kind.

    Args:
        metrics: what was asked for; None: nothing.
        kind: what the truth's values mean.
        millimetres: the truths state their pixel size in millimetres.

    Raises:
        ValueError: the family does not fit the kind.
    """
    if metrics is None:
        own = {"classes": CLINICAL, "mask": CLINICAL if millimetres else "isbi"}
        return own.get(kind, "instances")
    if metrics not in METRICS_OF_KIND[kind]:
        raise ValueError(
            f"--metrics {metrics} does not fit labels that are {kind}: "
            f"use {' or '.join(METRICS_OF_KIND[kind])}, leave it out, or say what they are with "
            "--label-kind"
        )
    return metrics


def challenge(name: str) -> Family:
    """A family whose scores pool what they count, without classes."""
    wanted = FAMILIES[name]

    def count(files: Files) -> Counted:
        if name == "isbi":
            return scores.count_planes(*_interiors(files))
        return scores.count_scores(*_instances(files), wanted)

    return Family(name, scores.columns_of(wanted), count)


def clinical(rules: Clinical, kind: str, names: ClassNames, *, strict: bool = False) -> Family:
    """The family of scores in physical units, for each class.

    Args:
        rules: what is measured.
        kind: what the truth's values mean.
        names: of the classes.
        strict: every class must have one.
    """
    name_of = partial(_name_of, kind=kind, names=names)
    needed = names if strict else None
    return Family(
        CLINICAL,
        rules.columns,
        partial(_count_clinical, rules=rules, kind=kind, needed=needed),
        Classes(name_of, rules.absent),
    )


def _name_of(value: int, kind: str, names: ClassNames) -> str:
    if value in names:
        return names[value]
    return "foreground" if kind == "mask" else str(value)


def _count_clinical(files: Files, rules: Clinical, kind: str, needed: ClassNames | None) -> Counted:
    found, true = files.open("instances" if kind == "mask" else "classes")
    if (dims := len(true.spatial_shape)) != rules.dims:
        kinds = {2: "a plane", 3: "a volume"}
        raise ValueError(
            f"truth {Path(files.truth).name} is {kinds[dims]}, and the first one "
            f"{kinds[rules.dims]}: score them apart"
        )
    sizes = size_of((true, found), rules.unit)
    result, truth = files.turned(found.array, found, true), true.array
    if kind == "mask":
        _require_one(files, len(_objects(result)), "values above 0")
        result, truth = (result > 0).astype(np.uint8), known_mask(truth)
    counted = rules.count(result, truth, sizes)
    if needed is not None and (unnamed := sorted(set(counted) - set(needed))):
        raise ValueError(
            f"the value {unnamed[0]} of {Path(files.truth).name} or its result has no name: the "
            f"classes are {', '.join(f'{v}={n}' for v, n in needed.items())}; add it to "
            "--class-names"
        )
    return counted


def _instances(files: Files) -> tuple[list[Array], list[Array]]:
    """Frames of result and truth: planes of the network where they are images, else the whole."""
    found, header = files.open("instances")
    result, truth = files.turned(found.array, found, header), header.array
    recorded = recorded_of(files.result)
    turn = turn_towards(Grid.of(header, Path(files.truth).name), recorded.orientation)
    seen = turn.of_array(truth)
    if files.planes is None:
        require_one_meaning(recorded, seen, f"truth {Path(files.truth).name}")
    if planes_of(files.planes, recorded, seen, header) == APART:
        name = Path(files.result).name
        _log.info("%s: %d planes, each scored as an image", name, len(seen.T))
        frames = [*turn.of_array(result).T], [*seen.T]
    else:
        frames = [result.T], [truth.T]
    _refuse_mask(Path(files.result), *frames)
    return frames


def _refuse_mask(file: Path, results: Sequence[Array], truths: Sequence[Array]) -> None:
    """Refuse what has one value for many objects, by which all of them are one.

    Raises:
        ValueError: one value in several pieces, or in a file called a mask, and more true objects.
    """
    found = set().union(*(_objects(result) for result in results))
    if len(found) != 1 or max(len(_objects(truth)) for truth in truths) < 2:
        return
    base = stem(file).removesuffix("_mask")
    if base != stem(file) or any(is_mask(each, several=True) for each in results):
        raise ValueError(
            f"{file.name} is a mask, in which all objects are one: give {base}_instances, which "
            "unet-med predict --instances writes, or score pixels with --label-kind mask"
        )


def _require_one(files: Files, count: int, what: str) -> None:
    """Refuse a result of several classes beside a truth that looks like a mask.

    Raises:
        ValueError: it holds more than one, and nobody said that all of them are foreground.
    """
    if files.guessed_mask and count > 1:
        raise ValueError(
            f"result {Path(files.result).name} holds {count} {what}, and the truths look like "
            "masks: say --label-kind classes if they are classes, of which one is in the truths, "
            "or --label-kind mask if all are foreground"
        )


def _objects(label: Array) -> set[int]:
    values: list[int] = np.unique(label).tolist()
    return {value for value in values if value > 0}


def _interiors(files: Files) -> tuple[Array, Array]:
    """Probability of foreground and true interior, `([Z,] Y, X)`, plane by plane of the network."""
    orientation = recorded_of(files.result).orientation
    truth = files.open_truth("instances")
    turn = turn_towards(Grid.of(truth, Path(files.truth).name), orientation)
    planes = turn.of_array(truth.array).T
    return known_interior(_foreground(files, truth, turn, planes < 0), planes)


def _foreground(files: Files, truth: Volume, turn: Turn, unknown: Array) -> Array:
    """Probability of foreground, of one channel or all but the first, or a label's; turned.

    Objects that lie where nobody annotated part no others.
    """
    header = data.load_header(files.result)
    named = stem(files.result).endswith(PROBABILITIES)
    if named or header.has_channels:
        array: Array = data.load_image(files.result).numpy()  # (C, X, Y[, Z])
        if named or len(array) > 1:
            _require_one(files, len(array) - 1, "channels besides the background")
            scores = array[-1] if len(array) < 3 else 1 - array[0]
            return turn.of_array(files.turned(scores, header, truth)).T
    label = files.turned(open_result(files.result, "instances").array, header, truth)
    _require_one(files, len(_objects(label)), "values above 0")
    return interior(np.where(unknown, 0, turn.of_array(label).T)).astype(np.float32)


def known_mask(truth: Array) -> Array:
    """Foreground of a truth as classes: 1, 0, and 255 where nobody annotated (-1)."""
    return np.where(truth < 0, IGNORED, truth > 0).astype(np.uint8)


def known_interior(foreground: Array, truth: Array) -> tuple[Array, Array]:
    """Probability of foreground and true interior; both 0 where nobody annotated (-1)."""
    return np.where(truth < 0, 0, foreground), interior(truth)


def interior(label: Array) -> Array:
    """Foreground of each plane, with a border where instances touch; a mask as it is."""
    planes = label if label.ndim == 3 else label[None]
    apart = [separate(np.maximum(plane, 0)) > 0 for plane in planes]
    return np.stack(apart).reshape(label.shape)
