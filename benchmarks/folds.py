"""Whether the score that `unet-med train --folds` gives is that of images kept out entirely.

    python -m benchmarks.folds                        # five sets, 20 minutes of one core each
    python -m benchmarks.folds nuclei --minutes 2
    python -m benchmarks.folds --page                 # write the page anew, train nothing

The estimate comes from the folds of a training set of `benchmarks.quality`, the truth from its test
images, which the network of all images predicts. Both are of a draw of images: the interval of
their difference joins both bootstrap intervals by squaring and adding (Zou and Donner 2008). Rows
are kept in `benchmarks/folds.jsonl` and not measured again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from math import hypot
from pathlib import Path
from statistics import mean

import numpy as np

from benchmarks.quality_methods import UnetMed
from benchmarks.quality_sets import SETS, ImageSet, Pair, arrays, dice_of, prepared
from benchmarks.rows import Row, complete, markdown, parser_of, read, rounded, write_section
from unet_med.data import load_image
from unet_med.metrics.bootstrap import bootstrap_interval, mean_interval
from unet_med.metrics.isbi import V_RAND
from unet_med.metrics.objects import precision_score
from unet_med.metrics.score import Score
from unet_med.report.table import HIGH, LOW, read_scores

ROWS = Path(__file__).with_suffix(".jsonl")
PAGE = ROWS.parents[1] / "docs" / "explanation" / "how-good.md"
FOLDS = {"isbi": 5, "nuclei": 5, "tissue": 5, "usiigaci": 12, "hippocampus": 5}
SAID = Path("models", "folds", "scores.json")
SCORES = {"instances": "AP50", "probabilities": "V_Rand", "mask": "Dice"}
Interval = tuple[float, float, float]  # a score and its ends


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the page."""
    options = parser("folds", __doc__, FOLDS).parse_args(words)
    if not options.page:
        complete(ROWS, keys(options, FOLDS), lambda key: measure(key, options))
    write_section(PAGE, "folds", table(read(ROWS)))


def measure(key: Row, options: argparse.Namespace) -> Row:
    """What the folds say, and what the network of all images reaches on the test images."""
    images, method = SETS[key["set"]], UnetMed()
    folder, test = trained(key, options)
    results = method.predict(images, [pair["image"] for pair in test], folder)
    said = estimate(folder / "bundle", SCORES[images.result])
    seen = reached(images, results, test)
    names = ("score", "low", "high")
    scores = rounded(images.score(results, [pair["label"] for pair in test]))
    return {
        "estimate": rounded(dict(zip(names, said, strict=True))),
        "kept out": rounded(dict(zip(names, seen, strict=True))),
        "scores": scores,
        "date": date.today().isoformat(),
        **method.facts(folder),
    }


def trained(key: Row, options: argparse.Namespace) -> tuple[Path, list[Pair]]:
    """The folder in which `bundle` lies, trained if it is not there yet, and the test images."""
    base, training, test = prepared(key, options)
    folder = base / "run"
    if not (folder / "bundle" / SAID).is_file():
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        folder.mkdir(parents=True)
        method = UnetMed(["--folds", str(key["folds"])])
        images, seed = SETS[key["set"]], key["seed"]
        method.train(images, training, folder, minutes=key["minutes"], seed=seed)
    return folder, test


def estimate(bundle: Path, column: str) -> Interval:
    """The score over all images that the bundle states, and the ends of its interval."""
    table = read_scores(bundle / SAID)
    kinds = [table.statistic + end for end in ("", LOW, HIGH)]
    score, low, high = (
        next(row.scores[column] for row in table.of(kind) if not row.label) for kind in kinds
    )
    assert score is not None
    assert low is not None
    assert high is not None
    return score, low, high


def reached(images: ImageSet, results: Sequence[Path], test: Sequence[Pair]) -> Interval:
    """The same score of the test images."""
    truths = arrays([pair["label"] for pair in test])
    if images.result == "mask":
        dice = [dice_of(*both) for both in zip(arrays(results), truths, strict=True)]
        return (float(np.mean(dice)), *mean_interval(dice))
    if images.result == "instances":
        return _pooled(precision_score(0.5), arrays(results), truths)
    inside = [np.asarray(load_image(path))[1] for path in results]
    return _pooled(V_RAND, inside, [truth > 0 for truth in truths])


def _pooled(score: Score, results: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> Interval:
    counts = [score.count(*both) for both in zip(results, truths, strict=True)]
    return (score.pool(np.concatenate(counts)), *bootstrap_interval(counts, score.pool))


def difference(said: Row, seen: Row) -> Interval:
    """By how much the estimate is above the test images' score, and the ends of its interval.

    >>> one, other = ({"score": s, "low": s - 0.3, "high": s + 0.4} for s in (0.5, 0.25))
    >>> [round(float(value), 3) for value in difference(one, other)]
    [0.25, -0.25, 0.75]
    """
    apart = said["score"] - seen["score"]
    low = hypot(said["score"] - said["low"], seen["high"] - seen["score"])
    high = hypot(said["high"] - said["score"], seen["score"] - seen["low"])
    return apart, apart - low, apart + high


def table(found: Sequence[Row]) -> str:
    """Markdown: a line a set, and the mean of the differences."""
    head = ["data", "folds", "minutes", "score", "estimate", "kept out", "difference", "within"]
    lines, apart = [], []
    for row in found:
        said, seen = row["estimate"], row["kept out"]
        value, low, high = difference(said, seen)
        apart.append(value)
        cells = [f"{e['score']:.3f} ({e['low']:.3f} to {e['high']:.3f})" for e in (said, seen)]
        cells.append(f"{value:+.3f} ({low:+.3f} to {high:+.3f})")
        inside = "yes" if low <= 0 <= high else "**no**"
        score = SCORES[SETS[row["set"]].result]
        lines.append([row["set"], str(row["folds"]), f"{row['minutes']:g}", score, *cells, inside])
    if len(apart) > 1:
        lines.append(["mean", "", "", "", "", "", f"{mean(apart):+.3f}", ""])
    return markdown(head, lines)


def keys(options: argparse.Namespace, sets: Iterable[str]) -> Iterator[Row]:
    """One a set, of those that are asked for, and seed."""
    for name in options.sets or sets:
        for seed in options.seeds:
            key = {"set": name, "folds": FOLDS[name], "minutes": options.minutes, "seed": seed}
            yield {**key, "threads": options.threads}


def parser(name: str, doc: str | None, sets: Iterable[str]) -> argparse.ArgumentParser:
    """Options of a benchmark of bundles with folds."""
    parser = parser_of(name, doc, minutes=20.0, seeds=(0,), sets=sets)
    parser.add_argument("--most", type=int, help="test images of each set; all if not given")
    parser.add_argument("--threads", type=int, default=1, help="that were given, for the table")
    parser.set_defaults(output=Path("runs") / "folds")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main())
