"""The `unet-med` command: what it writes, what it says, and how it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from doors import run
from PIL import Image
from scipy.ndimage import gaussian_filter

from unet_med.cli import main
from unet_med.data import SyntheticCells, save_image

TRAIN = ["--features", "2", "4", "8", "--epochs", "1", "--device", "cpu"]


def refused(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    """The one sentence of a command that must end with code 2."""
    assert run(*words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "unet-med: error:" in line]
    assert len(lines) == 1
    return lines[0]


def test_training_writes_its_choices_into_the_bundle(trained: Path, cells: Path) -> None:
    train = json.loads((trained / "configs/train.json").read_text())
    inference = json.loads((trained / "configs/inference.json").read_text())
    assert train["label_kind"] == inference["label_kind"] == "instances"
    sizes = [
        np.bincount(tifffile.imread(f).ravel())[1:] for f in sorted((cells / "labels").iterdir())
    ]
    assert inference["min_size"] == int(np.median(np.concatenate(sizes)) / 10) > 0
    assert train["features"] == inference["features"] == [2, 4, 8]
    assert train["preset"] == inference["preset"] == "modern"
    assert train["images"] == "$@dataset_dir + '/images'"
    assert torch.load(trained / "models/model.pt", weights_only=True)


def test_prediction_and_scores(
    trained: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    words = ["--bundle", trained, "--output", results, "--instances", "--probabilities"]
    assert run("predict", f"{cells}/images", *words) == 0
    said = capsys.readouterr().err
    assert "python -m monai.bundle run" in said
    assert "masks alone" not in said
    assert len(list(results.glob("*.tif"))) == 9
    probabilities = tifffile.imread(results / "cells_000_probabilities.tif")
    assert probabilities.shape == (2, 64, 72)  # (C, Y, X)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    mask = tifffile.imread(results / "cells_000_mask.tif")
    planned = json.loads((trained / "configs/inference.json").read_text())["mask_threshold"]
    np.testing.assert_array_equal(mask > 0, 1 - probabilities[0] >= np.float32(planned))

    scores = tmp_path / "scores.json"
    assert run("evaluate", results, f"{cells}/labels", "--output", scores) == 0
    table = json.loads(scores.read_text())
    assert table["columns"][:3] == ["SEG", "DET", "AP50"]
    cases = [row["case"] for row in table["rows"] if row["row"] == "case"]
    assert cases == ["cells_000", "cells_001", "cells_002"]
    over = [row["row"] for row in table["rows"] if not row["case"]]
    assert over == ["mean", "pooled"]


def test_truth_against_itself_is_perfect(cells: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    shutil.copytree(cells / "labels", tmp_path / "results")  # a file is not scored with itself
    assert run("evaluate", tmp_path / "results", f"{cells}/labels", "--output", scores) == 0
    for row in json.loads(scores.read_text())["rows"]:
        assert (row["SEG"], row["DET"], row["AP50"]) == (1, 1, 1)


def test_class_scores_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = np.array([[0, 1, 1, 2], [0, 0, 2, 255]], np.uint8)
    result = np.array([[0, 1, 2, 2], [0, 0, 2, 1]], np.uint8)
    for folder, array in (("truth", truth), ("results", result)):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "a.png")
    scores = tmp_path / "scores.json"
    words = ["--label-kind", "classes", "--output", scores]
    assert run("evaluate", tmp_path / "results", tmp_path / "truth", *words) == 0
    dice = {
        (row["row"], row["class"]): row["Dice"] for row in json.loads(scores.read_text())["rows"]
    }
    for kind in ("case", "mean", "pooled"):
        assert dice[kind, "1"] == pytest.approx(2 * 1 / (1 + 2))
        assert dice[kind, "2"] == pytest.approx(2 * 2 / (3 + 2))


def test_mask_scores_match_the_metrics(tmp_path: Path) -> None:
    from unet_med import metrics

    rng = np.random.default_rng(0)
    relief = gaussian_filter(rng.normal(size=(60, 80)), 3)
    truth = (abs(relief) > 0.02) * np.uint8(255)  # walls along the zero crossings
    result = (abs(gaussian_filter(np.roll(relief, (2, -3), (0, 1)), 1)) > 0.04) * np.uint8(255)
    for folder, array in (("truth", truth), ("results", result)):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "a.png")
    scores = tmp_path / "scores.json"
    assert run("evaluate", tmp_path / "results", tmp_path / "truth", "--output", scores) == 0
    row = json.loads(scores.read_text())["rows"][0]
    assert row["V_Rand"] == metrics.v_rand((result > 0).astype(np.float32), truth > 0)
    assert row["V_Rand"] != metrics.v_rand((result.T > 0).astype(np.float32), truth.T > 0)


def test_volume_from_a_2d_network_keeps_its_grid(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = SyntheticCells(1, (40, 36, 5), num_cells=6)[0]["image"].numpy().astype(np.uint16)
    affine = np.array([[0, -0.5, 0, 3], [0.5, 0, 0, 4], [0, 0, 2, 5], [0, 0, 0, 1.0]])
    save_image(tmp_path / "v.nii.gz", volume, affine, "um")
    results = tmp_path / "results"
    assert run("predict", tmp_path / "v.nii.gz", "--bundle", trained, "--output", results) == 0
    assert (
        "masks alone, in which objects that touch are one; --instances" in capsys.readouterr().err
    )
    import nibabel

    written = nibabel.load(results / "v_mask.nii.gz")
    assert written.shape == (40, 36, 5)
    np.testing.assert_allclose(written.affine, affine, atol=1e-6)
    assert written.header.get_xyzt_units()[0] == "micron"


def test_stack_and_its_label_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 64, 64), np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="minisblack")
    tifffile.imwrite(tmp_path / "label.tif", (image > 99) * np.uint8(255), photometric="minisblack")
    words = ["--images", tmp_path / "image.tif", "--labels", tmp_path / "label.tif"]
    assert run("train", *words, *TRAIN, "--output", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "images    4, 2-D, slice by slice of 1 file(s), 1 channel(s)" in said
    assert "a mask, its value besides 0 the foreground, thin: " in said  # noise is
    assert " outlines of objects (decided from the values)\n" in said
    taken = json.loads((tmp_path / "out/models/training.json").read_text())["iterations"]
    assert f"\nsteps     {taken}: too few to judge by; give it more minutes\n" in said


def test_resumed_training_goes_on(trained: Path, cells: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(trained, output)
    words = ["--images", f"{cells}/images", "--labels", f"{cells}/labels"]
    words += [*TRAIN, "--epochs", "3"]
    assert run("train", *words, "--output", output, "--resume") == 0
    rows = (output / "models/learning_curve.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3"]


def test_nothing_to_resume_starts_afresh(cells: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run("init", output) == 0  # as a training leaves it that was killed at once
    words = ["--images", f"{cells}/images", "--labels", f"{cells}/labels", *TRAIN]
    assert run("train", *words, "--output", output) == 2
    assert run("train", *words, "--output", output, "--resume") == 0
    assert (output / "models/model.pt").is_file()


def test_init_writes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", tmp_path / "mine") == 0
    assert (tmp_path / "mine/configs/train.json").is_file()
    assert "python -m monai.bundle run" in capsys.readouterr().out


def spoil_nothing(folder: Path) -> None:
    """Leave the data as they are; the arguments are wrong instead."""


def drop_label(folder: Path) -> None:
    (folder / "labels/cells_001.tif").unlink()


def cut_label(folder: Path) -> None:
    label = tifffile.imread(folder / "labels/cells_001.tif")
    tifffile.imwrite(folder / "labels/cells_001.tif", label[:-3])


def empty_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()


def colour_image(folder: Path) -> None:
    colours = np.tile(np.uint8([10, 20, 30]), (64, 72, 1))
    tifffile.imwrite(folder / "images/cells_001.tif", colours, photometric="rgb")


def nan_image(folder: Path) -> None:
    tifffile.imwrite(folder / "images/cells_001.tif", np.full((64, 72), np.nan, np.float32))


def float_label(folder: Path) -> None:
    tifffile.imwrite(folder / "labels/cells_001.tif", np.full((64, 72), 0.5, np.float32))


def corrupt_image(folder: Path) -> None:
    path = folder / "images/cells_001.tif"
    path.write_bytes(path.read_bytes()[:-3000])


@pytest.mark.parametrize(
    ("spoil", "options", "sentence"),
    [
        (drop_label, [], r"image cells_001.tif has no label of the same name"),
        (cut_label, [], "label cells_001.tif has shape (72, 61), its image cells_001.tif (72, 64)"),
        (empty_images, [], "holds no images"),
        (
            colour_image,
            [],
            "image images/cells_001.tif has 3 channel(s), images/cells_000.tif 1: save all alike",
        ),
        (nan_image, [], "image cells_001.tif holds NaN or infinite pixels"),
        (float_label, [], "cells_001.tif"),
        (corrupt_image, [], "cells_001.tif"),
        (spoil_nothing, ["--preset", "paper2051"], "unknown preset 'paper2051': one of modern"),
        (spoil_nothing, ["--device", "cuda"], "use --device cpu"),
        (spoil_nothing, ["--device", "tpu9"], "device 'tpu9'"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    spoil: Any,
    options: list[str],
    sentence: str,
    cells: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    shutil.copytree(cells, tmp_path / "data")
    spoil(tmp_path / "data")
    output = tmp_path / "out"
    words = ["--images", tmp_path / "data/images", "--labels", tmp_path / "data/labels"]
    said = refused(capsys, "train", *words, *TRAIN, *options, "--output", output)
    assert sentence in said
    assert not output.exists()


def test_output_in_use(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").touch()
    words = ["--images", f"{cells}/images", "--labels", f"{cells}/labels", *TRAIN]
    assert "not empty" in refused(capsys, "train", *words, "--output", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_prediction_refuses(
    trained: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    colour = tmp_path / "colour.tif"
    tifffile.imwrite(colour, np.tile(np.uint8([10, 20, 30]), (64, 72, 1)), photometric="rgb")
    bundle = ["--bundle", trained, "--output", output]
    assert "3 channels" in refused(capsys, "predict", colour, *bundle)
    assert "does not exist" in refused(capsys, "predict", tmp_path / "no.tif", *bundle)
    assert "no trained weights" in refused(
        capsys, "predict", colour, "--bundle", tmp_path, "--output", output
    )
    image = cells / "images/cells_000.tif"
    assert "two images are named cells_000" in refused(capsys, "predict", image, image, *bundle)
    shutil.copy(image, tmp_path / "CELLS_000.tif")
    said = refused(capsys, "predict", image, tmp_path / "CELLS_000.tif", *bundle)
    assert "two images are named cells_000" in said
    assert "(upper and lower case are one)" in said
    assert not output.exists()


def test_evaluation_refuses(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    shutil.copy(cells / "labels/cells_000.tif", tmp_path / "results/other.tif")
    said = refused(capsys, "evaluate", tmp_path / "results", cells / "labels")
    assert "no result for cells_000" in said


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=True,
    )


def test_import_is_light() -> None:
    done = python(
        "import sys, time; t = time.process_time(); import unet_med; t = time.process_time() - t;"
        "import unet_med.cli; assert not {'torch', 'monai', 'numpy'} & set(sys.modules);"
        "print(t)"
    )
    assert float(done.stdout) < 0.05


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert (stop.value.code, capsys.readouterr().out) == (0, f"unet-med {version('unet-med')}\n")


def test_help_is_quick() -> None:
    def seconds() -> float:
        """Of CPU: other processes do not count."""
        before = os.times()
        done = subprocess.run(
            [sys.executable, "-m", "unet_med", "--help"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
        )
        assert "train" in done.stdout
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])  # user and system, of children

    assert any(seconds() < 0.5 for _ in range(5))
