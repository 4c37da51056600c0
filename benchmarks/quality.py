"""How good the answers are: train by the plan alone, predict, score images that stayed apart.

    python -m benchmarks.quality                               # all sets, 10 minutes, three seeds
    python -m benchmarks.quality nuclei --minutes 60 --seeds 0
    python -m benchmarks.quality nuclei --method monai         # a peer at equal minutes
    python -m benchmarks.quality --page                        # write the page anew, train nothing

Minutes are those of the clock, from the command to the finished bundle: leave the machine alone.
Each finished training is a line of `benchmarks/quality.jsonl`, and is not done again: the whole
takes some ten hours and goes on where it stopped. `docs/explanation/how-good.md` is made of it.
Nothing is chosen by these scores: what the plan decides was chosen inside the training sets.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.quality_methods import METHODS
from benchmarks.quality_sets import SETS, named

ROWS = Path(__file__).with_suffix(".jsonl")
PAGE = ROWS.parents[1] / "docs" / "explanation" / "how-good.md"
BEGIN, END = "<!-- quality: begin -->", "<!-- quality: end -->"

Row = dict[str, Any]


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the page."""
    options = _parser().parse_args(words)
    for name in [] if options.page else options.sets or SETS:
        for seed in options.seeds:
            key = {"set": name, "method": options.method, "minutes": options.minutes}
            key |= {"seed": seed, "threads": options.threads}
            if not any(key.items() <= row.items() for row in rows()):
                row = {**key, **measure(name, options, seed)}
                with ROWS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    parts = [before, BEGIN, "\n\n", table(rows()), "\n\n", END, rest.split(END)[1]]
    PAGE.write_text("".join(parts), encoding="utf-8")


def measure(name: str, options: argparse.Namespace, seed: int) -> Row:
    """One training of a set, and the scores of its test images."""
    images = SETS[name]
    folder = options.output / f"{name}-{options.method}-{options.minutes:g}-{seed}"
    train, test = images.pairs(options.data.resolve(), folder / "data")
    train, test = named(train, folder / "train"), named(test, folder / "test")
    method = METHODS[options.method]
    begun = time.monotonic()
    method.train(images, train, folder, minutes=options.minutes, seed=seed)
    minutes = (time.monotonic() - begun) / 60
    results = method.predict(images, [pair["image"] for pair in test], folder)
    scores = images.score(results, [pair["label"] for pair in test])
    rounded = {key: round(float(value), 4) for key, value in scores.items()}
    facts = {"took": round(minutes, 2), "date": date.today().isoformat(), **method.facts(folder)}
    return {"scores": rounded, **facts}


def rows() -> list[Row]:
    """All trainings that are done."""
    if not ROWS.is_file():
        return []
    return [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines() if line]


def table(found: Sequence[Row]) -> str:
    """Markdown: a row for each set, method and budget, means over the seeds."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in found:
        groups[row["set"], row["method"], row["minutes"], row["threads"]].append(row)
    lines = ["| data | method | minutes | threads | seeds | scores |", "|---|---|---|---|---|---|"]
    for name in SETS:
        for key in sorted(group for group in groups if group[0] == name):
            runs = groups[key]
            seeds = ", ".join(str(row["seed"]) for row in runs)
            scores = ", ".join(_words([row["scores"] for row in runs]))
            lines.append(f"| {key[0]} | {key[1]} | {key[2]:g} | {key[3]} | {seeds} | {scores} |")
    return "\n".join(lines)


def _words(scores: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Mean of each score, with the deviation of the seeds where there are several."""
    for name in scores[0]:
        values = [score[name] for score in scores]
        spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
        yield f"{name} {mean(values):.3f}{spread}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], help="all if none is named")
    parser.add_argument("--method", choices=METHODS, default="unet-med")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2, help="that were given, for the table")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("runs/quality"))
    parser.add_argument("--page", action="store_true", help="write the page anew and stop")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main())
