"""The table of `unet-med evaluate` as a page shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Table = Mapping[str, Mapping[str, float | None]]

ALL, LOW, HIGH = "all", "all 2.5 %", "all 97.5 %"


def headline(table: Table) -> list[dict[str, str]]:
    """Each score over all images, and its interval."""
    return [
        {"name": name, "value": number(value), "interval": _interval(table, name)}
        for name, value in table.get(ALL, {}).items()
    ]


def score_rows(table: Table) -> list[dict[str, Any]]:
    """A row an image, one for all, and one for the interval."""
    names = [name for name in table if name not in (ALL, LOW, HIGH)]
    rows = [{"name": name, "all": False, "values": _numbers(table[name])} for name in names]
    if ALL in table:
        rows.append({"name": "all images", "all": True, "values": _numbers(table[ALL])})
    if LOW in table:
        ends = [_interval(table, name) for name in table[ALL]]
        rows.append({"name": "95 % interval", "all": True, "values": ends})
    return rows


def score_chips(table: Table) -> dict[str, dict[str, str]]:
    """Scores by name, of each image."""
    return {image: dict(zip(row, _numbers(row), strict=True)) for image, row in table.items()}


def shown_first(images: Iterable[str], table: Table) -> list[str]:
    """Images in the order to show them: worst first score first, then those without."""

    def rank(name: str) -> tuple[bool, float]:
        column, value = next(iter(table.get(name, {}).items()), ("", None))
        return value is None, (value or 0.0) * (-1 if "error" in column else 1)

    return sorted(images, key=rank)


def number(value: float | None) -> str:
    """Three decimals, or two digits of what is small; `-` where a score is not defined."""
    if value is None:
        return "-"
    return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def _numbers(row: Mapping[str, float | None]) -> list[str]:
    return [number(value) for value in row.values()]


def _interval(table: Table, name: str) -> str:
    if LOW not in table:
        return ""
    return f"{number(table[LOW][name])} to {number(table[HIGH][name])}"
