"""Where the bundle is: the one that this installation carries, copies of it, and their files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from unet_med.data.atomic import read_json

FOLDS = "models/folds"  # of a bundle
ENSEMBLE = f"{FOLDS}/ensemble.pt"
SUBSETS = "models/subsets"  # networks of fewer of the folds' images, and the learning curve
PARTS = ("configs", "workflows/train.py", "workflows/predict.py", "docs/README.md", "LICENSE")


def find_bundle() -> Path:
    """Folder of the bundle that this installation carries.

    Raises:
        FileNotFoundError: neither a wheel's copy nor a checkout is there.
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package / "_bundle", package.parent):
        if (root / "configs" / "metadata.json").is_file():
            return root
    raise FileNotFoundError(f"no bundle beside {package}: reinstall unet-med")


def copy_bundle(destination: str | Path, *, over: bool = False) -> Path:
    """Write a fresh bundle, without weights, into a new or empty folder.

    Args:
        destination: folder to make. Empty folders within it do no harm: systems that run jobs make
            those of their outputs beforehand.
        over: write over a bundle that is there; other files in it stay.

    Returns:
        The folder.

    Raises:
        FileExistsError: it holds something already, and not `over`.
        OSError: a file cannot be written; says which.
    """
    root, destination = find_bundle(), Path(destination)
    if not over and destination.exists() and not _is_empty(destination):
        begun = (destination / "configs/plan.json").is_file()
        resumed = ", or go on with its training by `unet-med train --resume`" if begun else ""
        raise FileExistsError(
            f"{destination} exists and is not empty: choose a new folder{resumed}"
        )
    new = not destination.exists()
    try:
        for part in PARTS:
            source = root / part
            for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
                if file.is_file() and "__pycache__" not in file.parts:
                    _copy(file, destination / file.relative_to(root))
        (destination / "models").mkdir(exist_ok=True)
    except OSError:
        if new:  # half a bundle would be in the way of the next try
            shutil.rmtree(destination, ignore_errors=True)
        raise
    return destination


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        why = f"{target} cannot be written: {error.strerror}"
        raise OSError(error.errno, why) from error


def override_file(name: str) -> Path | None:
    """Config file `configs/NAME.json` of the bundle that changes the defaults, if there is one."""
    path = find_bundle() / "configs" / f"{name}.json"
    return path if path.is_file() else None


def override_names() -> list[str]:
    """Names of the bundle's override files: configs that change a part, and run nothing.

    >>> "tensorboard" in override_names(), "train" in override_names()
    (True, False)
    """
    files = sorted((find_bundle() / "configs").glob("*.json"))
    contents = {path.stem: read_json(path) for path in files}
    programs = {"run", "initialize", "monai_version", "ids"}  # the last two: metadata, plan
    return [name for name, content in contents.items() if not programs & set(content)]


def _is_empty(folder: Path) -> bool:
    """Whether there is nothing but folders in it."""
    return folder.is_dir() and all(path.is_dir() for path in folder.rglob("*"))


def find_override(
    name: str | os.PathLike[str], configs: str | os.PathLike[str] | None = None
) -> Path:
    """An override file by its path, or by its name.

    Args:
        name: path of a JSON file, or name of one in `configs` or of this installation's bundle.
        configs: folder of a bundle's configs.

    Raises:
        FileNotFoundError: there is none; lists the names there are.
    """
    beside = [] if configs is None else [Path(configs) / f"{name}.json"]
    for path in (Path(name), *beside, override_file(str(name))):
        if path is not None and path.is_file():
            return path
    known = ", ".join(override_names())
    raise FileNotFoundError(f"no override file {name}: give the path of one, or one of {known}")


def find_weights(bundle: str | os.PathLike[str]) -> Path:
    """File of a bundle's weights: `models/model.pt`, else `models/model.safetensors`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has neither; names the bundle that the folder lies in, if it does.
    """
    if not Path(bundle).exists():
        raise FileNotFoundError(f"bundle {bundle} does not exist")
    if (path := weights_file(bundle)) is not None:
        return path
    around = [str(each) for each in Path(bundle).parents[:2] if weights_file(each)]
    way = f"give the bundle itself, {around[0]}" if around else "train it first"
    raise ValueError(f"{bundle} holds no trained weights (models/model.pt): {way}")


def find_ensemble(bundle: str | os.PathLike[str]) -> dict[str, Any]:
    """Ids with which the networks of a bundle's folds predict together.

    Raises:
        ValueError: it was not trained with folds, or not all of them.
    """
    weights = Path(bundle) / ENSEMBLE
    folds = sum(path.is_file() for path in (Path(bundle) / FOLDS).glob("*/model.pt"))
    if not weights.is_file():
        raise ValueError(
            f"{bundle} holds no networks that predict together ({ENSEMBLE}): train it with --folds"
        )
    return {"checkpoint": weights.absolute(), "members": folds}


def weights_file(bundle: str | os.PathLike[str]) -> Path | None:
    """What `find_weights` finds; None where a bundle has not been trained."""
    paths = (Path(bundle) / "models" / name for name in ("model.pt", "model.safetensors"))
    return next((path for path in paths if path.is_file()), None)
