"""From what was counted in held-out images to the score of a bundle."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unet_med.bundle.files import FOLDS
from unet_med.data.cases import names_apart
from unet_med.folds.fits import choices_of, fit
from unet_med.folds.judged import Files, Judged
from unet_med.metrics.bootstrap import about_interval, drawn_over
from unet_med.planning import Plan
from unet_med.planning.counting import count_in, learned_before, what_counts
from unet_med.report.folds import estimate, notes
from unet_med.report.provenance import TRAINING, now, read_record
from unet_med.report.table import CASE, ScoreTable, write_scores
from unet_med.report.training import read_history
from unet_med.scoring.judging import Judge
from unet_med.scoring.scores import Counted
from unet_med.scoring.tables import format_table, score_table

_log = logging.getLogger(__name__)


class Case(NamedTuple):
    """What was counted in an image, or in a plane of the only stack.

    Attributes:
        counted: by class.
        fold: that held it out.
        unit: what it is drawn with.
    """

    counted: Counted
    fold: int
    unit: Hashable


Cases = Mapping[str, Case]


def score(output: Path, plan: Plan, judge: Judge, judged: Sequence[Judged]) -> ScoreTable:
    """Score each image by the choice of the other folds, and write `models/folds/scores.json`.

    All of them together choose how the network of all images makes objects, and calibrate it.
    """
    choices, chosen = choices_of(plan, judged)
    fit(output, plan, choices, judged)
    cases = cases_of(judged, chosen)
    table = table_of(cases, judge)
    rows = [
        replace(row, note=f"fold {cases[row.case].fold}") if row.row == CASE else row
        for row in table.rows
    ]
    made = {k: choices[chosen[k]] if judge.family == "instances" else {} for k in sorted(chosen)}
    if judge.calibrated:
        made |= {each.fold: {"calibration": each.calibration} for each in judged}
    about = {
        "label_kind": plan.value("label_kind"),
        "metrics": judge.family,
        "interval": _interval(cases, judged),
        **table.about,
        "finished": now(),
        "unit": what_counts(plan),
        "images": count_in(plan, plan.split["training"]),
        "one": training_of(output / "models"),
        "folds": [_fold(output, plan, judge, cases, k, made[k]) for k in made],
        "subsets": len(plan.subsets),
        "seen": learned_before(plan),
    }
    found = replace(table, rows=tuple(rows), about=about)
    write_scores(found, output / FOLDS / "scores.json")
    _say(found)
    return found


def _say(found: ScoreTable) -> None:
    _log.info(f"each image scored by a network that has not learned from it\n{format_table(found)}")
    for sentence in (found.interval, estimate(found), *notes(found)):
        if sentence:
            _log.info(sentence)


def cases_of(judged: Sequence[Judged], chosen: Mapping[int, int]) -> Cases:
    """What is counted in each case: planes are one case with their file's others.

    Planes of the only stack are a case each: its file is in all folds.

    Args:
        judged: images, or planes.
        chosen: by fold the choice that others made, as `choices_of` gives it.
    """
    folds: dict[Files, set[int]] = {}
    for each in judged:
        folds.setdefault(each.image, set()).add(each.fold)
    names = dict(zip(folds, names_apart(list(folds)), strict=True))
    cases: dict[str, Case] = {}
    for each in judged:
        name = names[each.image]
        unit: Hashable = each.unit
        if len(folds) == 1 and each.plane is not None:
            name = unit = f"{name} plane {each.plane}"
        elif len(folds[each.image]) > 1:  # a list of the user's parts its planes
            name = f"{name} fold {each.fold}"
        rows = each.rows[min(chosen[each.fold], len(each.rows) - 1)]
        known = cases.get(name)
        cases[name] = Case(_joined(known.counted, rows) if known else rows, each.fold, unit)
    return cases


def table_of(cases: Cases, judge: Judge) -> ScoreTable:
    """Their scores, with intervals over what is drawn together."""
    counted = ((name, case.counted) for name, case in cases.items())
    units = {name: case.unit for name, case in cases.items()}
    return score_table(counted, judge.columns, judge.classes, units)


def _joined(one: Counted, other: Counted) -> Counted:
    """What is counted in two planes of a file."""
    both = {**one, **other}
    return {
        value: {
            column: np.concatenate([each[value][column] for each in (one, other) if value in each])
            for column in counts
        }
        for value, counts in both.items()
    }


def _fold(
    output: Path, plan: Plan, judge: Judge, cases: Cases, k: int, made: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of one fold's network, and of what was made of its predictions."""
    own = {name: case for name, case in cases.items() if case.fold == k}
    table = table_of(own, judge)
    whole = [row for row in table.of(table.statistic) if not row.label] or table.of(table.statistic)
    return {
        "fold": k,
        "images": count_in(plan, plan.folds[k]["training"]),
        "judged": len(own),
        **training_of(output / FOLDS / str(k)),
        "scores": dict(whole[0].scores),
        **made,
    }


def training_of(models: Path) -> dict[str, Any]:
    """Minutes and steps that a network learned for."""
    history = read_history(models / "learning_curve.csv")
    steps = read_record(models, TRAINING).get("iterations")
    return {"minutes": history[-1]["minutes"] if history else None, "steps": steps}


def _interval(cases: Cases, judged: Sequence[Judged]) -> str:
    """What the interval is of; groups where images belong to some, see `units_in`."""
    units, stack = len({case.unit for case in cases.values()}), len({e.image for e in judged}) == 1
    if units < 2:
        return "no interval: it takes more than one image, or group of them"
    text = about_interval(drawn_over(len(cases), "planes" if stack else "images", units))
    if stack:
        text += "; they are planes of one stack, which are alike: other stacks may differ more"
    return text
