"""What the plan's choices cost: the plan against the best value set by hand, inside training sets.

    python -m benchmarks.regrets                          # three sets, 5 minutes, two seeds
    python -m benchmarks.regrets nuclei --minutes 1 --seeds 0
    python -m benchmarks.regrets --page                   # write the page anew, train nothing

A quarter of each training set of `benchmarks.quality` is held out, and never seen by a training,
which sets aside images of its own for whatever it fits. One choice is changed at a time, to two
other values. Rows are kept in `benchmarks/regrets.jsonl` and not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from math import sqrt
from pathlib import Path
from statistics import mean, variance
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.quality_methods import UnetMed, result_of
from benchmarks.quality_sets import SETS, ImageSet, Pair, arrays, named
from benchmarks.rows import Row, complete, markdown, parser_of, read, rounded, write_section
from unet_med.metrics import average_precision
from unet_med.planning import fingerprint, make_plan
from unet_med.segmentation import Segmenter

ROWS = Path(__file__).with_suffix(".jsonl")
PAGE = ROWS.parents[1] / "docs" / "explanation" / "what-each-ingredient-is-worth.md"
CHOSEN = {"nuclei": "AP", "usiigaci": "AP", "hippocampus": "Dice"}  # by which value is the best
PLAN = "the plan"
NEAR = 0.01  # of the best, which is near enough
FOLD = 4  # every fourth image is held out
OVERLAPS = np.arange(0.5, 0.95, 0.05).round(2).tolist()

PIXELS = {"1.5 times finer pixels": 1.5, "1.5 times coarser pixels": 1 / 1.5}  # times the scale
CROSS_ENTROPY = {"_target_": "unet_med.losses.WeightedCrossEntropyLoss"}
DICE = {
    "_target_": "unet_med.losses.OnLabel",
    "loss": {
        "_target_": "monai.losses.DiceLoss",
        "softmax": True,
        "to_onehot_y": True,
        "include_background": False,
    },
}
BOTH = {"_target_": "unet_med.losses.SumLoss", "losses": [CROSS_ENTROPY, DICE]}
LOSSES: Mapping[str, Mapping[str, Row]] = {  # by kind of result: ids of the training
    "instances": {"no border weights": {"w0": 0.0}, "border weights and Dice": {"loss": BOTH}},
    "mask": {
        "cross-entropy alone": {"loss": CROSS_ENTROPY},
        "balanced classes": {"weigh::class_balance::class_weights": None},
    },
}
NO_SEEDS = {"threshold": None, "mask_threshold": None, "reach": 0}
FINISHES: Mapping[str, Mapping[str, Row]] = {  # by kind of result: ids of the prediction
    "instances": {
        "the likeliest class": NO_SEEDS,
        "seeds of 0.6 grown to 0.4": {"threshold": 0.6, "mask_threshold": 0.4},
    },
    "mask": {"no averaging": {"tta": None}, "the largest component": {}},
}


ABOUT = """### What single choices cost

A quarter of three training sets is held out, and one choice of the plan at a time is changed to two
other values by hand (`python -m benchmarks.regrets`). *The best wins* says by how much the best
value is ahead of the plan; it is within reach if that is 0.01, or no more than the seeds scatter
(the standard error of the difference of two means). AP is the mean over IoU 0.5 to 0.9.
"""


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the page."""
    options = parser_of("regrets", __doc__, minutes=5.0, seeds=(0, 1), sets=CHOSEN).parse_args(
        words
    )
    if not options.page:
        for name in options.sets or CHOSEN:
            complete(ROWS, _keys(name, options), lambda key: measure(key, options))
    write_section(PAGE, "regrets", section(read(ROWS)))


def values(name: str) -> dict[str, list[str]]:
    """Values of each choice, beside the plan's."""
    kind = SETS[name].result
    return {
        "working pixels": [*PIXELS],
        "loss": [*LOSSES[kind]],
        "post-processing": [*FINISHES[kind]],
    }


def measure(key: Row, options: argparse.Namespace) -> Row:
    """Score of a value; post-processing is tried on the plan's own network."""
    images, value = SETS[key["set"]], key["value"]
    base = (options.output / f"{key['set']}-{key['minutes']:g}-{key['seed']}").resolve()
    pairs = named(images.pairs(options.data.resolve(), base / "data")[0], base / "pairs")
    held = pairs[FOLD - 1 :: FOLD]
    learned = [pair for pair in pairs if pair not in held]
    finish = FINISHES[images.result].get(value)
    folder = base / (PLAN if finish is not None else value).replace(" ", "-")
    minutes = trained(folder, learned, value, images, key)
    results = predict(folder, held, images, value, finish or {})
    scores = rounded(score(images, results, [pair["label"] for pair in held]))
    return {"scores": scores, "took": minutes, "date": date.today().isoformat()}


def trained(folder: Path, pairs: Sequence[Pair], value: str, images: ImageSet, key: Row) -> float:
    """Train, unless it is done; the minutes that it took."""
    done = folder / "took.json"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        folder.mkdir(parents=True)
        method = UnetMed(_options(folder, pairs, value, images))
        begun = time.monotonic()
        method.train(images, pairs, folder, minutes=key["minutes"], seed=key["seed"])
        done.write_text(json.dumps(round((time.monotonic() - begun) / 60, 2)), encoding="utf-8")
    return float(json.loads(done.read_text(encoding="utf-8")))


