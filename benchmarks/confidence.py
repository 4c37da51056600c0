"""Whether confidence ranks images as their true scores do, and probabilities mean what they say.

    python -m benchmarks.confidence                       # five sets
    python -m benchmarks.confidence nuclei --minutes 2
    python -m benchmarks.confidence --page                # write the page anew, train nothing

The bundles are those of `benchmarks.folds`, trained if they are not there: calibration and
thresholds are fitted to what the folds hold out. All is measured on the test images of
`benchmarks.quality`, which no training sees. Rows are kept in `benchmarks/confidence.jsonl` and not
measured again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks import folds
from benchmarks.quality_methods import result_of
from benchmarks.quality_sets import SETS, ImageSet, Pair
from benchmarks.regrets import score
from benchmarks.rows import Row, complete, markdown, read, rounded, words, write_section
from unet_med.data import load_label
from unet_med.fitting import HeldOut, NearBorders, judging, pixels_of
from unet_med.metrics.calibration import CALIBRATION
from unet_med.segmentation import Segmenter

ROWS = Path(__file__).with_suffix(".jsonl")
PAGE = ROWS.parents[1] / "docs" / "explanation" / "how-good.md"
CHOSEN = {"isbi": "V_Rand", "nuclei": "AP", "tissue": "AP", "usiigaci": "AP", "hippocampus": "Dice"}


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the page."""
    options = folds.parser("confidence", __doc__, CHOSEN).parse_args(words)
    if not options.page:
        complete(ROWS, folds.keys(options, CHOSEN), lambda key: measure(key, options))
    write_section(PAGE, "confidence", table(read(ROWS)))


def measure(key: Row, options: argparse.Namespace) -> Row:
    """Rank correlation over test images, and calibration errors over all of them."""
    images = SETS[key["set"]]
    folder, test = folds.trained(key, options)
    results = folder / "ranked"
    own, errors = ranked(folder / "bundle", test, images, CHOSEN[key["set"]], results)
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
    ones = (1.0,) * truth.ndim
    held: Any = HeldOut(probabilities, truth, ones, None, ones, "um")
    return pixels_of(held, kind)


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main())
