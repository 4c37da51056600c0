"""`unet-med evaluate`: score results against the truth, in a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from unet_med import __version__
from unet_med.cli import families
from unet_med.cli.clinical import PIXELS, Clinical, unit_of
from unet_med.cli.families import CLINICAL, Family, Files
from unet_med.cli.matching import Truths, find_results, find_truths, match, read_pairs
from unet_med.cli.options import choice_of
from unet_med.cli.recorded import taught
from unet_med.cli.saying import LEFT, result, say, warn
from unet_med.cli.scores import Counted, check_tables, format_table, score_table, write_tables
from unet_med.data.bars import with_bar
from unet_med.data.cases import files_of
from unet_med.data.class_names import ClassNames, listed_names, listed_unknown, told_names
from unet_med.data.file_reader import Volume, is_unreadable
from unet_med.data.labels import IGNORED, LOOKED_AT, MAX_CLASSES, UNKNOWN, LabelSummary
from unet_med.data.list_file import is_list
from unet_med.data.splits import groups_of
from unet_med.errors import one_line, user_error
from unet_med.planes import Planes
from unet_med.planning import DataFolder
from unet_med.report.meanings import explained
from unet_med.report.provenance import LEARNED, RECORD, read_record, recorded_names
from unet_med.report.table import (
    CASE,
    FAILED,
    MISSING,
    TOO_FEW,
    ScoreRow,
    ScoreTable,
)


@dataclass(frozen=True)
class Asked:
    """How results are to be scored.

    Attributes:
        kind: what the truth's values mean; `"auto"`: decided from them.
        metrics: a family; None: that of the kind.
        tolerance: of NSD, in the files' unit; None: 1.
        names: of the classes; None: as the data list or the record of the results says.
        choice: `time` and `axes` with which the images were read, where they are not those of the
            record of the results; see `LabelReader`.
        unknown: the truth's value of pixels that nobody annotated; see `LabelReader`.
        group: what cases share that are not independent; see `data.splits.split_validation`.
        planes: of stacks with instances, `"apart"` or `"joined"`; None: see `recorded.planes_of`.
    """

    kind: str = "auto"
    metrics: str | None = None
    tolerance: float | None = None
    names: ClassNames | None = None
    choice: Mapping[str, Any] = field(default_factory=dict)
    unknown: int | None = None
    group: str | None = None
    planes: Planes | None = None


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
            suffixes = families.SUFFIXES[family]
            return match(name, self.found, self.place, suffixes, alone=self.alone)
        if not Path(self.told[name]).exists():
            raise FileNotFoundError(f"no result {self.told[name]}")
        return self.told[name]

    def learned(self, names: Iterable[str], family: str) -> dict[str, int]:
        """`learned`, how many of these cases are of images that taught the network; if any."""
        count = taught(self.of(name, family) for name in dict.fromkeys(names))
        return {LEARNED: count} if count else {}

    def headers(self, names: Iterable[str], family: str) -> Iterator[Volume]:
        """Headers of the results that are there and can be read."""
        from unet_med import data

        for name in names:
            with suppress(ValueError, OSError):
                yield data.load_header(self.of(name, family))


@dataclass(frozen=True)
class Evaluation:
    """Scores of results.

    Attributes:
        label_kind: what the truth's values mean.
        truths: label files by image name.
        table: as `score_table` returns it.
        said: where the truths come from, where that is not plain.
    """

    label_kind: str
    truths: Mapping[str, str]
    table: ScoreTable
    said: str | None = None

    def documented(self) -> ScoreTable:
        """The table with the truth's files and their hashes, of those that can be read."""
        from unet_med.data.checksum import sha256
        from unet_med.report.provenance import now

        truth = {}
        for name, path in self.truths.items():
            with suppress(OSError):  # its row says why it was not scored
                truth[name] = {"file": str(Path(path).absolute()), "sha256": sha256(path)}
        about = {"finished": now(), "unet-med": __version__, **self.table.about, "truth": truth}
        return replace(self.table, about=about)


