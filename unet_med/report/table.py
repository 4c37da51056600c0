"""Tables of scores: a row a case and class, means and pooled values; to and from files.

What a row is stands in a column of its own, `row`, so that no case and no class can be taken for a
mean, whatever its name.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any

from unet_med.data.atomic import atomic_write
from unet_med.metrics.bootstrap import LEAST
from unet_med.report.provenance import CHANGED, CHOSE, EARLIER, LEARNED

CASE = "case"
CASE_MEAN = "case mean"  # over the classes of one case
MISSING, FAILED = "missing", "failed"  # cases without scores
MEAN, POOLED = "mean", "pooled"  # over cases; of what was counted in all of them
LOW, HIGH = " 2.5 %", " 97.5 %"  # ends of the interval of one of these
TOO_FEW = f"too few images for an interval: it takes {LEAST}, or as many groups of them"
KEYS = ("row", "case", "class")
CLASS = KEYS[2]
NOTE = "note"
TABLES = (".json", ".csv")  # suffixes of files
REMARKS = {
    LEARNED: "{count} of {cases} images taught this network: the score flatters. `unet-med train "
    "--folds 5` gives one that does not.",
    CHOSE: "{count} of {cases} images were held out of the training, and chose how this network "
    "makes objects: the score may be a little too good.",
    EARLIER: "{count} of these results were left by other weights or settings than the record "
    "names: predict their images anew.",
    CHANGED: "{count} of these results changed after the prediction: if somebody corrected them, "
    "this is not of the network alone.",
}  # by what a table is about


@dataclass(frozen=True)
class ScoreRow:
    """One row of a table.

    Attributes:
        row: what it is, such as `"case"`, `"missing"`, `"mean"` or `"pooled 2.5 %"`.
        case: name of the case; empty where it is not of one.
        label: name of the class, or object; empty where it is not of one.
        scores: by column; None where a score is not defined.
        note: why a case has no scores.
    """

    row: str
    case: str = ""
    label: str = ""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """Scores of cases, and of all of them.

    Attributes:
        columns: names of the scores.
        rows: in the order of the cases, then those of all of them.
        about: what was scored: `label_kind`, `metrics`, `interval`, `truth`; `units`, how many
            images, or groups of them, the interval is over; `learned`, how many images are known
            to have taught the network; `chose`, how many were held out and chose how it makes
            objects; `earlier`, how many results other weights or settings made than the record
            names; `changed`, how many are no longer as they were written.
        labels: what the rows' labels are: `"class"`, or `"object"`.
    """

    columns: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    labels: str = CLASS

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that say what a row is of."""
        return (*KEYS[:2], self.labels)

    @property
    def statistic(self) -> str:
        """What sums the cases up: the mean where classes are scored, else what is pooled."""
        known = {row.row for row in self.rows}
        classes = any(row.label for row in self.rows)
        return MEAN if classes or POOLED not in known else POOLED

    @property
    def is_small(self) -> bool:
        """Whether there are too few images, or groups of them, for an interval."""
        return int(self.about.get("units", len(self._scored))) < LEAST

    @property
    def shown(self) -> ScoreTable:
        """What a reader gets: no interval where it would be the worst and the best image."""
        kept = [row for row in self.rows if not row.row.endswith((LOW, HIGH))]
        return replace(self, rows=tuple(kept)) if self.is_small else self

    @property
    def interval(self) -> str:
        """What the interval is of, or why there is none; earlier versions gave one to any two."""
        said = str(self.about.get("interval", ""))
        return said if len(self.shown.rows) == len(self.rows) else TOO_FEW

    def remarks(self, kinds: Collection[str] = tuple(REMARKS)) -> list[str]:
        """What a reader must know of the results, as far as it is known, of `REMARKS`."""
        counts = {kind: self.about.get(kind) for kind in kinds}
        cases = len(self._scored)
        return [REMARKS[k].format(count=n, cases=cases) for k, n in counts.items() if n]

    @property
    def _scored(self) -> set[str]:
        """Names of the cases that have scores."""
        return {row.case for row in self.of(CASE)}

    def of(self, *kinds: str) -> list[ScoreRow]:
        """Rows of some kinds."""
        return [row for row in self.rows if row.row in kinds]

    @property
    def left(self) -> list[ScoreRow]:
        """Cases without scores."""
        return self.of(MISSING, FAILED)


