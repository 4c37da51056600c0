"""What the folds' networks counted becomes a score: cases by their files, intervals by groups."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from folded import judged_untrained

from unet_med import Segmenter, bundle, folds, metrics
from unet_med.cli import main
from unet_med.data import SyntheticCells
from unet_med.fitting import NearBorders, calibrate, cross_fitted
from unet_med.folds.fits import _calibrate, _counts, calibrations_of
from unet_med.folds.judged import Judged
from unet_med.folds.scores import cases_of, score
from unet_med.planning import Plan
from unet_med.report.folds import card, describe_folds
from unet_med.report.table import CASE, HIGH, LOW, MEAN, POOLED, read_scores
from unet_med.report.training import _about_validation
from unet_med.scoring.judging import Judge
from unet_med.scoring.scores import Column
from unet_med.scoring.tables import Classes

PATIENTS = {"p1/t1": "a", "p2/t1": "a", "p3/t1": "b", "p3/t2": "b", "p4/t3": "c"}


@pytest.fixture(scope="module")
def judgement(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, folds.Judgement]:
    """A data list of five images of three patients, three of which have one stem; and its folds."""
    folder = tmp_path_factory.mktemp("cohort")
    SyntheticCells(5, (48, 40), num_cells=4).write(folder / "cells")
    items = []
    for k, (name, patient) in enumerate(PATIENTS.items()):
        item = {"image": f"{name}.tif", "label": f"{name}_label.tif", "patient": patient}
        for part, file in (("images", item["image"]), ("labels", item["label"])):
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copy(folder / f"cells/{part}/cells_{k:03d}.tif", folder / file)
        items.append(item)
    (folder / "list.json").write_text(json.dumps({"training": items}))
    words = ["--images", str(folder / "list.json"), "--folds", "3", "--group", "patient"]
    return folder, judged_untrained(folder / "bundle", *words)


@pytest.fixture(scope="module")
def cohort(judgement: tuple[Path, folds.Judgement]) -> Path:
    return judgement[0]


def test_python_gets_what_is_written(judgement: tuple[Path, folds.Judgement]) -> None:
    folder, found = judgement
    written = read_scores(folder / "bundle/models/folds/scores.json")
    assert [(row.case, row.scores) for row in found.scores.rows] == [
        (row.case, row.scores) for row in written.rows
    ]
    assert found.curve is None


def test_folds_that_nobody_planned_are_not_trained(tmp_path: Path) -> None:
    laid = bundle.copy_bundle(tmp_path / "b")
    with pytest.raises(ValueError, match="b was planned without folds: plan it with `folds` or"):
        folds.train(laid)


def test_images_of_one_stem_are_cases_of_their_own(cohort: Path) -> None:
    """Each by the network of the fold that holds it out, anew."""
    table = read_scores(cohort / "bundle/models/folds/scores.json")
    rows = {row.case: row for row in table.of(CASE)}
    folds = {"a": "fold 0", "b": "fold 1", "c": "fold 2"}
    shown = {"p1/t1": "p1/t1", "p2/t1": "p2/t1", "p3/t1": "p3/t1", "p3/t2": "t2", "p4/t3": "t3"}
    assert {name: row.note for name, row in rows.items()} == {
        shown[name]: folds[patient] for name, patient in PATIENTS.items()
    }
    assert [fold["judged"] for fold in table.about["folds"]] == [2, 2, 1]
    for name, case in shown.items():
        k = int(rows[case].note[-1])
        choice = {
            id: table.about["folds"][k][id] for id in ("threshold", "mask_threshold", "min_size")
        }
        weights = cohort / f"bundle/models/folds/{k}/model.pt"
        one = Segmenter(cohort / "bundle", checkpoint=weights, device="cpu", **choice)
        truth = tifffile.imread(cohort / f"{name}_label.tif")
        found = one(str(cohort / f"{name}.tif")).instances
        assert rows[case].scores["SEG"] == pytest.approx(metrics.seg(found, truth))


def test_the_interval_is_over_patients(cohort: Path) -> None:
    """By hand: with three patients of equal draws, all 27 draws of them; here 1000 by seed 0."""
    table = read_scores(cohort / "bundle/models/folds/scores.json")
    assert table.about["interval"] == (
        "2.5 % and 97.5 %: bootstrap over the 3 groups of 5 images, 1000 draws, seed 0"
    )
    [mean], [low], [high] = (table.of(MEAN + end) for end in ("", LOW, HIGH))
    scores = [row.scores["DET"] for row in table.of(CASE)]
    assert mean.scores["DET"] == pytest.approx(np.mean(scores))
    patients = [scores[:2], scores[2:4], scores[4:]]
    draws = np.random.default_rng(0).integers(3, size=(1000, 3))
    means = [np.mean([s for k in draw for s in patients[k]]) for draw in draws]
    assert low.scores["DET"] == pytest.approx(np.quantile(means, 0.025))
    assert high.scores["DET"] == pytest.approx(np.quantile(means, 0.975))
    card = (cohort / "bundle/docs/README.md").read_text()  # three would be the worst and the best
    assert re.search(r"\| DET \| 0\.\d+ \| - \|\n", card)
    assert "too few images for an interval: it takes 6" in card


def judged(name: str, plane: int | None, fold: int, unit: int) -> Judged:
    return Judged((name,), plane, unit, fold, [{0: {"SEG": np.array([[float(fold)]])}}])


def test_planes_of_files_of_one_stem_stay_apart() -> None:
    each = [judged(f"set{k}/raw.tif", plane, k, k) for k in (1, 2) for plane in (0, 1, 2)]
    cases = cases_of(each, {1: 0, 2: 0})
    assert {n: (len(c.counted[0]["SEG"]), c.fold) for n, c in cases.items()} == {
        "set1/raw": (3, 1),
        "set2/raw": (3, 2),
    }


def test_planes_of_a_stack_choose_with_their_stack() -> None:
    """Four stacks of three planes in two folds: of the three that one takes, others leave two."""
    better, worse = ([[[1, 12]], [[6, 12]]], [[[6, 12]], [[1, 12]]])
    rows = [judged(f"{s}.tif", plane, s % 2, s) for s in range(4) for plane in range(3)]
    each = [replace(row, counts=np.array(better if row.fold else worse)) for row in rows]
    counts, folds = _counts(each)
    assert [own.tolist() for own in counts] == [
        (3 * np.array(better if s % 2 else worse)).tolist() for s in range(4)
    ]
    assert folds == [0, 1, 0, 1]
    alone = [replace(one, image=("a.tif",), unit=0) for one in each]
    assert _counts(alone)[1] == [one.fold for one in each]


def test_images_of_a_patient_choose_with_the_patient() -> None:
    """Two patients of six images: of one alone nothing is chosen for the other's, nor fitted."""
    better, worse = np.array([[[1, 12]], [[6, 12]]]), np.array([[[6, 12]], [[1, 12]]])
    near = NearBorders(torch.tensor([[0.1, 0.9], [0.9, 0.1]]), np.array([1, 1]))
    rows = [judged(f"{k}.tif", None, k % 2, k % 2) for k in range(12)]
    each = [replace(row, counts=worse if row.fold else better, near=near) for row in rows]
    counts, folds = _counts(each)
    assert [own.tolist() for own in counts] == [(6 * better).tolist(), (6 * worse).tolist()]
    assert cross_fitted([{"threshold": t} for t in (0.5, 0.6)], counts, folds, 3) == {0: 0, 1: 0}
    assert calibrations_of(each) == {0: None, 1: None}


