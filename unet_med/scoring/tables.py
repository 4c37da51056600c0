"""From what was counted in each case to a table: cases, means, pooled values, intervals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np

from unet_med.metrics.bootstrap import LEAST, bootstrap_interval, mean_interval
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
from unet_med.scoring.scores import Column, Counted, Counts

SMALL = 1e-3  # below it four decimals hold a digit, or none: areas in mm^2, errors


@dataclass(frozen=True)
class Classes:
    """The classes of a table.

    Attributes:
        name_of: name of each value; 0, which stands for no class, has none.
        absent: what is counted in a case in which neither truth nor result holds the class.
    """

    name_of: Callable[[int], str] = lambda value: ""
    absent: Counts | None = None


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
    other one. Names of classes, or numbers of objects, stand at the end. What is below 0.001 has
    three digits.
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
    """Four decimals, or three digits of what is small; a count as it is.

    >>> _shown(0.25), _shown(0.0), _shown(3), _shown(-0.00004567), _shown(None)
    ('0.2500', '0.0000', '3', '-4.57e-05', '-')
    """
    if score is None or isinstance(score, int):
        return "-" if score is None else str(score)
    return f"{score:.2e}" if 0 < abs(score) < SMALL else f"{score:.4f}"
