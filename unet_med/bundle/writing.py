"""Settings merged into a bundle's configs, as MONAI merges them, and written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_med.data.atomic import atomic_write

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

Settings = Mapping[str, Any]


def merge_config(config: Path, overrides: Sequence[Path], settings: Settings) -> dict[str, Any]:
    """Config file with override files and single settings merged in, as MONAI merges them.

    Args:
        config: config file, JSON.
        overrides: files of ids that replace those of the config, or with a `+`
            append to them; ids that the config does not know are left out (an
            override serves training and inference alike).
        settings: single ids, likewise.

    Returns:
        The content of the config file.
    """
    from monai.bundle import ConfigParser
    from monai.bundle.utils import merge_kv

    parser = ConfigParser(ConfigParser.load_config_file(config))
    for pairs in [*(json.loads(path.read_text(encoding="utf-8")) for path in overrides), settings]:
        for key, value in pairs.items():
            if key.lstrip("+").split("::")[0] in parser:
                _check_place(parser, key)
                merge_kv(parser, key, value)  # "+key" appends
    content = parser.get()
    return dict(content)


def _check_place(parser: ConfigParser, key: str) -> None:
    """Refuse `augment::elastik::prob`: a new value has its place in something that is there."""
    parts = key.lstrip("+").split("::")
    for depth in range(1, len(parts)):
        within, part = "::".join(parts[: depth - 1]), parts[depth - 1]
        if "::".join(parts[:depth]) not in parser:
            raise ValueError(f"{key}: {within} has no {part}; it has {', '.join(parser[within])}")


def write_settings(bundle: Path, overrides: Sequence[Path], settings: Settings) -> None:
    """Write a training's choices into `train.json` and `inference.json` of a bundle.

    What goes into its network and comes out is written into `metadata.json`, where MONAI Label
    and the model zoo's checks look for it.
    """
    for name in ("train", "inference"):
        path = bundle / "configs" / f"{name}.json"
        content = merge_config(path, overrides, settings)
        _write_json(path, content)
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    _describe(metadata["network_data_format"], content)
    _write_json(path, metadata)


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
    classes = [f"class {k}" for k in range(1, outputs)] if kind == "classes" else ["foreground"]
    data_format["inputs"]["image"] |= {
        "num_channels": inputs,
        "spatial_shape": [_side(stride, side_in)] * dims,
        "channel_def": {str(k): f"channel {k}" if inputs > 1 else "image" for k in range(inputs)},
    }
    data_format["outputs"]["pred"] |= {
        "num_channels": outputs,
        "spatial_shape": [_side(stride, side_out)] * dims,
        "channel_def": {str(k): name for k, name in enumerate(["background", *classes])},
    }


def _side(stride: int | None, first: int | None) -> str:
    """Sides `first`, `first + stride`, ... as the metadata writes them, n from 1; `*` for any."""
    if stride is None or first is None:  # a foreign network whose config does not say
        return "*"
    offset = first - stride
    return f"{stride}*n {'+-'[offset < 0]} {abs(offset)}" if offset else f"{stride}*n"
