"""Ids merged into a bundle's configs, as MONAI merges them, and written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_med.bundle.ids import (
    PLANNED,
    combine,
    entries_of,
    first_of,
    misplaced,
    require_ids,
    values_of,
)
from unet_med.bundle.inspection import load_config
from unet_med.bundle.literals import literal, quoted
from unet_med.bundle.metadata import describe_data, describe_network
from unet_med.data.atomic import read_json, write_json

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

APART = ("split", "replay", "folds", "subsets")  # parts of a plan in files of their own
LABELLED = ("train", "evaluate")  # configs that read images and labels
Settings = Mapping[str, Any]
Place = str | os.PathLike[str]


def merge_config(
    config: Place, overrides: Sequence[Place], settings: Settings, *, skip: bool = False
) -> dict[str, Any]:
    """Config file with override files and single settings merged in, as MONAI merges them.

    Args:
        config: config file, JSON.
        overrides: files of ids that replace those of the config, or with a `+`
            append to them; ids that the config does not know are left out (an
            override serves training and inference alike).
        settings: single ids, likewise.
        skip: also leave out ids of parts that this config does not have.

    Returns:
        The content of the config file.

    Raises:
        ValueError: an id leads to a part that is not there, unless `skip`.
    """
    from monai.bundle import ConfigParser
    from monai.bundle.utils import merge_kv

    parser = ConfigParser(ConfigParser.load_config_file(config))
    files = (read_json(path) for path in overrides)
    for pairs in [*files, settings]:
        for key, value in pairs.items():
            if _concerns(key, parser) and not (skip and misplaced(key, parser.get())):
                require_ids([key], source=Path(config).name, configs=[parser.get()])
                merge_kv(parser, key, literal(value))  # "+key" appends
    content = parser.get()
    return dict(content)


def _concerns(id: str, parser: ConfigParser) -> bool:
    """Whether a config has what an id sets, or appends to.

    MONAI is asked only for what may be there: of any other it looks for the most similar one.
    """
    return first_of(id) in parser.get() and (not id.startswith("+") or id[1:] in parser)


def write_settings(
    bundle: Place, overrides: Sequence[Place], settings: Settings, *, reason: str = "set by hand"
) -> None:
    """Write override files and single settings into a bundle, and into its plan.

    Args:
        bundle: its folder.
        overrides: files of ids, merged in this order.
        settings: single ids, merged after them.
        reason: of the settings, for the plan.
    """
    paths = [Path(path) for path in overrides]
    files = [(read_json(path), path.name) for path in paths]
    more = combine(*(entries_of(ids, f"{name} says so") for ids, name in files))
    more = combine(more, entries_of(settings, reason))
    plan = {key: value for key, value in read_plan(bundle).items() if key not in APART}
    ids = combine(plan.get("ids", {}), more)
    write_json(plan_file(bundle), {**plan, "ids": ids}, indent=4)
    _write_ids(Path(bundle), values_of(more))


def write_plan(bundle: Place, plan: Mapping[str, Any]) -> None:
    """Write a plan into a fresh bundle, and its ids into the configs: each of them runs alone.

    Args:
        bundle: its folder.
        plan: `{"ids": {id: {"value": ..., "reason": ...}}, "data": ..., ...}`, where `data`
            names `images` and `labels` in the folder of the data (`dataset_dir`); `split`,
            `replay`, `folds` and `subsets` go to files of their own, such as `configs/split.json`.
    """
    bundle = Path(bundle)
    kept = {key: value for key, value in plan.items() if key not in APART}
    write_json(plan_file(bundle), kept, indent=4)
    for key in APART:
        file = bundle / "configs" / f"{key}.json"
        if plan.get(key):
            write_json(file, plan[key], indent=4)
        else:  # of a plan that was here before
            file.unlink(missing_ok=True)
    _write_ids(bundle, values_of(plan["ids"]))
    places = {id: _in_dataset_dir(plan["data"][id]) for id in ("images", "labels")}
    for name in LABELLED:
        path = bundle / "configs" / f"{name}.json"
        write_json(path, merge_config(path, [], places), indent=4)
    path = bundle / "configs" / "metadata.json"
    metadata = read_json(path)
    describe_data(metadata, load_config(bundle / "configs" / "train.json"), plan["data"])
    write_json(path, metadata, indent=4)


def read_plan(bundle: Place) -> dict[str, Any]:
    """What `write_plan` wrote; empty where nothing was planned."""
    path = plan_file(bundle)
    if not path.is_file():
        return {}
    files = {key: path.with_name(f"{key}.json") for key in APART}
    apart = {key: load_config(file) for key, file in files.items() if file.is_file()}
    return {**load_config(path), **apart}


def plan_file(bundle: Place) -> Path:
    """Where a bundle keeps its plan."""
    return Path(bundle) / "configs" / "plan.json"


def planned_bundle(weights: Place | None) -> Path | None:
    """The folder of the planned bundle that a file of weights lies in; None: it lies in none."""
    places = [] if weights is None else Path(weights).absolute().parents[1:3]  # folds lie deeper
    return next((place for place in places if plan_file(place).is_file()), None)


def _write_ids(bundle: Path, ids: Settings) -> None:
    """The one place that writes ids into the configs that a plan holds for.

    What goes into its network and comes out is written into `metadata.json`, where MONAI Label
    and the model zoo's checks look for it.
    """
    paths = [bundle / "configs" / f"{name}.json" for name in PLANNED]
    contents = {path: load_config(path) for path in paths if path.is_file()}
    known = [id for id in ids if any(first_of(id) in content for content in contents.values())]
    require_ids(known, source=str(bundle), configs=list(contents.values()))
    for path in contents:
        write_json(path, merge_config(path, [], ids, skip=True), indent=4)
    path = bundle / "configs" / "metadata.json"
    metadata = read_json(path)
    describe_network(metadata, *(load_config(p) for p in paths[:2]))
    write_json(path, metadata, indent=4)


def _in_dataset_dir(name: str | None) -> str | None:
    """Expression for a name in the folder of the data; MONAI's own signs cannot act in it."""
    if name is None:
        return None
    return f"$@dataset_dir + {quoted('/' + name)}"
