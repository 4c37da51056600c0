"""From what was counted in held-out images to the score, and to how objects are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.bundle.files import FOLDS
from unet_med.cli.judging import Judge
from unet_med.cli.saying import say
from unet_med.cli.scores import Counted, format_table, score_table
from unet_med.fitting import (
    NearBorders,
    around,
    calibrate,
    choose,
    cross_fitted,
    planned_objects,
    write_calibration,
    write_verdict,
)
from unet_med.planning import Plan
from unet_med.planning.objects import LEAST
from unet_med.report.folds import too_short
from unet_med.report.provenance import TRAINING, now, read_record
from unet_med.report.table import CASE, ScoreTable, write_scores
from unet_med.report.training import read_history


@dataclass(frozen=True)
class Judged:
    """What was counted in a held-out image.

    Attributes:
        image: its name.
        plane: of a stack; None: it is no plane.
        fold: that held it out.
        rows: what is counted under each choice.
        counts: as `unet_med.fitting.count`; None where nothing is fitted.
        near: its pixels near borders, as predicted.
    """

    image: str
    plane: int | None
    fold: int
    rows: Sequence[Counted]
    counts: NDArray[np.int64] | None = None
    near: NearBorders | None = None


def score(output: Path, plan: Plan, judge: Judge, judged: Sequence[Judged]) -> ScoreTable:
    """Score each image by the choice of the other folds, and write `models/folds/scores.json`.

    All of them together choose how the network of all images makes objects, and calibrate it.
    """
    planned, free = planned_objects(plan)
    counts = [each.counts for each in judged if each.counts is not None]
    choices, chosen = choices_of(plan, judged)
    if free and len(counts) >= LEAST:
        images = f"{len(counts)} held-out images of {len(chosen)} folds"
        write_verdict(output, choose(choices, np.stack(counts)), planned, free, images)
    _calibrate(output, judged)
    cases = cases_of(judged, chosen)
    table = score_table(((n, rows) for n, (rows, _) in cases.items()), judge.columns, judge.classes)
    folds = {name: f"fold {fold}" for name, (_, fold) in cases.items()}
    rows = [replace(r, note=folds[r.case]) if r.row == CASE else r for r in table.rows]
    each = [_fold(output, plan, judge, cases, k, choices[chosen[k]]) for k in sorted(chosen)]
    about = {
        "label_kind": plan.value("label_kind"),
        "metrics": judge.family,
        "interval": _interval(cases, judged),
        "finished": now(),
        "images": len(plan.data.cases),
        "one": training_of(output / "models"),
        "folds": each,
        "seen": plan.source.get("seen", 0),
    }
    found = replace(table, rows=tuple(rows), about=about)
    write_scores(found, output / FOLDS / "scores.json")
    say(f"scored by networks that have not seen the image\n{format_table(found)}")
    say(about["interval"])
    if short := too_short(about):
        say(short)
    return found


def choices_of(plan: Plan, judged: Sequence[Judged]) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """How objects may be made, and by which of these each fold is judged: others chose it."""
    planned, free = planned_objects(plan)
    counts = [each.counts for each in judged if each.counts is not None]
    folds = [each.fold for each in judged]
    if not counts:
        return [planned], dict.fromkeys(folds, 0)
    choices = around(planned, free)
    return choices, cross_fitted(choices, counts, folds, LEAST)


def _calibrate(output: Path, judged: Sequence[Judged]) -> None:
    """What is written for each fold's images was fitted to the other folds' alone."""
    near = [(e.near, e.fold) for e in judged if e.near is not None and len(e.near.classes)]
    folds = [fold for _, fold in near]
    if len(near) >= LEAST and len(set(folds)) > 1:
        found = calibrate([pixels for pixels, _ in near], folds)
        images = f"{len(near)} held-out images of {len(set(folds))} folds"
        write_calibration(output, found, images)


Cases = Mapping[str, tuple[Counted, int]]


def cases_of(judged: Sequence[Judged], chosen: Mapping[int, int]) -> Cases:
    """What is counted in each case, and its fold: planes are one case with their file's others.

    Planes of the only stack are a case each: its file is in all folds.
    """
    single = len({each.image for each in judged}) == 1
    cases: dict[str, tuple[Counted, int]] = {}
    for each in judged:
        name = each.image
        if single and each.plane is not None:
            name = f"{each.image} plane {each.plane}"
        rows = each.rows[min(chosen[each.fold], len(each.rows) - 1)]
        known = cases.get(name)
        cases[name] = (_joined(known[0], rows) if known else rows, each.fold)
    return cases


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
    output: Path, plan: Plan, judge: Judge, cases: Cases, k: int, choice: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of one fold's network."""
    own = {name: rows for name, (rows, fold) in cases.items() if fold == k}
    table = score_table(own.items(), judge.columns, judge.classes)
    whole = [row for row in table.of(table.statistic) if not row.label] or table.of(table.statistic)
    return {
        "fold": k,
        "images": len(plan.folds[k]["training"]),
        "judged": len(own),
        **training_of(output / FOLDS / str(k)),
        "scores": dict(whole[0].scores),
        **{id: value for id, value in choice.items() if judge.family == "instances"},
    }


def training_of(models: Path) -> dict[str, Any]:
    """Minutes and steps that a network learned for."""
    history = read_history(models / "learning_curve.csv")
    steps = read_record(models, TRAINING).get("iterations")
    return {"minutes": history[-1]["minutes"] if history else None, "steps": steps}


def _interval(cases: Cases, judged: Sequence[Judged]) -> str:
    if len(cases) < 2:
        return "no interval: it takes more than one image"
    text = f"2.5 % and 97.5 %: bootstrap over the {len(cases)} images, 1000 draws, seed 0"
    if len({each.image for each in judged}) == 1:
        text += "; they are planes of one stack, which are alike: other stacks may differ more"
    return text
