"""Trained bundles that come with the package, and the one place where their names are known."""

from __future__ import annotations

import logging
import os
from pathlib import Path

MODELS = Path(__file__).resolve().parents[1] / "models"


def model_names() -> list[str]:
    """Names of the trained bundles that this installation carries."""
    return sorted(path.parents[1].name for path in MODELS.glob("*/configs/inference.json"))


def is_model(folder: Path) -> bool:
    """Whether a bundle is part of the installed package, where nothing is written."""
    return folder.is_relative_to(MODELS)


def find_trained(bundle: str | os.PathLike[str]) -> Path:
    """Folder of a trained bundle that is named by its path, or by the name of a model.

    A folder of that name wins, and a warning says so: a model that comes later must not change
    what a command did.

    Args:
        bundle: a folder, or one of `model_names`.

    Raises:
        ValueError: a name without a folder, and without a model.
    """
    path, name = Path(bundle), os.fspath(bundle)
    if path.is_dir():
        if name not in model_names():
            return path
        logging.getLogger(__name__).warning(
            "%s is the folder %s, not the model of that name that comes with unet-med: rename it, "
            "or work elsewhere, for the model",
            *(name, path.absolute()),
        )
        return path.absolute()  # no longer the name of a model
    if name in model_names():
        return MODELS / name
    if path.exists() or len(path.parts) != 1:
        return path  # what reads it says what is missing
    known = f"it brings {', '.join(model_names())}" if model_names() else "none comes with it"
    raise ValueError(
        f"{name} is neither a folder nor a model that comes with unet-med ({known}): give the "
        "folder that `unet-med train` made"
    )