def test_what_is_written_says_how_many_patients_it_is_fitted_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr("unet_med.folds.fits.write_calibration", lambda *w: said.append(w[2:]))
    rng = np.random.default_rng(0)
    near = NearBorders(torch.rand(2, 50), rng.integers(0, 2, 50))
    each = [replace(judged(f"{k}.tif", None, k % 3, k % 3), near=near) for k in range(9)]
    _calibrate(tmp_path, each)
    assert said == [("9 held-out images in 3 groups of 3 folds", "groups")]
    _calibrate(tmp_path, [one for one in each if one.fold])
    assert len(said) == 1


def test_a_stack_whose_planes_a_list_parts_is_a_case_in_each_fold() -> None:
    each = [judged(name, plane, plane, 3) for name in ("a.tif", "b.tif") for plane in (0, 1)]
    cases = cases_of(each, {0: 0, 1: 0})
    assert {name: case.fold for name, case in cases.items()} == {
        "a fold 0": 0, "a fold 1": 1, "b fold 0": 0, "b fold 1": 1
    }  # fmt: skip
    assert {case.unit for case in cases.values()} == {3}


def test_a_fold_in_whose_images_there_is_nothing_has_no_score(
    trained: Path, tmp_path: Path
) -> None:
    """Leave-one-out of three, one without a lesion in which none is found; then of none at all."""
    nothing = {"Dice": np.zeros((1, 2))}
    column = Column(lambda rows: float(rows[:, 0].sum() / s) if (s := rows[:, 1].sum()) else np.nan)
    judge = Judge("clinical", {"Dice": column}, lambda *_: [], Classes(str, nothing))
    plan = Plan.from_json(bundle.read_plan(trained))
    entries = [{"image": f"images/cells_{k:03d}.tif"} for k in range(3)]
    splits = [{"training": entries[:k] + entries[k + 1 :], "validation": [entries[k]]}
              for k in range(3)]  # fmt: skip
    plan = replace(plan, split={"training": entries, "validation": []}, folds=splits)
    found: Sequence[Any] = [{1: {"Dice": np.array([[8.0, 10]])}}, {}, {1: {"Dice": np.eye(1, 2)}}]
    each = [Judged((e["image"],), None, k, k, [found[k]]) for k, e in enumerate(entries)]
    copy = Path(shutil.copytree(trained, tmp_path / "b"))
    table = score(copy, plan, judge, each)
    assert [row.scores["Dice"] for row in table.of(CASE)] == [0.8, None, None]
    assert [fold["scores"]["Dice"] for fold in table.about["folds"]] == [0.8, None, None]
    assert "| fold 1 | 2 | - | - | Dice - on 1 |" in card(table)
    none = score(copy, plan, judge, [replace(one, rows=[{}]) for one in each])
    assert [row.scores for row in none.of(CASE, MEAN)] == [{"Dice": None}] * 4
    shown = describe_folds(copy)
    assert shown is not None
    assert [line["value"] for line in shown["headline"]] == ["-"]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([{"image": "s.tif", "slices": [7, 10]}], "3 planes of one stack: they are alike"),
        ([{"image": "s.tif", "slices": [0, 2]}, {"image": "s.tif", "slices": [4, 6]}], "4 planes"),
        ([{"image": "s.tif", "slices": [9, 10]}], "one image: no interval"),
        ([{"image": "a.tif"}], "one image: no interval"),
        ([{"image": "a.tif"}, {"image": "b.tif", "slices": [0, 5]}], "2 images: few"),
    ],
)
def test_what_held_out_images_can_tell(held: list[dict[str, Any]], said: str) -> None:
    sides = {"training": [{"image": "c.tif"}], "validation": held}
    split = {
        side: [{**entry, "sha256": {"image": entry["image"]}} for entry in entries]
        for side, entries in sides.items()
    }
    found = _about_validation({"split": split})
    assert found is not None
    assert found.startswith(said)


