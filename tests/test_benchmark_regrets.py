"""Regrets: what counts as a regret, which values are tried, that nothing is trained twice."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from test_volumes import make_bundle

from benchmarks import quality_sets, regrets
from benchmarks.quality_sets import SETS, ImageSet, Pair
from unet_med import bundle

KEY = {"set": "nuclei", "minutes": 5.0}


def rows(**scores: tuple[float, ...]) -> list[dict[str, Any]]:
    return [
        {**KEY, "value": value.replace("_", " "), "seed": seed, "scores": {"AP": score}}
        for value, each in scores.items()
        for seed, score in enumerate(each)
    ]


def test_a_regret_is_what_the_best_value_wins() -> None:
    win, scatter = regrets.regret([0.5, 0.54], {"a": [0.6, 0.6], "b": [0.4, 0.44]})
    assert win == pytest.approx(0.08)
    # pooled variance (0.0008 + 0 + 0.0008) / 3; of two means of two seeds, twice a half of it
    assert scatter == pytest.approx(sqrt(0.0016 / 3))


def test_no_value_wins_less_than_nothing_and_one_seed_scatters_not() -> None:
    assert regrets.regret([0.5], {"a": [0.4], "b": [0.3]}) == (0.0, 0.0)


def test_the_table_says_whether_the_plan_is_near_enough() -> None:
    found = rows(
        the_plan=(0.50, 0.50),
        no_border_weights=(0.52, 0.52),  # wins 0.02, and nothing scatters
        border_weights_and_Dice=(0.49, 0.49),
        the_likeliest_class=(0.44, 0.60),  # wins 0.02 too, and scatters by more
        seeds_of_0=(0.9, 0.9),  # no value of any choice
    )
    lines = regrets.table(found).splitlines()
    assert lines[2:] == [
        "| nuclei | 5 | loss | AP | 0.500 | no border weights 0.520, border weights and Dice 0.490"
        " | 0.020 | **no** (0.01) |",
        "| nuclei | 5 | post-processing | AP | 0.500 | the likeliest class 0.520"
        " | 0.020 | yes (0.080, the scatter of seeds) |",
    ]


def test_a_page_says_nothing_of_what_is_not_measured() -> None:
    assert regrets.section([]) == regrets.section(rows(no_border_weights=(0.5,))) == ""
    found = rows(the_plan=(0.5,), no_border_weights=(0.5,))
    assert regrets.section(found) == f"{regrets.ABOUT}\n{regrets.table(found)}"
    assert "Not measured yet" not in regrets.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", regrets.CHOSEN)
def test_every_value_is_made_of_ids_that_exist(name: str) -> None:
    tried = regrets.values(name)
    assert {choice: len(values) for choice, values in tried.items()} == dict.fromkeys(
        ("working pixels", "loss", "post-processing"), 2
    )
    kind = SETS[name].result
    for ids in regrets.LOSSES[kind].values():
        bundle.require_ids(ids, source="a loss")
    inference = bundle.load_config(bundle.find_bundle() / "configs" / "inference.json")
    for ids in regrets.FINISHES[kind].values():
        assert set(ids) <= set(inference)


def test_the_largest_component_of_each_class_stays() -> None:
    mask = np.array([[1, 0, 2, 2, 0], [1, 0, 0, 0, 1], [0, 0, 2, 0, 0]])
    right = np.array([[1, 0, 2, 2, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(regrets.largest(mask), right)


class Trained:
    """In place of `UnetMed`: a bundle of random weights."""

    options: list[list[str]]

    def __call__(self, options: list[str]) -> Trained:
        self.options.append(options)
        return self

    def train(self, images: ImageSet, pairs: list[Pair], folder: Path, **budget: Any) -> None:
        assert len(pairs) == 3  # of four
        make_bundle(folder / "bundle", preset="modern", out_channels=2, label_kind="instances")


def four_pairs(data: Path, folder: Path) -> tuple[list[Pair], list[Pair]]:
    label = np.zeros((24, 20), np.uint16)
    label[3:9, 4:12], label[12:20, 8:16] = 1, 2
    noise = np.random.default_rng(0).integers(0, 99, label.shape)
    image = (label * 50 + noise).astype(np.uint16)
    return [quality_sets._write(folder, str(k), image, label) for k in range(4)], []


def test_one_network_serves_the_plan_and_every_post_processing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = Trained()
    tool.options = []
    nuclei = ImageSet(four_pairs, "instances", quality_sets._instance_scores)
    for attribute, value in {
        "SETS": {"nuclei": nuclei},
        "CHOSEN": {"nuclei": "AP"},
        "UnetMed": tool,
        "ROWS": tmp_path / "rows.jsonl",
        "PAGE": tmp_path / "page.md",
    }.items():
        monkeypatch.setattr(regrets, attribute, value)
    regrets.PAGE.write_text("<!-- regrets: begin --><!-- regrets: end -->", encoding="utf-8")
    for _ in range(2):
        regrets.main(["--seeds", "0", "--minutes", "1", "--output", str(tmp_path / "runs")])
    found = [json.loads(line) for line in regrets.ROWS.read_text(encoding="utf-8").splitlines()]
    assert len(found) == 7
    assert len(tool.options) == 5  # the plan, two scales, two losses
    assert [words for words in tool.options if "--scale" in words] == [
        ["--scale", "1.5"],
        ["--scale", "0.666667"],
    ]
    assert all({"AP", "AP50", "AP75", "SEG"} == set(row["scores"]) for row in found)
    assert regrets.PAGE.read_text(encoding="utf-8").count("| nuclei | 1 |") == 3
    assert (
        tifffile.imread(tmp_path / "runs" / "nuclei-1-0" / "data" / "labels" / "0.tif").max() == 2
    )