def plain(score: float) -> float | None:
    """A score as JSON knows it: None where it is not defined; a count stays whole."""
    return None if isnan(score) else score if isinstance(score, int) else float(score)


def write_scores(table: ScoreTable, path: str | os.PathLike[str]) -> None:
    """Write a table as JSON, or as CSV without what it is about, by suffix.

    Args:
        table: of scores.
        path: `.json` or `.csv`, in one step; missing folders are made.

    Raises:
        ValueError: another suffix.
    """
    path = _table_file(path)
    rows = [_cells(row, table) for row in table.rows]
    if path.suffix == ".json":
        content = {"about": dict(table.about), "columns": list(table.columns), "rows": rows}
        _write(path, json.dumps(content, indent=2) + "\n")
    else:
        write_csv(path, [*table.keys, *table.columns, NOTE], rows)


def write_long(table: ScoreTable, path: str | os.PathLike[str]) -> None:
    """Write the cases of a table as `case,class,metric,value`, JSON or CSV by suffix.

    Of objects the second column is `object`.

    A case without a result has one row, whose metric is `missing` or `failed` and whose value 1.
    """
    path = _table_file(path)
    rows = list(_long(table))
    if path.suffix == ".json":
        _write(path, json.dumps(rows, indent=2) + "\n")
    else:
        write_csv(path, [*table.keys[1:], "metric", "value"], rows)


def read_scores(path: str | os.PathLike[str]) -> ScoreTable:
    """The table that `write_scores` wrote.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: the file holds no such table; names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets mark it
        return _from_json(text) if path.suffix == ".json" else _from_csv(text)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{path} is no table of scores: name the file of `unet-med evaluate --output`"
        ) from None


def _table_file(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    if file.suffix not in TABLES:
        raise ValueError(f"{file} ends in {file.suffix!r}: name a .json or .csv file")
    return file


def _cells(row: ScoreRow, table: ScoreTable) -> dict[str, Any]:
    keys = dict(zip(table.keys, (row.row, row.case, row.label), strict=True))
    return keys | {column: row.scores.get(column) for column in table.columns} | {NOTE: row.note}


def _long(table: ScoreTable) -> Iterator[dict[str, Any]]:
    for row in table.of(CASE, MISSING, FAILED):
        scores = row.scores if row.row == CASE else {row.row: 1}
        for metric, value in scores.items():
            yield {"case": row.case, table.labels: row.label, "metric": metric, "value": value}


def _from_json(text: str) -> ScoreTable:
    content = json.loads(text)
    columns = tuple(content["columns"])
    return ScoreTable(columns, tuple(_row(r, columns) for r in content["rows"]), content["about"])


def _from_csv(text: str) -> ScoreTable:
    header, *lines = csv.reader(text.splitlines())
    if tuple(header[:3]) != KEYS or header[-1] != NOTE:
        raise ValueError("other columns")
    columns = tuple(header[3:-1])
    return ScoreTable(
        columns, tuple(_row(dict(zip(header, line, strict=True)), columns) for line in lines)
    )


def _row(cells: Mapping[str, Any], columns: tuple[str, ...]) -> ScoreRow:
    values = {column: cells[column] for column in columns}
    scores = {c: None if value in (None, "") else float(value) for c, value in values.items()}
    row, case, label, note = (str(cells[key]) for key in (*KEYS, NOTE))
    return ScoreRow(row, case, label, scores, note)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows below a header, in one step."""
    with atomic_write(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
