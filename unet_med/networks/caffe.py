"""Weights of the authors' release (October 2015) from its `phseg_v5.caffemodel`.

The file is a protocol buffer; the few fields that matter are read here, so that Caffe is not
needed. It carries no licence: get it from its authors, and do not pass it on.

The release hands MATLAB arrays to Caffe as they lie in memory, so that Caffe's height is the
image's X and its width Y: the order of axes here. Blobs go over as they are: convolutions
`(out, in, x, y)`, up-convolutions `(in, out, x, y)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unet_med.networks.presets import unet
from unet_med.networks.unet import UNet

Blobs = dict[str, list[np.ndarray]]
Value = int | memoryview

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types

# Field numbers of caffe.proto: NetParameter, (V1)LayerParameter, BlobProto, BlobShape.
LAYERS, LAYERS_V1 = 100, 2
NAME, BLOBS = {LAYERS: 1, LAYERS_V1: 4}, {LAYERS: 7, LAYERS_V1: 6}
LEGACY_SHAPE, DATA, SHAPE, DOUBLE_DATA = (1, 2, 3, 4), 5, 7, 8


def load_caffemodel(path: str | os.PathLike[str]) -> UNet:
    """The network of the release with its weights.

    Args:
        path: `phseg_v5.caffemodel`.

    Returns:
        `unet("release2015")`.

    Raises:
        ValueError: the file is no Caffe model, or a layer's name or shape is not the release's.
    """
    with torch.device("meta"):
        network = unet("release2015")
    network.load_state_dict(state_of(read_blobs(path), network), assign=True)
    return network


def layer_names(depth: int = 4) -> dict[str, str]:
    """The release's name of each convolution, by the name of ours.

    >>> layer_names()["contracting.0.0.convs.0.conv"], layer_names()["expanding.0.up.conv"]
    ('conv_d0a-b', 'upconv_d4c_u3a')
    """
    names = {}
    for level in range(depth + 1):
        ours = f"contracting.{level}" if level < depth else "bottom"
        names[f"{ours}.0.convs.0.conv"] = f"conv_d{level}a-b"
        names[f"{ours}.0.convs.1.conv"] = f"conv_d{level}b-c"
    for step, level in enumerate(reversed(range(depth))):
        below = f"d{depth}c" if step == 0 else f"u{level + 1}d"
        names[f"expanding.{step}.up.conv"] = f"upconv_{below}_u{level}a"
        names[f"expanding.{step}.block.convs.0.conv"] = f"conv_u{level}b-c"
        names[f"expanding.{step}.block.convs.1.conv"] = f"conv_u{level}c-d"
    return {**names, "logits.conv": "conv_u0d-score"}


def state_of(blobs: Blobs, network: UNet) -> dict[str, Tensor]:
    """State dictionary of a network from the blobs of its layers, strictly.

    Args:
        blobs: weight and bias by the release's layer names.
        network: what they are for.

    Raises:
        ValueError: a layer is missing, too many, or of another shape.
    """
    names = layer_names(network.depth)
    missing = [name for name in names.values() if name not in blobs]
    strange = [name for name in blobs if name not in names.values()]
    if missing or strange:
        raise ValueError(
            f"the Caffe model is not phseg_v5: missing layers {missing[:3]}, unknown {strange[:3]}"
        )
    state: dict[str, Tensor] = {}
    for key, expected in network.state_dict().items():
        layer, part = key.rsplit(".", 1)
        own = dict(zip(("weight", "bias"), blobs[names[layer]], strict=False))
        blob = own.get(part, np.empty(0))
        if blob.shape not in (expected.shape, (1, 1, 1, *expected.shape)):  # old files: 4 axes
            raise ValueError(
                f"layer {names[layer]} of the Caffe model has a {part} of shape {blob.shape}, "
                f"that of phseg_v5 is {tuple(expected.shape)}"
            )
        state[key] = torch.from_numpy(blob.reshape(expected.shape).copy())
    return state


def read_blobs(path: str | os.PathLike[str]) -> Blobs:
    """Weights of every layer of a Caffe model that has some, float32, by the layer's name.

    Raises:
        ValueError: the file is no Caffe model.
    """
    blobs: Blobs = {}
    try:
        for field, layer in _fields(memoryview(Path(path).read_bytes())):
            if field not in NAME or not isinstance(layer, memoryview):
                continue
            parts = list(_fields(layer))
            found = [_blob(value) for number, value in parts if number == BLOBS[field]]
            if found:
                [name] = [bytes(v).decode() for number, v in parts if number == NAME[field]]
                blobs[name] = found
    except (IndexError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is no Caffe model: {error}") from None
    if not blobs:
        raise ValueError(f"{path} is no Caffe model: it has no layer with weights")
    return blobs


def _blob(message: Value) -> np.ndarray:
    """Array of a BlobProto."""
    shape: list[int] = []
    legacy: dict[int, int] = {}
    data = [np.empty(0, np.float32)]
    for field, value in _fields(message):
        if field in (DATA, DOUBLE_DATA):
            data.append(np.frombuffer(value, "<f4" if field == DATA else "<f8"))  # type: ignore[arg-type]
        elif field == SHAPE:
            shape = [side for _, dims in _fields(value) for side in _varints(dims)]
        elif field in LEGACY_SHAPE and isinstance(value, int):
            legacy[field] = value
    sides = shape or [legacy.get(field, 1) for field in LEGACY_SHAPE]
    return np.concatenate(data).astype(np.float32).reshape(sides)


def _fields(message: Value) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a protocol-buffer message; floats as their bits."""
    if not isinstance(message, memoryview):
        raise ValueError("a message was expected, and a number came")
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == BYTES:
            size, at = _varint(message, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > len(message):
            raise ValueError(f"a field of {size} bytes at byte {at} of {len(message)}")
        yield number, message[at : at + size]
        at += size


def _varints(value: Value) -> Iterator[int]:
    """Numbers of a repeated field, packed or not."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number in base 128, lowest digits first, and where it ends."""
    number = shift = 0
    while message[at] & 128:
        number |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return number | message[at] << shift, at + 1