def predict(
    folder: Path, pairs: Sequence[Pair], images: ImageSet, value: str, ids: Mapping[str, Any]
) -> list[Path]:
    """Results of the held-out images, a file each."""
    segmenter = Segmenter(folder / "bundle", trust=True, **ids)
    place = folder / "results" / value.replace(" ", "-")
    for pair in pairs:
        segmenter(pair["image"]).save(place, [images.result])
    files = [result_of(pair["image"], place, images.result) for pair in pairs]
    if value == "the largest component":
        for file, mask in zip(files, arrays(files), strict=True):
            np.save(file.with_suffix(".npy"), largest(mask).T)  # (Z, Y, X)
        files = [file.with_suffix(".npy") for file in files]
    return files


def score(images: ImageSet, results: Sequence[Path], truths: Sequence[str]) -> dict[str, float]:
    """The scores of `benchmarks.quality`; of instances also the mean over overlaps."""
    scores = images.score(results, truths)
    if images.result == "instances":
        scores["AP"] = average_precision(arrays(results), arrays(truths), OVERLAPS)
    return scores


def largest(mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Classes, of each the largest connected component alone."""
    kept = np.zeros_like(mask)
    for number in np.unique(mask[mask > 0]):
        parts, _ = ndimage.label(mask == number)
        kept[parts == np.bincount(parts.ravel())[1:].argmax() + 1] = number
    return kept


def section(found: Sequence[Row]) -> str:
    """Markdown with its heading; empty while nothing is measured."""
    return f"{ABOUT}\n{measured}" if (measured := table(found)) else ""


def table(found: Sequence[Row]) -> str:
    """Markdown: for each choice the plan and the other values, the best's win; or empty."""
    head = ["data", "minutes", "choice", "score", PLAN, "other values", "the best wins", "within"]
    lines = []
    for name, wanted in CHOSEN.items():
        mine = [row for row in found if row["set"] == name]
        for minutes in sorted({row["minutes"] for row in mine}):
            rows = [row for row in mine if row["minutes"] == minutes]
            scores = {
                value: [row["scores"][wanted] for row in rows if row["value"] == value]
                for value in [PLAN, *(v for each in values(name).values() for v in each)]
            }
            for choice, others in values(name).items():
                tried = {value: scores[value] for value in others if scores[value]}
                if scores[PLAN] and tried:
                    cells = _verdict(scores[PLAN], tried)
                    lines.append([name, f"{minutes:g}", choice, wanted, *cells])
    return markdown(head, lines) if lines else ""


def regret(plan: Sequence[float], others: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """What the best value wins over the plan, and what the scatter of seeds alone would.

    The scatter is the standard error of the difference of two means over seeds, from the variance
    of the seeds that is common to all values.
    """
    win = max(0.0, *(mean(scores) - mean(plan) for scores in others.values()))
    spreads = [variance(scores) for scores in (plan, *others.values()) if len(scores) > 1]
    scatter = sqrt(2 * mean(spreads) / len(plan)) if spreads else 0.0
    return win, scatter


def _verdict(plan: Sequence[float], others: Mapping[str, Sequence[float]]) -> list[str]:
    win, scatter = regret(plan, others)
    said = "yes" if win <= max(NEAR, scatter) else "**no**"
    bound = f"{NEAR}" if scatter <= NEAR else f"{scatter:.3f}, the scatter of seeds"
    tried = ", ".join(f"{value} {mean(scores):.3f}" for value, scores in others.items())
    return [f"{mean(plan):.3f}", tried, f"{win:.3f}", f"{said} ({bound})"]


def _options(folder: Path, pairs: Sequence[Pair], value: str, images: ImageSet) -> list[str]:
    """What a value adds to `unet-med train`."""
    if value in PIXELS:
        return _zoomed(folder, pairs, PIXELS[value])
    ids = LOSSES[images.result].get(value)
    if ids is None:
        return []
    file = folder / "override.json"
    file.write_text(json.dumps(ids), encoding="utf-8")
    return ["--config", str(file)]


def _zoomed(folder: Path, pairs: Sequence[Pair], factor: float) -> list[str]:
    """So many times the pixels along each axis that the plan takes."""
    listing = folder / "planned.json"
    listing.write_text(json.dumps({"training": list(pairs)}), encoding="utf-8")
    plan = make_plan(fingerprint(str(listing)))
    if (size := plan.value("element_size")) is not None:
        return ["--element-size", *(f"{v / factor:.6g}" for v in np.atleast_1d(size))]
    return ["--scale", *(f"{v * factor:.6g}" for v in np.atleast_1d(plan.value("scale") or 1))]


def _keys(name: str, options: argparse.Namespace) -> Iterator[Row]:
    for seed in options.seeds:
        for value in [PLAN, *(v for each in values(name).values() for v in each)]:
            yield {"set": name, "value": value, "minutes": options.minutes, "seed": seed}


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main())
