"""`unet-med train --folds`: each image judged by a network that has not seen it."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from folded import line, six_cells, timed_plan
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from unet_med import Segmenter, bundle, metrics
from unet_med.cli import main
from unet_med.cli.saying import logged
from unet_med.data import cross_validation, find_pairs, image_cache, load_label, split_validation
from unet_med.fitting import HeldOut, cross_fitted, held_out
from unet_med.folds.judged import Judged
from unet_med.folds.networks import Network
from unet_med.folds.progress import Progress
from unet_med.folds.scores import _say, cases_of
from unet_med.folds.sharing import share_out
from unet_med.folds.training import _spared, _train, _train_one
from unet_med.handlers import TrainingBudget
from unet_med.networks import Ensemble, joined_weights, together, unet
from unet_med.planning import Plan, fingerprint, make_plan
from unet_med.report.folds import estimate, notes, too_short
from unet_med.report.scores import lower_is_better
from unet_med.report.table import CASE, HIGH, LOW, POOLED, ScoreRow, ScoreTable, read_scores
from unet_med.scoring.judging import judge_of
from unet_med.transforms import InstancesFromLogits

CHOSEN = ("threshold", "mask_threshold", "min_size")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return six_cells(tmp_path_factory.mktemp("six"))


@pytest.fixture(scope="module")
def folded(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("folded") / "bundle"
    assert main(line(data, output, "--folds", "3")) == 0
    return output


def test_one_network_learns_from_all_and_each_other_from_the_rest(folded: Path) -> None:
    plan = bundle.read_plan(folded)
    names = [entry["image"] for entry in plan["split"]["training"]]
    assert len(names) == 6
    held = [[entry["image"] for entry in split["validation"]] for split in plan["folds"]]
    assert sorted(name for part in held for name in part) == names
    for k, split in enumerate(plan["folds"]):
        assert {e["image"] for e in split["training"]} == set(names) - set(held[k])
    counts = [
        torch.load(path, weights_only=True)["settings"]["images"]
        for path in (folded / f"models/{part}resume/checkpoint.pt" for part in ("", "folds/1/"))
    ]
    assert counts == [6, 4]


def test_each_score_is_that_of_the_network_that_has_not_seen_the_image(
    folded: Path, data: Path
) -> None:
    reason = bundle.read_plan(folded)["ids"]["calibration"]["reason"]
    assert reason.startswith("fitted on 6 held-out images of 3 folds: expected calibration error")
    table = read_scores(folded / "models/folds/scores.json")
    rows = table.of(CASE)
    assert [row.note for row in rows] == [f"fold {k}" for k in (0, 0, 1, 1, 2, 2)]
    networks, found, truths = table.about["folds"], [], []
    for row in rows:
        k = int(row.note[-1])
        held = [entry["image"] for entry in bundle.read_plan(folded)["folds"][k]["validation"]]
        assert f"images/{row.case}.tif" in held
        weights = folded / f"models/folds/{k}/model.pt"
        choice = {id: networks[k][id] for id in CHOSEN}
        result = Segmenter(folded, checkpoint=weights, device="cpu", **choice)(
            str(data / f"images/{row.case}.tif")
        )
        found.append(result.instances.T)  # as labels are loaded, (X, Y)
        truths.append(np.asarray(load_label(str(data / f"labels/{row.case}.tif"))))
        expected = {"SEG": metrics.seg, "AP50": metrics.average_precision}
        for name, score in expected.items():
            assert row.scores[name] == pytest.approx(score(found[-1], truths[-1])), row.case
    [pooled] = table.of(POOLED)
    assert pooled.scores["AP50"] == pytest.approx(metrics.average_precision(found, truths))
    assert table.about["interval"].startswith("2.5 % and 97.5 %: bootstrap over the 6 images")


def test_all_networks_share_the_files_of_the_images(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[str] = []
    write = image_cache.write_item

    def note(path: Path, *item: Any) -> None:
        written.append(str(path.relative_to(tmp_path)))
        write(path, *item)

    monkeypatch.setattr(image_cache, "write_item", note)
    (tmp_path / "files.json").write_text('{"cache::max_bytes": 1}', encoding="utf-8")
    words = line(data, tmp_path / "bundle", "--folds", "2", "--config", f"{tmp_path}/files.json")
    assert main(words) == 0
    assert len(written) == len({*written}) == 2 * 6  # to learn from, and to validate
    assert capsys.readouterr().err.count("image_cache until the training has finished") == 1
    assert list(tmp_path.rglob("image_cache")) == []


def test_the_score_is_in_card_report_and_plan(folded: Path, tmp_path: Path) -> None:
    ids = bundle.read_plan(folded)["ids"]
    for id in CHOSEN:
        said = "fitted on 6 held-out images of 3 folds: AP 0."
        assert ids[id]["reason"].startswith(said)
    [pooled] = read_scores(folded / "models/folds/scores.json").of(POOLED)
    card = (folded / "docs/README.md").read_text(encoding="utf-8")
    assert card.startswith("# U-Net")
    assert f"| SEG | {pooled.scores['SEG']:.3f} |" in card
    assert "| all images | 6 |" in card
    assert card.count("| fold ") == 3
    assert main(["report", str(folded), "--output", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Score on images that a network has not seen" in page
    assert "all 3 folds (--ensemble)" in page
    assert "the folds have the score" in page


def test_what_is_fitted_for_a_fold_comes_from_the_others() -> None:
    """By hand: the second choice is better in fold 0 alone, so all but fold 0 are judged by it."""
    choices = [{"threshold": t, "mask_threshold": 0.4, "min_size": 4} for t in (0.5, 0.8)]
    better, worse = ([[[1, 12]], [[6, 12]]], [[[6, 12]], [[1, 12]]])
    counts = [np.array(rows) for rows in (better, better, better, better, worse, worse, worse)]
    assert cross_fitted(choices, counts, [0, 0, 0, 0, 1, 1, 1], 3) == {0: 0, 1: 1}
    assert cross_fitted(choices, counts, [0, 0, 0, 0, 1, 1, 1], 4) == {0: 0, 1: 1}
    assert cross_fitted(choices, counts, [0, 0, 0, 0, 1, 1, 1], 5) == {0: 0, 1: 0}


# --- the networks together


def test_an_ensemble_is_the_mean_of_the_logits(folded: Path, data: Path) -> None:
    image = str(data / "images/cells_000.tif")
    logits = []
    for k in range(3):
        weights = folded / f"models/folds/{k}/model.pt"
        one = Segmenter(folded, checkpoint=weights, device="cpu", tta=None)
        logits.append(one._segment({"image": [image]})["pred"])
    whole = Segmenter(folded, ensemble=True, device="cpu", tta=None)
    found = whole._segment({"image": [image]})["pred"]
    torch.testing.assert_close(torch.stack(logits).mean(0), found, rtol=1e-5, atol=1e-5)
    one = Segmenter(folded, device="cpu")
    assert whole.tiling.margin == one.tiling.margin
    assert whole.tiling.smallest == one.tiling.smallest


def test_predict_together_whole_and_by_blocks(folded: Path, data: Path, tmp_path: Path) -> None:
    image = str(data / "images/cells_000.tif")
    place = ["--bundle", str(folded), "--device", "cpu", "--ensemble"]
    assert main(["predict", image, *place, "--output", str(tmp_path / "whole")]) == 0
    blocks = ["--block", "24", "24", "--workers", "1", "--output", str(tmp_path / "b.ome.tif")]
    assert main(["predict", image, *place, *blocks]) == 0
    whole = tifffile.imread(tmp_path / "whole/cells_000_mask.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.ome.tif").squeeze(), whole)
    moved = tmp_path / "moved"
    folded.rename(moved)  # what a job keeps of the networks holds wherever the bundle lies
    try:
        again = ["predict", image, "--bundle", str(moved), *place[2:], "--resume", *blocks]
        assert main(again) == 0
    finally:
        moved.rename(folded)
    record = json.loads((tmp_path / "whole/record.json").read_text())
    assert record["weights"]["file"] == str(folded / "models/folds/ensemble.pt")


def test_networks_that_contradict_each_other_take_confidence(folded: Path, data: Path) -> None:
    image = str(data / "images/cells_000.tif")
    whole = Segmenter(folded, ensemble=True, device="cpu", tta=None)(image)
    mean = whole._item["pred"].argmax(0) > 0
    both = sizes = 0
    for k in range(3):
        one = Segmenter(
            folded, checkpoint=folded / f"models/folds/{k}/model.pt", device="cpu", tta=None
        )
        found = one._segment({"image": [image]})["pred"].argmax(0) > 0
        both, sizes = both + 2 * int((found & mean).sum()), sizes + int(found.sum() + mean.sum())
    assert whole._item["pred"].meta["agreement"].item() == pytest.approx(both / sizes, abs=1e-3)
    assert both < sizes


def test_without_folds_there_is_nothing_together(
    trained: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--bundle", str(trained), "--output", str(tmp_path / "out"), "--ensemble"]
    assert main(["predict", str(cells / "images/cells_000.tif"), *words]) == 2
    assert "holds no networks that predict together" in capsys.readouterr().err


def test_what_is_said_after_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    """Score and interval in a sentence; whose it is, and what the network of all images is."""
    rows = [ScoreRow(row, scores={"SEG": value}) for row, value in
            ((POOLED, 0.52), (f"{POOLED}{LOW}", 0.48), (f"{POOLED}{HIGH}", 0.56))]  # fmt: skip
    fold = {"fold": 0, "images": 8, "minutes": 6.0, "steps": 900, "judged": 2}
    about = {"unit": "images", "images": 10, "units": 10, "interval": "over 10", "subsets": 0,
             "one": {"minutes": 30.0, "steps": 1000}, "folds": [fold] * 5, "seen": 0}  # fmt: skip
    table = ScoreTable(("SEG",), tuple(rows), about)
    assert estimate(table) == (
        "Estimate for other images of this kind: SEG 0.520 (95 %: 0.480 to 0.560)."
    )
    whose, better = notes(table)
    assert whose == (
        "The score is of the folds' networks: each learned from about 80% of all images, for 6.0 "
        "minutes, and is scored on those that it has not learned from, 10 of the 10 images."
    )
    unjudged = notes(replace(table, about={**about, "folds": [{**fold, "judged": 1}] * 5}))[0]
    assert unjudged.endswith("that it has not learned from, 5 of the 10 images.")
    assert better.startswith(
        "The network of all images learned for 30.0 minutes, 5.0 times as long: it is likely to be "
    )
    with logged():
        _say(replace(table, about={**about, "seen": None}))
    said = capsys.readouterr().err
    assert [line in said for line in (estimate(table), whose, better)] == [True] * 3
    assert said.rstrip().endswith("do not say what they have learned from: if these images, the "
                                  "score flatters.")  # fmt: skip
    few = replace(table, about={**about, "units": 3})
    assert "SEG 0.520 (too few images for an interval)." in estimate(few)
    assert estimate(replace(table, rows=(ScoreRow(POOLED, scores={"SEG": None}),))) == ""


def test_folds_that_learned_too_short_are_said() -> None:
    one = {"minutes": 8.0, "steps": 1000}
    folds = [{"minutes": 1.5, "steps": steps} for steps in (200, 300)]
    assert too_short({"one": one, "folds": folds}) == (
        "The folds' networks learned for 250 steps each, the network of all images for 1000: the "
        "score may be far too low for it. With --minutes 32 they learn for about as many."
    )  # half of 32 minutes are two times eight
    with_curve = too_short({"one": one, "folds": folds, "subsets": 4})
    assert "With --minutes 96 they" in with_curve  # six networks share the other half
    assert "--minutes" not in too_short({"one": {**one, "minutes": None}, "folds": folds})
    assert too_short({"one": {**one, "steps": 500}, "folds": folds}) == ""
    assert too_short({"one": {**one, "steps": None}, "folds": folds}) == ""


def test_an_export_says_what_it_leaves(folded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(folded), "--format", "torchscript", "--statistics", "training"]) == 0
    assert "is the network of all images, without those of the folds" in capsys.readouterr().out


def test_an_ensemble_answers_for_its_networks(tmp_path: Path) -> None:
    one = unet(features=(2, 4))
    torch.save(one.state_dict(), tmp_path / "one.pt")
    both = together(unet(features=(2, 4)), 2)
    both.load_state_dict(joined_weights([tmp_path / "one.pt"] * 2))
    assert isinstance(both, Ensemble)
    assert together(one) is one
    x = torch.randn(1, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(both.eval()(x), one.eval()(x))
    assert (both.margin, both.stride, both.input_size_for(1)) == (
        one.margin, one.stride, one.input_size_for(1)
    )  # fmt: skip
    with pytest.raises(AttributeError):
        both.nothing  # noqa: B018


# --- going on


def test_an_ensemble_adds_up_in_float32() -> None:
    pair = Ensemble(unet(features=(2, 4), padding="same", dropout=0.0), 2).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = pair(torch.rand(1, 1, 8, 8))
        one = pair.members[0](torch.rand(1, 1, 8, 8))
    assert (one.dtype, logits.dtype) == (torch.bfloat16, torch.float32)


def test_a_plan_without_folds_leaves_none_of_an_earlier_one(folded: Path, tmp_path: Path) -> None:
    plan = bundle.read_plan(folded)
    assert plan["folds"]
    copy = bundle.copy_bundle(tmp_path / "copy")
    bundle.write_plan(copy, plan)
    assert bundle.read_plan(copy)["folds"] == plan["folds"]
    bundle.write_plan(copy, {key: part for key, part in plan.items() if key != "folds"})
    assert "folds" not in bundle.read_plan(copy)


@pytest.mark.long
def test_a_training_goes_on_with_the_fold_that_is_missing(
    folded: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(folded, tmp_path / "copy"))
    progress = copy / "models/folds/progress.json"
    kept = json.loads(progress.read_text())
    assert kept["done"] == ["one", "0", "1", "2"]
    progress.write_text(json.dumps({**kept, "done": ["one", "0", "2"]}))
    shutil.rmtree(copy / "models/folds/1")
    before = {k: (copy / f"models/folds/{k}/model.pt").stat().st_mtime_ns for k in (0, 2)}
    assert main(line(data, copy, "--resume")) == 0
    said = capsys.readouterr().err
    assert "fold 2 of 3" in said
    assert "fold 1 of 3" not in said
    assert {k: (copy / f"models/folds/{k}/model.pt").stat().st_mtime_ns for k in (0, 2)} == before
    for part in ("models/folds/1/model.pt", "models/folds/ensemble.pt"):
        states = [torch.load(f / part, weights_only=True) for f in (folded, copy)]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    tables = [read_scores(f / "models/folds/scores.json").rows for f in (folded, copy)]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("written", [False, True])
def test_minutes_are_halved_and_a_new_budget_begins_anew(
    written: bool, data: Path, tmp_path: Path
) -> None:
    """Whether an option says that there are folds, or an override file."""
    (tmp_path / "folds.json").write_text('{"folds": 2}', encoding="utf-8")
    files = [tmp_path / "folds.json"] * written
    asked = {"minutes": 6.0, **({} if written else {"folds": 2})}
    plan = make_plan(fingerprint(data / "images", data / "labels"), asked, overrides=files)
    assert plan.value("minutes") == 3.0
    assert plan.ids["minutes"].reason == "half of 6 minutes: the other half is for the folds"
    progress = Progress.of(tmp_path, plan)
    assert progress.total == 3.0
    progress.finish("one", overhead=12.0)
    progress.share(1.2, 4)
    again = Progress.of(tmp_path, plan)
    assert (again.done, again.overhead, again.minutes, again.images) == (["one"], 12.0, 1.2, 4)
    longer = replace(plan, ids={**plan.ids, "minutes": replace(plan.ids["minutes"], value=5.0)})
    assert Progress.of(tmp_path, longer).done == []


@pytest.mark.parametrize(
    ("takes", "twice", "minutes", "images"),
    [
        (2.0, False, 68 / 60, 4),
        (1.0, True, 68 / 60, 4),
        (40.0, False, 28 / 60, 1),
        (60.0, False, 18 / 60, 1),
    ],
)
def test_judging_is_part_of_the_minutes(
    takes: float,
    twice: bool,
    minutes: float,
    images: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By hand: 90 s a fold, 12 of them to load; 1.25 times what an image takes, for four images.

    Probabilities that count take a second look.
    """
    progress = Progress(tmp_path / "progress.json", 100, 3.0, ["one"], overhead=12.0)
    plan = timed_plan(monkeypatch, [0.0, takes], [[9] * 4] * 2, calibrated=twice)
    share_out(tmp_path, {}, plan, progress)
    assert progress.minutes == pytest.approx(minutes)
    assert progress.images == images


