"""`unet-med evaluate`: score results against the truth, in a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_med.cli.matching import find_results, find_truths, match
from unet_med.cli.options import choice_of
from unet_med.cli.scores import (
    Table,
    check_suffix,
    format_table,
    plain,
    score_table,
    write_table,
)

if TYPE_CHECKING:
    from unet_med.data.labels import LabelSummary
    from unet_med.metrics.score import Score

Array = np.ndarray[Any, Any]

SUFFIX_OF_METRICS = {
    "isbi": ("_probabilities", "_mask", ""),
    "classes": ("_mask", ""),
    "instances": ("_instances", ""),
    "ctc": ("_instances", ""),
    "ap": ("_instances", ""),
}
MOST_CLASSES = 256
METRICS_OF_KIND: dict[str, dict[str | None, str]] = {
    "mask": {None: "isbi", "isbi": "isbi"},
    "classes": {None: "classes"},
    "instances": {None: "instances", "isbi": "isbi", "ctc": "ctc", "ap": "ap"},
}


@dataclass(frozen=True)
class Evaluation:
    """Scores of a folder of results.

    Attributes:
        label_kind: what the truth's values mean.
        truths: label files by image name.
        table: as `score_table` returns it.
        interval: how its interval came about.
        said: where the truths come from, where that is not plain.
    """

    label_kind: str
    truths: Mapping[str, str]
    table: Table
    interval: str
    said: str | None = None


def run(args: argparse.Namespace) -> None:
    """Print one row an image and one for all, with its interval; write them where asked."""
    if args.output:
        check_suffix(Path(args.output))
    evaluation = evaluate(
        args.results, args.truth, args.label_kind, args.metrics, **choice_of(args)
    )
    table = evaluation.table
    if evaluation.said:
        print(evaluation.said)
    print(f"labels are {evaluation.label_kind}; {len(evaluation.truths)} image(s)")
    print(format_table(table, list(table["all"])))
    print(evaluation.interval)
    if args.output:
        write_table(table, Path(args.output))
    keep(evaluation, Path(args.results))


def evaluate(
    results: str, truth: str, kind: str = "auto", metrics: str | None = None, **choice: Any
) -> Evaluation:
    """Score results against the truth.

    Args:
        results: folder of results, or one file.
        truth: folder of labels of the same names, one file, or a data list (JSON).
        kind: what the truth's values mean; `"auto"`: decided from them.
        metrics: `"isbi"`, `"ctc"`, `"ap"`; None: those of the kind.
        choice: `time` and `axes` with which the images were read; see `LabelReader`.

    Raises:
        ValueError: a result is missing or of another shape, a file is no label, or the metrics
            do not fit.
    """
    from unet_med import data
    from unet_med.data.label_reader import look_at_label

    found = find_results(results)
    truths, said = find_truths(truth, found)
    looks = [look_at_label(path, **choice) for path in truths.values()]
    kind = data.guess_label_kind(looks) if kind == "auto" else kind
    family = _choose(metrics, kind)
    suffixes = SUFFIX_OF_METRICS[family]
    files = {name: (match(name, found, results, suffixes), truths[name]) for name in truths}
    columns = _columns(family, files, looks)
    pairs = ((name, _pair(files[name], family, choice)) for name in files)
    table = score_table(pairs, columns)
    return Evaluation(kind, truths, table, _about_interval(len(files)), said)


def keep(evaluation: Evaluation, results: Path) -> None:
    """Add the scores to the record that a prediction left; other folders stay as they are."""
    from unet_med.report.provenance import RECORD, now, read_record, sha256, write_record

    if not (record := read_record(results)):
        return
    record["evaluation"] = {
        "finished": now(),
        "label_kind": evaluation.label_kind,
        "truth": {
            name: {"file": str(Path(path).absolute()), "sha256": sha256(path)}
            for name, path in evaluation.truths.items()
        },
        "table": plain(evaluation.table),
        "interval": evaluation.interval,
    }
    write_record(results / RECORD, record)


def _choose(metrics: str | None, kind: str) -> str:
    """The family asked for, or that of the labels' kind."""
    if metrics not in METRICS_OF_KIND[kind]:
        fits = " or ".join(other for other in METRICS_OF_KIND[kind] if other)
        raise ValueError(
            f"--metrics {metrics} does not fit labels that are {kind}: "
            + (f"use {fits}, or " if fits else "leave it out, or ")
            + "say what they are with --label-kind"
        )
    return METRICS_OF_KIND[kind][metrics]


def _columns(
    metrics: str, files: Mapping[str, tuple[str, str]], looks: Sequence[LabelSummary]
) -> Mapping[str, Score]:
    from unet_med.cli import scores

    if metrics == "classes":
        return scores.dice_columns(_classes([result for result, _ in files.values()], looks))
    families = {"isbi": scores.ISBI, "ctc": scores.CTC, "ap": scores.AP}
    return families.get(metrics, scores.INSTANCES)


def _classes(results: Iterable[str], looks: Iterable[LabelSummary]) -> list[int]:
    """Classes that truths or results hold, without background and what is ignored."""
    from unet_med import data

    values = set().union(*(look.values.tolist() for look in looks))
    for path in results:
        values |= set(np.unique(data.load_label(path)).tolist())
        if len(values) > MOST_CLASSES:
            raise ValueError(
                f"the labels hold more than {MOST_CLASSES} values, too many to be classes: "
                "use --label-kind instances"
            )
    return sorted(value for value in values - {255} if value > 0)


def _pair(files: tuple[str, str], metrics: str, choice: Mapping[str, Any]) -> tuple[Array, Array]:
    """Result, on the grid of its truth, and truth as the scores take them, `([Z,] Y, X)`."""
    from unet_med import data

    kind = "classes" if metrics == "classes" else "instances"
    names = f"result {Path(files[0]).name}", f"its truth {Path(files[1]).name}"
    turn = partial(data.turned_onto, path=files[0], other=files[1], names=names)
    turn = partial(turn, **data.label_choice(choice))
    truth = data.load_label(files[1], kind, **choice).T
    if metrics == "isbi":
        return _foreground(files[0], turn), _interior(truth)
    return turn(data.load_label(files[0], kind)).T, truth


def _interior(label: Array) -> Array:
    """Foreground of each plane, with a border where instances touch; a mask as it is."""
    from unet_med.instances import separate

    planes = label if label.ndim == 3 else label[None]
    apart = [separate(np.maximum(plane, 0)) > 0 for plane in planes]
    return np.stack(apart).reshape(label.shape)


def _about_interval(images: int) -> str:
    if images < 2:
        return "no interval: it takes more than one image"
    return f"2.5 % and 97.5 %: bootstrap over the {images} images, 1000 draws, seed 0"


def _foreground(path: str, turn: Callable[[Array], Array]) -> Array:
    """Probability of foreground: the last of several channels, or a mask or instances."""
    from unet_med import data

    if data.load_header(path).has_channels:
        array: Array = data.load_image(path).numpy()  # (C, X, Y[, Z])
        if len(array) > 1:
            return turn(array[-1]).T
    return _interior(turn(data.load_label(path, "instances")).T).astype(np.float32)
