"""A planned bundle: one plan in every config, no path of a machine, the same by every door."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tifffile
import torch
from config_files import config_of
from doors import monai_workflow
from monai.bundle import ConfigParser
from processes import finish, start_module

from unet_med import bundle
from unet_med.bundle.trust import foreign
from unet_med.cli import main
from unet_med.data import SyntheticCells, load_image
from unet_med.instances import separate
from unet_med.planning import DataFolder, Plan, describe, fingerprint, lay_bundle, make_plan
from unet_med.workflows import UNetInferWorkflow, UNetTrainWorkflow

CPU = "$torch.device('cpu')"
CONFIGS = ("train", "inference", "evaluate")
SMALL = {"features": [2, 4], "epochs": 1, "tiles_per_epoch": 6, "batch_size": 2}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cells")
    SyntheticCells(3, (48, 40), num_cells=5).write(folder)
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An override file of the user's, with a loss of their own."""
    path = tmp_path_factory.mktemp("own") / "mine.json"
    loss = {"_target_": "torch.nn.Identity"}
    ids = {**SMALL, "epochs": 2, "val_interval": 1, "augment::noise": loss}
    path.write_text(json.dumps({**ids, "augment::noise::_disabled_": True}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cells: Path, own: Path) -> Path:
    output = tmp_path_factory.mktemp("trained") / "out"
    assert train(cells, output, "--config", own) == 0
    return output


def train(cells: Path, output: Path, *words: Any) -> int:
    data = ["--images", f"{cells}/images", "--labels", f"{cells}/labels", "--device", "cpu"]
    return main(["train", *data, "--output", str(output), *map(str, words)])


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "models/model.pt", weights_only=True)
    return state


def test_every_config_holds_the_plan(trained: Path) -> None:
    ids = Plan.from_json(config_of(trained, "plan")).ids
    held = {name: set[str]() for name in CONFIGS}
    for name in CONFIGS:
        parser = ConfigParser(config_of(trained, name))
        for id, decision in ids.items():
            if id.split("::")[0] in parser and not id.startswith(("+", "augment::noise")):
                assert parser[id] == decision.value, f"{name}: {id}"
                held[name].add(id)
    assert set.intersection(*held.values()) >= {
        *("preset", "label_kind", "features", "spatial_dims", "in_channels", "out_channels"),
        *("element_size", "element_unit", "statistics"),
    }
    assert {"min_size", "tta"} <= held["inference"]
    assert {"validation_fraction", "slice_stacks"} <= held["evaluate"]


def test_the_plan_names_and_hashes_every_file(trained: Path, cells: Path) -> None:
    cases = Plan.from_json(config_of(trained, "plan")).data.cases
    names = [f"images/{path.name}" for path in sorted((cells / "images").iterdir())]
    assert [case.image.name for case in cases] == names
    for name in ("train", "evaluate"):
        config = config_of(trained, name)
        assert config["dataset_dir"] == "$@bundle_root + '/data'"
        assert config["images"] == "$@dataset_dir + '/images'"
        assert config["labels"] == "$@dataset_dir + '/labels'"


def test_dataset_dir_acts_in_prediction_too(trained: Path, cells: Path, tmp_path: Path) -> None:
    assert config_of(trained, "inference")["images"] == "@dataset_dir"
    settings = {"dataset_dir": f"{cells}/images", "output_dir": str(tmp_path), "device": CPU}
    bundle.load_workflow(trained, "inference", settings).run()
    assert len(list(tmp_path.glob("*_mask.tif"))) == 3


