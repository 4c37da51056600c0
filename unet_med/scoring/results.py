"""Results by the names of their cases, and what the records beside them say."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_med import data
from unet_med.data.changed_results import as_predicted
from unet_med.data.file_reader import Volume
from unet_med.report.provenance import RECORD, record_of
from unet_med.scoring.families import SUFFIXES
from unet_med.scoring.matching import Truths, case_of, match


@dataclass(frozen=True)
class Results:
    """Results by the names of their cases.

    Attributes:
        place: the folder, or the one file.
        found: its files by name.
        told: the result of each case, where a list of pairs names them.
        alone: whether there is one case.
    """

    place: str
    found: Mapping[str, str]
    told: Mapping[str, str] | None = None
    alone: bool = False

    def of(self, name: str, family: str) -> str:
        """The result of a case.

        Raises:
            FileNotFoundError: a list names one that is not there.
            ValueError: there is none.
        """
        if self.told is None:
            return match(name, self.found, self.place, SUFFIXES[family], alone=self.alone)
        if not Path(self.told[name]).exists():
            raise FileNotFoundError(f"no result {self.told[name]}")
        return self.told[name]

    def headers(self, names: Iterable[str], family: str) -> Iterator[Volume]:
        """Headers of the results that are there and can be read."""
        for name in names:
            with suppress(ValueError, OSError):
                yield data.load_header(self.of(name, family))

    def about_left(self, names: Iterable[str], family: str) -> str | None:
        """That results have no truth; None: all have one.

        Args:
            names: of the truths' cases.
            family: of the scores.
        """
        left = {case_of(file) for file in self.found.values()}
        for name in names:
            left.discard(name)  # whose result of this family may be missing
            with suppress(ValueError, OSError):
                left.discard(case_of(self.of(name, family)))
        if not left:
            return None
        return f"{len(left)} result(s) have no truth, and no score, such as {min(left)}"


def settings_of(results: str, truths: Truths) -> Mapping[str, Any]:
    """How results were made, as the records beside them say with one voice."""
    place = Path(results)
    folders = {place if place.is_dir() else place.parent}
    if truths.results is not None:  # of a list of pairs, beside which there is none
        folders = {Path(file).parent for file in truths.results.values()}
    first, *others = [record_of(folder).get("settings") or {} for folder in folders]
    return {k: v for k, v in first.items() if all(k in each and each[k] == v for each in others)}


def require_order(results: str, truth: str) -> None:
    """Refuse a folder of results as the truth of what has no record.

    Raises:
        ValueError: they are the wrong way round.
    """
    if (Path(truth) / RECORD).is_file() and not (Path(results) / RECORD).is_file():
        raise ValueError(
            f"{truth} looks like a folder of results, for it holds {RECORD}, and {results} does "
            f"not: RESULTS come first, then TRUTH; or remove {RECORD}"
        )


def require_two(result: str, truth: str) -> None:
    """Refuse a truth that is the result itself, whatever it is called.

    Raises:
        ValueError: they are one file.
    """
    if os.path.realpath(result) == os.path.realpath(truth):
        raise ValueError(
            f"{truth} is result and truth at once, so it would be without a fault: name the folder "
            "of the labels as TRUTH, and predict into another"
        )


def about_predicted(truths: Truths) -> str | None:
    """That truths are what a prediction wrote; None where no record says it of one."""
    if not (results := as_predicted(truths.files.values())):
        return None
    first = Path(results[0]).name
    return f"{len(results)} truth(s) are what a prediction wrote, unchanged, such as {first}"
