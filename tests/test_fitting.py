"""What held-out images decide, against verdicts that can be seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine, Events
from torch import nn

from unet_med import bundle
from unet_med.cli import main
from unet_med.data import SyntheticCells
from unet_med.fitting import (
    FitObjects,
    NearBorders,
    around,
    choose,
    count,
    planned_objects,
    write_calibration,
)
from unet_med.fitting.calibration import Calibration
from unet_med.fitting.timing import timed, within
from unet_med.handlers import TrainingBudget
from unet_med.handlers.training_state import random_state
from unet_med.metrics import average_precision
from unet_med.planning import DataFolder, Plan, fingerprint, lay_bundle, make_plan
from unet_med.planning.source import learned_by
from unet_med.transforms import InstancesFromLogits
from unet_med.workflows import UNetTrainWorkflow

PLANNED = {"threshold": 0.5, "mask_threshold": 0.4, "min_size": 4}
FREE = list(PLANNED)
RULE = InstancesFromLogits(4, 0.5, mask_threshold=0.4, reach=3, grow=0, softmax=False)
LEVELS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9]


def two_cells(outline: float, between: float) -> tuple[torch.Tensor, np.ndarray]:
    """Two squares of 6 px whose outline is dim and that a bridge joins, and the truth."""
    foreground, truth = np.full((12, 20), 0.05), np.zeros((12, 20), int)
    for number, left in ((1, 2), (2, 10)):
        foreground[3:9, left : left + 6] = outline
        foreground[4:8, left + 1 : left + 5] = 0.95
        truth[3:9, left : left + 6] = number
    foreground[4:8, 8:10] = between
    return torch.tensor(np.stack([1 - foreground, foreground])), truth


def verdict_on(images: list[tuple[torch.Tensor, np.ndarray]], planned: dict[str, Any]) -> Any:
    choices = around(planned, FREE)
    counts = [count(scores, truth, choices, RULE) for scores, truth in images]
    return choose(choices, np.stack(counts))


def test_counts_are_those_of_the_score() -> None:
    scores, truth = two_cells(outline=0.45, between=0.65)
    choices = around(PLANNED, FREE)
    counts = count(scores, truth, choices, RULE)
    for choice, rows in zip(choices, counts, strict=True):
        rule = {**choice, "reach": 3, "grow": 0, "softmax": False}
        found = InstancesFromLogits(**rule)(scores)[0].numpy()
        by_hand = np.mean([hits / (objects - hits) for hits, objects in rows])
        assert by_hand == pytest.approx(average_precision(found, truth, LEVELS))


def test_it_finds_what_the_images_say() -> None:
    """Cells that touch above one half need higher seeds, dim outlines a lower mask."""
    images = [two_cells(outline=0.35, between=0.75) for _ in range(4)]
    verdict = verdict_on(images, PLANNED)
    assert verdict.choice == {"threshold": 0.8, "mask_threshold": 0.3, "min_size": 4}
    assert verdict.score > verdict.before + 0.3
    assert verdict.before == pytest.approx(verdict_on(images, PLANNED).before)


def test_the_plan_stays_where_it_is_as_good_as_the_best() -> None:
    images = [two_cells(outline=0.45, between=0.3) for _ in range(4)]
    verdict = verdict_on(images, PLANNED)
    assert verdict.choice == PLANNED
    assert verdict.score == verdict.before


def test_one_image_alone_changes_nothing() -> None:
    """A gain that a single image makes is no more than images scatter."""
    usual = [two_cells(outline=0.45, between=0.3) for _ in range(3)]
    odd = two_cells(outline=0.45, between=0.75)
    assert verdict_on([*usual, odd], PLANNED).choice == PLANNED
    assert verdict_on([odd] * 4, PLANNED).choice["threshold"] == 0.8


@pytest.mark.parametrize("sizes", [(80, 10, 10), (100, 0, 0), (60, 20, 20)])
def test_an_image_of_most_objects_does_not_decide_alone(sizes: tuple[int, ...]) -> None:
    """A second choice that finds more in the first image alone; where all agree it is taken."""
    choices = [{**PLANNED, "threshold": seed} for seed in (0.4, 0.8)]
    hits = np.array([[size // 2, size // 2] for size in sizes])  # (images, choices)
    hits[0, 1] += sizes[0] // 4
    objects = 2 * np.array(sizes)[:, None].repeat(2, axis=1)
    verdict = choose(choices, np.stack([hits, objects], axis=-1)[:, :, None])
    assert verdict.choice["threshold"] == 0.4
    hits[:, 1] = hits[:, 0] + np.array(sizes) // 4
    agreed = choose(choices, np.stack([hits, objects], axis=-1)[:, :, None])
    assert agreed.choice["threshold"] == (0.4 if 0 in sizes else 0.8)


def test_the_nearest_of_what_is_alike_is_taken() -> None:
    """By hand: three choices, of which the best and the second are the same to each image."""
    choices = [{**PLANNED, "threshold": seed} for seed in (0.5, 0.8, 0.6)]
    hits = np.array([[1, 5, 5], [1, 6, 5], [1, 5, 6]])  # (images, choices)
    counts = np.stack([hits, np.full_like(hits, 12)], axis=-1)[:, :, None]
    verdict = choose(choices, counts)
    assert verdict.choice["threshold"] == 0.6
    assert verdict.before == pytest.approx(3 / 33)
    assert verdict.score == pytest.approx(16 / 20)


def test_only_what_is_free_is_tried() -> None:
    choices = around(PLANNED, ["mask_threshold"])
    assert choices[0] == PLANNED
    assert {choice["mask_threshold"] for choice in choices} == {0.3, 0.4, 0.5}
    assert {choice["threshold"] for choice in choices} == {0.5}
    assert {choice["min_size"] for choice in choices} == {4}
    assert around(PLANNED, []) == [PLANNED]


def test_sizes_are_those_of_the_networks_pixels() -> None:
    """An image of pixels half as wide: 4 px of the network are 16, which no object has."""
    foreground = np.zeros((8, 8))
    foreground[2:5, 2:5] = 0.9
    scores = torch.tensor(np.stack([1 - foreground, foreground]))
    truth = (foreground > 0).astype(int)
    choices = [{**PLANNED, "min_size": size} for size in (2, 4)]
    found = count(scores, truth, choices, RULE, ratios=(2.0, 2.0))[:, 0]
    np.testing.assert_array_equal(found, [[1, 2], [0, 1]])


# --- at the end of a training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    SyntheticCells(12, (48, 40), num_cells=4).write(folder)
    return folder


SMALL = {"features": [2, 4], "tile_size": 26, "epochs": 1, "validation_fraction": 0.25}  # 3 images


def plan_of(data: Path, **choices: Any) -> Plan:
    found = fingerprint(data / "images", data / "labels")
    return make_plan(found, {**SMALL, **choices})


def line(data: Path, output: Path, *words: str) -> list[str]:
    places = ["--images", f"{data}/images", "--labels", f"{data}/labels", "--output", str(output)]
    return ["train", *places, "--device", "cpu", *words]


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("fitted") / "bundle"
    words = ["--features", "2", "4", "--tile-size", "26", "--epochs", "1", "--validation", "0.25"]
    assert main(line(data, output, *words)) == 0
    return output


def ids_of(folder: Path) -> dict[str, Any]:
    ids: dict[str, Any] = json.loads((folder / "configs/plan.json").read_text())["ids"]
    return ids


def test_a_training_ends_with_the_fit(fitted: Path) -> None:
    ids = ids_of(fitted)
    inference = json.loads((fitted / "configs/inference.json").read_text())
    for id in FREE:
        assert ids[id]["reason"].startswith("fitted on 3 held-out images: AP 0."), id
        assert inference[id] == ids[id]["value"]
    assert inference["calibration"] == ids["calibration"]["value"]
    assert ids["calibration"]["reason"].startswith("fitted on 3 held-out images: expected cal")
    assert ids["reach"]["reason"] == "the median object's radius, px, 2 to 8"
    card = (fitted / "docs/README.md").read_text()
    for id in FREE:
        assert f"| `{id}` | {ids[id]['value']} | {ids[id]['reason']} |" in card
    split = bundle.read_plan(fitted)["split"]
    hashes = [[e["sha256"]["image"] for e in split[k]] for k in ("training", "validation")]
    known = learned_by(fitted)
    for own, taught in zip(hashes, (True, False), strict=True):
        assert {(known.has(image), known.chose(image)) for image in own} == {(taught, not taught)}


def test_the_same_from_python(data: Path, fitted: Path, tmp_path: Path) -> None:
    """As `python -m monai.bundle run` does it; without a fit the weights are the same."""
    plan = plan_of(data, fit=False)
    place = DataFolder.of(data / "images", data / "labels").settings("images", "labels")
    for name, fit in (("with", True), ("without", False)):
        folder = lay_bundle(plan, tmp_path / name)
        UNetTrainWorkflow(folder, **place, device=torch.device("cpu"), fit=fit).run()
        weights, same = (f / "models/model.pt" for f in (folder, fitted))
        states = [torch.load(file, weights_only=True) for file in (weights, same)]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    planned = plan.to_json()["ids"]
    for id in FREE:
        assert ids_of(tmp_path / "with")[id] == ids_of(fitted)[id]
        assert ids_of(tmp_path / "without")[id] == planned[id]


def test_an_image_is_timed_and_nothing_else_changes(data: Path, fitted: Path) -> None:
    place = DataFolder.of(data / "images", data / "labels").settings("images", "labels")
    workflow = UNetTrainWorkflow(fitted, **place, device=torch.device("cpu"), minutes=10.0)
    workflow.initialize()
    handler = workflow.parser.get_parsed_content("fitting")
    before = random_state()
    handler._reserve(Engine(lambda engine, batch: None))
    torch.testing.assert_close(random_state(), before, rtol=0, atol=0)
    assert len(handler.items) == 3
    assert 3 / 60 < handler.budget.reserved_minutes < 1
    assert handler._pixels() == [48 * 40] * 3


@pytest.mark.parametrize(("device", "seconds"), [("cpu", 5.0), ("cuda", 1.0)])
def test_the_first_work_of_a_gpu_tells_nothing_of_the_rest(
    device: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loads libraries and chooses kernels."""
    clock, takes = [0.0], [5.0, 1.0]
    monkeypatch.setattr("unet_med.fitting.timing.time.monotonic", lambda: clock[0])

    def work() -> None:
        clock[0] += takes.pop(0)

    assert timed(work, torch.device(device)) == seconds