def run(args: argparse.Namespace) -> int:
    """Print a row a case, one for all, with its interval; write the tables where asked."""
    check_tables(args)
    if bool(args.pairs) == bool(args.truth) or (args.pairs and args.results):
        raise ValueError("name RESULTS and TRUTH, or --pairs FILE with both, and not the other")
    if args.tolerance is not None and not 0 <= args.tolerance < float("inf"):
        raise ValueError(f"--tolerance {args.tolerance}: give a distance, such as 2")
    names = told_names(args.class_names) if args.class_names else None
    asked = Asked(
        args.label_kind,
        args.metrics,
        args.tolerance,
        names,
        choice_of(args),
        args.unknown,
        args.group,
        args.planes,
    )
    evaluation = evaluate(args.results or args.pairs, args.truth, asked)
    write_tables(args, evaluation.documented() if args.output else evaluation.table)
    kind = f"labels are {evaluation.label_kind}; {len(evaluation.truths)} image(s)"
    for line in () if args.quiet else filter(None, (evaluation.said, kind)):
        result(line)
    result(format_table(evaluation.table))
    result(evaluation.table.interval)
    if evaluation.table.flatters:
        result(evaluation.table.flatters)
    for name, text in explained(evaluation.table.columns):
        say(f"{name}: {text}")
    return say_left(evaluation.table)


def say_left(table: ScoreTable) -> int:
    """Say on stderr which cases have no scores; the exit code."""
    for row in table.left:
        warn(f"unet-med: {row.row}: {row.case}: {row.note}")
    return LEFT if table.left else 0


def evaluate(results: str, truth: str | None, asked: Asked | None = None) -> Evaluation:
    """Score results against the truth, one case at a time.

    Args:
        results: folder of results, or one file; without truth a list of pairs (JSON or CSV).
        truth: folder of labels of the same names, one file, or a data list (JSON).
        asked: how they are to be scored.

    Raises:
        FileNotFoundError: no truth is there.
        ValueError: no case can be scored, a truth is no label, or the metrics do not fit.
    """
    asked = asked or Asked()
    if asked.unknown is None and truth is not None and is_list(truth):
        asked = replace(asked, unknown=listed_unknown(Path(truth)))
    if truth is not None:
        _require_order(results, truth)
    found = {} if truth is None else find_results(results)
    truths = read_pairs(Path(results)) if truth is None else find_truths(truth, found, results)
    settings = _settings(results, truths)
    asked = replace(asked, choice={**_recorded_choice(settings), **asked.choice})
    names = _names(settings, truth, asked)
    looks = _look(truths.files, asked)
    readable = {name: truths.files[name] for name in looks}
    kind = _kind(readable, looks, asked, names, settings)
    matched = Results(results, found, truths.results, alone=len(truths.files) == 1)
    family = _family(readable, matched, kind, names, asked)
    failures: list[Exception] = []
    groups = None if asked.group is None else _groups(truths, asked.group, truth or results)
    guessed = kind == "mask" and asked.kind == "auto"
    files = partial(Files, choice=asked.choice, unknown=asked.unknown, guessed_mask=guessed)
    files = partial(files, planes=asked.planes)
    cases = _counted(truths, matched, family, failures, files)
    table = score_table(cases, family.columns, family.classes, groups).shown
    if len(table.left) == len(truths.files):
        raise failures[0]
    about = {
        "label_kind": kind,
        "metrics": family.name,
        "interval": _about_interval(len(truths.files), table),
        **table.about,
        **({} if asked.unknown is None else {"unknown": asked.unknown}),
        **({"choice": dict(asked.choice)} if asked.choice else {}),
        **({} if asked.group is None else {"group": asked.group}),
        **({} if asked.planes is None else {"planes": asked.planes}),
        **matched.learned((row.case for row in table.of(CASE)), family.name),
    }
    return Evaluation(kind, truths.files, replace(table, about=about), truths.said)


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
            counted = family.count(files(result, truth))
        except Exception as error:
            if user_error(error) is None:
                raise
            failures.append(error)
            counted = ScoreRow(row, name, note=one_line(error))
        yield name, counted


def _look(truths: Mapping[str, str], asked: Asked) -> dict[str, LabelSummary]:
    """At each truth that can be read, by name; what cannot be a label is refused.

    Where somebody said what they hold, nothing is looked for that would tell.

    Raises:
        FileNotFoundError: none is there.
        ValueError: none can be read, or one is no label.
    """
    from unet_med.data.label_reader import look_at_label

    choice = {"unknown": asked.unknown, **asked.choice}
    looks, failures = {}, []
    for k, (name, file) in enumerate(with_bar([*truths.items()], "looking at labels")):
        blobs = asked.kind == "auto" and k < LOOKED_AT
        try:
            looks[name] = look_at_label(file, blobs=blobs, **choice)
        except (ValueError, OSError) as error:
            if not is_unreadable(error):
                raise
            failures.append(error)  # its case is a row that says so
    if not looks:
        raise failures[0]
    return looks


