"""The table of `unet-med evaluate` as a page shows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unet_med.report.meanings import LOWER, meaning_of
from unet_med.report.table import CASE, CASE_MEAN, HIGH, LOW, ScoreRow, ScoreTable


def lower_is_better(column: str) -> bool:
    """Whether a score is an error or a distance."""
    found = meaning_of(column)
    return found is not None and found.better == LOWER


def headline(table: ScoreTable) -> list[dict[str, str]]:
    """Each score over all images, its interval, and what a card says of that.

    Of several classes it is their mean.
    """
    table, few = table.shown, table.is_small
    kind = table.statistic
    whole = {row.row: row for row in table.of(kind, kind + LOW, kind + HIGH) if not row.label}
    if kind not in whole:  # one class
        whole = {row.row: row for row in table.of(kind, kind + LOW, kind + HIGH)}
    if kind not in whole:
        return []
    scores = whole[kind].scores
    found = []
    for name in table.columns:
        if scores.get(name) is None and table.of(CASE_MEAN):
            continue
        interval = _interval(whole, kind, name)
        scored = few or scores.get(name) is not None
        said = f"95 %: {interval}" if interval else "too few images for an interval" * scored
        value = score_text(name, scores.get(name))
        found.append({"name": name, "value": value, "interval": interval, "said": said})
    return found


def score_rows(table: ScoreTable) -> list[dict[str, Any]]:
    """A row an image and class, one for all, and one for the interval."""
    table = table.shown
    kind = table.statistic
    rows = [_shown(row, table, row.case) for row in table.of(CASE, CASE_MEAN)]
    for row in table.of(kind):
        rows.append(_shown(row, table, kind, summary=True))
        ends = {r.row: r for r in table.of(kind + LOW, kind + HIGH) if r.label == row.label}
        if ends:
            values = [_interval(ends, kind, name) for name in table.columns]
            name = _name("95 % interval", row, table)
            rows.append({"name": name, "all": True, "values": values})
    return rows


def score_chips(table: ScoreTable) -> dict[str, dict[str, str]]:
    """Scores by name, of each image; of several classes their mean."""
    return {
        case: {
            n: score_text(n, row.scores[n]) for n in table.columns if row.scores.get(n) is not None
        }
        for case, row in _by_case(table).items()
    }


def shown_first(images: Iterable[str], table: ScoreTable) -> list[str]:
    """Images in the order to show them: worst first score first, then those without."""
    rows = _by_case(table)
    column = table.columns[0] if table.columns else ""
    sign = -1 if lower_is_better(column) else 1

    def rank(name: str) -> tuple[bool, float]:
        value = rows[name].scores.get(column) if name in rows else None
        return value is None, (value or 0.0) * sign

    return sorted(images, key=rank)


def score_text(column: str, value: float | None) -> str:
    """A score as a page shows it: a count or a size is whole where it can be."""
    found = meaning_of(column)
    is_whole = value is not None and float(value).is_integer()
    if found is not None and not found.better and is_whole:
        return f"{value:.0f}"
    return number(value)


def number(value: float | None) -> str:
    """Three decimals, or two digits of what is small; `-` where a score is not defined."""
    if value is None:
        return "-"
    return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def _by_case(table: ScoreTable) -> dict[str, ScoreRow]:
    """The row that stands for each case: that of its only class, or of the mean over classes."""
    return {row.case: row for row in table.of(CASE, CASE_MEAN)}  # the mean comes last


def _shown(row: ScoreRow, table: ScoreTable, name: str, *, summary: bool = False) -> dict[str, Any]:
    values = [score_text(column, row.scores.get(column)) for column in table.columns]
    return {"name": _name(name, row, table), "all": summary, "values": values}


def _name(name: str, row: ScoreRow, table: ScoreTable) -> str:
    classes = any(other.label for other in table.rows)
    return f"{name}, {row.label or 'mean of classes'}" if classes else name


def _interval(rows: dict[str, ScoreRow], kind: str, name: str) -> str:
    ends = [rows[kind + end].scores.get(name) for end in (LOW, HIGH) if kind + end in rows]
    if len(ends) < 2 or None in ends:
        return ""
    return f"{number(ends[0])} to {number(ends[1])}"