@pytest.mark.parametrize(
    ("total", "minutes", "images"),
    [(180.0, (90 - 12 - 5 - 30) / 60, 3), (100.0, (50 - 12 - 5 - 6.25) / 60, 1)],
)
def test_images_take_time_by_their_pixels(
    total: float, minutes: float, images: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: 4 s to load, 2 s for an image of 100 px, times 1.25.

    Folds take 15 s and 45 s for three images, 5 s and 42.5 s for two, 10 s and 2.5 s for one. They
    have half of 90 s, or of 50 s, less what loading takes.
    """
    plan = timed_plan(monkeypatch, [4.0, 2.0], [[100, 400, 100], [1600, 100, 100]])
    progress = Progress(tmp_path / "progress.json", 100, total / 60, ["one"], overhead=12.0)
    share_out(tmp_path, {}, plan, progress)
    assert progress.images == images
    assert progress.minutes == pytest.approx(minutes)


def test_what_a_training_takes_besides_its_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that went on at 4 of 6 minutes, of which a half is reserved: 12 s more than its two."""
    budget = TrainingBudget(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 1.0), 6.0)
    budget.load_state_dict({"elapsed_minutes": 4.0})
    budget.reserve(0.5, "validation")
    clock = iter([100.0, 100.0 + 2 * 60 + 12])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    parser = SimpleNamespace(get_parsed_content={"budget": budget}.__getitem__)
    workflow = SimpleNamespace(parser=parser, run=lambda: setattr(budget, "elapsed_minutes", 5.5))
    monkeypatch.setattr(bundle, "load_workflow", lambda *_: workflow)
    assert _train_one(tmp_path, {}) == pytest.approx(12)


