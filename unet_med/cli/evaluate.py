"""`unet-med evaluate`: score results against the truth, in a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Scores = dict[str, float]

SUFFIX_OF_KIND = {
    "mask": ("_probabilities", "_mask", ""),
    "classes": ("_mask", ""),
    "instances": ("_instances", ""),
}


def run(args: argparse.Namespace) -> None:
    """Print one row an image and one for all; write JSON where asked."""
    from unet_med import data

    truths = {data.stem(item["image"]): item["image"] for item in data.find_images(args.truth)}
    labels = {name: _read(path)[0] for name, path in truths.items()}
    kind = args.label_kind
    kind = data.guess_label_kind(list(labels.values())) if kind == "auto" else kind
    found = {data.stem(item["image"]): item["image"] for item in data.find_images(args.results)}
    results = {name: _read(_match(name, kind, found, args)) for name in labels}
    for name, label in labels.items():
        _check_shape(name, results[name], label)
    table = score(results, labels, kind)
    print(f"labels are {kind}; {len(labels)} image(s)")
    print(format_table(table, list(table["all"])))
    if args.output:
        Path(args.output).write_text(json.dumps(table, indent=2) + "\n")


def score(
    results: Mapping[str, Array], labels: Mapping[str, Array], kind: str
) -> dict[str, Scores]:
    """Scores of every image, and of all together under `"all"`.

    Args:
        results: arrays `(C, Y, X)` or `(C, Z, Y, X)` by image name.
        labels: the truth `(Y, X)` or `(Z, Y, X)` by image name.
        kind: `"mask"`, `"classes"` or `"instances"`.
    """
    of_kind = {"mask": _score_masks, "classes": _score_classes, "instances": _score_instances}
    table = {name: of_kind[kind]([results[name]], [labels[name]]) for name in labels}
    names = list(labels)
    table["all"] = of_kind[kind]([results[n] for n in names], [labels[n] for n in names])
    return table


def format_table(table: Mapping[str, Scores], columns: Sequence[str]) -> str:
    """Rows of names and four decimals, aligned."""
    width = max(len(name) for name in table)
    lines = [" " * width + "".join(f"{column:>14}" for column in columns)]
    for name, scores in table.items():
        lines.append(f"{name:<{width}}" + "".join(f"{scores[c]:14.4f}" for c in columns))
    return "\n".join(lines)


def _score_masks(results: list[Array], labels: list[Array]) -> Scores:
    """As the ISBI 2012 challenge: every plane is a slice, thresholds shared by all."""
    from unet_med import metrics

    foreground = [planes for array in results for planes in _planes(_foreground(array))]
    truth = [planes > 0 for label in labels for planes in _planes(label)]
    return {
        "V_Rand": metrics.v_rand(foreground, truth),
        "V_Info": metrics.v_info(foreground, truth),
        "pixel error": metrics.pixel_error(foreground, truth),
    }


def _score_instances(results: list[Array], labels: list[Array]) -> Scores:
    from unet_med import metrics

    found = [array[0].astype(np.int64) for array in results]
    truth = [np.maximum(label, 0).astype(np.int64) for label in labels]
    return {
        "SEG": metrics.seg(found, truth),
        "DET": metrics.det(found, truth),
        "AP50": metrics.average_precision(found, truth),
    }


def _score_classes(results: list[Array], labels: list[Array]) -> Scores:
    """Dice of each class, all pixels pooled; pixels of label 255 do not count."""
    kept = [label != 255 for label in labels]
    found = np.concatenate([r[0][k] for r, k in zip(results, kept, strict=True)])
    truth = np.concatenate([t[k] for t, k in zip(labels, kept, strict=True)])
    dice = {}
    for c in range(1, int(max(truth.max(), found.max())) + 1):
        both = np.sum((found == c) & (truth == c))
        dice[f"Dice {c}"] = float(2 * both / max(np.sum(found == c) + np.sum(truth == c), 1))
    return {**dice, "mean Dice": float(np.mean(list(dice.values())))}


def _read(path: str) -> Array:
    """Array `(C, [Z,] Y, X)`: the metrics' order, in which images are looked at."""
    from unet_med import data

    array: Array = data.load_image(path).numpy()  # (C, X, Y[, Z])
    return array.transpose(0, *range(array.ndim - 1, 0, -1))


def _match(name: str, kind: str, found: Mapping[str, str], args: argparse.Namespace) -> str:
    if len(found) == 1 and Path(args.results).is_file():
        return next(iter(found.values()))
    for suffix in SUFFIX_OF_KIND[kind]:
        if name + suffix in found:
            return found[name + suffix]
    wanted = name + SUFFIX_OF_KIND[kind][-2]
    raise ValueError(f"no result for {name} in {args.results}: expected a file named {wanted}")


def _check_shape(name: str, result: Array, label: Array) -> None:
    if result.shape[1:] != label.shape:
        raise ValueError(
            f"result for {name} has shape {result.shape[1:]}, its truth {label.shape}: "
            "they must be equal"
        )


def _foreground(array: Array) -> Array:
    """Probability of foreground: the last of two channels, or the mask itself."""
    if array.shape[0] > 1:
        return array[-1].astype(np.float32)
    return (array[0] > 0).astype(np.float32)


def _planes(array: Array) -> list[Array]:
    return list(array) if array.ndim == 3 else [array]
