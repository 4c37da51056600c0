"""What held-out images fit: how objects are made and probabilities calibrated, in each fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_med.fitting import (
    Calibration,
    NearBorders,
    around,
    calibrate,
    choose,
    cross_fitted,
    in_groups,
    in_words,
    planned_objects,
    summed,
    units_of_files,
    write_calibration,
    write_verdict,
)
from unet_med.folds.judged import Files, Judged
from unet_med.planning import Plan
from unet_med.planning.objects import LEAST


def fit(
    output: Path, plan: Plan, choices: Sequence[Mapping[str, Any]], judged: Sequence[Judged]
) -> None:
    """Choose how the network of all images makes objects, and calibrate it: by all of them.

    Args:
        output: the bundle, whose plan and configs are changed.
        plan: of it.
        choices: how objects may be made, see `choices_of`.
        judged: the held-out images of all folds.
    """
    planned, free = planned_objects(plan)
    counts, folds = _counts(judged)
    if free and len(counts) >= LEAST:
        images, _ = in_words([each.image for each in judged], _units(judged))
        images += f" of {len(set(folds))} folds"
        write_verdict(output, choose(choices, np.stack(counts)), planned, free, images)
    _calibrate(output, judged)


def choices_of(plan: Plan, judged: Sequence[Judged]) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """How objects may be made, and by which of these each fold is judged: others chose it."""
    planned, free = planned_objects(plan)
    counts, folds = _counts(judged)
    if not counts:
        return [planned], {each.fold: 0 for each in judged}
    choices = around(planned, free)
    return choices, cross_fitted(choices, counts, folds, LEAST)


def _units(judged: Sequence[Judged]) -> list[int]:
    """A number for each image of all folds: that of what it is drawn with.

    Where all are drawn together it is that of its file; of the only stack, its own.
    """
    units = [each.unit for each in judged]
    return units if len(set(units)) > 1 else units_of_files([each.image for each in judged])


def _counts(judged: Sequence[Judged]) -> tuple[list[NDArray[Any]], list[int]]:
    """What choices are compared by, one a unit, and its fold: images of a patient are alike."""
    known = [
        (each.counts, (unit, each.fold))
        for each, unit in zip(judged, _units(judged), strict=True)
        if each.counts is not None
    ]
    units = [unit for _, unit in known]
    return summed([own for own, _ in known], units), [fold for _, fold in dict.fromkeys(units)]


def calibrations_of(judged: Sequence[Judged]) -> dict[int, Mapping[str, Any] | None]:
    """How each fold's probabilities are calibrated: by the other folds' images alone."""
    rules: dict[int, Mapping[str, Any] | None] = {}
    near = _near(judged)
    for fold in sorted({each.fold for each in judged}):
        found = _calibrated([own for own in near if own.fold != fold])
        rules[fold] = None if found is None else found.rule
    return rules


class _Near(NamedTuple):
    """Pixels of an image near borders.

    Attributes:
        pixels: these.
        image: its files.
        unit: that it counts with, see `_units`.
        fold: that held it out.
    """

    pixels: NearBorders
    image: Files
    unit: int
    fold: int


def _near(judged: Sequence[Judged]) -> list[_Near]:
    """Of the images that have such pixels."""
    return [
        _Near(each.near, each.image, unit, each.fold)
        for each, unit in zip(judged, _units(judged), strict=True)
        if each.near is not None and len(each.near.classes)
    ]


def _calibrated(near: Sequence[_Near]) -> Calibration | None:
    """What images say of probabilities, folds left out in turn; None: there are too few."""
    groups, units = [own.fold for own in near], [own.unit for own in near]
    if len(set(groups)) == 1:  # the other one of two
        groups = in_groups(units)
    if len(set(units)) < LEAST or len(set(groups)) < 2:
        return None
    return calibrate([own.pixels for own in near], groups)


def _calibrate(output: Path, judged: Sequence[Judged]) -> None:
    """What is written for each fold's images was fitted to the other folds' alone."""
    near = _near(judged)
    if found := _calibrated(near):
        images, left_out = in_words([own.image for own in near], [own.unit for own in near])
        folds = len({own.fold for own in near})
        write_calibration(output, found, f"{images} of {folds} folds", left_out)
