"""Results that take hours: each is a line of JSON in a file, kept, and not measured again.

A row is a key, which says what was measured, and beside it what was found. A benchmark that was
stopped goes on with the first key that has no row; to measure one anew, delete its line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

Row = dict[str, Any]


def read(file: Path) -> list[Row]:
    """All rows of a file; none where it is missing."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def complete(file: Path, keys: Iterable[Row], measure: Callable[[Row], Row]) -> None:
    """Measure what has no row yet, and write each as soon as it is there."""
    for key in keys:
        if not any(key.items() <= row.items() for row in read(file)):
            row = {**key, **measure(key)}
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def rounded(scores: Row) -> Row:
    """Scores as rows keep them."""
    return {name: round(float(value), 4) for name, value in scores.items()}


def words(values: Sequence[float]) -> str:
    """A mean, and the deviation of several."""
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table; a sentence where it would have no line."""
    if not (rest := list(lines)):
        return "Not measured yet."
    cells = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def write_section(page: Path, name: str, text: str) -> None:
    """Put Markdown between the two markers of a name in a page, and leave the rest."""
    begin, end = (f"<!-- {name}: {mark} -->" for mark in ("begin", "end"))
    before, rest = page.read_text(encoding="utf-8").split(begin)
    parts = [before, begin, "\n\n", text, "\n\n", end, rest.split(end)[1]]
    page.write_text("".join(parts), encoding="utf-8")
