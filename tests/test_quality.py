"""The benchmark of answers: scores of perfect results, rows that are kept, the page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

from benchmarks import (
    confidence,
    folds,
    next_image,
    quality,
    quality_methods,
    quality_page,
    quality_sets,
    regrets,
    seams,
    sparse,
    thick_slices,
)
from benchmarks.quality_methods import Peer
from benchmarks.quality_monai import Monai
from benchmarks.quality_sets import SETS, ImageSet, Pair
from benchmarks.rows import processor, read
from unet_med.data import load_image
from unet_med.metrics import v_rand

LABEL = np.zeros((40, 40), np.uint16)
LABEL[5:15, 5:15], LABEL[20:32, 20:30] = 1, 2
KEY = {"set": "nuclei", "minutes": 10.0, "threads": 2, "cpu": "Z80"}

SCRIPT = """
import json, sys
action, file = sys.argv[1:]
job = json.load(open(file))
folder = file.rsplit("/", 1)[0]
if action == "match":
    import numpy
    arrays = numpy.load(folder + "/objects.npz")
    found = {name: int(arrays[name].max()) for name in arrays}
    json.dump(found, open(folder + "/matching.json", "w"))
elif action == "train":
    json.dump({"steps": len(job["training"])}, open(folder + "/facts.json", "w"))
else:
    answers = [job["training"][0]["label"]] * len(job["images"])
    json.dump(answers, open(folder + "/results.json", "w"))
