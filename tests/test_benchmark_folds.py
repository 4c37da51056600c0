"""What `benchmarks.folds` reads and compares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import folds
from unet_med.cli.scores import INSTANCES, columns_of, count_scores, score_table
from unet_med.report.table import write_scores


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


def test_the_table_says_where_zero_lies() -> None:
    def row(name: str, said: float, seen: float) -> dict[str, object]:
        ends = [{"score": s, "low": s - 0.03, "high": s + 0.03} for s in (said, seen)]
        key = {"set": name, "folds": 5, "minutes": 20.0}
        return {**key, "estimate": ends[0], "kept out": ends[1]}

    _, _, first, second, last = folds.table(
        [row("nuclei", 0.74, 0.78), row("hippocampus", 0.70, 0.80)]
    ).splitlines()
    assert first.endswith("| AP50 | 0.740 (0.710 to 0.770) | 0.780 (0.750 to 0.810) | "
                          "-0.040 (-0.082 to +0.002) | yes |")  # fmt: skip
    assert second.endswith("| -0.100 (-0.142 to -0.058) | **no** |")
    assert "-0.070" in last
