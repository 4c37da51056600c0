"""Rows of long benchmarks: measured once, kept one by one, and put into a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import rows


def test_what_has_a_row_is_not_measured_again(tmp_path: Path) -> None:
    file, measured = tmp_path / "rows.jsonl", []

    def measure(key: rows.Row) -> rows.Row:
        measured.append(key["seed"])
        if key["seed"] == 2:
            raise KeyboardInterrupt
        return {"score": key["seed"] / 10}

    keys = [{"set": "a", "seed": seed} for seed in range(3)]
    with pytest.raises(KeyboardInterrupt):
        rows.complete(file, keys, measure)
    assert rows.read(file) == [
        {"set": "a", "seed": 0, "score": 0.0},
        {"set": "a", "seed": 1, "score": 0.1},
    ]
    rows.complete(file, keys[:2], measure)
    rows.complete(file, [{"set": "b", "seed": 0}], measure)  # of another set
    assert measured == [0, 1, 2, 0]


def test_a_file_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert rows.read(tmp_path / "rows.jsonl") == []


def test_words_are_mean_and_deviation() -> None:
    assert rows.words([0.5]) == "0.500"
    assert rows.words([0.7, 0.8, 0.9]) == "0.800 ± 0.100"


def test_a_table_without_lines_says_so() -> None:
    assert rows.markdown(["x"], iter([])) == "Not measured yet."


def test_a_section_is_written_in_its_place_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marks = "<!-- {0}: begin -->old<!-- {0}: end -->"
    page.write_text(f"a\n{marks.format('one')}\nb\n{marks.format('two')}\nc\n", encoding="utf-8")
    for _ in range(2):  # twice is once
        rows.write_section(page, "two", rows.markdown(["x", "y"], [["1", "2"]]))
    table = "| x | y |\n| --- | --- |\n| 1 | 2 |"
    assert page.read_text(encoding="utf-8") == (
        f"a\n{marks.format('one')}\nb\n<!-- two: begin -->\n\n{table}\n\n<!-- two: end -->\nc\n"
    )
