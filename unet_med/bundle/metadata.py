"""What `configs/metadata.json` says of a bundle: its network, and the data that it was trained on.

MONAI Label, MONAI Deploy, the model zoo's checks and MONAI's exports read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from unet_med.geometry import per_axis

# What needs NumPy is imported where it acts: `unet-med --help` would wait for it.

NOT_STATED = "not stated"
OWN = "each channel standardised by the whole image's mean and deviation"
ROBUST = "each channel standardised by the whole image, clipped where its hot and dead pixels lie"
FIXED = (
    "on the scale that intensity in the configs says: clipped, less the mean, divided by the "
    "deviation of the training set's foreground"
)
Config = Mapping[str, Any]


def network_of(config: Config) -> tuple[Any, Any]:
    """Parser of a config's content, and its network without memory for weights."""
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser(json.loads(json.dumps(config)))  # parsing changes what it parses
    with torch.device("meta"):
        return parser, parser.get_parsed_content("network_def")


def describe_network(metadata: dict[str, Any], train: Config, inference: Config) -> None:
    """Say what goes into the network and comes out.

    The sides of the input begin with those of the training's tiles: MONAI's `onnx_export` fixes
    the sides of a network at the first ones.

    Args:
        metadata: content of `metadata.json`, which changes.
        train: content of `train.json`.
        inference: content of `inference.json`.
    """
    parser, network = network_of(train)
    ids = ("spatial_dims", "in_channels", "out_channels", "tile_size")
    dims, inputs, outputs, tile = (parser.get_parsed_content(id) for id in ids)
    classes = _class_names(parser, train, outputs)
    tiles = list(tile) if isinstance(tile, Sequence) else [tile] * dims
    sides = _sides(network, tiles)
    data_format = metadata["network_data_format"]
    data_format["inputs"]["image"] |= {
        "modality": _joined(train.get("modality") or NOT_STATED),
        "num_channels": inputs,
        "spatial_shape": [first for first, _ in sides],
        "channel_def": {str(k): f"channel {k}" if inputs > 1 else "image" for k in range(inputs)},
    }
    data_format["outputs"]["pred"] |= {
        "num_channels": outputs,
        "spatial_shape": [last for _, last in sides],
        "channel_def": {str(k): name for k, name in enumerate(classes)},
    }
    metadata["image_classes"] = f"images of {_pixels(inference)}, {_scale(train)}"
    metadata["pred_classes"] = f"one logit channel a class: {', '.join(classes)}"


def _scale(config: Config) -> str:
    scales = config.get("intensity")
    if scales is None:
        return OWN
    return ROBUST if any(isinstance(scale, str) for scale in scales) else FIXED


def describe_data(metadata: dict[str, Any], config: Config, data: Mapping[str, Any]) -> None:
    """Say what a planned training learns from.

    Args:
        metadata: content of `metadata.json`, which changes.
        config: content of `train.json`.
        data: what the files said, `data` of a plan.
    """
    from unet_med.data.planned_pairs import files_in_plan

    cases = data["cases"]
    names = [name for case in cases for name in files_in_plan(case)]
    kinds = sorted({"".join(PurePath(name).suffixes[-2:]).lstrip(".") for name in names})
    metadata["data_type"] = ", ".join(kinds) or "dicom"
    metadata["data_source"] = (
        f"{len(cases)} image(s) with labels, named and hashed in configs/plan.json"
    )
    metadata["label_classes"] = {
        "mask": "masks of one foreground",
        "classes": f"numbers of {config['out_channels']} classes, background is 0",
        "instances": "numbers of objects, background is 0",
    }[config["label_kind"]]


def _class_names(parser: Any, config: Config, outputs: int) -> list[str]:
    from unet_med.data.class_names import names_of

    named = parser.get_parsed_content("class_names") if config.get("class_names") else None
    return names_of(config.get("class_values") or range(outputs), named)


def _sides(network: Any, tile: Sequence[int]) -> list[tuple[str, str]]:
    """Sides that go in and come out, an axis each, with n from 1; `*` for any."""
    if not hasattr(network, "output_size"):  # a foreign network, whose config does not say
        return [("*", "*")] * len(tile)
    first = tuple(tile)
    try:
        last = network.output_size(first)
    except ValueError:  # tiles that the network cannot take are refused when it trains
        first = network.input_size_for((1,) * len(tile))
        last = network.output_size(first)
    strides = per_axis("stride", network.stride, len(tile))
    each = zip(strides, first, last, strict=True)
    return [(_series(step, inward), _series(step, outward)) for step, inward, outward in each]


def _series(stride: int, first: int) -> str:
    """Sides `first`, `first + stride`, ... for n = 1, 2, ...

    >>> _series(16, 572), _series(16, 4), _series(16, 16)
    ('16*n + 556', '16*n - 12', '16*n')
    """
    offset = first - stride
    return f"{stride}*n {'+-'[offset < 0]} {abs(offset)}" if offset else f"{stride}*n"


def _pixels(config: Config) -> str:
    """Pixel sizes along X, Y and Z, in words: what images are brought to, or what they had."""
    from unet_med.data.pixel_size import in_words

    if size := config.get("element_size"):
        return f"{in_words(size)} {config.get('element_unit') or ''} a pixel".replace("  ", " ")
    known = config.get("trained_on") or {}
    if ranges := known.get("pixel_size"):
        words = [
            f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}" for low, high in ranges
        ]
        return f"{' x '.join(words)} {known['unit']} a pixel"
    return f"a pixel size that is {NOT_STATED}"


def _joined(names: Any) -> str:
    return names if isinstance(names, str) else ", ".join(names)
