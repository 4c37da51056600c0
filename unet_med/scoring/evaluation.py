"""Results scored against the truth, file by file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from unet_med import __version__
from unet_med.data.bars import with_bar
from unet_med.data.cases import files_of
from unet_med.data.checksum import sha256
from unet_med.data.class_names import (
    ClassNames,
    about_regions,
    checked_names,
    listed_names,
    listed_unknown,
    require_alike,
)
from unet_med.data.file_reader import Volume
from unet_med.data.label_checks import about_sharpened
from unet_med.data.list_file import list_of
from unet_med.data.splits import groups_of
from unet_med.errors import one_line, user_error
from unet_med.metrics.bootstrap import about_interval, drawn_over
from unet_med.planes import Planes
from unet_med.planning import DataFolder
from unet_med.report.provenance import now, recorded_names
from unet_med.report.table import CASE, FAILED, MISSING, TOO_FEW, ScoreRow, ScoreTable
from unet_med.scoring import families
from unet_med.scoring.asked import AUTO, Asked
from unet_med.scoring.clinical import PIXELS, Clinical, unit_of
from unet_med.scoring.families import CLINICAL, Family, Files
from unet_med.scoring.matching import Truths, find_results, find_truths, read_pairs
from unet_med.scoring.recorded import counts
from unet_med.scoring.results import (
    Results,
    about_predicted,
    require_order,
    require_two,
    settings_of,
)
from unet_med.scoring.scores import Counted
from unet_med.scoring.tables import score_table
from unet_med.scoring.truth_kind import kind_of, look_at

Place = str | os.PathLike[str]


@dataclass(frozen=True)
class Evaluation:
    """Scores of results.

    Attributes:
        label_kind: what the truth's values mean.
        truths: label files by image name.
        table: a row a case and class, and of all of them; see `unet_med.scoring.ScoreTable`.
        said: where the truths come from, where that is not plain.
        results: files that were scored, by image name.
    """

    label_kind: str
    truths: Mapping[str, str]
    table: ScoreTable
    said: str | None = None
    results: Mapping[str, str] = field(default_factory=dict)

    def documented(self) -> ScoreTable:
        """The table with the files of truth and results and their hashes, of those that are read.

        So that a page that is made later can tell whether the scores are still of these.
        """
        files = {"truth": _hashed(self.truths), "results": _hashed(self.results)}
        about = {"finished": now(), "unet-med": __version__, **self.table.about, **files}
        return replace(self.table, about=about)


def _hashed(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found = {}
    for name, path in files.items():
        with suppress(OSError):  # its row says why it was not scored
            found[name] = {"file": str(Path(path).absolute()), "sha256": sha256(path)}
    return found


def evaluate(
    results: Place,
    truth: Place | None = None,
    *,
    label_kind: str = AUTO,
    metrics: str | None = None,
    tolerance: float | None = None,
    class_names: ClassNames | None = None,
    choice: Mapping[str, Any] | None = None,
    unknown: int | None = None,
    group: str | None = None,
    planes: Planes | None = None,
) -> Evaluation:
    """Scores of results against the truth, as `unet-med evaluate` gives them.

    One case is held at a time. One that cannot be scored is a row that says why.

    Args:
        results: folder of results, or one file; without truth a list of pairs (JSON or CSV).
        truth: folder of labels of the same names, one file, or a data list (JSON).
        label_kind: what the truth's values mean: `"mask"`, `"classes"`, `"instances"`; `"auto"`:
            decided from them.
        metrics: a family, `"clinical"`, `"isbi"`, `"ctc"` or `"ap"`; None: that of the kind.
        tolerance: of NSD, in the files' unit; None: 1.
        class_names: by value; None: as the data list, or the `dataset.json` beside the folder of
            truth, or the record of the results says.
        choice: `time` and `axes` with which the images were read, where they are not those of the
            record of the results; see `load_image`.
        unknown: the truth's value of pixels that nobody annotated; None: what such a list calls
            `ignore`, and see `load_label`.
        group: what cases share that are not independent, over which intervals are; see
            `split_validation`.
        planes: of stacks with instances, `"apart"`: each is an image, or `"joined"`; None: as
            the record of the results says, else the numbers of the objects, else the file.

    Raises:
        FileNotFoundError: no truth is there.
        ValueError: no case can be scored, a truth is no label, or the metrics do not fit.
    """
    names = None if class_names is None else checked_names(class_names, "class_names")
    asked = Asked(label_kind, metrics, tolerance, names, choice or {}, unknown, group, planes)
    return _evaluated(str(results), None if truth is None else str(truth), asked)


def _evaluated(results: str, truth: str | None, asked: Asked) -> Evaluation:
    if truth is not None:
        require_order(results, truth)
    found = {} if truth is None else find_results(results)
    truths = (
        read_pairs(Path(results))
        if truth is None
        else find_truths(truth, found, results, objects=asked.objects)
    )
    settings = settings_of(results, truths)
    asked = _completed(asked, settings, truth)
    names = _names(settings, truth, asked)
    seen = look_at(truths.files, asked)
    looks = {name: look for name, (look, _) in seen.items()}
    heads = {name: head for name, (_, head) in seen.items()}
    readable = {name: truths.files[name] for name in looks}
    kind = kind_of(readable, looks, asked, names, settings)
    matched = Results(results, found, truths.results, alone=len(truths.files) == 1)
    family = _family(heads, matched, kind, names, asked)
    groups = None if asked.group is None else _groups(truths, asked.group, truth or results)
    failures: list[Exception] = []
    cases = _counted(truths, matched, family, failures, _files(asked, kind))
    table = score_table(cases, family.columns, family.classes, groups).shown
    if len(table.left) == len(truths.files):
        raise failures[0]
    scored = {row.case: matched.of(row.case, family.name) for row in table.of(CASE)}
    about = {
        "label_kind": kind,
        "metrics": family.name,
        "interval": _about_interval(len(truths.files), table),
        **table.about,
        **asked.about,
        **counts(scored.values()),
    }
    regions = None if truth is None else about_regions(list_of(Path(truth)))
    left = matched.about_left(truths.files, family.name)
    smeared = about_sharpened(looks.values(), [Path(file).name for file in readable.values()])
    said = "; ".join(filter(None, (truths.said, about_predicted(truths), regions, smeared, left)))
    return Evaluation(kind, truths.files, replace(table, about=about), said or None, scored)


def _completed(asked: Asked, settings: Mapping[str, Any], truth: str | None) -> Asked:
    """With what a data list, and the record of the results, say of how labels are read."""
    unknown = asked.unknown
    if unknown is None and truth is not None:
        unknown = listed_unknown(list_of(Path(truth)))
    recorded = settings.get("choice") or {}
    choice = {name: recorded[name] for name in ("time", "axes") if recorded.get(name) is not None}
    return replace(asked, unknown=unknown, choice={**choice, **asked.choice})


def _names(settings: Mapping[str, Any], truth: str | None, asked: Asked) -> ClassNames:
    """Names of classes: told, of the data list, or of the bundle that made the results.

    Raises:
        ValueError: the list and the bundle give one name to two values.
    """
    if asked.names is not None:
        return asked.names
    recorded = recorded_names({"settings": settings})
    if truth is not None and (names := listed_names(listed := list_of(Path(truth)))):
        require_alike(names, recorded, listed.name, "the results, as their record says")
        return names
    return recorded


def _files(asked: Asked, kind: str) -> Callable[[str, str], Files]:
    """From a result and its truth to how they are read."""
    guessed = kind == "mask" and asked.kind == AUTO
    return partial(
        Files,
        choice=asked.choice,
        unknown=asked.unknown,
        planes=asked.planes,
        guessed_mask=guessed,
    )


def _groups(truths: Truths, group: str, place: str) -> dict[str, int]:
    """Number of the group of each case: by what its list says of it, or by its file's name.

    Names are those that training has: where all the files lie says nothing of them.
    """
    items = [dict(truths.items.get(name, {"image": f})) for name, f in truths.files.items()]
    files = [file for item in items for file in files_of(item["image"])]
    folder = DataFolder.of(place).telling_apart(files)
    named = [{**item, "image": [folder.name(f) for f in files_of(item["image"])]} for item in items]
    number = {id(i): k for k, own in enumerate(groups_of(named, group)) for i in own}
    return {name: number[id(item)] for name, item in zip(truths.files, named, strict=True)}


def _counted(
    truths: Truths,
    results: Results,
    family: Family,
    failures: list[Exception],
    files: Callable[[str, str], Files],
) -> Iterator[tuple[str, Counted | ScoreRow]]:
    """What is counted in each case, or why it is not."""
    for name, truth in with_bar([*truths.files.items()], "scoring"):
        row = MISSING
        counted: Counted | ScoreRow
        try:
            result = results.of(name, family.name)
            row = FAILED
            require_two(result, truth)
            counted = family.count(files(result, truth))
        except Exception as error:
            if user_error(error) is None:
                raise
            failures.append(error)
            counted = ScoreRow(row, name, note=one_line(error))
        yield name, counted


def _family(
    truths: Mapping[str, Volume], results: Results, kind: str, names: ClassNames, asked: Asked
) -> Family:
    """The family asked for, or that of the kind, with its units where it has any."""
    heads = list(truths.values())
    millimetres = all(head.states_size and head.spatial_unit == "mm" for head in heads)
    name = families.choose(asked.metrics, kind, millimetres=millimetres)
    if name != CLINICAL:
        for option, value in (("--tolerance", asked.tolerance), ("--class-names", asked.names)):
            if value is not None:
                raise ValueError(f"{option} has no effect on the scores of {name}: leave it out")
        return families.challenge(name)
    unit = unit_of(heads) or unit_of(results.headers(truths, name)) or PIXELS
    tolerance = 1.0 if asked.tolerance is None else asked.tolerance
    rules = Clinical(unit, len(heads[0].spatial_shape), tolerance)
    return families.clinical(rules, kind, names, strict=asked.names is not None)


def _about_interval(images: int, table: ScoreTable) -> str:
    scored = images - len(table.left)
    missing = f"; {len(table.left)} of {images} not scored" if table.left else ""
    if table.is_small:
        return TOO_FEW + missing
    return about_interval(drawn_over(scored, "images", table.about["units"])) + missing
