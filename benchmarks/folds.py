"""Whether the score that `unet-med train --folds` gives is that of images kept out entirely.

    python -m benchmarks.folds                        # five sets, 20 minutes of one core each
    python -m benchmarks.folds nuclei --minutes 2
    python -m benchmarks.folds --page                 # write the page anew, train nothing

The estimate comes from the folds of a training set of `benchmarks.quality`, the truth from its test
images, which the folds' networks predict, each as in the estimate, and the network of all images,
which has learned K times as long. Both are of a draw of images: the interval of their difference
joins both bootstrap intervals by squaring and adding (Zou and Donner 2008). Rows are kept in
`benchmarks/folds.jsonl` and not measured again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from math import hypot
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np

from benchmarks.quality_methods import UnetMed, result_of
from benchmarks.quality_sets import SETS, ImageSet, Pair, arrays, dice_of, prepared
from benchmarks.rows import Row, complete, markdown, parser_of, read, rounded, write_section
from unet_med.data import load_image
from unet_med.metrics.bootstrap import bootstrap_interval
from unet_med.metrics.isbi import V_RAND
from unet_med.metrics.objects import precision_score
from unet_med.metrics.score import Score
from unet_med.report.table import HIGH, LOW, read_scores
from unet_med.segmentation import Segmenter

ROWS = Path(__file__).with_suffix(".jsonl")
PAGE = ROWS.parents[1] / "docs" / "explanation" / "how-good.md"
FOLDS = {"isbi": 5, "nuclei": 5, "tissue": 5, "usiigaci": 12, "hippocampus": 5}
ALIKE, ALL = "kept out, folds", "kept out, all"  # by the folds' networks, and by that of all images
SAID = Path("models", "folds", "scores.json")
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
    models = sorted((folder / "bundle" / "models" / "folds").glob("*/model.pt"))
    each = [predicted(folder, weights, images, test) for weights in models]
    said = estimate(folder / "bundle", SCORED[images.result].column)
    found = {"estimate": said, ALIKE: reached(images.result, each, test)}
    found[ALL] = reached(images.result, [results], test)
    names = ("score", "low", "high")
    return {
        **{name: rounded(dict(zip(names, ends, strict=True))) for name, ends in found.items()},
        "scores": rounded(images.score(results, [pair["label"] for pair in test])),
        "date": date.today().isoformat(),
        **method.facts(folder),
    }


def predicted(folder: Path, weights: Path, images: ImageSet, test: Sequence[Pair]) -> list[Path]:
    """What one fold's network makes of the test images."""
    segmenter = Segmenter(folder / "bundle", checkpoint=weights, device="cpu", trust=True)
    place = folder / "folds" / weights.parent.name
    for pair in test:
        segmenter(pair["image"]).save(place, [images.result])
    return [result_of(pair["image"], place, images.result) for pair in test]


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


def reached(result: str, found: Sequence[Sequence[Path]], test: Sequence[Pair]) -> Interval:
    """The same score of the test images, over all networks.

    Args:
        result: what was predicted, as `ImageSet.result` says it.
        found: files of each network, one an image.
        test: the images.
    """
    _, score, read = SCORED[result]
    counts = [
        np.concatenate([score.count(read(file), truth) for file in files])
        for files, truth in zip(zip(*found, strict=True), _truths(result, test), strict=True)
    ]
    return (score.pool(np.concatenate(counts)), *bootstrap_interval(counts, score.pool))


def _truths(result: str, test: Sequence[Pair]) -> list[np.ndarray]:
    labels = arrays([pair["label"] for pair in test])
    return [label.T > 0 for label in labels] if result == "probabilities" else labels  # (Y, X)


def _label(file: Path) -> np.ndarray:
    return arrays([file])[0]


def _foreground(file: Path) -> np.ndarray:
    return np.asarray(load_image(file))[1].T  # (Y, X), as V_Rand wants it


DICE = Score(
    lambda found, truth: np.array([dice_of(found, truth)]), lambda rows: float(rows.mean())
)


class Scored(NamedTuple):
    """How one kind of result is scored."""

    column: str  # of the folds' scores.json
    score: Score
    read: Callable[[Path], np.ndarray]


SCORED = {
    "instances": Scored("AP50", precision_score(0.5), _label),
    "probabilities": Scored("V_Rand", V_RAND, _foreground),
    "mask": Scored("Dice", DICE, _label),
}


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
    """Markdown: a line a set, and the means of the differences."""
    head = ["data", "folds", "minutes", "score", "estimate"]
    head += [cell for name in (ALIKE, ALL) for cell in (name, "estimate is off by", "within")]
    lines = []
    apart: dict[str, list[float]] = {ALIKE: [], ALL: []}
    for row in found:
        score = SCORED[SETS[row["set"]].result].column
        cells = [
            row["set"],
            str(row["folds"]),
            f"{row['minutes']:g}",
            score,
            _ends(row["estimate"]),
        ]
        for name, values in apart.items():
            value, low, high = difference(row["estimate"], row[name])
            values.append(value)
            inside = "yes" if low <= 0 <= high else "**no**"
            cells += [_ends(row[name]), f"{value:+.3f} ({low:+.3f} to {high:+.3f})", inside]
        lines.append(cells)
    if len(lines) > 1:
        alike, every = (f"{mean(values):+.3f}" for values in apart.values())
        lines.append(["mean", "", "", "", "", "", alike, "", "", every, ""])
    return markdown(head, lines)


def _ends(score: Row) -> str:
    return f"{score['score']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


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