def test_no_path_of_the_machine_stays(trained: Path, cells: Path, own: Path) -> None:
    files = [path for path in trained.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        for place in (cells, own.parent, trained):
            assert str(place).encode() not in content, path
    assert config_of(trained, "train")["overrides"] == ["mine.json"]


def test_a_loss_of_the_users_own_does_not_make_a_bundle_foreign(trained: Path) -> None:
    assert foreign(trained) == []


def test_what_a_strangers_plan_names_for_prediction_is_said(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "copy")
    plan = config_of(copy, "plan")
    plan["ids"]["network_def::_target_"] = {"value": "subprocess.getoutput", "reason": ""}
    (copy / "configs/plan.json").write_text(json.dumps(plan), encoding="utf-8")
    assert foreign(copy) == ["subprocess.getoutput"]


@pytest.mark.parametrize("name", ["images", "it's", "a@b", "a#b::c", "$x %y", "ä\\n"])
def test_any_name_reaches_monai_as_it_is(name: str, trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained / "configs", tmp_path / "copy/configs").parent
    plan = config_of(copy, "plan")
    bundle.write_plan(copy, {"ids": {}, "data": {**plan["data"], "images": name}})
    parser = ConfigParser({**config_of(copy, "evaluate"), "dataset_dir": "/data"})
    assert parser.get_parsed_content("images") == f"/data/{name}"


# --- evaluate.json


def test_evaluation_reads_as_the_training_does() -> None:
    configs = bundle.find_bundle() / "configs"
    ours, theirs = (json.loads((configs / f"{n}.json").read_text()) for n in ("evaluate", "train"))
    sized = ours["load"].pop("element_size"), theirs["load"].pop("element_size")
    assert [part["keys"] for part in sized] == ["image", ["image", "label"]]  # labels as they are
    assert ours["load"] == theirs["load"]
    for part in ("prepare", "preprocessing", "dataloader", "postprocessing", "key_metric"):
        assert ours["validate"][part] == theirs["validate"][part]
    for id in set(ours) & set(theirs) - {"output_dir", "validate", "initialize", "run", "network"}:
        assert ours[id] == theirs[id], id


def evaluate(trained: Path, cells: Path, **settings: Any) -> list[list[str]]:
    """Rows of the file of single scores."""
    ids = {"dataset_dir": str(cells), "device": CPU, **settings}
    monai_workflow(trained, "evaluate", kind="infer", **ids).run()
    with (trained / "eval/val_mean_dice_raw.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def test_evaluation_finishes_as_the_prediction_does() -> None:
    configs = bundle.find_bundle() / "configs"
    names = ("evaluate", "inference")
    ours, theirs = (json.loads((configs / f"{n}.json").read_text()) for n in names)
    for step in ("softmax", "argmax"):
        assert ours["validate"]["finish"][step] == theirs["finish"][step]
    inferer = {**theirs["inferer"]}
    inferer.pop("progress")
    assert ours["validate"]["inferer"] == inferer
    for id in ("tta", "mirror_axes", "threshold", "mask_threshold"):
        assert ours[id] == theirs[id]


@pytest.mark.parametrize("sized", [{}, {"scale": 0.5}], ids=str)
def test_evaluation_alone_scores_the_masks_of_what_was_held_out(
    trained: Path, cells: Path, tmp_path: Path, sized: dict[str, Any]
) -> None:
    rules = {"tta": "flips", "threshold": 0.55, "mask_threshold": 0.52, **sized}
    rows = evaluate(trained, cells, **rules)
    assert len(rows) == 1
    settings = {"dataset_dir": f"{cells}/images", "output_dir": str(tmp_path), "device": CPU}
    bundle.load_workflow(trained, "inference", {**settings, **rules, "outputs": ["mask"]}).run()
    held_out = json.dumps(config_of(trained, "split")["validation"])
    (stem,) = set(re.findall(r"cells_\d+", held_out))
    mask = load_image(tmp_path / f"{stem}_mask.tif").numpy()[0] > 0
    true = separate(load_image(cells / f"labels/{stem}.tif").numpy()[0].astype(int)) > 0
    dice = 2 * (mask & true).sum() / (mask.sum() + true.sum())
    assert float(rows[0][1]) == pytest.approx(dice, abs=1e-6)
    assert len(evaluate(trained, cells, scored="@pairs")) == 3


# --- three doors


def test_three_doors_train_the_same_weights(cells: Path, tmp_path: Path) -> None:
    options = ["--features", "2", "4", "--epochs", "1", "--tile-size", "40"]
    assert train(cells, tmp_path / "command", *options) == 0

    data = ["--images", f"{cells}/images", "--labels", f"{cells}/labels", "--device", "cpu"]
    planned = tmp_path / "planned"
    assert main(["init", str(planned), *data, *options]) == 0
    words = ["run", "--bundle_root", planned, "--dataset_dir", cells, "--device", CPU]
    words += ["--config_file", planned / "configs/train.json"]
    words += ["--meta_file", planned / "configs/metadata.json"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    process = start_module("monai.bundle", words, tmp_path, partial(os.chdir, elsewhere))
    assert finish(process) == 0, (tmp_path / "stderr").read_text()

    choices = {"features": [2, 4], "epochs": 1, "tile_size": 40}
    plan = make_plan(fingerprint(cells / "images", cells / "labels"), choices)
    folder = lay_bundle(plan, tmp_path / "python")
    UNetTrainWorkflow(folder, dataset_dir=str(cells), device=torch.device("cpu")).run()

    first, *others = (weights_of(tmp_path / name) for name in ("command", "planned", "python"))
    for other in others:
        assert first.keys() == other.keys()
        for name, value in first.items():
            assert torch.equal(value, other[name]), name
    for name in (*CONFIGS, "plan", "metadata"):
        contents = {(tmp_path / f / f"configs/{name}.json").read_bytes() for f in
                    ("command", "planned", "python")}  # fmt: skip
        assert len(contents) == 1, name


# --- init, plan only, resume


def test_a_plan_alone_writes_nothing(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--images", f"{cells}/images", "--labels", f"{cells}/labels", "--device", "cpu"]
    assert main(["train", *words, "--plan-only"]) == 0
    said = capsys.readouterr().out
    assert "label_kind" in said
    assert "a number for each object" in said
    assert "  labels look like instances; --label-kind classes if a number means a kind" in said
    plan = make_plan(fingerprint(cells / "images", cells / "labels"))
    (line,) = [line for line in describe(plan).splitlines() if line.startswith("labels")]
    assert "(decided from the values; --label-kind classes if a number means a kind" in line
    assert main(["train", *words, "--plan-only", "--output", str(tmp_path / "out")]) == 0
    assert list(tmp_path.iterdir()) == []


def test_without_an_output_there_is_nothing_to_train(
    cells: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--images", f"{cells}/images", "--labels", f"{cells}/labels"]) == 2
    assert "--output is missing" in capsys.readouterr().err


def test_data_that_moved_are_found_again(
    trained: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shutil.copytree(trained, tmp_path / "out")
    shutil.copytree(cells / "images", tmp_path / "here/pictures")
    shutil.copytree(cells / "labels", tmp_path / "there/truth")
    words = ["--output", str(output), "--resume", "--epochs", "3", "--device", "cpu"]
    words += ["--images", f"{tmp_path}/here/pictures", "--labels", f"{tmp_path}/there/truth"]
    assert main(["train", *words]) == 0
    said = capsys.readouterr().err
    assert f"--images {tmp_path}/here/pictures --labels {tmp_path}/there/truth" in said
    rows = (output / "models/learning_curve.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3"]
    for path in (path for path in output.rglob("*") if path.is_file()):
        assert str(tmp_path).encode() not in path.read_bytes(), path
    assert config_of(output, "plan")["ids"]["epochs"]["value"] == 3


@pytest.mark.parametrize("part", ["images", "labels"])
def test_changed_data_are_refused_by_name(
    part: str, trained: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(cells, tmp_path / "data")
    path = tmp_path / "data" / part / "cells_001.tif"
    tifffile.imwrite(path, tifffile.imread(path)[::-1])
    assert train(tmp_path / "data", trained, "--resume") == 2
    assert f"{path} is not the file {part}/cells_001.tif" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(cells, tmp_path / "data")
    for part in ("images", "labels"):
        (tmp_path / "data" / part / "cells_001.tif").unlink()
    assert train(tmp_path / "data", trained, "--resume") == 2
    assert "2 image(s)" in capsys.readouterr().err


def test_an_override_file_that_changed_is_refused(
    trained: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({**SMALL, "epochs": 2}), encoding="utf-8")
    assert train(cells, trained, "--resume", "--config", tmp_path / "mine.json") == 2
    assert "mine.json is not what" in capsys.readouterr().err


# --- misspelt settings


def test_misspelt_settings_of_a_workflow_are_refused(trained: Path) -> None:
    with pytest.raises(ValueError, match=r"id featurs; did you mean features\?"):
        UNetTrainWorkflow(featurs=[2, 4])
    with pytest.raises(ValueError, match="augment has no elastik; it has"):
        UNetTrainWorkflow(**{"augment::elastik::prob": 0.1})
    with pytest.raises(ValueError, match=r"id output; did you mean outputs\?"):
        UNetInferWorkflow(trained, output=["mask"])


def test_settings_name_what_a_run_needs(cells: Path) -> None:
    folder = DataFolder.of(cells / "images", cells / "labels")
    assert folder.settings("images", "labels") == {"dataset_dir": str(cells)}
    moved = folder.settings("old/images", "labels")
    assert moved["images"] == str(cells / "images")
