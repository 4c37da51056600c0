"""What may change when `unet-med train --resume` continues a training: see `Option.resumed`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_med import bundle
from unet_med.bundle.literals import literal
from unet_med.cli.option import Option
from unet_med.cli.options import TRAIN
from unet_med.data import find_pairs, sha256
from unet_med.data.atomic import read_json
from unet_med.data.bars import with_bar
from unet_med.data.cases import files_of
from unet_med.data.class_names import told_names
from unet_med.planning.rules import SHARE_OF_ONE
from unet_med.planning.working_size import own_pixels


def prepare(
    args: argparse.Namespace, output: Path, files: Sequence[Path], *, write: bool = True
) -> tuple[str, str | None]:
    """Write a new budget into the bundle that continues, and refuse all other changes.

    Args:
        args: of the command line.
        output: folder of the bundle.
        files: the override files that `args` names.
        write: False: only look.

    Returns:
        Names that the bundle has for images and labels, relative to `dataset_dir`.

    Raises:
        ValueError: an option, or a file of the data, differs from what the training was begun
            with; names both.
    """
    begun = read_json(output / "configs" / "train.json")
    plan = bundle.read_plan(output)
    for option in TRAIN:
        value = option.given(args)
        if option.resumed != "same" or value is None:
            continue
        asked = _asked(option, value, files)
        known = _value(begun, option.id or "")
        if literal(asked) != known and not (option.id == "overrides" and not asked):
            raise _otherwise(option.name, asked, known, output)
    _check_files(files, plan.get("overrides", {}), output)
    _check_data(args, plan.get("data", {}).get("cases", []), output)
    _check_split(args.split, plan.get("split", {}), output)
    folds = plan.get("ids", {}).get("folds", {}).get("value")
    if (budget := _budget(args, folds)) and write:
        bundle.write_settings(output, [], budget, reason="asked for when it was resumed")
    return plan.get("data", {}).get("images", ""), plan.get("data", {}).get("labels")


def _asked(option: Option, value: Any, files: Sequence[Path]) -> Any:
    """What an option says, as the config that was begun with has it."""
    if option.id == "overrides":
        return [path.name for path in files]
    if option.id == "class_names":  # which may number them, or be a file
        return [name for _, name in sorted(told_names(value).items())]
    if option.id == "scale":
        return own_pixels(value)
    return value


def _value(config: Any, id: str) -> Any:
    """Value of an id such as `reader::series`; None where there is none."""
    for name in id.split("::"):
        config = config.get(name) if isinstance(config, dict) else None
    return config


def _check_files(files: Sequence[Path], begun: Mapping[str, str], output: Path) -> None:
    """Refuse override files of the same names and other content."""
    for path in files:
        if begun.get(path.name, sha256(path)) != sha256(path):
            raise ValueError(
                f"{path} is not what {output} was begun with: leave --config out, or train into "
                "another folder"
            )


def _check_data(args: argparse.Namespace, begun: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Refuse other images or labels, wherever those that are given lie."""
    if not begun:  # nothing is known of the data: the bundle was not planned
        return
    pairs = find_pairs(args.images, args.labels)
    if len(pairs) != len(begun):
        raise ValueError(
            f"{len(pairs)} image(s) in {args.images} do not continue {output}, begun with "
            f"{len(begun)}: train into another folder"
        )
    for pair, case in with_bar([*zip(pairs, begun, strict=True)], "looking at files"):
        for part in ("image", "label"):
            if sha256(pair[part]) != case[part]["sha256"]:
                files = ", ".join(files_of(pair[part]))
                raise ValueError(
                    f"{files} is not the file {case[part]['name']} that {output} was begun with: "
                    "bring that back, or train into another folder"
                )


def _check_split(file: str | None, begun: Mapping[str, Any], output: Path) -> None:
    """Refuse another file of a split than the one of which the bundle keeps a copy."""
    known = begun.get("from") or {}
    if file is not None and known.get("sha256") != sha256(file):
        raise ValueError(
            f"--split {file} is not what {output} was begun with"
            f"{' (' + known['name'] + ')' if known else ', which has none'}: leave --split out, or "
            "train into another folder"
        )


def _budget(args: argparse.Namespace, folds: int | None) -> dict[str, Any]:
    """A new end, of which the folds have their part."""
    if args.epochs:
        return {"epochs": args.epochs, "minutes": None}
    share = SHARE_OF_ONE if folds else 1
    return {"minutes": share * args.minutes} if args.minutes else {}


def _otherwise(name: str, asked: Any, known: Any, output: Path) -> ValueError:
    return ValueError(
        f"{name} {asked} does not continue {output}, begun with {known}: leave {name} out, or "
        "train into another folder"
    )
