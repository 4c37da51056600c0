"""From what was counted in each case to a table: cases, means, pooled values, intervals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np

from unet_med.metrics.bootstrap import LEAST, bootstrap_interval, mean_interval
from unet_med.metrics.isbi import PIXEL_ERROR, RAND_ERROR, V_INFO, V_RAND
from unet_med.metrics.objects import DET, SEG, SEG_AND_DET, count_objects, precision_score
from unet_med.metrics.region import DICE, IOU, count_pixels
from unet_med.metrics.score import Score
from unet_med.metrics.slices import as_slices
from unet_med.metrics.warping import WARPING_ERROR
from unet_med.report.table import (
    CASE,
    CASE_MEAN,
    FAILED,
    HIGH,
    LOW,
    MEAN,
    MISSING,
    POOLED,
    ScoreRow,
    ScoreTable,
    plain,
)

Array = np.ndarray[Any, Any]
Counts = Mapping[str, Array]  # rows counted, by column
Counted = Mapping[int, Counts]  # by the value of the class; 0: of no class


def held_planes(foreground: Array, interior: Array) -> tuple[Array, Array]:
    """Foreground, which is more likely than not, and true interior of each plane, `(S, Y, X)`."""
    probability, truth = as_slices(foreground, interior)
    return probability > 0.5, truth


def _pixels(foreground: Array, interior: Array) -> Array:
    """`count_pixels` of each plane, `(S, 3)`."""
    planes = zip(*held_planes(foreground, interior), strict=True)
    return np.concatenate([count_pixels(found, true) for found, true in planes])


ISBI = {
    "Dice": Score(_pixels, DICE.pool),
    "IoU": Score(_pixels, IOU.pool),
    "pixel error": PIXEL_ERROR,
    "Rand error": RAND_ERROR,
    "warping error": WARPING_ERROR,
    "V_Rand": V_RAND,
    "V_Info": V_INFO,
}
CTC = {"SEG": SEG, "DET": DET, "(SEG+DET)/2": SEG_AND_DET}
_PRECISION = precision_score([t / 100 for t in range(50, 100, 5)])
AP = {
    "AP50": Score(_PRECISION.count, lambda rows: _PRECISION.pool(rows[:, :1])),
    "AP75": Score(_PRECISION.count, lambda rows: _PRECISION.pool(rows[:, 5:6])),
    "AP50:95": _PRECISION,
}


def _detected(compute: Callable[[int, int, int], float]) -> Score:
    """A score of numbers of objects: matched (IoU 0.5), found, and true ones."""
    return Score(count_objects, lambda rows: compute(*map(int, rows.sum(axis=0)[2:])))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan


INSTANCES = {
    "SEG": SEG,
    "DET": DET,
    "AP50": _detected(lambda matched, found, true: _share(matched, found + true - matched)),
    "found": _detected(lambda matched, found, true: found),
    "true": _detected(lambda matched, found, true: true),
    "matched": _detected(lambda matched, found, true: matched),
    "precision": _detected(lambda matched, found, true: _share(matched, found)),
    "recall": _detected(lambda matched, found, true: _share(matched, true)),
    "F1": _detected(lambda matched, found, true: _share(2 * matched, found + true)),
}


@dataclass(frozen=True)
class Column:
    """One score of a table.

    Attributes:
        pool: from rows counted in one case, or in several, to the score.
        pooled: whether rows of several cases add up to a score.
        averaged: whether a mean over classes says something.
    """

    pool: Callable[[Array], float]
    pooled: bool = True
    averaged: bool = True


@dataclass(frozen=True)
class Classes:
    """The classes of a table.

    Attributes:
        name_of: name of each value; 0, which stands for no class, has none.
        absent: what is counted in a case in which neither truth nor result holds the class.
    """

    name_of: Callable[[int], str] = lambda value: ""
    absent: Counts | None = None


def columns_of(scores: Mapping[str, Score]) -> dict[str, Column]:
    """Columns of scores that pool what they count; not defined where nothing counts."""

    def of(pool: Callable[[Array], float]) -> Callable[[Array], float]:
        return lambda rows: pool(rows) if len(rows) else np.nan

    return {name: Column(of(score.pool)) for name, score in scores.items()}


def count_planes(foreground: Array, interior: Array) -> Counted:
    """Rows of `ISBI`, one a plane, but for those without interior in which none is found.

    The challenge's own functions take such a plane for wrong, since its stack has none.
    """
    found, true = held_planes(foreground, interior)
    held = (found | true).any(axis=(1, 2))
    counted = count_scores(foreground, interior, ISBI)[0]
    return {0: {name: rows[held] for name, rows in counted.items()}}


def count_scores(result: Any, truth: Any, scores: Mapping[str, Score]) -> Counted:
    """Rows of one case for each score, as of no class; what two scores share is counted once.

    Args:
        result: array, or a list of frames.
        truth: likewise.
        scores: by column.
    """
    counted: dict[Callable[[Any, Any], Array], Array] = {}
    for score in scores.values():
        if score.count not in counted:
            counted[score.count] = score.count(result, truth)
    return {0: {name: counted[score.count] for name, score in scores.items()}}


def score_table(
    cases: Iterable[tuple[str, Counted | ScoreRow]],
    columns: Mapping[str, Column],
    classes: Classes | None = None,
    groups: Mapping[str, Hashable] | None = None,
) -> ScoreTable:
    """Scores of every case, the mean over them, what is pooled, and their 95 % intervals.

    Args:
        cases: names with what was counted, or with the row of a case without a result; one is
            held at a time.
        columns: scores by name.
        classes: of the cases.
        groups: by name of a case what it shares with others, such as its patient; None: nothing.

    Returns:
        A row a case and class, and of several classes one for their mean; then `mean` and
        `pooled`, with two cases or more also the ends of their intervals, of a bootstrap over
        cases, or groups of them. None where a score is not defined: where no case holds a class,
        all of a row's; of an interval, where too few define it.
    """
    known = classes or Classes()
    counts: dict[str, Counted] = {}
    left: dict[str, ScoreRow] = {}
    for name, found in cases:
        if isinstance(found, ScoreRow):
            left[name] = found
        counts[name] = {} if isinstance(found, ScoreRow) else found
    values = sorted(set().union(*counts.values()))
    table = {
        name: {value: counted.get(value, known.absent) for value in values}
        for name, counted in counts.items()
        if name not in left
    }
    rows: list[ScoreRow] = []
    for name in counts:
        rows += [left[name]] if name in left else _of_case(name, table[name], columns, known)
    units = [groups[name] if groups else name for name in table]
    rows += _of_all(list(table.values()), columns, known, units)
    return ScoreTable(tuple(columns), tuple(rows), {"units": len(set(units))})


def _of_case(
    name: str, counted: Mapping[int, Any], columns: Mapping[str, Column], classes: Classes
) -> Iterator[ScoreRow]:
    if not counted:  # an empty truth, and rightly nothing found
        yield ScoreRow(CASE, name, "", dict.fromkeys(columns))
    scores = {value: _pooled(counts, columns) for value, counts in counted.items()}
    for value, row in scores.items():
        yield ScoreRow(CASE, name, classes.name_of(value), _plain(row))
    if len(scores) > 1:
        yield ScoreRow(CASE_MEAN, name, "", _plain(_mean(list(scores.values()), columns)))


def _of_all(
    cases: Sequence[Mapping[int, Any]],
    columns: Mapping[str, Column],
    classes: Classes,
    units: Sequence[Hashable],
) -> Iterator[ScoreRow]:
    """Rows over all cases: of each class, then of the mean over classes.

    Args:
        cases: what is counted in each, by class.
        columns: of the table.
        classes: of the table.
        units: one a case, equal for those that are drawn together.
    """
    addable = {name: column for name, column in columns.items() if column.pooled}
    values = list(cases[0]) if cases else []
    if cases and not values:
        yield ScoreRow(MEAN, "", "", dict.fromkeys(columns))
    means, totals = [], []
    for value in values:
        counts = [case[value] for case in cases]
        means.append([_pooled(each, columns) for each in counts])
        joined = {c: np.concatenate([each[c] for each in counts]) for c in addable}
        totals.append(_pooled(joined, addable))
        yield from _mean_rows(means[-1:], columns, units, classes.name_of(value))
        yield ScoreRow(POOLED, "", classes.name_of(value), _plain(totals[-1]))
        ends = {
            c: bootstrap_interval([each[c] for each in counts], column.pool, groups=units)
            for c, column in addable.items()
            if _is_enough([[scores[c] for scores in means[-1]]], units)
        }
        yield from _interval(POOLED, ends, classes.name_of(value))
    if len(values) > 1:
        yield from _mean_rows(means, [c for c in columns if columns[c].averaged], units)
        yield ScoreRow(POOLED, "", "", _plain(_mean(totals, addable)))


def _is_enough(classes: Sequence[Sequence[float]], units: Sequence[Hashable]) -> bool:
    """Whether as many units define a score, of each class, as an interval takes.

    A table of fewer units in all hides its intervals (`ScoreTable.shown`).
    """
    held = [{u for u, s in zip(units, own, strict=True) if not isnan(s)} for own in classes]
    least = max(2, min(LEAST, len(set(units))))
    return min((len(own) for own in held if own), default=0) >= least


def _mean_rows(
    classes: Sequence[Sequence[Mapping[str, float]]],
    columns: Iterable[str],
    units: Sequence[Hashable],
    label: str = "",
) -> Iterator[ScoreRow]:
    """Mean over the cases of each class, then over classes, and its interval.

    So a class that cases lack counts as much as others, as in nnU-Net's `foreground_mean`.
    """
    values = {c: [[case[c] for case in own] for own in classes] for c in columns}
    means = {c: mean_of([mean_of(own) for own in each]) for c, each in values.items()}
    yield ScoreRow(MEAN, "", label, _plain(means))
    enough = {c: each for c, each in values.items() if _is_enough(each, units)}
    ends = {c: mean_interval(each, groups=units) for c, each in enough.items()}
    yield from _interval(MEAN, ends, label)


def _interval(kind: str, ends: Mapping[str, tuple[float, float]], label: str) -> Iterator[ScoreRow]:
    for name, end in ((LOW, 0), (HIGH, 1)) if ends else ():
        yield ScoreRow(kind + name, "", label, _plain({c: each[end] for c, each in ends.items()}))


def _pooled(counts: Counts, columns: Mapping[str, Column]) -> dict[str, float]:
    return {name: column.pool(counts[name]) for name, column in columns.items()}


def _mean(
    classes: Sequence[Mapping[str, float]], columns: Mapping[str, Column]
) -> dict[str, float]:
    """Mean over classes of the scores for which it says something."""
    averaged = [name for name, column in columns.items() if column.averaged]
    return {name: mean_of([scores[name] for scores in classes]) for name in averaged}


def mean_of(values: Sequence[float]) -> float:
    """Mean of the values that are defined; NaN where none is."""
    known = [value for value in values if not isnan(value)]
    return float(np.mean(known)) if known else np.nan


def _plain(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: plain(score) for name, score in scores.items()}


# --- printed


def format_table(table: ScoreTable) -> str:
    """Rows of names and four decimals, aligned; `-` where a score is not defined.

    The mean over cases, or what is pooled, comes first, whichever sums the scores up, and then the
    other one. Names of classes, or numbers of objects, stand at the end.
    """
    table = table.shown
    first, second = (MEAN, POOLED) if table.statistic == MEAN else (POOLED, MEAN)
    rows = table.of(CASE, CASE_MEAN, MISSING, FAILED)
    rows += [row for kind in (first, first + LOW, first + HIGH, second) for row in table.of(kind)]
    labelled = any(row.label for row in table.rows)
    width = max((len(row.case or row.row) for row in rows), default=0)
    widths = {
        column: 2 + max(map(len, (column, *(_shown(row.scores.get(column)) for row in rows))))
        for column in table.columns
    }
    head = "".join(f"{c:>{w}}" for c, w in widths.items())
    lines = [" " * width + head + f"  {table.labels}" * labelled]
    for row in rows:
        name = f"{row.case or row.row:<{width}}"
        if row.row in (MISSING, FAILED):
            lines.append(f"{name}  {row.row}: {row.note}")
            continue
        cells = "".join(f"{_shown(row.scores.get(c)):>{w}}" for c, w in widths.items())
        label = row.label or ("" if row.row == CASE else "mean of classes")
        lines.append(f"{name}{cells}  {label}".rstrip() if labelled else name + cells)
    return "\n".join(lines)


def _shown(score: float | None) -> str:
    """Four decimals, or a count as it is."""
    return "-" if score is None else str(score) if isinstance(score, int) else f"{score:.4f}"