def _kind(
    truths: Mapping[str, str],
    looks: Mapping[str, LabelSummary],
    asked: Asked,
    names: ClassNames,
    settings: Mapping[str, Any],
) -> str:
    """What the truths hold, those that can be read.

    What the user says comes first; then several names, of all values; then classes, as the record
    of the results has them; then a guess from the values. Where these speak for both, any name
    decides, and the record.
    """
    from unet_med import data
    from unet_med.data.label_kind import UndecidedLabels, name_classes
    from unet_med.data.label_reader import refuse_masks

    if asked.kind != "auto":
        return asked.kind
    values = [set(look.values.tolist()) for look in looks.values()]
    held = set().union(*values) - {0, UNKNOWN}
    made = settings.get("label_kind")
    if held != {IGNORED}:  # of which, as classes, nothing would be left
        if name_classes(names, values) or (made == "classes" and len(held) < MAX_CLASSES):
            return "classes"
        if made == "classes":
            raise UndecidedLabels(
                f"the truths hold {len(held)} values besides 0, and the results are classes, as "
                "their record says: say --label-kind classes or --label-kind instances"
            )
    try:
        kind = data.guess_label_kind(list(looks.values()))
    except UndecidedLabels:
        kind = "classes" if names else str(made)
        if kind not in ("classes", "instances"):
            raise
    if kind == "instances":
        choice = {"unknown": asked.unknown, **asked.choice}
        refuse_masks(list(truths.values()), list(looks.values()), **choice)
    return kind


def _family(
    truths: Mapping[str, str], results: Results, kind: str, names: ClassNames, asked: Asked
) -> Family:
    from unet_med import data

    choice = data.label_choice(asked.choice)
    heads = [data.load_header(path, **choice) for path in truths.values()]
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


def _names(settings: Mapping[str, Any], truth: str | None, asked: Asked) -> ClassNames:
    """Names of classes: told, of the data list, or of the bundle that made the results."""
    if asked.names is not None:
        return asked.names
    if truth is not None and is_list(truth) and (names := listed_names(Path(truth))):
        return names
    return recorded_names({"settings": settings})


def _settings(results: str, truths: Truths) -> Mapping[str, Any]:
    """How results were made, as the records beside them say with one voice."""
    place = Path(results)
    folders = {place if place.is_dir() else place.parent}
    if truths.results is not None:  # of a list of pairs, beside which there is none
        folders = {Path(file).parent for file in truths.results.values()}
    first, *others = [_recorded_settings(folder) for folder in folders]
    return {k: v for k, v in first.items() if all(k in each and each[k] == v for each in others)}


def _recorded_settings(folder: Path) -> Mapping[str, Any]:
    with suppress(ValueError):  # a record that is none says nothing
        return read_record(folder).get("settings") or {}
    return {}


def _recorded_choice(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`time` and `axes` with which the images were read."""
    choice = settings.get("choice") or {}
    return {name: choice[name] for name in ("time", "axes") if choice.get(name) is not None}


def _require_order(results: str, truth: str) -> None:
    """Refuse a folder of results as the truth of what has no record.

    Raises:
        ValueError: they are the wrong way round.
    """
    if (Path(truth) / RECORD).is_file() and not (Path(results) / RECORD).is_file():
        raise ValueError(
            f"{truth} looks like a folder of results, for it holds {RECORD}, and {results} does "
            f"not: RESULTS come first, then TRUTH; or remove {RECORD}"
        )


def _about_interval(images: int, table: ScoreTable) -> str:
    scored = images - len(table.left)
    missing = f"; {len(table.left)} of {images} not scored" if table.left else ""
    if table.is_small:
        return TOO_FEW + missing
    over = f"{scored} images"
    if (units := table.about["units"]) < scored:
        over = f"{units} groups of {over}"
    return f"2.5 % and 97.5 %: bootstrap over the {over}, 1000 draws, seed 0{missing}"