def test_a_training_is_gone_when_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU each would find less room than the one before."""
    trained: list[Any] = []

    def run() -> None:
        assert [network() for network in trained] == [None] * len(trained)
        network: Any = torch.nn.Linear(1, 1)
        network.trainer = SimpleNamespace(network=network)  # an engine and its handlers
        trained.append(weakref.ref(network))

    monkeypatch.setattr(bundle, "load_workflow", lambda *_: SimpleNamespace(run=run))
    progress: Any = SimpleNamespace(minutes=None, is_done=lambda name: False, finish=lambda name: 0)
    networks = [Network(str(k), f"folds/{k}", "folds.json", k, k) for k in range(3)]
    gc.disable()
    try:
        _train(tmp_path, {}, networks, progress, "fold")
    finally:
        gc.enable()
    assert len(trained) == 3


def test_networks_that_share_images_are_spared_to_load_them() -> None:
    """But for the fifth that each fold of five holds out."""
    cache = SimpleNamespace(before=SimpleNamespace(seconds=10.0))
    assert _spared({"cache": cache}, 5) == pytest.approx(8)
    assert _spared({}, 5) == 0


# --- what is held out


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=9), count=st.integers(2, 9))
def test_each_image_is_held_out_once_and_groups_stay_together(sizes: list[int], count: int) -> None:
    items = [{"image": f"{g}_{k}.png", "who": g} for g, n in enumerate(sizes) for k in range(n)]
    if count > len(sizes):
        with pytest.raises(ValueError, match=f"--folds {count}: there are {len(sizes)} images or"):
            cross_validation(items, count, group="who")
        return
    splits = cross_validation(items, count, group="who")
    held = [item for _, part in splits for item in part]
    assert sorted(item["image"] for item in held) == sorted(item["image"] for item in items)
    for training, part in splits:
        assert {item["who"] for item in training}.isdisjoint(item["who"] for item in part)
        assert len(training) + len(part) == len(items)


def test_a_single_stack_is_cut_into_contiguous_blocks() -> None:
    items = [{"image": "stack.tif", "slice": k} for k in range(7)]
    held = [[item["slice"] for item in part] for _, part in cross_validation(items, 3)]
    assert held == [[0, 1], [2, 3], [4, 5, 6]]
    two = [{"image": f"{name}.tif", "slice": k} for name in "ab" for k in range(3)]
    assert [{i["image"] for i in part} for _, part in cross_validation(two, 2)] == [
        {"a.tif"}, {"b.tif"}
    ]  # fmt: skip


def test_folds_of_a_list_and_of_a_file(tmp_path: Path) -> None:
    items = [{"image": f"{k}.png", "fold": k % 3} for k in range(6)]
    held = [[item["image"] for item in part] for _, part in cross_validation(items, 3)]
    assert held == [["0.png", "3.png"], ["1.png", "4.png"], ["2.png", "5.png"]]
    with pytest.raises(ValueError, match="--folds 4: the data list has 3 folds of its own"):
        cross_validation(items, 4)
    file = tmp_path / "splits_final.json"
    file.write_text(
        json.dumps([{"train": ["0", "1"], "val": ["2"]}, {"train": ["2"], "val": ["0", "1"]}])
    )
    plain = [{"image": f"{k}.png"} for k in range(3)]
    held = [[item["image"] for item in part] for _, part in cross_validation(plain, 2, file=file)]
    assert held == [["2.png"], ["0.png", "1.png"]]
    with pytest.raises(ValueError, match=r"splits_final.json has 2 folds of its own: give --folds"):
        cross_validation(plain, 3, file=file)


def test_options_that_say_something_else(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line(data, tmp_path / "out", "--folds", "2", "--plan-only")
    assert main([*words, "--validation", "0.3"]) == 2
    said = "--folds 2 holds each image out once, so --validation has no effect"
    assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--fold", "0/2"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_what_a_split_keeps_apart_is_in_no_fold(data: Path, tmp_path: Path) -> None:
    names = [f"cells_{k:03d}" for k in range(6)]
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"training": names[:4], "validation": names[4:]}))
    found = fingerprint(data / "images", data / "labels")
    plan = make_plan(found, {"folds": 2, "split_file": str(file)})
    assert [len(plan.split[part]) for part in ("training", "validation")] == [4, 2]
    assert plan.split["seen"] is False
    for split in plan.folds:
        files = {entry["image"] for part in split.values() for entry in part}
        assert files == {f"images/{name}.tif" for name in names[:4]}
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_list_of_splits_names_all_that_is_learned_from(data: Path, tmp_path: Path) -> None:
    """Six images: one is in no split, one is learned from in both and never held out."""
    names = [f"cells_{k:03d}" for k in range(6)]
    file, found = tmp_path / "splits.json", fingerprint(data / "images", data / "labels")
    halves = [
        {"train": [names[4], *names[:2]], "val": names[2:4]},
        {"train": [names[4], *names[2:4]], "val": names[:2]},
    ]
    file.write_text(json.dumps(halves))
    plan = make_plan(found, {"folds": 2, "split_file": str(file)})
    learned = [entry["image"] for entry in plan.split["training"]]
    assert learned == [f"images/{name}.tif" for name in names[:5]]
    assert plan.ids["split_file"].reason == (
        "all 5 images are learned from, and 4 of them are held out in one of 2 folds; 1 in none "
        "of them, left out"
    )
    halves[1]["val"].append(names[2])
    halves[1]["train"].remove(names[2])
    file.write_text(json.dumps(halves))
    with pytest.raises(ValueError, match=r"cells_002\.tif is held out by 2 folds, and its score"):
        make_plan(found, {"folds": 2, "split_file": str(file)})
    file.write_text(json.dumps(halves[:1]))
    for asked in ({"folds": 1}, {"learning_curve": True}):
        with pytest.raises(ValueError, match=r"splits\.json has 1 folds of its own, and"):
            make_plan(found, {**asked, "split_file": str(file)})


def test_images_without_a_fold_in_a_list_that_has_some_are_said(data: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.json"
    items = [
        {"image": f"{data}/images/cells_{k:03d}.tif", "label": f"{data}/labels/cells_{k:03d}.tif"}
        | ({"fold": k % 2} if k < 4 else {})
        for k in range(6)
    ]
    listing.write_text(json.dumps({"training": items}))
    plan = make_plan(fingerprint(listing), {"folds": 2})
    assert len(plan.split["training"]) == 6
    assert [len(split["training"]) for split in plan.folds] == [4, 4]
    said = "all 6 images are learned from, and 4 of them are held out in one of 2 folds"
    assert plan.ids["split_file"].reason == said


@pytest.mark.parametrize("count", [0, 1, -2])
def test_fewer_than_two_folds_are_none(count: int) -> None:
    items = [{"image": f"{k}.png"} for k in range(4)]
    with pytest.raises(ValueError, match=f"--folds {count}: there are 4 images .* from 2 to 4"):
        cross_validation(items, count)
    with pytest.raises(ValueError, match="the data list has 1 folds of its own, and folds take"):
        cross_validation([{**item, "fold": 0} for item in items], count)


def test_a_block_in_the_middle_of_a_stack_leaves_two_pieces(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    label = np.zeros((9, 24, 24), np.uint8)
    label[:, 4:12, 4:12] = 255
    pixels = rng.integers(0, 255, label.shape).astype(np.uint8)
    tifffile.imwrite(tmp_path / "images/s.tif", pixels, metadata={"axes": "ZYX"}, ome=True)
    tifffile.imwrite(tmp_path / "labels/s.tif", label, metadata={"axes": "ZYX"}, ome=True)
    words = ["--images", f"{tmp_path}/images", "--labels", f"{tmp_path}/labels", "--dims", "2"]
    assert main(["init", str(tmp_path / "b"), *words, "--fold", "1/3"]) == 0
    pairs = find_pairs(tmp_path / "images", tmp_path / "labels", stacks=True)
    file = tmp_path / "b/configs/split.json"
    training, held = split_validation(pairs, fold="1/3", file=file)
    assert [item["slice"] for item in training] == [0, 1, 2, 6, 7, 8]
    assert [item["slice"] for item in held] == [3, 4, 5]
    plan = make_plan(fingerprint(tmp_path / "images", tmp_path / "labels"), {"folds": 3})
    assert [split["validation"][0]["slices"] for split in plan.folds] == [[0, 3], [3, 6], [6, 9]]


# --- what is counted


def plan_like(data: Path, kind: str, **ids: Any) -> Plan:
    plan = make_plan(fingerprint(data / "images", data / "labels"), {"label_kind": "instances"})
    more = {"label_kind": kind, "out_channels": 3, "class_values": None, "class_names": None, **ids}
    known = {id: replace(plan.ids["seed"], value=value) for id, value in more.items()}
    return replace(plan, ids={**plan.ids, **known})


def held(truth: np.ndarray, result: np.ndarray, classes: int) -> HeldOut:
    scores = np.stack([result == k for k in range(classes)]).astype(np.float32)
    rule = InstancesFromLogits(0, softmax=False, grow=0)
    known = truth.astype(np.int64)
    return HeldOut(torch.from_numpy(scores), known, (1.0, 1.0), rule, (2.0, 2.0), "um")


def test_classes_and_masks_are_counted_as_evaluate_does(data: Path) -> None:
    truth = np.zeros((10, 12), int)
    truth[1:5, 1:5], truth[6:9, 2:8] = 1, 2
    result = np.zeros_like(truth)
    result[1:5, 1:3], result[6:9, 2:8] = 1, 2
    judge = judge_of(plan_like(data, "classes", class_names=["liver", "spleen"]))
    assert judge.family == "clinical"
    [counted] = judge.count(held(truth, result, 3), [{}])
    dice = {value: judge.columns["Dice"].pool(rows["Dice"]) for value, rows in counted.items()}
    assert dice == pytest.approx({1: 2 * 8 / (8 + 16), 2: 1.0})
    assert judge.classes is not None
    assert judge.classes.name_of(2) == "spleen"
    [area] = [name for name in judge.columns if name.startswith("area")]
    assert counted[1][area][0, 0] == 8 * 4.0  # pixels of 2 x 2 um
    judge = judge_of(plan_like(data, "mask", out_channels=2))
    assert judge.family == "isbi"
    [counted] = judge.count(held(truth, (truth > 0).astype(int), 2), [{}])
    assert judge.columns["pixel error"].pool(counted[0]["pixel error"]) == 0.0
    assert judge.columns["V_Rand"].pool(counted[0]["V_Rand"]) == pytest.approx(1.0)


def test_images_of_several_units_are_measured_in_that_of_the_first(data: Path) -> None:
    """The same pixels, 1 um and 0.001 mm long; masks are in millimetres where all are."""
    truth, result = np.zeros((12, 12), int), np.zeros((12, 12), int)
    truth[2:6, 2:6], result[2:6, 4:9] = 1, 1
    plan = plan_like(data, "classes")
    judge, one = judge_of(plan), held(truth, result, 2)
    expected = metrics.hd95(result > 0, truth > 0, (1.0, 1.0))
    for size, unit in ((1.0, "um"), (0.001, "mm")):
        [counted] = judge.count(replace(one, spacing=(size, size), unit=unit), [{}])
        assert judge.columns["HD95 um"].pool(counted[1]["HD95 um"]) == pytest.approx(expected)
        assert judge.columns["area um^2"].pool(counted[1]["area um^2"]) == pytest.approx(20)
    masks = [plan_like(data, "mask", out_channels=2) for _ in range(2)]
    for k, units in enumerate((["mm", "um"], ["mm", "mm"])):
        cases = plan.seen.cases[:2]
        images = [replace(c.image, unit=unit) for c, unit in zip(cases, units, strict=True)]
        seen = tuple(replace(c, image=image) for c, image in zip(cases, images, strict=True))
        own = replace(masks[k], data=replace(plan.seen, cases=seen))
        assert judge_of(own).family == ("isbi", "clinical")[k]


def test_a_held_out_image_says_its_unit() -> None:
    image = MetaTensor(torch.zeros(1, 4, 4), torch.diag(torch.tensor([0.001, 0.002, 1, 1])))
    image.meta["spatial_unit"] = "mm"
    found = SimpleNamespace(probabilities=np.zeros((2, 4, 4), np.float32), ratios=(1.0, 1.0))

    class Segments:
        rule = None

        def __call__(self, image: Any) -> Any:
            return found

    segmenter: Any = Segments()
    one = held_out(segmenter, {"image": image, "label": torch.zeros(1, 4, 4)})
    assert (one.spacing, one.unit) == (pytest.approx((0.001, 0.002)), "mm")


def test_distances_within_planes_of_volumes_are_named_apart(data: Path) -> None:
    """`unet-med evaluate` measures such results as volumes."""
    plan = plan_like(data, "classes", spatial_dims=2)
    cases = [replace(c, image=replace(c.image, shape=(48, 40, 9))) for c in plan.seen.cases]
    names = [*judge_of(replace(plan, data=replace(plan.seen, cases=tuple(cases)))).columns]
    assert names[:4] == ["Dice", *(f"{n} um in plane" for n in ("HD95", "ASSD", "NSD 1"))]
    assert [lower_is_better(name) for name in names[:4]] == [False, True, True, False]
    assert "HD95 um" in judge_of(plan).columns


def test_planes_count_with_their_file_but_those_of_the_only_stack() -> None:
    row = {0: {"SEG": np.array([[1.0]])}}
    each = [Judged((f"{n}.tif",), plane, 7, 0, [row]) for n in ("a", "b") for plane in (0, 1)]
    cases = cases_of(each, {0: 0})
    assert {n: len(case.counted[0]["SEG"]) for n, case in cases.items()} == {"a": 2, "b": 2}
    assert list(cases_of(each[:2], {0: 0})) == ["a plane 0", "a plane 1"]
