"""The card of the model that comes with the wheel: what it learned from, scores, failures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unet_med import __version__
from unet_med.bundle import read_plan
from unet_med.data import load_image, load_label
from unet_med.planning import Plan
from unet_med.planning.object_width import object_widths
from unet_med.report.provenance import TRAINING, read_record
from unet_med.report.scores import score_text
from unet_med.report.table import CASE, HIGH, LOW, POOLED, ScoreTable
from unet_med.report.training import read_history
from unet_med.scoring import evaluate

Array = np.ndarray[Any, Any]

WIDTHS = (0.0, 8.0, 12.0, 20.0, 40.0, np.inf)  # px, of the circle of a nucleus's area
WORST = 5

TEXT = """# nuclei

A U-Net for nuclei in fluorescence images, grey and with a dark background. It comes with
unet-med:

```shell
unet-med predict IMAGES --bundle nuclei --output results --instances
unet-med train --from nuclei --images IMAGES --labels LABELS --output my-bundle
```

## What it was trained on

{count} images of the 2018 Data Science Bowl (BBBC038, Caicedo et al. 2019, CC0) with
{objects} nuclei, of which {held} images were held out to validate on. {minutes:.0f}
minute(s) on a CPU, {iterations} steps, by the plan of `unet-med train` without a further
choice (version {version}). `configs/plan.json` has each choice with its reason, and the
SHA-256 of each image. The median nucleus is {median:.0f} px wide, nine in ten are between
{small:.0f} and {large:.0f} px. Objects begin at a probability of {threshold:g} ({about}).

## Scores

On {cases} other images of the same source, which nothing was trained on or chosen by,
average precision of objects pooled over the images, and the ends of a 95 % bootstrap
interval over images:

{scores}

## Where it fails

Of {true} true nuclei {missed} have no counterpart of an overlap (IoU) of 0.5, and {false}
were found where there is none. By width, and by how bright nuclei are against their image's
background (quarters):

{missing}

The images with the lowest AP50:

{worst}

It has seen neither colour, nor bright backgrounds, nor volumes, nor cytoplasm. It knows no
pixel size: nuclei have to be about as wide, in pixels, as those above. Of images of another
magnification say how wide they are, in pixels of the image,

```shell
unet-med predict IMAGES --bundle nuclei --output results --instances --object-width 54
```

or start from it with images of your own. Results have the image's own size. For research; not
validated for clinical use.

## Terms

Weights and this card: Apache-2.0. The images are CC0.
"""


def model_card(folder: Path, results: Path, test: Path) -> str:
    """The text of a packed bundle's `docs/README.md`.

    Args:
        folder: the bundle.
        results: what it predicted of the test's `images`.
        test: folder of `images` and `labels` that stayed apart.
    """
    plan = Plan.from_json(read_plan(folder))
    widths = object_widths(plan.data, 2, None)
    assert plan.data.instances is not None
    assert widths is not None
    area = np.array(plan.data.instances.plane_px)
    small, large = (2 * float(np.sqrt(area[k] / np.pi)) for k in (1, 5))  # 5 % and 95 %
    table = evaluate(results, test / "labels", label_kind="instances", metrics="ap").table
    found = list(_found(results, test))
    return TEXT.format(
        count=len(plan.data.cases),
        objects=plan.data.instances.count,
        held=len(plan.split["validation"]),
        minutes=read_history(folder / "models" / "learning_curve.csv")[-1]["minutes"],
        iterations=read_record(folder / "models", TRAINING)["iterations"],
        version=__version__,
        threshold=plan.value("threshold"),
        about=plan.ids["threshold"].reason,
        median=widths[3][0],
        small=small,
        large=large,
        cases=len(table.of(CASE)),
        scores=_scores(table),
        true=sum(len(each) for each, _ in found),
        missed=sum(int((~each[:, 2].astype(bool)).sum()) for each, _ in found),
        false=sum(false for _, false in found),
        missing=_missing(np.concatenate([each for each, _ in found])),
        worst=_worst(table),
    )


def nuclei_of(result: Array, truth: Array, image: Array) -> tuple[Array, int]:
    """Width, brightness and whether it was found, of each true nucleus; and false ones.

    Args:
        result: instances `(X, Y)`.
        truth: likewise.
        image: grey values `(X, Y)`; brightness is that above the median of the background.

    Returns:
        `(N, 3)`, and how many objects of the result overlap no true one by half (IoU).
    """
    dark = float(np.median(image[truth == 0])) if (truth == 0).any() else 0.0
    rows, matched = [], set()
    for own in np.unique(truth[truth > 0]):
        inside = truth == own
        near, shared = np.unique(result[inside & (result > 0)], return_counts=True)
        overlaps = [
            count / (inside.sum() + (result == other).sum() - count)
            for other, count in zip(near, shared, strict=True)
        ]
        hits = {int(other) for other, iou in zip(near, overlaps, strict=True) if iou >= 0.5}
        matched |= hits
        width = 2 * np.sqrt(inside.sum() / np.pi)
        rows.append((width, image[inside].mean() - dark, bool(hits)))
    false = len(np.unique(result[result > 0])) - len(matched)
    return np.array(rows, dtype=float).reshape(-1, 3), false


def _found(results: Path, test: Path) -> Iterator[tuple[Array, int]]:
    for path in sorted((test / "images").iterdir()):
        result = load_label(str(results / f"{path.stem}_instances.tif"))
        truth = load_label(str(test / "labels" / f"{path.stem}.tif"))
        image = load_image(str(path)).numpy()[0]
        yield nuclei_of(*(np.asarray(each) for each in (result, truth, image)))


def _missing(nuclei: Array) -> str:
    """Markdown: share of the nuclei that were missed, by width and by brightness."""
    quarters = [-np.inf, *np.quantile(nuclei[:, 1], (0.25, 0.5, 0.75)), np.inf]
    lines = ["| nuclei | count | missed |", "|---|---|---|"]
    for k, (low, high) in enumerate(pairwise(WIDTHS)):
        name = f"{low:g} px wide and more" if high == np.inf else f"{low:g} to {high:g} px wide"
        lines += _row(name if k else f"below {high:g} px wide", nuclei, 0, low, high)
    for k, (low, high) in enumerate(pairwise(quarters)):
        name = ("the dimmest quarter", "dimmer than most", "brighter than most", "the brightest")
        lines += _row(name[k], nuclei, 1, low, high)
    return "\n".join(lines)


def _row(name: str, nuclei: Array, column: int, low: float, high: float) -> list[str]:
    part = nuclei[(nuclei[:, column] >= low) & (nuclei[:, column] < high)]
    return [f"| {name} | {len(part)} | {1 - part[:, 2].mean():.0%} |"] if len(part) else []


def _scores(table: ScoreTable) -> str:
    rows = {row.row: row.scores for row in table.of(POOLED, POOLED + LOW, POOLED + HIGH)}
    lines = ["| score | pooled | 95 % |", "|---|---|---|"]
    for name in table.columns:
        ends = [rows.get(POOLED + end, {}).get(name) for end in (LOW, HIGH)]
        between = " to ".join(score_text(name, end) for end in ends)
        lines.append(f"| {name} | {score_text(name, rows[POOLED][name])} | {between} |")
    return "\n".join(lines)


def _worst(table: ScoreTable) -> str:
    first = sorted(table.of(CASE), key=lambda row: row.scores["AP50"] or 0.0)[:WORST]
    rows = (f"| {row.case} | {row.scores['AP50'] or 0:.2f} |" for row in first)
    return "\n".join(["| image | AP50 |", "|---|---|", *rows])


__all__ = ["model_card", "nuclei_of"]
