"""What `benchmarks.folds` reads and compares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import folds
from benchmarks.quality_sets import dice_of
from unet_med.data import save_image
from unet_med.report.table import write_scores
from unet_med.scoring.scores import INSTANCES, columns_of, count_scores
from unet_med.scoring.tables import score_table


def test_both_samples_widen_the_interval() -> None:
    """Of normal errors, the interval of a difference is the root of both squares wide."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.8, 0.03, 100_000), rng.normal(0.7, 0.04, 100_000)
    said, seen = (
        dict(zip(("score", "low", "high"), np.quantile(draws, (0.5, 0.025, 0.975)), strict=True))
        for draws in (one, other)
    )
    expected = np.quantile(one - other, (0.5, 0.025, 0.975))
    assert folds.difference(said, seen) == pytest.approx(expected, abs=2e-3)


def test_the_estimate_is_what_the_bundle_states(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    counted = [count_scores(*rng.integers(0, 4, (2, 16, 16)), INSTANCES) for _ in range(3)]
    table = score_table(((str(k), each) for k, each in enumerate(counted)), columns_of(INSTANCES))
    (tmp_path / folds.SAID).parent.mkdir(parents=True)
    write_scores(table, tmp_path / folds.SAID)
    score, low, high = folds.estimate(tmp_path, "SEG")
    cases = [row.scores["SEG"] for row in table.rows if row.row == "case"]
    assert low <= score <= high
    assert min(cases) <= low
    assert high <= max(cases)


def test_networks_and_images_are_pooled(tmp_path: Path) -> None:
    """Of two networks and three images, the score is of six results, the interval of the images."""
    rng = np.random.default_rng(2)
    truths, pairs, found = [], [], []
    for k in range(3):
        truths.append(rng.integers(0, 3, (9, 8, 7)))
        pairs.append({"image": "", "label": str(tmp_path / f"truth{k}.nii.gz")})
        save_image(pairs[-1]["label"], truths[-1].astype(np.uint8), has_channels=False)
    for network in range(2):
        results = [np.where(rng.random(t.shape) < 0.3 * (network + 1), 1, t) for t in truths]
        files = [tmp_path / f"{network}-{k}.nii.gz" for k in range(3)]
        for file, result in zip(files, results, strict=True):
            save_image(file, result.astype(np.uint8), has_channels=False)
        found.append((files, results))
    dice = np.array([
        [dice_of(result, truth) for result, truth in zip(results, truths, strict=True)]
        for _, results in found
    ])  # fmt: skip
    score, low, high = folds.reached("mask", [files for files, _ in found], pairs)
    assert score == pytest.approx(dice.mean())
    assert (low, high) == pytest.approx((dice.mean(axis=0).min(), dice.mean(axis=0).max()))


def test_the_table_says_where_zero_lies() -> None:
    def row(name: str, said: float, alike: float, every: float) -> dict[str, object]:
        ends = [{"score": s, "low": s - 0.03, "high": s + 0.03} for s in (said, alike, every)]
        key = {"set": name, "folds": 5, "minutes": 20.0, "estimate": ends[0]}
        return {**key, folds.ALIKE: ends[1], folds.ALL: ends[2]}

    _, _, first, second, last = folds.table(
        [row("nuclei", 0.74, 0.73, 0.78), row("hippocampus", 0.70, 0.72, 0.80)]
    ).splitlines()
    assert first.startswith("| nuclei | 5 | 20 | AP50 | 0.740 (0.710 to 0.770) |")
    assert first.endswith("| 0.730 (0.700 to 0.760) | +0.010 (-0.032 to +0.052) | yes | "
                          "0.780 (0.750 to 0.810) | -0.040 (-0.082 to +0.002) | yes |")  # fmt: skip
    assert second.endswith("| -0.100 (-0.142 to -0.058) | **no** |")
    assert last.split("|")[7].strip() == "-0.005"
    assert last.split("|")[10].strip() == "-0.070"