def test_a_resumed_training_fits_again_from_the_plan(
    data: Path, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(fitted, tmp_path / "copy"))
    started = []

    def note(choices: Any, counts: Any) -> Any:
        started.append((choices[0], counts.shape))
        return choose(choices, counts)

    changed = {"threshold": 0.8, "mask_threshold": 0.3}
    bundle.write_settings(copy, [], changed, reason="fitted on 3 held-out images: AP 0.9")
    monkeypatch.setattr("unet_med.fitting.handler.choose", note)
    assert main(line(data, copy, "--resume", "--epochs", "2")) == 0
    planned = plan_of(data).ids
    tried = len(around({id: planned[id].value for id in FREE}, FREE))
    assert started == [({id: planned[id].value for id in FREE}, (3, tried, 9, 2))]


@pytest.mark.parametrize("place", ["models", "elsewhere"])
def test_what_was_fitted_is_taken_back_when_the_weights_change(
    place: str, data: Path, fitted: Path, tmp_path: Path
) -> None:
    """Whether or not something is fitted again; a training that has ended changes nothing."""
    copy = Path(shutil.copytree(fitted, tmp_path / "copy"))
    changed = {"threshold": 0.8, "mask_threshold": 0.3}
    bundle.write_settings(copy, [], changed, reason="fitted on 3 held-out images: AP 0.9")
    found = Calibration({"temperature": 2.0, "bias": None}, 0.2, 0.1)
    bundle.write_settings(copy, [], {"calibration": None}, reason="fitted on nothing")
    write_calibration(copy, found, "3 held-out images")
    before = ids_of(copy)
    engine = Engine(lambda engine, batch: None)
    handler = handler_of(copy, enabled=False)
    handler.weights = copy / place / "model.pt"
    handler.attach(engine)
    engine.add_event_handler(Events.STARTED, lambda e: e.terminate())
    engine.run([0], 2)  # nothing is left to learn
    assert ids_of(copy) == before
    engine = Engine(lambda engine, batch: None)
    handler.attach(engine)
    engine.run([0], 2)
    if place == "elsewhere":
        assert ids_of(copy) == before
        return
    planned, ids = plan_of(data).to_json()["ids"], ids_of(copy)
    card = (copy / "docs/README.md").read_text()
    assert (
        f"| `threshold` | {planned['threshold']['value']} | {ids['threshold']['reason']} |" in card
    )
    assert not any(learned_by(copy).chose(image) for image in learned_by(copy).held_out)
    inference = json.loads((copy / "configs/inference.json").read_text())
    for id in FREE:
        assert ids[id] == planned[id]
        assert inference[id] == planned[id]["value"]
    assert inference["calibration"] is None
    said = "weights that a training replaces: not calibrated before it has ended"
    assert said in ids["calibration"]["reason"]
    assert said in (copy / "docs/README.md").read_text()
    write_calibration(copy, found, "3 held-out images")  # the fit that follows
    assert ids_of(copy)["calibration"] == before["calibration"]


