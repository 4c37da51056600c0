"""What may change when `unet-med train --resume` continues a training: its length."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet_med import bundle
from unet_med.cli import READING, choice_of

DEFAULTS = {"preset": "modern", "label_kind": "auto", "seed": 0, "validation": 0.1}


def fill_in(args: argparse.Namespace) -> None:
    """Defaults of a new training; a resumed one has its own, in its bundle."""
    for name, value in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def prepare(args: argparse.Namespace, output: Path, files: Sequence[Path]) -> None:
    """Write a new budget into the bundle that continues, and refuse all other changes.

    Args:
        args: of the command line.
        output: folder of the bundle.
        files: the override files that `args` names.

    Raises:
        ValueError: an option differs from what the training was begun with; names both.
    """
    path = output / "configs" / "train.json"
    begun = json.loads(path.read_text(encoding="utf-8"))
    begun |= {f"reader::{name}": begun.get("reader", {}).get(name) for name in READING}
    named = [str(path.absolute()) for path in files] or None
    for option, (key, value) in {**_asked(args), "--config": ("overrides", named)}.items():
        if value is not None and begun.get(key) != value:
            raise ValueError(
                f"{option} {value} does not continue {output}, begun with {begun.get(key)}: leave "
                f"{option} out, or train into another folder"
            )
    budget = _budget(args)
    if budget:
        bundle.write_settings(output, [], budget)


def _asked(args: argparse.Namespace) -> dict[str, tuple[str, Any]]:
    """Options that must stay as they were: id in the config, and value where given."""
    return {
        "--images": ("images", str(Path(args.images).absolute())),
        "--labels": ("labels", str(Path(args.labels).absolute()) if args.labels else None),
        "--preset": ("preset", args.preset),
        "--label-kind": ("label_kind", None if args.label_kind == "auto" else args.label_kind),
        "--classes": ("out_channels", args.classes),
        "--features": ("features", args.features),
        "--dims": ("spatial_dims", args.dims),
        "--tile-size": ("tile_size", args.tile_size),
        "--seed": ("seed", args.seed),
        "--validation": ("validation_fraction", args.validation),
        **{
            f"--{name.replace('_', '-')}": (f"reader::{name}", value)
            for name, value in choice_of(args).items()
        },
    }


def _budget(args: argparse.Namespace) -> dict[str, Any]:
    if args.epochs:
        return {"epochs": args.epochs, "minutes": None}
    return {"minutes": args.minutes} if args.minutes else {}
