"""Results that take hours: each is a line of JSON in a file, kept, and not measured again.

A row is a key, which says what was measured, and beside it what was found. A benchmark that was
stopped goes on with the first key that has no row; to measure one anew, delete its line.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

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


def processor() -> str:
    """What the CPU calls itself, and how it multiplies in bfloat16: minutes are worth that."""
    about = Path("/proc/cpuinfo")
    text = about.read_text(encoding="utf-8", errors="replace") if about.is_file() else ""
    named = re.search(r"^model name\s*:(.+)$", text, re.MULTILINE)
    name = named[1] if named else platform.processor() or platform.machine()
    plain = " ".join(re.sub(r"\(R\)|\(TM\)|\b(CPU|Processor)\b", " ", name).split())
    has = [name for name, there in torch.cpu.get_capabilities().items() if there]
    return ", ".join([plain, *(name for name in has if name.endswith("_bf16"))])


def parser_of(
    name: str, doc: str | None, *, minutes: float, seeds: Sequence[int], sets: Iterable[str] = ()
) -> argparse.ArgumentParser:
    """Options that all of these benchmarks have.

    Args:
        name: of the module, also of its folder in `runs`.
        doc: what its help says.
        minutes: of each training, by default.
        seeds: by default.
        sets: of images, some of which may be named.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc)
    if choices := [*sets]:
        parser.add_argument("sets", nargs="*", choices=[*choices, []], help="all if none is named")
    parser.add_argument("--minutes", type=float, default=minutes, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[*seeds])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("runs") / name)
    parser.add_argument("--page", action="store_true", help="write the page anew and stop")
    return parser


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
