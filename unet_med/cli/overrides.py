"""Override files of `unet-med train --config`, and the extras that they need."""

from __future__ import annotations

import argparse
from pathlib import Path

from unet_med import bundle
from unet_med.cli.extras import require
from unet_med.cli.options import PRESETS

_NEEDS = {"tensorboard": "track", "mlflow": "mlflow"}  # extras, by the name of the file


def find(args: argparse.Namespace) -> list[Path]:
    """Files that `--config` names, in their order; a preset's name chooses the preset.

    Raises:
        FileNotFoundError: a name that there is not; lists those there are.
        ImportError: a file's handlers need an extra that is not installed; names it.
        ValueError: an unknown preset.
    """
    names = dict.fromkeys(args.config or [])
    for name in [name for name in names if name in PRESETS and args.preset in (None, name)]:
        args.preset = name
        del names[name]
    if args.preset is not None and args.preset not in PRESETS:
        raise ValueError(f"unknown preset {args.preset!r}: one of {', '.join(PRESETS)}")
    for name in names:
        if name in _NEEDS:
            require(_NEEDS[name], f"--config {name}")
    return [bundle.find_override(name) for name in names]
