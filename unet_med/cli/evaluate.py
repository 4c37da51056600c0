"""`unet-med evaluate`: score results against the truth, in a table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_med.cli.matching import find_results, find_truths, match
from unet_med.cli.scores import (
    Table,
    check_suffix,
    format_table,
    plain,
    score_table,
    write_table,
)

if TYPE_CHECKING:
    from unet_med.metrics.score import Score

Array = np.ndarray[Any, Any]

SUFFIX_OF_METRICS = {
    "isbi": ("_probabilities", "_mask", ""),
    "classes": ("_mask", ""),
    "instances": ("_instances", ""),
    "ctc": ("_instances", ""),
    "ap": ("_instances", ""),
}
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
    evaluation = evaluate(args.results, args.truth, args.label_kind, args.metrics)
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
    results: str, truth: str, kind: str = "auto", metrics: str | None = None
) -> Evaluation:
    """Score results against the truth.

    Args:
        results: folder of results, or one file.
        truth: folder of labels of the same names, one file, or a data list (JSON).
        kind: what the truth's values mean; `"auto"`: decided from them.
        metrics: `"isbi"`, `"ctc"`, `"ap"`; None: those of the kind.

    Raises:
        ValueError: a result is missing or of another shape, or the metrics do not fit.
    """
    from unet_med import data

    found = find_results(results)
    truths, said = find_truths(truth, found)
    labels = {name: _read(path)[0] for name, path in truths.items()}
    kind = data.guess_label_kind(list(labels.values())) if kind == "auto" else kind
    family = _choose(metrics, kind)
    suffixes = SUFFIX_OF_METRICS[family]
    results_of = {name: match(name, found, results, suffixes) for name in labels}
    read = {name: _read(path, truths[name]) for name, path in results_of.items()}
    pairs = {name: _pair(read[name], labels[name], family) for name in labels}
    table = score_table(pairs, _columns(family, pairs))
    return Evaluation(kind, truths, table, _about_interval(len(labels)), said)


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


def _columns(metrics: str, pairs: Mapping[str, tuple[Array, Array]]) -> Mapping[str, Score]:
    from unet_med.cli import scores

    if metrics == "classes":
        highest = max(int(np.max([f, t], where=t != 255, initial=0)) for f, t in pairs.values())
        return scores.dice_columns(highest + 1)
    families = {"isbi": scores.ISBI, "ctc": scores.CTC, "ap": scores.AP}
    return families.get(metrics, scores.INSTANCES)


def _pair(result: Array, label: Array, metrics: str) -> tuple[Array, Array]:
    """Result and truth as the scores take them, `([Z,] Y, X)`."""
    if metrics == "isbi":
        return _foreground(result), _interior(label)
    return result[0].astype(np.int64), label.astype(np.int64)


def _interior(label: Array) -> Array:
    """Foreground of each plane, with a border where instances touch; a mask as it is."""
    from unet_med.instances import separate

    planes = label if label.ndim == 3 else label[None]
    apart = [separate(np.maximum(plane, 0).astype(np.int64)) > 0 for plane in planes]
    return np.stack(apart).reshape(label.shape)


def _about_interval(images: int) -> str:
    if images < 2:
        return "no interval: it takes more than one image"
    return f"2.5 % and 97.5 %: bootstrap over the {images} images, 1000 draws, seed 0"


def _read(path: str, truth: str | None = None) -> Array:
    """Array `(C, [Z,] Y, X)`, the metrics' order; a result on the grid of its truth."""
    from unet_med import data

    names = f"result {Path(path).name}", f"its truth {Path(truth or path).name}"
    image = data.load_onto(path, truth, names) if truth else data.load_image(path)
    array: Array = image.numpy()  # (C, X, Y[, Z])
    return array.transpose(0, *range(array.ndim - 1, 0, -1))


def _foreground(array: Array) -> Array:
    """Probability of foreground: the last of several channels, or a mask or instances."""
    if array.shape[0] > 1:
        return array[-1]
    return _interior(array[0]).astype(np.float32)