"""


class Copying:
    """A tool whose answers are the labels that it was trained on."""

    trained = 0
    results = ("instances",)

    def train(self, images: ImageSet, pairs: Sequence[Pair], folder: Path, **budget: Any) -> None:
        self.trained += 1
        self.answer = pairs[0]["label"]

    def predict(self, images: ImageSet, files: Sequence[str], folder: Path) -> list[Path]:
        return [Path(self.answer)] * len(files)

    def facts(self, folder: Path) -> Mapping[str, Any]:
        return {"steps": 0}


def a_pair(data: Path, folder: Path) -> tuple[list[Pair], list[Pair]]:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / kind / "raw.tif", LABEL)
    pairs = quality_sets._folder(folder)
    return pairs, pairs


SQUARES = ImageSet(a_pair, "instances", quality_sets._instance_scores)
ORGANS = ImageSet(a_pair, "mask", quality_sets._dice)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copying:
    tool = Copying()
    sets = {"squares": SQUARES, "organs": ORGANS}
    for module in (quality, quality_page):
        monkeypatch.setattr(module, "SETS", sets)
        monkeypatch.setattr(module, "METHODS", {"unet-med": tool})
    monkeypatch.setattr(quality_methods, "ROOT", tmp_path)  # where no peer is installed
    monkeypatch.setattr(quality, "ROWS", tmp_path / "rows.jsonl")
    monkeypatch.setattr(quality, "PAGE", tmp_path / "page.md")
    marks = "<!-- quality: begin -->old<!-- quality: end -->"
    quality.PAGE.write_text(f"above\n{marks}\nbelow\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tool


def test_a_perfect_answer_scores_one_and_is_not_trained_again(bench: Copying) -> None:
    quality.main(["--data", ".", "--seeds", "0", "1"])
    quality.main(["--data", ".", "--seeds", "0", "1", "2"])
    assert bench.trained == 3
    rows = [json.loads(line) for line in quality.ROWS.read_text(encoding="utf-8").splitlines()]
    assert [(row["set"], row["seed"]) for row in rows] == [("squares", k) for k in range(3)]
    assert rows[0]["scores"] == {"AP50": 1.0, "AP75": 1.0, "SEG": 1.0}
    page = quality.PAGE.read_text(encoding="utf-8")
    assert page.startswith("above\n")
    assert page.endswith("\nbelow\n")
    assert "old" not in page
    assert f"| squares | AP50 | 10, 2 cores | {processor()} | 1.000 ± 0.000 |  |" in page
    other = [{**row, "cpu": "Z80"} for row in rows]
    quality.ROWS.write_text("".join(f"{json.dumps(row)}\n" for row in other), encoding="utf-8")
    quality.main(["--data", ".", "--seeds", "0"])
    assert bench.trained == 4  # minutes of another CPU say nothing of this one
    page = quality.PAGE.read_text(encoding="utf-8")
    assert page.count("| squares | AP50 | 10, 2 cores |") == 2


def test_methods_stand_side_by_side_and_the_best_is_bold() -> None:
    ours = [
        {**KEY, "method": "unet-med", "seed": k, "scores": {"AP50": v, "AP75": 0.5}}
        for k, v in enumerate((0.7, 0.8, 0.9))
    ]
    other = {**KEY, "method": "stardist", "seed": 0, "scores": {"AP50": 0.25, "AP75": 0.625}}
    later = {**ours[0], "minutes": 60.0, "threads": 1}
    lines = quality_page.table([later, other, *ours]).splitlines()
    published = [quality_page.PUBLISHED["nuclei", name] for name in ("AP50", "AP75")]
    assert lines[0] == (
        "| data | score | minutes | CPU | unet-med | stardist | converged, as published |"
    )
    assert lines[2:] == [
        f"| nuclei | AP50 | 10, 2 cores | Z80 | **0.800 ± 0.100** | 0.250 | {published[0]} |",
        f"| nuclei | AP75 | 10, 2 cores | Z80 | 0.500 ± 0.000 | **0.625** | {published[1]} |",
        f"| nuclei | AP50 | 60, 1 core | Z80 | 0.700 |  | {published[0]} |",
        f"| nuclei | AP75 | 60, 1 core | Z80 | 0.500 |  | {published[1]} |",
    ]


def test_membranes_are_scored_as_the_files_lie(tmp_path: Path) -> None:
    """V_Rand is of `(Y, X)`; that of the transposed pair is another, and so are folds'."""
    relief = gaussian_filter(np.random.default_rng(0).normal(size=(60, 80)), 3)
    truth = abs(relief) > 0.02  # walls along the zero crossings
    shifted = abs(gaussian_filter(np.roll(relief, (2, -3), (0, 1)), 1)) > 0.04
    inside = shifted.astype(np.float32)
    files = tmp_path / "a_probabilities.tif", tmp_path / "a.tif"
    both = np.stack([1 - inside, inside])  # (C, Y, X)
    tifffile.imwrite(files[0], both, imagej=True, metadata={"axes": "CYX"})
    tifffile.imwrite(files[1], truth.astype(np.uint8))
    expected = v_rand(inside, truth)
    assert expected != v_rand(inside.T, truth.T)
    scores = quality_sets._membrane_scores([files[0]], [str(files[1])])
    assert scores["V_Rand"] == pytest.approx(expected, abs=1e-12)
    pair = {"image": "", "label": str(files[1])}
    score, _, _ = folds.reached("probabilities", [[files[0]]], [pair])
    assert score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "bench", [confidence, folds, next_image, quality, regrets, seams, sparse, thick_slices]
)
def test_the_pages_of_this_repository_are_made_of_their_rows(bench: Any) -> None:
    table = quality_page.table if bench is quality else bench.table
    assert f"\n\n{table(read(bench.ROWS))}\n\n" in bench.PAGE.read_text(encoding="utf-8")


def test_a_peer_is_a_script_that_reads_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_methods, "ROOT", tmp_path)
    monkeypatch.setattr(quality_methods, "SCRIPTS", tmp_path)
    peer = Peer("toy", ["instances"])
    pairs, _ = a_pair(tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match="make peers"):
        peer.train(SQUARES, pairs, tmp_path, minutes=1, seed=0)
    (tmp_path / "run_toy.py").write_text(SCRIPT, encoding="utf-8")
    python = tmp_path / "build" / "peers" / "toy" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    peer.train(SQUARES, pairs, tmp_path, minutes=1, seed=3)
    job = json.loads((tmp_path / "train_job.json").read_text(encoding="utf-8"))
    assert (job["dims"], job["classes"], job["result"], job["seed"]) == (2, 2, "instances", 3)
    assert peer.facts(tmp_path) == {"steps": 1}
    results = peer.predict(SQUARES, ["a.tif", "b.tif"], tmp_path)
    assert quality_sets._instance_scores(results, [pairs[0]["label"]] * 2)["AP75"] == 1
    assert peer.match([LABEL, LABEL * 2], [LABEL * 3], tmp_path) == {"f0": 2, "f1": 4, "t0": 6}


