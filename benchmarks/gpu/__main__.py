"""Measure a GPU for ten minutes at most, and write its section of docs/reference/benchmarks.md.

python -m benchmarks.gpu                 # make gpu
python -m benchmarks.gpu --tiny          # on any device: does every stage run; writes no page
python -m benchmarks.gpu --page          # of a run elsewhere, whose results.jsonl is in --output
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.__main__ import PAGE, machine
from benchmarks.gpu import correct, fast, good
from benchmarks.gpu.notes import RESULTS, Notes, kernels, kernels_now, start_clean

BEGIN, END = "<!-- make gpu: begin -->", "<!-- make gpu: end -->"

# In the order of their worth, with the seconds that each needs.
STAGES: tuple[tuple[Callable[[Notes], None], float], ...] = (
    (correct.tests, 90),
    (correct.tiles, 15),
    (correct.against_the_cpu, 5),
    (fast.ceilings, 8),
    (fast.steps, 40),
    (fast.weights, 4),
    (fast.pipeline, 60),
    (fast.prediction, 20),
    (good.isbi, 130),
    (good.nuclei, 130),
)


def main(words: list[str] | None = None) -> int:
    """Run the stages that fit in the time; returns how many failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--limit", type=float, default=560, help="seconds")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--page", action="store_true", help="write the page, measure nothing")
    args = parser.parse_args(words)
    if args.page:
        write(args.output / RESULTS)
        return 0
    if not torch.cuda.is_available():
        print("no CUDA device: on the simulated one, `make gpu TINY=1` shows that all runs")
        return 2
    print(start_clean(args.output), flush=True)
    notes = Notes(args.output.absolute(), args.data.absolute(), args.tiny, args.limit)
    with kernels():
        gpu = torch.cuda.get_device_name()
        notes.note("machine", gpu=gpu, versions=machine(), **kernels_now())
    failed = [stage.__name__ for stage, seconds in STAGES if not _ran(notes, stage, seconds)]
    notes.note("end", failed=failed)
    if not args.tiny:
        write(args.output / RESULTS)
    return len(failed)


def _ran(notes: Notes, stage: Callable[[Notes], None], seconds: float) -> bool:
    """Run a stage, with a training's kernels; one that fails leaves the others their turn."""
    if notes.left < seconds and not notes.tiny:
        notes.note(stage.__name__, skipped=f"needs {seconds:.0f} s, {notes.left:.0f} s are left")
        return True
    start = time.monotonic()
    try:
        with kernels():
            stage(notes)
    except Exception as error:
        where = traceback.format_exc()[-800:]
        notes.note(stage.__name__, failed=f"{type(error).__name__}: {error}"[:400], where=where)
        return False
    finally:
        torch.cuda.empty_cache()
    notes.note(stage.__name__, took_s=round(time.monotonic() - start, 1))
    return True


def write(results: Path, page: Path = PAGE) -> None:
    """Put the facts between the page's marks, a table a stage."""
    lines = results.read_text(encoding="utf-8").splitlines()
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    tables = "\n\n".join(_tables([json.loads(line) for line in lines]))
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


def _tables(facts: list[dict[str, Any]]) -> list[str]:
    """A table of each stage's rows; rows with other columns begin another one."""
    tables: list[list[dict[str, Any]]] = []
    for fact in facts:
        first = tables[-1][0] if tables else {}
        if first.keys() == fact.keys() and first["stage"] == fact["stage"]:
            tables[-1].append(fact)
        else:
            tables.append([fact])
    return [_table(rows) for rows in tables]


def _table(rows: list[dict[str, Any]]) -> str:
    names = [name for name in rows[0] if name != "at"]
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}"
    cells = (" | ".join(str(row[name]).replace("|", "/") for name in names) for row in rows)
    return "\n".join([head, *(f"| {each} |" for each in cells)])


if __name__ == "__main__":
    sys.exit(main())
