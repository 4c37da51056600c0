"""Whether confidence ranks images as their true scores do, and probabilities mean what they say.

    python -m benchmarks.confidence                       # four sets, 10 minutes, two seeds
    python -m benchmarks.confidence nuclei --minutes 1 --seeds 0
    python -m benchmarks.confidence --page                # write the page anew, train nothing

Each bundle holds a quarter of its training set out, to which thresholds and calibration are fitted.
All is measured on the test images of `benchmarks.quality`, which no training sees. Rows are kept in
`benchmarks/confidence.jsonl` and not measured again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.quality_methods import UnetMed, result_of
from benchmarks.quality_sets import SETS, ImageSet, Pair, prepared
from benchmarks.regrets import score
from benchmarks.rows import Row, complete, markdown, parser_of, read, rounded, words, write_section
from unet_med.data import load_label
from unet_med.fitting import HeldOut, NearBorders, judging, pixels_of
from unet_med.metrics.calibration import CALIBRATION
from unet_med.segmentation import Segmenter

ROWS = Path(__file__).with_suffix(".jsonl")
PAGE = ROWS.parents[1] / "docs" / "explanation" / "how-good.md"
CHOSEN = {"nuclei": "AP", "tissue": "AP", "usiigaci": "AP", "hippocampus": "Dice"}
HELD_OUT = "0.25"  # of the training images


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the page."""
    options = _parser().parse_args(words)
    if not options.page:
        for name in options.sets or CHOSEN:
            complete(ROWS, _keys(name, options), lambda key: measure(key, options))
    write_section(PAGE, "confidence", table(read(ROWS)))


def measure(key: Row, options: argparse.Namespace) -> Row:
    """Rank correlation over test images, and calibration errors over all of them."""
    images = SETS[key["set"]]
    base, training, test = prepared(key, options)
    folder = base / "run"
    if not (folder / "bundle" / "models" / "model.pt").is_file():
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        folder.mkdir(parents=True)
        method = UnetMed(["--validation", HELD_OUT])
        method.train(images, training, folder, minutes=key["minutes"], seed=key["seed"])
    own, errors = ranked(folder / "bundle", test, images, CHOSEN[key["set"]], base / "results")
    found = [each for each in own if each["confidence"] is not None]
    rank = spearmanr([e["confidence"] for e in found], [e["score"] for e in found]).statistic
    scores = rounded({"Spearman": rank, **errors})
    return {"scores": scores, "images": own, "date": date.today().isoformat()}


def ranked(
    bundle: Path, pairs: Sequence[Pair], images: ImageSet, wanted: str, results: Path
) -> tuple[list[Row], dict[str, float]]:
    """Confidence and true score of each image; the calibration error before and after."""
    plain = judging(bundle, bundle / "models" / "model.pt", "cpu")
    segmenter = Segmenter(bundle, device="cpu", trust=True)
    rule = segmenter.calibration
    rows, near = [], []
    for pair in pairs:
        found = segmenter(pair["image"])
        found.save(results, [images.result])
        file = result_of(pair["image"], results, images.result)
        true = score(images, [file], [pair["label"]])[wanted]
        rows.append({"confidence": found.confidence, "score": round(float(true), 4)})
        near.append(_pixels(plain, pair, images))
    errors = {"before": error(near)}
    if rule is not None:
        near = [NearBorders(rule(each.probabilities), each.classes) for each in near]
    return rows, {**errors, "after": error(near)}


def error(images: Sequence[NearBorders]) -> float:
    """Expected calibration error of all pixels near borders."""
    counted = [CALIBRATION.count(each.probabilities, each.classes) for each in images]
    return CALIBRATION.total(np.concatenate(counted))


def table(found: Sequence[Row]) -> str:
    """Markdown: a line a set and budget, means over seeds."""
    head = ["data", "minutes", "test images", "score", "Spearman", "ECE before", "ECE after"]
    lines = []
    for name, wanted in CHOSEN.items():
        mine = [row for row in found if row["set"] == name]
        for minutes in sorted({row["minutes"] for row in mine}):
            rows = [row for row in mine if row["minutes"] == minutes]
            columns = [[row["scores"][n] for row in rows] for n in ("Spearman", "before", "after")]
            count = mean(len(row["images"]) for row in rows)
            lines.append([name, f"{minutes:g}", f"{count:g}", wanted, *map(words, columns)])
    return markdown(head, lines)


def _pixels(plain: Segmenter, pair: Pair, images: ImageSet) -> NearBorders:
    found = plain(pair["image"])
    order = [0, *(1 + found.axes.index(axis) for axis in "XYZ" if axis in found.axes)]
    probabilities = torch.from_numpy(found.probabilities.transpose(order).copy())
    truth = np.asarray(load_label(pair["label"])).astype(np.int64)
    kind = "instances" if images.classes == 2 else "classes"
    held: Any = HeldOut(probabilities, truth, 1.0, None, (1.0,) * truth.ndim)
    return pixels_of(held, kind)


def _keys(name: str, options: argparse.Namespace) -> Iterator[Row]:
    for seed in options.seeds:
        yield {"set": name, "minutes": options.minutes, "seed": seed}


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("confidence", __doc__, minutes=10.0, seeds=(0, 1), sets=CHOSEN)
    parser.add_argument("--most", type=int, help="test images of each set; all if not given")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main())
