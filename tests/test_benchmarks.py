"""Each benchmark runs, once and tiny; the timing helper counts right."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import cohort, weights
from benchmarks.timing import Bound, Limit, Race

LONG = ("memory", "scores", "runtimes")  # of these the tiny run takes a quarter of a minute
SUBJECTS = [pytest.param(s, marks=pytest.mark.long if s in LONG else ()) for s in command.SUBJECTS]
PEER_WARNINGS = pytest.mark.filterwarnings("ignore")  # theirs: the peers are run as they are


def figures(*values: float):
    """A contestant that reports one value after the other, the last one for ever."""
    return itertools.chain(values, itertools.repeat(values[-1])).__next__


@PEER_WARNINGS
@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_runs_tiny(subject: str) -> None:
    sections = list(command.run(subject, tiny=True))
    assert sections
    for section in sections:
        assert section.startswith("### ")
        assert section.count("\n| ") >= 3  # a header and two contestants


def test_a_race_takes_turns_and_drops_the_warm_up() -> None:
    order: list[str] = []
    race = Race(
        "turns",
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        seconds=0.01,
    )
    times = race.run()
    rounds = len(order) // 2 - 1
    assert rounds >= 3
    assert order == ["a", "b"] * (rounds + 1)
    assert [len(figures) for figures in times.values()] == [rounds, rounds]


def test_what_is_slow_runs_once() -> None:
    calls: list[float] = []
    race = Race("slow", {"a": lambda: time.sleep(0.02) or calls.append(1)}, seconds=0.01)
    assert len(race.run()["a"]) == 3
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (Limit("us", "peer", at_most=0.5), "us: **0.50 x** peer, at most 0.5 x: met"),
        (Limit("us", "peer", at_most=0.4), "us: **0.50 x** peer, at most 0.4 x: not met"),
        (Limit("us", "peer", at_least=2), "peer: **2.0 x** us, at least 2 x: met"),
        (Limit("us", "peer", at_least=3), "peer: **2.0 x** us, at least 3 x: not met"),
        (Bound("peer", "us", at_most=30), "peer: **20** more than us, at most 30: met"),
        (Bound("peer", "us", at_most=19), "peer: **20** more than us, at most 19: not met"),
    ],
)
def test_limits_compare_within_rounds(limit: Limit | Bound, sentence: str) -> None:
    # the first round warms up; the machine is three times slower in the second
    race = Race(
        "x",
        {"us": figures(999, 60, 20, 20), "peer": figures(1, 120, 40, 40)},
        [limit],
        seconds=0,
        unit="MiB",
    )
    assert f"* {sentence}" in race.report()


def test_a_missing_peer_is_named() -> None:
    race = Race("x", {"us": figures(1)}, [Limit("us", "them", at_most=1)], unit="MiB", seconds=0)
    race.add_peer("no_such_package.part", "them", lambda module: figures(1))
    report = race.report()
    assert "not installed: them (pip install no_such_package)" in report
    assert "at most" not in report


def test_the_page_keeps_what_is_not_measured_here(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{command.BEGIN}\n\n{command.END}\nafter\n", encoding="utf-8")
    command.write(["### tiles", "### whole"], "inference", page)
    command.write(["### old"], "loss", page)
    for _ in range(2):  # twice is once
        command.write(["### new"], "loss", page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(
        f"before\n{command.BEGIN}\n\n<!-- loss -->\n\n`python -m benchmarks loss`"
    )
    assert text.endswith(f"### tiles\n\n### whole\n\n{command.END}\nafter\n")
    assert text.count("### new") == 1
    assert "### old" not in text


def test_the_page_of_this_repository_has_the_markers() -> None:
    text = command.PAGE.read_text(encoding="utf-8")
    assert text.index(command.BEGIN) < text.index(command.END)


@pytest.mark.parametrize(("shape", "count"), [((64, 64), 9), ((20, 24, 24), 4)])
def test_generated_cells_are_all_there(shape: tuple[int, ...], count: int) -> None:
    assert set(np.unique(weights.cells(shape, count))) == set(range(count + 1))


def test_the_naive_map_is_equation_2() -> None:
    labels = weights.cells((64, 64), 9)
    np.testing.assert_allclose(weights.naive(labels), weights.border_weight_map(labels), atol=1e-5)


@pytest.mark.long
def test_the_cohort_runs_tiny(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Three volumes in files, though they would fit into memory."""
    words = ["--volumes", "3", "--side", "32", "--memory", "1e-6", "--folder", str(tmp_path)]
    cohort.main(words)
    said, told = capfd.readouterr()
    assert "they are kept in" in told
    assert "peak memory: " in said
    assert "16 tiles are equal to the bit" in said
    assert not list(tmp_path.iterdir())
