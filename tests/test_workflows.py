"""The scripts in `workflows/`, and the demo, run as their readers run them."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

from unet_med.cli import demo, main
from unet_med.data import SyntheticCells

ROOT = Path(__file__).resolve().parents[1]
TINY = {"features": [2, 4, 8], "tile_size": 84, "epochs": 1, "num_workers": 0, "device": "cpu"}


def test_scripts_train_and_predict(tmp_path: Path) -> None:
    SyntheticCells(2, (64, 64), num_cells=5).write(tmp_path / "data")
    for part in ("configs", "workflows"):
        shutil.copytree(ROOT / part, tmp_path / "bundle" / part)
    train = runpy.run_path(str(tmp_path / "bundle/workflows/train.py"))["train"]
    predict = runpy.run_path(str(tmp_path / "bundle/workflows/predict.py"))["predict"]

    images, labels = str(tmp_path / "data/images"), str(tmp_path / "data/labels")
    settings = {**TINY, "device": "$torch.device('cpu')", "label_kind": "instances"}
    train(images, labels, **settings)
    assert (tmp_path / "bundle/models/model.pt").is_file()
    predict(
        str(tmp_path / "bundle"),
        str(tmp_path / "results"),
        [f"{images}/cells_000.tif"],
        features=TINY["features"],
    )
    written = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert written == ["cells_000_instances.tif", "cells_000_mask.tif"]


def test_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "TRAIN_IMAGES", 3)
    monkeypatch.setattr(demo, "TEST_IMAGES", 2)
    monkeypatch.setattr(demo, "VOLUME_SIZE", (64, 64, 4))
    monkeypatch.setattr(demo, "SETTINGS", {**demo.SETTINGS, "features": [2, 4, 8, 16]})
    output = tmp_path / "demo"
    assert main(["demo", "--output", str(output), "--minutes", "0.02"]) == 0
    said = capsys.readouterr().out
    for word in ("SEG", "DET", "mean of images", "demo.png", "unet-med predict"):
        assert word in said
    assert (output / "demo.png").stat().st_size > 10_000
    names = {path.name for path in (output / "results").iterdir()}
    assert {"cells_000_mask.tif", "cells_001_instances.tif", "volume_mask.nii.gz"} <= names
    assert main(["demo", "--output", str(output)]) == 2  # a folder in use is left alone
