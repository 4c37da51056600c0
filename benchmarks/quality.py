"""How good the answers are: train by the plan alone, predict, score images that stayed apart.

    python -m benchmarks.quality                               # all sets, 10 minutes, three seeds
    python -m benchmarks.quality nuclei --minutes 60 --seeds 0
    python -m benchmarks.quality nuclei --method monai         # a peer at equal minutes
    python -m benchmarks.quality --page                        # write the page anew, train nothing

Minutes are those of the clock, from the command to the finished bundle: leave the machine alone.
Each finished training is a line of `benchmarks/quality.jsonl`, and is not done again on a CPU of
that name: the whole takes some ten hours and goes on where it stopped. The page
`docs/explanation/how-good.md` is made of it. Peers beside MONAI want `make peers` first. Nothing is
chosen by these scores: what the plan decides was chosen inside the training sets.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from benchmarks.quality_methods import MATCHING, METHODS
from benchmarks.quality_page import table
from benchmarks.quality_sets import SETS, arrays, named
from benchmarks.rows import Row, complete, parser_of, processor, read, rounded, write_section

ROWS = Path(__file__).with_suffix(".jsonl")
PAGE = ROWS.parents[1] / "docs" / "explanation" / "how-good.md"


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the page."""
    options = _parser().parse_args(words)
    if not options.page:
        complete(ROWS, _keys(options), lambda key: measure(key, options))
    write_section(PAGE, "quality", table(read(ROWS)))


def measure(key: Row, options: argparse.Namespace) -> Row:
    """One training of a set, and the scores of its test images."""
    images, method = SETS[key["set"]], METHODS[key["method"]]
    name = f"{key['set']}-{key['method']}-{key['minutes']:g}-{key['seed']}"
    folder = (options.output / name).resolve()
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    train, test = images.pairs(options.data.resolve(), folder / "data")
    train, test = named(train, folder / "train"), named(test, folder / "test")
    begun = time.monotonic()
    method.train(images, train, folder, minutes=key["minutes"], seed=key["seed"])
    minutes = (time.monotonic() - begun) / 60
    results = method.predict(images, [pair["image"] for pair in test], folder)
    truths = [pair["label"] for pair in test]
    scores = rounded(images.score(results, truths))
    facts = {"took": round(minutes, 2), "date": date.today().isoformat(), **method.facts(folder)}
    if images.result == "instances" and MATCHING.installed:
        facts["matching"] = rounded(MATCHING.match(arrays(results), arrays(truths), folder))
    return {"scores": scores, **facts}


def _keys(options: argparse.Namespace) -> Iterator[Row]:
    """What is asked for, of the sets that the method can answer."""
    for name in options.sets or SETS:
        if SETS[name].result in METHODS[options.method].results:
            for seed in options.seeds:
                key = {"set": name, "method": options.method, "minutes": options.minutes}
                yield {**key, "seed": seed, "threads": options.threads, "cpu": processor()}


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("quality", __doc__, minutes=10.0, seeds=(0, 1, 2), sets=SETS)
    parser.add_argument("--method", choices=METHODS, default="unet-med")
    parser.add_argument("--threads", type=int, default=2, help="that were given, for the table")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main())
