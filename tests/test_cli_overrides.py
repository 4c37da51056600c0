"""`unet-med train --config`, and which image of a file it trains on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from config_files import config_of
from monai.bundle import ConfigParser

from unet_med import bundle
from unet_med.cli import main
from unet_med.data import load_image

TRAIN = ["--epochs", "1", "--device", "cpu"]


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """An override file that makes a training short."""
    return few_tiles(tmp_path)


def few_tiles(folder: Path) -> Path:
    path = folder / "few.json"
    path.write_text(json.dumps({"tiles_per_epoch": 2, "batch_size": 2}), encoding="utf-8")
    return path


def train(cells: Path, output: Path, *words: Any) -> int:
    data = ["--images", f"{cells}/images", "--labels", f"{cells}/labels"]
    return main(["train", *data, "--output", str(output), *TRAIN, *map(str, words)])


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An override file of the user's."""
    path = tmp_path / "own.json"
    said = {"features": [2, 4], "batch_size": 2, "tiles_per_epoch": 3, "tile_size": 48, "seed": 7}
    path.write_text(json.dumps(said), encoding="utf-8")
    return path


def test_files_hold_in_their_order_and_options_win(cells: Path, own: Path, tmp_path: Path) -> None:
    last = tmp_path / "last.json"
    last.write_text(json.dumps({"batch_size": 1, "learning_rate": 0.01}), encoding="utf-8")
    output = tmp_path / "out"
    assert train(cells, output, "--config", own, last, "tensorboard", "--seed", 5) == 0
    config = config_of(output)
    found = {key: config[key] for key in ("features", "batch_size", "tiles_per_epoch", "tile_size")}
    assert found == {"features": [2, 4], "batch_size": 1, "tiles_per_epoch": 3, "tile_size": 48}
    assert config["learning_rate"] == 0.01  # over the 0.002 of the preset
    assert config["seed"] == 5
    assert config["overrides"] == ["own.json", "last.json", "tensorboard.json"]
    files = [bundle.find_bundle() / "configs" / f"{name}.json" for name in ("train", "modern")]
    files += [own, last, bundle.find_override("tensorboard")]
    by_monai = ConfigParser.load_config_files([str(path) for path in files])
    told_by_the_images = {"label_kind", "slice_stacks", "min_size", "seed", "epochs", "overrides"}
    told_by_the_images |= {"split_file"}
    assert {k for k in config if config[k] != by_monai[k]} == told_by_the_images - {"min_size"}
    assert "TensorBoard" in config["train"]["handlers"][-1]["_target_"]
    assert list((output / "models").glob("events*"))


@pytest.mark.parametrize(("name", "levels"), [("basicunet", 6), ("attention", 5)])
def test_another_network_gets_tiles_of_its_stride(
    cells: Path, few: Path, tmp_path: Path, name: str, levels: int
) -> None:
    output = tmp_path / "out"
    assert train(cells, output, "--config", name, few, "--features", *[2] * levels) == 0
    assert config_of(output)["tile_size"] == [80, 80]  # 72 px, in steps of 16
    words = ["--bundle", str(output), "--output", str(tmp_path / "results"), "--device", "cpu"]
    assert main(["predict", f"{cells}/images", *words]) == 0
    result = load_image(tmp_path / "results/cells_000_mask.tif")
    assert result.shape == (1, 72, 64)


def test_its_own_features_stay_where_none_are_given(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_med.cli.train._train", lambda *_: None)
    assert train(cells, tmp_path / "out", "--config", "basicunet") == 0
    features = json.loads(bundle.find_override("basicunet").read_text(encoding="utf-8"))["features"]
    for kind in ("train", "inference"):
        assert config_of(tmp_path / "out", kind)["features"] == features


def test_what_a_label_means_is_the_files_to_say(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_med.cli.train._train", lambda *_: None)
    assert train(cells, tmp_path / "out", "--config", "sparse") == 0
    config = config_of(tmp_path / "out")
    assert config["label_kind"] == "classes"
    assert config["out_channels"] == 7  # as classes, six cells are six
    assert config["augment"]["crop"]["ignore"].startswith("$255")


def test_a_presets_name_chooses_the_preset(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_med.cli.train._train", lambda *_: None)
    for name, words in {"a": ["--config", "falk2019"], "b": ["--preset", "falk2019"]}.items():
        assert train(cells, tmp_path / name, *words) == 0
    assert config_of(tmp_path / "a") == config_of(tmp_path / "b")
    assert config_of(tmp_path / "a")["preset"] == "falk2019"


def test_an_unknown_name_is_answered_with_those_there_are(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(cells, tmp_path / "out", "--config", "tensorbord") == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert "no override file tensorbord: give the path of one, or one of attention," in line
    assert not (tmp_path / "out").exists()


def test_the_help_lists_every_override_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    files = {path.stem for path in (bundle.find_bundle() / "configs").glob("*.json")}
    programs = {"metadata", "train", "inference", "evaluate", "multi_gpu_train"}
    assert f"names, of {', '.join(sorted(files - programs))}" in said


def test_a_training_goes_on_with_the_files_it_was_begun_with(
    cells: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert train(cells, output, "--config", own) == 0
    assert train(cells, output, "--config", own, "--resume", "--epochs", 2) == 0
    assert config_of(output)["epochs"] == 2
    assert train(cells, output, "--config", "sparse", "--resume") == 2
    assert "does not continue" in capsys.readouterr().err


def last_losses(output: Path) -> list[str]:
    table = (output / "models/learning_curve.csv").read_text(encoding="utf-8")
    return table.splitlines()[-1].split(",")[2:4]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, cells: Path) -> Path:
    """A short training on files of one image each."""
    folder = tmp_path_factory.mktemp("single")
    assert train(cells, folder / "out", "--config", few_tiles(folder), "--features", 2, 4) == 0
    return folder / "out"


@pytest.mark.parametrize(("axes", "option"), [("CYX", "channel"), ("TYX", "time")])
def test_one_image_of_several_is_trained_on(
    cells: Path,
    few: Path,
    single: Path,
    tmp_path: Path,
    axes: str,
    option: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").symlink_to(cells / "labels")
    for path in sorted((cells / "images").iterdir()):
        plane = tifffile.imread(path)
        both = np.stack([np.zeros_like(plane), plane])
        tifffile.imwrite(
            tmp_path / "images" / path.name, both, metadata={"axes": axes}, imagej=True
        )
    words = ["--config", few, "--features", 2, 4]
    assert train(tmp_path, tmp_path / "several", *words, f"--{option}", 1) == 0
    several = config_of(tmp_path / "several")
    assert several["in_channels"] == config_of(single)["in_channels"] == 1
    assert several["reader"][option] == 1
    # the same pixels, the same losses
    assert last_losses(tmp_path / "several") == last_losses(single)
    words = ["--bundle", str(tmp_path / "several"), "--output", str(tmp_path / "results")]
    assert main(["predict", str(tmp_path / "images"), *words, "--device", "cpu"]) == 0
    if option == "time":
        assert train(tmp_path, tmp_path / "none", "--features", 2, 4) == 2
        assert "--time 0" in capsys.readouterr().err