def test_images_of_a_group_count_as_one(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = fingerprint(data / "images", data / "labels")
    plans = [make_plan(found, {"group": "cells_0(.)", "fold": f"{k}/2"}) for k in (0, 1)]
    held = [len(plan.split["validation"]) for plan in plans]
    assert sorted(held) == [2, 10]
    plan = plans[held.index(10)]
    assert plan.value("fit") is False
    assert plan.ids["fit"].reason == "fewer than 3 images, stacks or groups are held out"
    folder = lay_bundle(plan, tmp_path / "bundle")
    names = [f"{data}/images/cells_0{k}.tif" for k in (10, 11, "00")]
    handler = handler_of(folder, held_out=[{"image": name, "label": name} for name in names])
    assert handler._units() == [0, 0, 1]
    handler._fit(Engine(lambda engine, batch: None))  # as the user's own `fit` asks for it
    assert "the planned values stay: 3 held-out images in 2 groups are too few" in caplog.text
    handler.items = [{"image": names[0], "slice": k} for k in range(4)]
    assert handler._units() == [0, 1, 2, 3]


READ = {"image": dict, "label": dict}


def handler_of(folder: Path, images: int = 3, **more: Any) -> FitObjects:
    items = [{"image": f"{k}.tif", "label": f"{k}.tif"} for k in range(images)]
    items = more.pop("held_out", items)
    given: dict[str, Any] = {"training": [], "load": READ, "network": nn.Conv2d(1, 2, 1), **more}
    return FitObjects(folder, folder / "models/model.pt", items, **given)


def test_too_few_images_decide_nothing(tmp_path: Path) -> None:
    assert handler_of(tmp_path).enabled
    assert not handler_of(tmp_path, images=2).enabled
    assert not handler_of(tmp_path, enabled=False).enabled
    assert not handler_of(tmp_path, load={"standardize": dict}).enabled  # these are no files
    same = [{"image": f"{k}.tif", "label": f"{k}.tif"} for k in range(3)]
    assert not handler_of(tmp_path, training=same).enabled  # one image serves both
    stack = [{"image": ["s.tif"], "label": "s.tif", "slice": k} for k in range(8)]
    apart = handler_of(tmp_path, held_out=stack[2:], training=[stack[k] for k in (0, 1, 2, 7)])
    assert [item["slice"] for item in apart.items] == [3, 4, 5, 6]


def test_what_is_asked_for_stays(data: Path, tmp_path: Path) -> None:
    plan = plan_of(data, threshold=0.9, min_size=3)
    folder = lay_bundle(plan, tmp_path / "bundle")
    planned, free = planned_objects(Plan.from_json(bundle.read_plan(folder)))
    assert free == ["mask_threshold"]
    assert planned == {"threshold": 0.9, "mask_threshold": 0.3, "min_size": 3}


def test_a_fit_that_fails_leaves_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(lambda engine, batch: None)
    handler_of(tmp_path / "no-bundle").attach(engine)
    engine.run([0], 1)
    what = "neither objects nor probabilities, the planned values stay: 'ids'"
    assert what in caplog.text


def test_a_calibration_that_fails_leaves_the_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("flat")

    near = NearBorders(torch.full((2, 4), 0.5), np.zeros(4, np.int64))
    handler = handler_of(tmp_path)
    for name, found in {"_choices": [], "_segmenter": None, "_look": (None, near)}.items():
        monkeypatch.setattr(handler, name, lambda *_, found=found: found)
    monkeypatch.setattr("unet_med.fitting.handler.calibrate", fail)
    handler._fit(Engine(lambda engine, batch: None))
    assert "probabilities are not calibrated: flat" in caplog.text
    assert "nothing is fitted" not in caplog.text


SMALL_PX, LARGE_PX = 256**2, 4096**2


@pytest.mark.parametrize(
    ("minutes", "seconds", "pixels", "images", "reserved"),
    [
        (10.0, 2.0, [9] * 6, 6, (1.25 * 2.0 * 6 + 3) / 60),
        (1.0, 1.2, [9] * 6, 4, (1.25 * 1.2 * 4 + 3) / 60),
        (1.0, 2.5, [9] * 6, 0, 0.0),
        (0.4, 0.01, [9] * 6, 0, 0.0),
        (10.0, 2.0, [9, 18, 9, 9], 4, (1.25 * 2.0 * 5 + 3) / 60),
        (10.0, 0.1, [SMALL_PX] * 5 + [LARGE_PX] * 2, 5, (1.25 * 0.1 * 5 + 3) / 60),
        (10.0, 2.0, [SMALL_PX] + [LARGE_PX] * 4, 5, (1.25 * 2.0 * (4 + 1 / 256) + 3) / 60),
        (10.0, 20.0, [SMALL_PX] + [LARGE_PX] * 4, 0, 0.0),
    ],
)
def test_time_is_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, seconds: float,
    pixels: list[int], images: int, reserved: float, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """`seconds` are those of the image of median size, whichever comes first."""
    budget = TrainingBudget(torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.0), minutes)
    handler = handler_of(tmp_path, images=len(pixels), budget=budget)
    timed = []
    monkeypatch.setattr(handler, "_seconds_of", lambda item, *_: timed.append(item) or seconds)
    monkeypatch.setattr(handler, "_pixels", lambda: pixels)
    largest = [k for k, count in enumerate(pixels) if count == sorted(pixels)[len(pixels) // 2]]
    every = list(handler.items)
    handler._reserve(Engine(lambda engine, batch: None))
    assert every.index(timed[0]) in largest
    assert len(handler.items) == images
    assert budget.reserved_minutes == pytest.approx(reserved)
    said = "neither objects nor probabilities: to load the network and predict 3 of them takes more"
    assert (said in caplog.text) == (images == 0)


@given(st.lists(st.floats(0.1, 10), max_size=12), st.floats(0.1, 40))
def test_what_is_fitted_to_keeps_to_the_time(seconds: list[float], limit: float) -> None:
    chosen = within(seconds, limit)
    assert chosen == sorted(set(chosen))
    assert sum(seconds[k] for k in chosen) <= limit
    cheapest = sorted(seconds)[:3]
    if len(cheapest) == 3 and max(cheapest) <= limit / 3:
        assert len(chosen) >= 3
    if not chosen:
        assert len(cheapest) < 3 or max(cheapest) > limit / 3


def test_the_reserve_ends_a_training_early() -> None:
    budget = TrainingBudget(torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.0), 10.0)
    engine = Engine(lambda engine, batch: None)
    engine.state.max_epochs, engine.state.epoch_length, engine.state.iteration = 1000, 10, 1
    budget.elapsed_minutes = 6.0
    assert budget.fraction(engine) == pytest.approx(0.6)
    budget.reserve(1.0, "fit")
    budget.reserve(2.0, "fit")
    assert budget.fraction(engine) == pytest.approx(0.75)
    budget.reserve(0.5, "validation")
    assert budget.fraction(engine) == pytest.approx(0.8)
    assert budget.left_minutes == pytest.approx(1.5)
    budget.reserve(10.0, "validation")  # no time at all
    assert budget.fraction(engine) == 1.0


@pytest.mark.parametrize(
    ("files", "groups", "said"),
    [
        ("aaabbc", [0, 0, 0, 1, 1, 2], ("6 held-out planes of 3 stacks", "stacks")),
        ("aaa", [0, 1, 2], ("3 held-out planes of one stack", "planes of it")),
        ("abc", [0, 1, 2], ("3 held-out images", "images")),
    ],
)
def test_planes_are_left_out_with_their_stack(
    files: str, groups: list[int], said: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [{"image": f"{file}.tif", "label": "", "slice": k} for k, file in enumerate(files)]
    handler = handler_of(Path("nowhere"), held_out=items)
    near = NearBorders(torch.full((2, 1), 0.5), np.zeros(1, np.int64))
    monkeypatch.setattr(handler, "_choices", list)
    monkeypatch.setattr(handler, "_segmenter", lambda *_: None)
    monkeypatch.setattr(handler, "_look", lambda *_: (None, near))
    seen: list[Any] = []
    module = "unet_med.fitting.handler."
    monkeypatch.setattr(f"{module}calibrate", lambda pixels, own: seen.append((len(pixels), own)))
    monkeypatch.setattr(f"{module}write_calibration", lambda *words: seen.append(words[2:]))
    handler._search(Engine(lambda engine, batch: None))
    assert seen == [(len(files), groups), said]
