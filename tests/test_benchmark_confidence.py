"""The tables of the two replays, and how images are added."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from oracles import calibration_error

from benchmarks import confidence, next_image
from unet_med.fitting import NearBorders


def test_the_error_is_of_all_pixels() -> None:
    rng = np.random.default_rng(0)
    scores, classes = rng.dirichlet([1.0, 1.0], 40).T, rng.integers(0, 2, 40)
    parts = [
        NearBorders(torch.from_numpy(scores[:, a:b]), classes[a:b]) for a, b in ((0, 9), (9, 40))
    ]
    assert confidence.error(parts) == pytest.approx(calibration_error(scores, classes))


def test_the_tables_are_means_over_seeds() -> None:
    own = {"set": "nuclei", "minutes": 5.0, "images": [{}] * 4}
    values = (
        {"Spearman": 0.5, "before": 0.2, "after": 0.04},
        {"Spearman": 0.7, "before": 0.2, "after": 0.02},
    )
    rows = [{**own, "seed": seed, "scores": scores} for seed, scores in enumerate(values)]
    [*_, line] = confidence.table(rows).splitlines()
    assert line == "| nuclei | 5 | 4 | AP | 0.600 ± 0.141 | 0.200 ± 0.000 | 0.030 ± 0.014 |"
    key: dict[str, Any] = {"set": "nuclei", "minutes": 3.0, "seed": 0, "count": 6}
    rows = [
        {**key, "rule": rule, "scores": {"AP": ap}} for rule, ap in (("random", 0.4), ("next", 0.5))
    ]
    [*_, line] = next_image.table(rows).splitlines()
    assert line == "| nuclei | 3 | AP | 6 | 0.400 | 0.500 |"


def test_chance_passes_over_what_is_known_or_empty(tmp_path: Path) -> None:
    pairs = []
    for k in range(6):
        tifffile.imwrite(tmp_path / f"{k}.tif", np.full((4, 4), int(k != 2), np.uint8))
        pairs.append({"image": f"{k}.tif", "label": str(tmp_path / f"{k}.tif")})
    first = next_image.at_random(pairs, [], 3, seed=1)
    more = next_image.at_random(pairs, first, 9, seed=1)
    assert len(first) == 3
    assert sorted([*first, *more]) == [0, 1, 3, 4, 5]


def test_each_step_follows_the_one_before() -> None:
    options = next_image._parser().parse_args(["nuclei", "--seeds", "0", "--images", "3", "6", "9"])
    keys = [(k["rule"], k["before"], k["count"]) for k in next_image._keys("nuclei", options)]
    steps = [(rule, *step) for rule in ("random", "next") for step in ((3, 6), (6, 9))]
    assert keys == [("start", None, 3), *steps]


def test_both_rules_go_on_from_one_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = next_image._parser().parse_args(["nuclei", "--seeds", "0", "--images", "3", "5"])
    first, chance, rule = next_image._keys("nuclei", options)
    (tmp_path / "rows").write_text(json.dumps({**first, "chosen": [7, 2, 4], "scores": {}}))
    monkeypatch.setattr(next_image, "ROWS", tmp_path / "rows")
    monkeypatch.setattr(next_image, "at_random", lambda pairs, known, count, seed: [0] * count)
    assert next_image._chosen(chance, [], tmp_path) == [7, 2, 4, 0, 0]
    seen = []
    monkeypatch.setattr(next_image, "by_rule", lambda *words: seen.append(words) or [1, 3])
    assert next_image._chosen(rule, [], tmp_path) == [7, 2, 4, 1, 3]
    assert seen == [(tmp_path / "start-3" / "bundle", [], [7, 2, 4], 2)]
