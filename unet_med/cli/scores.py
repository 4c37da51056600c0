"""Tables of scores: a row an image, one for all of them, and how far to trust that."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.atomic import atomic_write
from unet_med.metrics.bootstrap import bootstrap_interval
from unet_med.metrics.isbi import PIXEL_ERROR, RAND_ERROR, V_INFO, V_RAND
from unet_med.metrics.objects import DET, SEG, SEG_AND_DET, precision_score
from unet_med.metrics.score import Score
from unet_med.metrics.warping import WARPING_ERROR

Array = np.ndarray[Any, Any]
Scores = dict[str, float]
Table = dict[str, Scores]
Pairs = Iterable[tuple[str, tuple[Array, Array]]]

ISBI = {
    "pixel error": PIXEL_ERROR,
    "Rand error": RAND_ERROR,
    "warping error": WARPING_ERROR,
    "V_Rand": V_RAND,
    "V_Info": V_INFO,
}
CTC = {"SEG": SEG, "DET": DET, "(SEG+DET)/2": SEG_AND_DET}
AP = {
    "AP50": precision_score(0.5),
    "AP75": precision_score(0.75),
    "AP50:95": precision_score([t / 100 for t in range(50, 100, 5)]),
}
INSTANCES = {"SEG": SEG, "DET": DET, "AP50": AP["AP50"]}


def score_table(pairs: Pairs, columns: Mapping[str, Score]) -> Table:
    """Scores of every image, of all together, and the ends of their 95 % interval.

    Args:
        pairs: image names with result and truth, as the scores' functions take them; one pair
            is held at a time.
        columns: scores by name.

    Returns:
        A row an image; `"all"`, pooled; with two images or more also `"all 2.5 %"` and
        `"all 97.5 %"`, of a bootstrap over images. NaN where a score is not defined.
    """
    counts = {name: _count(pair, columns) for name, pair in pairs}
    table = {
        name: {column: score.pool(row[column]) for column, score in columns.items()}
        for name, row in counts.items()
    }
    of_all = {column: [row[column] for row in counts.values()] for column in columns}
    table["all"] = {c: score.pool(np.concatenate(of_all[c])) for c, score in columns.items()}
    if len(counts) > 1:
        ends = {c: bootstrap_interval(of_all[c], score.pool) for c, score in columns.items()}
        table["all 2.5 %"] = {column: low for column, (low, _) in ends.items()}
        table["all 97.5 %"] = {column: high for column, (_, high) in ends.items()}
    return table


def _count(pair: tuple[Array, Array], columns: Mapping[str, Score]) -> dict[str, Array]:
    """Rows of one image for each column; what two columns share is counted once."""
    counted: dict[Callable[[Any, Any], Array], Array] = {}
    for score in columns.values():
        if score.count not in counted:
            counted[score.count] = score.count(*pair)
    return {column: counted[score.count] for column, score in columns.items()}


def dice_columns(classes: Sequence[int]) -> dict[str, Score]:
    """Dice of each class but background, and their mean; pixels of label 255 do not count.

    Args:
        classes: values of the classes, ascending, without background and 255.
    """
    count = partial(_class_counts, classes=np.asarray(classes))
    one = {f"Dice {c}": Score(count, partial(_dice, index=k)) for k, c in enumerate(classes)}
    return {**one, "mean Dice": Score(count, _mean_dice)}


def _class_counts(result: Array, truth: Array, classes: Array) -> Array:
    """Pixels in both, and in the one plus in the other, of every class, `(1, K, 2)`."""
    found, true = result[truth != 255], truth[truth != 255]
    both = _pixels_of(true[found == true], classes)
    return np.stack([both, _pixels_of(found, classes) + _pixels_of(true, classes)], axis=-1)[None]


def _pixels_of(label: Array, classes: Array) -> Array:
    """Pixels of each class, `(K,)`."""
    values, counts = np.unique(label, return_counts=True)
    place = np.searchsorted(classes, values)
    known = (place < len(classes)) & (classes[np.minimum(place, len(classes) - 1)] == values)
    pixels = np.zeros(len(classes), np.int64)
    pixels[place[known]] = counts[known]
    return pixels


def _dice(counts: Array, index: int) -> float:
    both, each = counts[:, index].sum(axis=0).tolist()
    return 2 * both / each if each else np.nan


def _mean_dice(counts: Array) -> float:
    dice = [_dice(counts, c) for c in range(counts.shape[1])]
    present = [value for value in dice if not isnan(value)]
    return float(np.mean(present)) if present else np.nan


def format_table(table: Mapping[str, Scores], columns: Sequence[str]) -> str:
    """Rows of names and four decimals, aligned; `-` where a score is not defined."""
    width = max(len(name) for name in table)
    lines = [" " * width + "".join(f"{column:>14}" for column in columns)]
    for name, scores in table.items():
        cells = ("-" if isnan(scores[c]) else f"{scores[c]:.4f}" for c in columns)
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def check_suffix(path: Path) -> None:
    """Refuse a table's file before the work is done."""
    if path.suffix not in (".json", ".csv"):
        raise ValueError(f"--output {path} ends in {path.suffix!r}: name a .json or .csv file")


def plain(table: Table) -> dict[str, dict[str, float | None]]:
    """The table with None where a score is not defined, as JSON knows it."""
    return {
        name: {column: None if isnan(score) else float(score) for column, score in scores.items()}
        for name, scores in table.items()
    }


def write_table(table: Table, path: Path) -> None:
    """JSON `{row: {column: score}}` or CSV, by suffix; null or nothing where not defined."""
    rows = plain(table)
    with atomic_write(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".json":
            file.write(json.dumps(rows, indent=2) + "\n")
        else:
            csv.writer(file).writerows(_lines(rows))


def _lines(rows: Mapping[str, Mapping[str, float | None]]) -> Iterator[list[Any]]:
    yield ["image", *rows["all"]]
    for name, scores in rows.items():
        yield [name, *scores.values()]
