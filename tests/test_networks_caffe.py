"""The authors' released weights, from files that are made here in the same structure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from unet_med.cli import main
from unet_med.networks import unet
from unet_med.networks.caffe import layer_names, load_caffemodel, read_blobs, state_of

# phseg_v5-train.prototxt: num_output and kernel of each layer, and what it reads
UP = {3: (1024, 512), 2: (512, 256), 1: (256, 128), 0: (128, 128)}


def release_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and weight shape of every layer of the release, written out by hand."""
    channels = 1
    for level, features in enumerate((64, 128, 256, 512, 1024)):
        yield f"conv_d{level}a-b", (features, channels, 3, 3)
        yield f"conv_d{level}b-c", (features, features, 3, 3)
        channels = features
    below = "d4c"
    for level, (channels, up) in UP.items():
        features = 64 * 2**level
        yield f"upconv_{below}_u{level}a", (channels, up, 2, 2)
        yield f"conv_u{level}b-c", (features, up + features, 3, 3)
        yield f"conv_u{level}c-d", (features, features, 3, 3)
        below = f"u{level}d"
    yield "conv_u0d-score", (2, 64, 1, 1)


def varint(number: int) -> bytes:
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray, legacy: bool) -> bytes:
    if legacy:  # four axes, as num, channels, height, width
        sides = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(i, side) for i, side in enumerate(sides, start=1))
    else:
        shape = field(7, field(1, b"".join(varint(side) for side in array.shape)))
    return shape + field(5, array.astype("<f4").tobytes())


def caffemodel(layers: dict[str, list[np.ndarray]], legacy: bool = False) -> bytes:
    """A NetParameter message, with layers that hold nothing and fields of no interest."""
    container, name, blobs = (2, 4, 6) if legacy else (100, 1, 7)
    message = field(1, b"net") + field(container, field(name, b"relu_d0b"))
    for layer, arrays in layers.items():
        content = field(name, layer.encode()) + field(2, b"Convolution")
        content += varint(11 << 3 | 5) + struct.pack("<f", 1.0)  # loss weight
        content += varint(20 << 3 | 1) + struct.pack("<d", 1.0)
        message += field(
            container, content + b"".join(field(blobs, blob(a, legacy)) for a in arrays)
        )
    return message


def layers_of(network: torch.nn.Module, depth: int) -> dict[str, list[np.ndarray]]:
    state = network.state_dict()
    names = layer_names(depth)
    return {
        name: [state[f"{ours}.{part}"].numpy() for part in ("weight", "bias")]
        for ours, name in names.items()
    }


def test_names_and_shapes_are_those_of_the_release() -> None:
    state = unet("release2015").state_dict()
    ours = {name: tuple(state[f"{key}.weight"].shape) for key, name in layer_names().items()}
    expected = dict(release_shapes())
    assert ours == expected
    biases = sum(s[1] if n.startswith("up") else s[0] for n, s in expected.items())
    assert sum(int(np.prod(s)) for s in expected.values()) + biases == 31_100_354


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_go_over_as_they_are(tmp_path: Path, legacy: bool) -> None:
    torch.manual_seed(0)
    network = unet("release2015", features=(2, 3, 4)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    path = tmp_path / "small.caffemodel"
    path.write_bytes(caffemodel(layers_of(network, 2), legacy))
    other = unet("release2015", features=(2, 3, 4)).eval()
    other.load_state_dict(state_of(read_blobs(path), other))
    image = torch.rand(1, 1, 44, 48)
    with torch.no_grad():
        torch.testing.assert_close(other(image), network(image), rtol=0, atol=0)


def test_floats_of_either_width_are_read(tmp_path: Path) -> None:
    values = np.arange(6.0).reshape(2, 3)
    doubles = field(7, field(1, varint(2)) + field(1, varint(3))) + field(8, values.tobytes())
    message = field(100, field(1, b"a") + field(7, doubles))
    (tmp_path / "a.caffemodel").write_bytes(message)
    [found] = read_blobs(tmp_path / "a.caffemodel")["a"]
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.float32


def test_import_makes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    layers = {}
    for name, shape in release_shapes():
        outputs = shape[1] if name.startswith("up") else shape[0]
        layers[name] = [rng.random(shape, np.float32), rng.random(outputs, np.float32)]
    path = tmp_path / "phseg_v5.caffemodel"
    path.write_bytes(caffemodel(layers))
    assert main(["import-caffe", str(path), "--output", str(tmp_path / "bundle")]) == 0
    assert "unet-med predict" in capsys.readouterr().out
    saved = torch.load(tmp_path / "bundle/models/model.pt", weights_only=True)
    config = ConfigParser.load_config_file(tmp_path / "bundle/configs/inference.json")
    with torch.device("meta"):
        network = ConfigParser(config).get_parsed_content("network_def")
    network.load_state_dict(saved, assign=True)
    assert (config["preset"], config["tta"]) == ("release2015", "flips")
    np.testing.assert_array_equal(saved["logits.conv.weight"], layers["conv_u0d-score"][0])
    np.testing.assert_array_equal(saved["expanding.3.up.conv.bias"], layers["upconv_u1d_u0a"][1])


def test_what_is_no_release_is_refused(tmp_path: Path) -> None:
    network = unet("release2015", features=(2, 3, 4))
    layers = layers_of(network, 2)
    with pytest.raises(ValueError, match=r"not phseg_v5: missing layers \['conv_d0a-b'\]"):
        state_of({n: b for n, b in layers.items() if n != "conv_d0a-b"}, network)
    with pytest.raises(ValueError, match=r"unknown \['conv_d9'\]"):
        state_of({**layers, "conv_d9": []}, network)
    with pytest.raises(
        ValueError, match=r"conv_d0a-b .* a weight of shape \(3, 1, 3, 3\), that of"
    ):
        state_of({**layers, "conv_d0a-b": [np.zeros((3, 1, 3, 3)), np.zeros(2)]}, network)
    with pytest.raises(ValueError, match=r"conv_d0a-b .* a bias of shape \(0,\)"):
        state_of({**layers, "conv_d0a-b": layers["conv_d0a-b"][:1]}, network)
    path = tmp_path / "x.caffemodel"
    for content in (b"", b"no protocol buffer at all", caffemodel(layers)[:-7]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no Caffe model"):
            load_caffemodel(path)
