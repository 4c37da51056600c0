"""Models that come with the package: their names, what they predict, and how one is made."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.io import imsave

from benchmarks import models
from benchmarks.model_card import nuclei_of
from unet_med import Segmenter, bundle
from unet_med.bundle import find_trained, model_names
from unet_med.bundle.trust import foreign
from unet_med.cli import main
from unet_med.data import load_image
from unet_med.workflows import UNetInferWorkflow


@pytest.fixture
def model(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed bundle, as if it had come with the package as `nuclei`."""
    monkeypatch.setattr("unet_med.bundle.models.MODELS", tmp_path / "site")
    return models.pack(trained, tmp_path / "site" / "nuclei")


def test_a_name_is_a_bundle_everywhere(
    model: Path, trained: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model_names() == ["nuclei"]
    assert find_trained("nuclei") == model
    image = cells / "images/cells_000.tif"
    found, same = (Segmenter(name)(image).probabilities for name in ("nuclei", trained))
    np.testing.assert_array_equal(found, same)
    for name in ("nuclei", str(trained)):
        output = tmp_path / f"results-{Path(name).name}"
        words = ["predict", str(image), "--bundle", name, "--output", str(output), "--instances"]
        assert main(words) == 0
    for kind in ("mask", "instances"):
        files = (tmp_path / f"results-{n}/cells_000_{kind}.tif" for n in ("nuclei", trained.name))
        np.testing.assert_array_equal(*(tifffile.imread(file) for file in files))
    assert foreign(model) == []
    capsys.readouterr()
    assert main(["inspect", "nuclei"]) == 0
    assert "unet_med.networks.unet" in capsys.readouterr().out
    assert main(["doctor"]) == 0
    assert "models    nuclei " in capsys.readouterr().out


@pytest.mark.parametrize("name", model_names())
def test_a_model_of_the_package_is_laid_by_the_package(
    name: str, cells: Path, tmp_path: Path
) -> None:
    """Its configs are what its plan makes of today's, and it predicts as any trained bundle."""
    own = find_trained(name)
    laid = bundle.copy_bundle(tmp_path / "laid")
    bundle.write_plan(laid, json.loads((own / "configs/plan.json").read_text(encoding="utf-8")))
    for config in ("evaluate", "inference", "train"):
        found, same = (json.loads((f / f"configs/{config}.json").read_text()) for f in (own, laid))
        assert found == same, f"{config}.json of {name}: lay it anew from its plan"
    image, output = str(cells / "images/cells_000.tif"), tmp_path / "results"
    assert main(["predict", image, "--bundle", name, "--output", str(output), "--instances"]) == 0
    assert tifffile.imread(output / "cells_000_instances.tif").max() > 0


def test_a_folder_of_that_name_wins_and_that_is_said(
    model: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = Path(shutil.copytree(trained, tmp_path / "work" / "nuclei"))
    monkeypatch.chdir(own.parent)
    with caplog.at_level(logging.WARNING, "unet_med"):
        assert Segmenter("nuclei").folder == own
        assert len(caplog.messages) == 1
        assert "is the folder" in caplog.text
        assert "not the model of that name" in caplog.text
        assert Segmenter("./nuclei").weights.name == "model.pt"  # no name, so nothing to say
    assert len(caplog.messages) == 1


def test_an_unknown_name_says_what_there_is(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"neither a folder nor a model .* \(it brings nuclei\)"):
        find_trained("nuklei")
    assert find_trained("no/such/place") == Path("no/such/place")
    shutil.rmtree(model)
    assert main(["predict", "x.tif", "--bundle", "nuclei", "--output", "out"]) == 2
    assert "(none comes with it)" in capsys.readouterr().err


def test_nothing_is_exported_into_the_package(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(model.rglob("*"))
    words = ["export", "nuclei", "--format", "torchscript", "--statistics", "training"]
    assert main(words) == 2
    assert "say where the file goes with --output" in capsys.readouterr().err
    assert sorted(model.rglob("*")) == before
    assert main([*words, "--output", str(tmp_path / "net.ts")]) == 0
    assert (tmp_path / "net.ts").is_file()


def test_nothing_is_written_into_the_package(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(model.rglob("*"))
    with pytest.raises(ValueError, match="say where results go with output_dir"):
        UNetInferWorkflow("nuclei", images=str(tmp_path))
    assert main(["report", "nuclei"]) == 2
    assert "say where the page goes with --output" in capsys.readouterr().err
    assert main(["report", "nuclei", "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").is_file()
    assert sorted(model.rglob("*")) == before


def test_what_is_packed(model: Path, trained: Path, tmp_path: Path) -> None:
    names = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert {"LICENSE", "models/model.safetensors", "configs/plan.json"} <= names
    assert not any(name.endswith(".pt") or "checkpoint" in name for name in names)
    assert (model / "models/model.safetensors").stat().st_mode & 0o044 == 0o044
    assert bundle.read_plan(model)["data"] == bundle.read_plan(trained)["data"]
    for name in ("inference", "evaluate"):  # runs with MONAI alone
        config = json.loads((model / f"configs/{name}.json").read_text())
        assert config["checkpoint"] == models.IN_BUNDLE


def test_weights_too_large_for_a_wheel_are_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="and a wheel takes 100: train the network of a CPU's"):
        models.pack(trained, tmp_path / "packed")


def test_true_nuclei_that_are_found_by_hand() -> None:
    truth = np.zeros((12, 20), int)
    truth[1:5, 1:5], truth[1:5, 8:12], truth[7:11, 1:5] = 1, 2, 3
    result = np.zeros_like(truth)
    result[1:5, 2:6], result[1:5, 8:10], result[8:10, 15:17] = 7, 8, 9  # IoU 12 / 20 and 8 / 16
    image = np.full(truth.shape, 10.0)
    image[truth == 2] = 30
    rows, false = nuclei_of(result, truth, image)
    np.testing.assert_allclose(rows[:, 0], 2 * np.sqrt(16 / np.pi))
    np.testing.assert_array_equal(rows[:, 1:], [[0, 1], [20, 1], [0, 0]])
    assert false == 1


def write_bowl(folder: Path, name: str, seed: int) -> None:
    """An image of two nuclei as the Data Science Bowl has it: RGBA, and a mask each."""
    place = folder / "dsb2018/stage1_train" / name
    for part in ("images", "masks"):
        (place / part).mkdir(parents=True)
    masks = np.zeros((2, 32, 32), np.uint8)
    masks[0, 4:12, 4:12], masks[1, 18:28, 16 + seed : 26 + seed] = 255, 255
    grey = 20 + masks.max(axis=0) // 2
    imsave(place / f"images/{name}.png", np.stack([grey] * 3 + [np.full_like(grey, 255)], -1))
    for k in range(2):
        imsave(place / f"masks/{k}.png", masks[k], check_contrast=False)


def test_a_model_is_made_of_what_is_not_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, output = tmp_path / "data", tmp_path / "site" / "nuclei"
    for k, name in enumerate(("a", "b", "kept")):
        write_bowl(data, name, k)
    for part in ("images", "labels"):
        (data / models.NUCLEI_TEST / part).mkdir(parents=True)
    pairs = list(models.bowl_nuclei(data, tmp_path / "written"))
    for key in ("image", "label"):
        shutil.copy(pairs[2][key], data / models.NUCLEI_TEST / f"{key}s")

    def quickly(*words: str) -> None:
        small = ["--epochs", "1", "--features", "2", "4", "--tile-size", "28"]
        at = words.index("--minutes") if "--minutes" in words else len(words)
        more = small if words[0] == "train" else []
        assert main([*words[:at], *words[at + 2 :], *more]) == 0

    monkeypatch.setattr(models, "_run", quickly)
    words = ["--data", str(data), "--work", str(tmp_path / "work"), "--output", str(output)]
    for old in (output, tmp_path / "work/results"):
        old.mkdir(parents=True)
        (old / "of another.txt").touch()
    models.main(words)
    plan = bundle.read_plan(output)
    assert [Path(case["image"]["name"]).stem for case in plan["data"]["cases"]] == ["a", "b"]
    card = (output / "docs/README.md").read_text(encoding="utf-8")
    assert "2 images of the 2018 Data Science Bowl" in card
    assert "Of 2 true nuclei" in card
    result = Segmenter(output)(load_image(pairs[2]["image"]))
    saved = tifffile.imread(tmp_path / "work/results/kept_instances.tif")
    np.testing.assert_array_equal(result.instances.T, saved)
    assert [path.name for path in output.parent.iterdir()] == ["nuclei"]
    assert not [*tmp_path.rglob("of another.txt")]  # it took the place of what was there
