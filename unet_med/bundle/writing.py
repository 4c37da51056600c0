"""Ids merged into a bundle's configs, as MONAI merges them, and written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_med.bundle.ids import PLANNED, combine, first_of, misplaced, require_ids
from unet_med.bundle.inspection import load_config
from unet_med.bundle.literals import literal, quoted
from unet_med.data.atomic import atomic_write
from unet_med.geometry import PerAxis, per_axis

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

NOT_STATED = "not stated"  # how the images were taken
SCALES = (  # without and with `intensity`
    "images, each channel standardised by the whole image's mean and deviation",
    "images on the scale that intensity in the configs says: clipped, less the mean, divided by "
    "the deviation of the training set's foreground",
)
LABELLED = ("train", "evaluate")  # configs that read images and labels
Settings = Mapping[str, Any]


def merge_config(
    config: Path, overrides: Sequence[Path], settings: Settings, *, skip: bool = False
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
    for pairs in [*(json.loads(path.read_text(encoding="utf-8")) for path in overrides), settings]:
        for key, value in pairs.items():
            if _concerns(key, parser) and not (skip and misplaced(key, parser.get())):
                require_ids([key], source=config.name, configs=[parser.get()])
                merge_kv(parser, key, literal(value))  # "+key" appends
    content = parser.get()
    return dict(content)


def _concerns(id: str, parser: ConfigParser) -> bool:
    """Whether a config has what an id sets, or appends to."""
    return (id[1:] if id.startswith("+") else first_of(id)) in parser


def write_settings(
    bundle: Path, overrides: Sequence[Path], settings: Settings, *, reason: str = "set by hand"
) -> None:
    """Write override files and single settings into a bundle, and into its plan.

    Args:
        bundle: its folder.
        overrides: files of ids, merged in this order.
        settings: single ids, merged after them.
        reason: of the settings, for the plan.
    """
    files = [(json.loads(path.read_text(encoding="utf-8")), path.name) for path in overrides]
    more = combine(*(_entries(ids, f"{name} says so") for ids, name in files))
    more = combine(more, _entries(settings, reason))
    plan = read_plan(bundle)
    plan.pop("split", None)
    _write_json(plan_file(bundle), {**plan, "ids": combine(plan.get("ids", {}), more)})
    _write_ids(bundle, {id: entry["value"] for id, entry in more.items()})


def write_plan(bundle: Path, plan: Mapping[str, Any]) -> None:
    """Write a plan into a fresh bundle, and its ids into the configs: each of them runs alone.

    Args:
        bundle: its folder.
        plan: `{"ids": {id: {"value": ..., "reason": ...}}, "data": ..., ...}`, where `data`
            names `images` and `labels` in the folder of the data (`dataset_dir`), and `split`
            goes to a file of its own, `configs/split.json`.
    """
    kept = {key: value for key, value in plan.items() if key != "split"}
    _write_json(plan_file(bundle), kept)
    if plan.get("split"):
        _write_json(split_file(bundle), plan["split"])
    _write_ids(bundle, {id: entry["value"] for id, entry in plan["ids"].items()})
    places = {id: _in_dataset_dir(plan["data"][id]) for id in ("images", "labels")}
    for name in LABELLED:
        path = bundle / "configs" / f"{name}.json"
        _write_json(path, merge_config(path, [], places))


def read_plan(bundle: Path) -> dict[str, Any]:
    """What `write_plan` wrote; empty where nothing was planned."""
    path, split = plan_file(bundle), split_file(bundle)
    plan = dict(load_config(path)) if path.is_file() else {}
    return {**plan, "split": dict(load_config(split))} if plan and split.is_file() else plan


def plan_file(bundle: Path) -> Path:
    """Where a bundle keeps its plan."""
    return bundle / "configs" / "plan.json"


def split_file(bundle: Path) -> Path:
    """Where a bundle keeps which images are held out."""
    return bundle / "configs" / "split.json"


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
        _write_json(path, merge_config(path, [], ids, skip=True))
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    config = load_config(paths[0])
    _describe(metadata["network_data_format"], config)
    metadata["image_classes"] = SCALES[config.get("intensity") is not None]
    _write_json(path, metadata)


def _in_dataset_dir(name: str | None) -> str | None:
    """Expression for a name in the folder of the data; MONAI's own signs cannot act in it."""
    if name is None:
        return None
    return f"$@dataset_dir + {quoted('/' + name)}"


def _entries(ids: Settings, reason: str) -> dict[str, dict[str, Any]]:
    return {id: {"value": value, "reason": reason} for id, value in ids.items()}


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as beside:
        beside.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def network_of(config: dict[str, Any]) -> tuple[Any, Any]:
    """Parser of a config's content, and its network without memory for weights."""
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser(json.loads(json.dumps(config)))  # parsing changes what it parses
    with torch.device("meta"):
        return parser, parser.get_parsed_content("network_def")


def _describe(data_format: dict[str, Any], config: dict[str, Any]) -> None:
    """Set channels and sizes of `network_data_format` to those of a config's network."""
    parser, network = network_of(config)
    ids = ("spatial_dims", "in_channels", "out_channels", "label_kind", "stride")
    dims, inputs, outputs, kind, stride = (parser.get_parsed_content(id) for id in ids)
    side_in = side_out = stride
    if hasattr(network, "input_size_for"):
        stride, side_in = network.stride, network.input_size_for(1)
        side_out = network.output_size(side_in)
    inward, outward = (_sides(stride, first, dims) for first in (side_in, side_out))
    values = config.get("class_values") or range(outputs)
    classes = [f"class {v}" for v in values[1:]] if kind == "classes" else ["foreground"]
    if config.get("class_names"):
        classes = parser.get_parsed_content("class_names")
    data_format["inputs"]["image"] |= {
        "modality": _joined(config.get("modality") or NOT_STATED),
        "num_channels": inputs,
        "spatial_shape": inward,
        "channel_def": {str(k): f"channel {k}" if inputs > 1 else "image" for k in range(inputs)},
    }
    data_format["outputs"]["pred"] |= {
        "num_channels": outputs,
        "spatial_shape": outward,
        "channel_def": {str(k): name for k, name in enumerate(["background", *classes])},
    }


def _sides(stride: PerAxis | None, first: PerAxis | None, dims: int) -> list[str]:
    """Sides of each axis as the metadata writes them; `*` for any."""
    if stride is None or first is None:  # a foreign network whose config does not say
        return ["*"] * dims
    pairs = zip(per_axis("stride", stride, dims), per_axis("side", first, dims), strict=True)
    return [_side(*pair) for pair in pairs]


def _side(stride: int, first: int) -> str:
    """Sides `first`, `first + stride`, ..., n from 1.

    >>> _side(16, 188), _side(1, 20), _side(4, 4)
    ('16*n + 172', '1*n + 19', '4*n')
    """
    offset = first - stride
    return f"{stride}*n {'+-'[offset < 0]} {abs(offset)}" if offset else f"{stride}*n"


def _joined(names: Any) -> str:
    return names if isinstance(names, str) else ", ".join(names)