def test_scores_of_classes_are_means_over_volumes_and_classes(tmp_path: Path) -> None:
    truth = np.zeros((4, 4, 4), np.uint8)
    truth[:2], truth[2] = 1, 2
    found = truth.copy()
    found[1] = 0  # class 1: half of it found, Dice 2 * 16 / (16 + 32)
    for name, array in (("truth", truth), ("found", found)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, metadata={"axes": "ZYX"})
    files = [tmp_path / "found.tif"], [str(tmp_path / "truth.tif")]
    assert quality_sets._dice(*files) == {"Dice": pytest.approx((2 / 3 + 1) / 2)}


def test_two_files_of_one_name_get_two(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "raw.nii.gz").write_text(folder, encoding="utf-8")
    pairs = [{"image": str(tmp_path / f / "raw.nii.gz")} for f in ("a", "b")]
    linked = quality_sets.named(pairs, tmp_path / "links")
    assert [Path(p["image"]).name for p in linked] == ["0000.nii.gz", "0001.nii.gz"]
    assert [Path(p["image"]).read_text(encoding="utf-8") for p in linked] == ["a", "b"]


@pytest.mark.skipif(not Path("../shared/data/dev").is_dir(), reason="real images are not here")
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("isbi", (20, 4)),
        ("nuclei", (30, 40)),
        ("tissue", (8, 8)),
        ("usiigaci", (12, 5)),
        ("hippocampus", (20, 30)),
    ],
)
def test_no_image_is_on_both_sides(name: str, counts: tuple[int, int], tmp_path: Path) -> None:
    train, test = quality_sets.SETS[name].pairs(Path("../shared/data").resolve(), tmp_path)
    assert (len(train), len(test)) == counts
    contents = [Path(pair["image"]).read_bytes() for pair in [*train, *test]]
    assert len(set(contents)) == sum(counts)


def test_a_picture_of_a_stack_counts_what_a_slice_shows() -> None:
    objects = np.zeros((9, 8, 4), np.int32)
    objects[1:4, 1:4, 1:3], objects[5:8, 1:4, 3], objects[1:3, 6, 0] = 4, 2, 7
    assert thick_slices._count_of(objects[..., 1], objects) == "1 of 3 objects"
    assert thick_slices._count_of(objects[:, 2], objects) == "2 of 3 objects"
    colours = np.linspace(0, 1, 24).reshape(8, 3)
    outlined = thick_slices._outlined(objects[..., 1], colours)
    assert outlined.shape == (8, 9, 4)  # (Y, X, RGBA)
    assert outlined[..., 3].sum() == 8  # the middle of 3 x 3 px is open
    np.testing.assert_array_equal(outlined[1, 2], [*colours[4], 1])


def test_probabilities_of_monai_lie_as_their_image_does(tmp_path: Path) -> None:
    """Classes first, and no axis taken for another."""
    pixels = np.random.default_rng(0).random((40, 56), np.float32)  # (Y, X)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    method: Any = Monai()
    method.network = Twice()
    (file,) = method.predict(SETS["isbi"], [str(tmp_path / "a.tif")], tmp_path)
    found = np.asarray(load_image(file))  # (2, X, Y)
    expected = 1 / (1 + np.exp(-2 * (pixels.T - pixels.mean()) / pixels.std()))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    np.testing.assert_allclose(found[1], 1 - expected, atol=1e-5)


class Twice(torch.nn.Module):
    """Logits are the image and its negative."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, -x], 1)
