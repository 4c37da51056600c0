"""The benchmark of answers: scores of perfect results, rows that are kept, the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from benchmarks import quality, quality_sets
from benchmarks.quality_sets import ImageSet, Pair

LABEL = np.zeros((40, 40), np.uint16)
LABEL[5:15, 5:15], LABEL[20:32, 20:30] = 1, 2


class Copying:
    """A tool whose answers are the labels that it was trained on."""

    trained = 0

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


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copying:
    tool = Copying()
    scored = ImageSet(a_pair, "instances", quality_sets._instance_scores)
    monkeypatch.setattr(quality, "SETS", {"squares": scored})
    monkeypatch.setattr(quality, "METHODS", {"unet-med": tool})
    monkeypatch.setattr(quality, "ROWS", tmp_path / "rows.jsonl")
    monkeypatch.setattr(quality, "PAGE", tmp_path / "page.md")
    quality.PAGE.write_text(f"above\n{quality.BEGIN}old{quality.END}\nbelow\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tool


def test_a_perfect_answer_scores_one_and_is_not_trained_again(bench: Copying) -> None:
    quality.main(["--data", ".", "--seeds", "0", "1"])
    quality.main(["--data", ".", "--seeds", "0", "1", "2"])
    assert bench.trained == 3
    rows = [json.loads(line) for line in quality.ROWS.read_text(encoding="utf-8").splitlines()]
    assert [row["seed"] for row in rows] == [0, 1, 2]
    assert rows[0]["scores"] == {"AP50": 1.0, "AP75": 1.0, "SEG": 1.0}
    page = quality.PAGE.read_text(encoding="utf-8")
    assert page.startswith("above\n")
    assert page.endswith("\nbelow\n")
    assert "old" not in page
    assert "| squares | unet-med | 10 | 2 | 0, 1, 2 | AP50 1.000 ± 0.000," in page


def test_means_and_deviations_are_those_of_the_seeds() -> None:
    key = {"set": "nuclei", "method": "unet-med", "minutes": 10.0, "threads": 2}
    rows = [{**key, "seed": k, "scores": {"AP50": v}} for k, v in enumerate((0.7, 0.8, 0.9))]
    line = quality.table(rows).splitlines()[-1]
    assert line == "| nuclei | unet-med | 10 | 2 | 0, 1, 2 | AP50 0.800 ± 0.100 |"


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
