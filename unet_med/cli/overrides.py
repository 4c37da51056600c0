"""Override files of `unet-med train`: what they say holds, unless an option says otherwise."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet_med import bundle
from unet_med.cli import PRESETS
from unet_med.cli.extras import require

# options, and the ids of the config that they set
OPTIONS = {
    "preset": "preset",
    "label_kind": "label_kind",
    "features": "features",
    "dims": "spatial_dims",
    "element_size": "element_size",
    "tile_size": "tile_size",
    "minutes": "minutes",
    "epochs": "epochs",
    "seed": "seed",
    "validation": "validation_fraction",
}
_NEEDS = {"tensorboard": "track", "mlflow": "mlflow"}  # extras, by the name of the file


def find(args: argparse.Namespace) -> list[Path]:
    """Files that `--config` names, in their order; a preset's name chooses the preset.

    Raises:
        FileNotFoundError: a name that there is not; lists those there are.
        ImportError: a file's handlers need an extra that is not installed; names it.
    """
    names = dict.fromkeys(args.config or [])
    for name in [name for name in names if name in PRESETS and args.preset in (None, name)]:
        args.preset = name
        del names[name]
    for name in names:
        if name in _NEEDS:
            require(_NEEDS[name], f"--config {name}")
    return [bundle.find_override(name) for name in names]


def fill_in(args: argparse.Namespace, files: Sequence[Path]) -> set[str]:
    """Set options that were not given to what the files say.

    The bundle's own files leave the size of a tile to the images, as presets do.

    Returns:
        Ids of the config that are the files' to set.
    """
    held: dict[str, Any] = {}
    for path in files:
        content = json.loads(path.read_text(encoding="utf-8"))
        own = path.parent == bundle.find_bundle() / "configs"
        held |= {k: v for k, v in content.items() if not (own and k == "tile_size")}
    for option, id in OPTIONS.items():
        if getattr(args, option) is not None:
            held.pop(id, None)
        elif id in held and not str(held[id]).startswith(("$", "@")):
            setattr(args, option, held[id])
    return set(held)