# --- masks


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four planes, without millimetres, on each a mask of two squares that meet at a corner."""
    folder, rng = tmp_path_factory.mktemp("masks"), np.random.default_rng(0)
    mask = np.zeros((40, 44), np.uint8)
    mask[4:16, 4:16] = mask[16:30, 16:30] = 255
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for k in range(4):
        own = np.roll(mask, 3 * k, axis=1)
        image = (own / 3 + rng.integers(0, 90, mask.shape)).astype(np.uint8)
        tifffile.imwrite(folder / f"images/{k}.tif", image)
        tifffile.imwrite(folder / f"labels/{k}.tif", own)
    places = ["--images", f"{folder}/images", "--labels", f"{folder}/labels"]
    judged_untrained(folder / "bundle", *places, "--folds", "4")
    return folder


def test_masks_are_scored_as_evaluate_scores_what_the_same_network_predicts(masks: Path) -> None:
    """`predict` by the fold's network, calibrated by the other folds, then `evaluate`."""
    table = read_scores(masks / "bundle/models/folds/scores.json")
    assert table.about["metrics"] == "isbi"
    rules = [fold["calibration"] for fold in table.about["folds"]]
    assert any(rules)
    one = Path(shutil.copytree(masks / "bundle", masks / "one"))
    for k, row in enumerate(table.of(CASE)):
        assert row.note == f"fold {k}"
        bundle.write_settings(one, [], {"calibration": rules[k]}, reason="that of the fold")
        shutil.copy(masks / f"bundle/models/folds/{k}/model.pt", one / "models/model.pt")
        image, place = masks / f"images/{row.case}.tif", masks / f"results{k}"
        words = ["--bundle", str(one), "--device", "cpu", "--probabilities"]
        assert main(["predict", str(image), *words, "--output", str(place)]) == 0
        scores, truth = str(place / "scores.json"), str(masks / f"labels/{row.case}.tif")
        assert main(["evaluate", str(place), truth, "--output", scores]) == 0
        [own] = read_scores(Path(scores)).of(POOLED)
        assert row.scores == pytest.approx(own.scores)


def test_a_fold_is_calibrated_by_the_others() -> None:
    """Networks of folds 0 to 2 are too sure by 1.5, 2 and 3: each is told what the others are."""
    each = []
    for k in range(9):
        rng, sure = np.random.default_rng(k), (1.5, 2.0, 3.0)[k % 3]
        logits = 2 * rng.standard_normal(4000)
        classes = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(np.int64)
        said = torch.from_numpy(np.stack([-logits, logits]) * sure / 2).softmax(0)
        each.append(replace(judged(f"{k}.tif", None, k % 3, k), near=NearBorders(said, classes)))
    rules = calibrations_of(each)
    for fold in range(3):
        others = [one for one in each if one.fold != fold]
        pixels = [one.near for one in others if one.near is not None]
        assert rules[fold] == calibrate(pixels, [one.fold for one in others]).rule
    temperatures = [(rules[fold] or {})["temperature"] for fold in range(3)]
    assert temperatures[0] > temperatures[1] > temperatures[2] > 1.4
    two = calibrations_of([one for one in each if one.fold])  # three images of the other one
    assert {fold: (rule or {})["temperature"] for fold, rule in two.items()} == pytest.approx(
        {1: 3.0, 2: 2.0}, rel=0.1
    )
    assert calibrations_of(each[:3]) == {0: None, 1: None, 2: None}  # two others are too few
