"""Whether `unet-med next --rule confidence` is better than chance: learning curves of both.

    python -m benchmarks.next_image                       # three sets, 3 seeds, 3 to 12 images
    python -m benchmarks.next_image nuclei --minutes 1 --seeds 0 --images 3 6
    python -m benchmarks.next_image --page                # write the page anew, train nothing

A training begins with three images of a training set of `benchmarks.quality`; then images are added
by the rule, or at random among those with foreground, and a network is trained anew for as many
minutes. Both ways begin with the same network; the score is that of the test images. Rows are in
`benchmarks/next_image.jsonl` and not measured again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.quality_methods import UnetMed
from benchmarks.quality_sets import SETS, Pair, arrays, prepared
from benchmarks.regrets import score
from benchmarks.rows import Row, complete, markdown, parser_of, read, rounded, words, write_section
from unet_med.segmentation import Segmenter
from unet_med.segmentation.next_image import choose_next, look

ROWS = Path(__file__).with_suffix(".jsonl")
PAGE = ROWS.parents[1] / "docs" / "explanation" / "how-good.md"
CHOSEN = {"isbi": "V_Rand", "nuclei": "AP", "hippocampus": "Dice"}
RULES = ("random", "next")
START = "start"  # in the place of a rule: the first images are drawn


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the page."""
    options = _parser().parse_args(words)
    if not options.page:
        for name in options.sets or CHOSEN:
            complete(ROWS, _keys(name, options), lambda key: measure(key, options))
    write_section(PAGE, "next-image", table(read(ROWS)))


def measure(key: Row, options: argparse.Namespace) -> Row:
    """Choose, train, and score the test images."""
    images = SETS[key["set"]]
    base, training, test = prepared(key, options)
    chosen = _chosen(key, training, base)
    folder = _folder(base, key)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    folder.mkdir(parents=True)
    method = UnetMed()
    learned = [training[k] for k in chosen]
    method.train(images, learned, folder, minutes=key["minutes"], seed=key["seed"])
    results = method.predict(images, [pair["image"] for pair in test], folder)
    scores = rounded(score(images, results, [pair["label"] for pair in test]))
    return {"scores": scores, "chosen": chosen, "date": date.today().isoformat()}


def by_rule(bundle: Path, pairs: Sequence[Pair], known: Sequence[int], count: int) -> list[int]:
    """Positions of the images that `unet-med next --rule confidence` adds to what is known."""
    files = {str(k): pair["image"] for k, pair in enumerate(pairs) if k not in known}
    segmenter = Segmenter(bundle, device="cpu", trust=True)
    candidates = [look(segmenter, name, file) for name, file in files.items()]
    choices = choose_next(candidates, count, rule="confidence")
    return [int(choice.candidate.name) for choice in choices]


def at_random(pairs: Sequence[Pair], known: Sequence[int], count: int, seed: int) -> list[int]:
    """Positions of other images whose labels hold something, in a fixed order a seed."""
    order = np.random.default_rng(seed).permutation(len(pairs)).tolist()
    left = (k for k in order if k not in known and arrays([pairs[k]["label"]])[0].any())
    return [k for k, _ in zip(left, range(count), strict=False)]


def table(found: Sequence[Row]) -> str:
    """Markdown: the learning curves, means over seeds."""
    head = ["data", "minutes", "score", "images", "random", "least confident"]
    lines = []
    for name, wanted in CHOSEN.items():
        mine = [row for row in found if row["set"] == name]
        for minutes, count in sorted({(row["minutes"], row["count"]) for row in mine}):
            rows = [r for r in mine if (r["minutes"], r["count"]) == (minutes, count)]
            each = [
                [r["scores"][wanted] for r in rows if r["rule"] in (rule, START)] for rule in RULES
            ]
            cells = [words(scores) if scores else "-" for scores in each]
            lines.append([name, f"{minutes:g}", wanted, str(count), *cells])
    return markdown(head, lines)


def _chosen(key: Row, pairs: Sequence[Pair], base: Path) -> list[int]:
    """What was learned before, and what is added to it."""
    if key["before"] is None:
        return at_random(pairs, [], key["count"], key["seed"])
    earlier = {**key, "count": key["before"]}
    del earlier["before"]
    rules = (key["rule"], START)
    before = next(r for r in read(ROWS) if r["rule"] in rules and _is(r, earlier))
    known = before["chosen"]
    more = key["count"] - len(known)
    if key["rule"] == "random":
        return [*known, *at_random(pairs, known, more, key["seed"])]
    return [*known, *by_rule(_folder(base, before) / "bundle", pairs, known, more)]


def _is(row: Row, key: Row) -> bool:
    """Whether a row is of a key, whatever its rule."""
    return all(row.get(name) == value for name, value in key.items() if name != "rule")


def _folder(base: Path, key: Row) -> Path:
    return base / f"{key['rule']}-{key['count']}"


def _keys(name: str, options: argparse.Namespace) -> Iterator[Row]:
    first, *rest = options.images
    for seed in options.seeds:
        own = {"set": name, "minutes": options.minutes, "seed": seed}
        yield {**own, "rule": START, "count": first, "before": None}
        for rule in RULES:
            for before, count in pairwise([first, *rest]):
                yield {**own, "rule": rule, "count": count, "before": before}


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("next_image", __doc__, minutes=3.0, seeds=(0, 1, 2), sets=CHOSEN)
    parser.add_argument("--images", type=int, nargs="+", default=[3, 6, 9, 12])
    parser.add_argument("--most", type=int, help="test images of each set; all if not given")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main())
