"""TensorBoard and MLflow through MONAI's handlers: what they log, and that none is needed."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest
from monai.bundle import ConfigParser

from unet_med import bundle
from unet_med.cli import main
from unet_med.data import SyntheticCells

SETTINGS: dict[str, Any] = {
    "features": [2, 4], "tile_size": 40, "epochs": 2, "val_interval": 1, "num_workers": 0,
    "label_kind": "instances", "tiles_per_epoch": 3,
}  # fmt: skip


def train(folder: Path, tracker: str) -> Path:
    """A bundle that was trained for two epochs with an override file."""
    SyntheticCells(2, (40, 40), num_cells=3).write(folder / "cells")
    path = bundle.override_file(tracker)
    assert path is not None
    images = {key: str(folder / "cells" / key) for key in ("images", "labels")}
    bundle.copy_bundle(folder / "bundle")
    bundle.write_settings(folder / "bundle", [path], {**SETTINGS, **images})
    bundle.load_workflow(folder / "bundle", "train").run()
    return folder / "bundle"


def history(folder: Path) -> dict[str, list[float]]:
    from unet_med.report.training import read_history

    rows = read_history(folder / "models" / "learning_curve.csv")
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_tensorboard_gets_losses_and_scores(tmp_path: Path) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    folder = train(tmp_path, "tensorboard")
    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted((folder / "models").glob("events*")):
        for event in loading.LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert [step for step, _ in found["train_loss"]] == [1, 2, 3, 4, 5, 6]
    losses = [loss for _, loss in found["train_loss"]]
    curve = history(folder)
    assert sum(losses[:3]) / 3 == pytest.approx(curve["loss"][0], rel=1e-5)
    assert [step for step, _ in found["val_mean_dice"]] == [1, 2]
    dice = [score for _, score in found["val_mean_dice"]]
    assert dice == pytest.approx(curve["val_mean_dice"], rel=1e-5)


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")  # MLflow's queries
def test_mlflow_gets_one_run_of_losses_scores_and_settings(tmp_path: Path) -> None:
    for package in ("mlflow", "sqlalchemy", "alembic"):  # mlflow-skinny comes without the others
        pytest.importorskip(package, reason="make mlflow installs what this needs")
    mlflow = importlib.import_module("mlflow")
    folder = train(tmp_path, "mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns.db")
    experiment = client.get_experiment_by_name("unet-med")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["preset"] == "paper2015"
    assert run.data.params["seed"] == "0"
    logged = client.get_metric_history(run.info.run_id, "val_mean_dice")
    curve = history(folder)
    assert [m.value for m in logged] == pytest.approx(curve["val_mean_dice"], rel=1e-5)
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 6


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_handlers_are_appended_and_their_targets_exist(tmp_path: Path, name: str) -> None:
    folder, path = bundle.copy_bundle(tmp_path / "b"), bundle.override_file(name)
    assert path is not None
    plain = json.loads((folder / "configs/train.json").read_text(encoding="utf-8"))
    merged = bundle.merge_config(folder / "configs/train.json", [path], {})
    by_monai = ConfigParser.load_config_files([folder / "configs/train.json", path])
    assert merged == by_monai
    for group in ("train", "validate"):
        before, after = plain[group]["handlers"], merged[group]["handlers"]
        assert after[:-1] == before
        assert locate(after[-1]["_target_"]) is not None
    untouched = bundle.merge_config(folder / "configs/inference.json", [path], {})
    assert untouched == json.loads((folder / "configs/inference.json").read_text(encoding="utf-8"))


def test_no_tracker_unless_asked_for() -> None:
    configs = bundle.find_bundle() / "configs"
    for name in ("train", "inference"):
        text = (configs / f"{name}.json").read_text(encoding="utf-8").lower()
        assert "tensorboard" not in text
        assert "mlflow" not in text


def test_a_missing_tracker_is_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    words = ["--images", "nowhere", "--output", str(tmp_path / "out"), "--config", "mlflow"]
    assert main(["train", *words]) == 2
    assert (
        "--config mlflow needs mlflow, sqlalchemy, alembic, not installed: "
        "pip install 'unet-med[mlflow]'"
    ) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
