"""The napari widget without napari: arrays, layers, progress, manifest."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from torch import nn

import unet_med
from unet_med import bundle, napari_widget
from unet_med.data import load_image
from unet_med.napari_widget import from_layer, segment_array, segment_steps, spacing_of, to_layer
from unet_med.napari_widget.fields import in_napari
from unet_med.napari_widget.first_axis import require_planes
from unet_med.napari_widget.painted import without_channels
from unet_med.napari_widget.segmenting import NOTES, from_layers

MANIFEST = Path(unet_med.__file__).with_name("napari.yaml")
WORLD = {
    "scale": np.array([0.5, 0.25]), "translate": np.array([3.0, 4.0]), "rotate": np.eye(2),
    "units": ("micrometer", "micrometer"), "axis_labels": ("y", "x"),
}  # fmt: skip


def layer(data: Any, **more: Any) -> SimpleNamespace:
    """What the widget looks at in an Image layer."""
    fields = {"rgb": False, "multiscale": False, "name": "cells", **WORLD, **more}
    return SimpleNamespace(data=data, **fields)


@pytest.fixture(scope="module")
def trained(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch makes no sure foreground: its likeliest class has objects, seeds of 0.6 none."""
    copy = tmp_path_factory.mktemp("likeliest") / "bundle"
    shutil.copytree(trained, copy)
    bundle.write_settings(copy, [], {"threshold": None, "mask_threshold": None, "min_size": 3})
    return copy


@pytest.mark.parametrize("output", ["instances", "mask"])
def test_the_layer_is_what_predict_writes(
    trained: Path, cells: Path, results: Path, output: Any
) -> None:
    image = load_image(cells / "images/cells_000.tif").numpy()[0]  # (X, Y)
    steps = segment_steps(layer(image.T), trained, output)
    counts = []
    while True:
        try:
            counts.append(next(steps))
        except StopIteration as end:
            data, meta, kind = end.value
            break
    want = load_image(results / f"cells_000_{output}.tif").numpy()[0]
    assert want.any()
    np.testing.assert_array_equal(data, want.T)
    assert data.dtype == np.int32
    assert kind == "labels"
    assert meta["name"] == f"cells {output}"
    assert counts == list(range(1, len(counts) + 1))
    assert len(counts) >= 8  # views of the rotations


def test_the_labels_lie_where_the_image_lies() -> None:
    _, meta, _ = to_layer(np.zeros((3, 2), np.int32), layer(None), "mask")
    assert meta == {"name": "cells mask", **WORLD}
    bare = SimpleNamespace(name="a", scale=(1, 1))  # an older napari knows no units
    assert to_layer(np.zeros((3, 2)), bare, "mask")[1] == {"name": "a mask", "scale": (1, 1)}


def test_axes_turn_round_and_back() -> None:
    plane, stack = np.arange(6).reshape(2, 3), np.arange(24).reshape(2, 3, 4)
    assert from_layer(layer(plane)).shape == (1, 3, 2)
    assert from_layer(layer(plane))[0, 2, 1] == plane[1, 2]
    volume = from_layer(layer(stack))
    assert volume.shape == (1, 4, 3, 2)
    np.testing.assert_array_equal(to_layer(volume[0], layer(stack), "mask")[0], stack)
    colour = from_layer(layer(stack[..., :3], rgb=True))  # (Y, X, 3)
    assert colour.shape == (3, 3, 2)
    assert colour[2, 1, 0] == stack[0, 1, 2]
    pyramid = layer([plane, plane[::2, ::2]], multiscale=True)
    assert from_layer(pyramid).shape == (1, 3, 2)


def test_what_cannot_be_segmented_is_said(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layer cells has 4 axes; planes \(Y, X\)"):
        from_layer(layer(np.zeros((2, 2, 2, 2))))
    other = layer(np.zeros((3, 4)), name="red")
    with pytest.raises(ValueError, match="layer red is 3 x 4 px, and cells 2 x 4 px: channels"):
        from_layers([layer(np.zeros((2, 4))), other])
    both = from_layers([layer(np.zeros((3, 4))), other])
    assert both.shape == (2, 4, 3)
    with pytest.raises(ValueError, match=r"holds no trained weights \(models/model.pt\)"):
        segment_array(np.zeros((1, 8, 8)), tmp_path)
    steps = segment_steps(layer(np.arange(243.0).reshape(9, 9, 3), rgb=True), trained)
    with pytest.raises(Exception, match="3 channels"):
        next(steps)


STEPS = {"scale": (5, 1, 1)}
NAMED = {"axis_labels": ("t", "y", "x")}
IN_PIXELS = {"scale": (1, 0.5, 0.5), "units": ("pixel", "um", "um")}
TIMED = {"units": ("millisecond", "um", "um")}


@pytest.mark.parametrize(
    ("planes", "volume", "more"),
    [
        (1, True, {}),
        (6, True, {}),
        (3, True, {"axis_labels": ("Z", "Y", "X")}),
        (3, True, {"axis_labels": ("Slices", "Y", "X")}),
        (3, True, {"units": ("um", "um", "um")}),
        (3, True, STEPS),
        (3, False, NAMED),
        (3, False, TIMED),
    ],
)
def test_a_stack_that_says_so_is_one_of_planes(planes: int, volume: bool, more: Any) -> None:
    require_planes([layer(np.zeros((planes, 9, 8)), **more)], "as it says", volume=volume)


@pytest.mark.parametrize(
    ("stack", "volume", "more", "says"),
    [
        (
            "as it says",
            False,
            {},
            r'cells does not say whether its 3 are planes or channels\. Choose which for "a',
        ),
        ("as it says", False, IN_PIXELS, "does not say"),
        ("planes", False, {"axis_labels": ("c", "y", "x")}, "is one of channels: .Split Stack"),
        ("planes", False, {"axis_labels": ("Channels", "y", "x")}, "is one of channels"),
        ("planes", True, NAMED, "is one of times, which make no volume"),
        ("planes", True, TIMED, "is one of times, which make no volume"),
    ],
)
def test_channels_and_times_are_not_taken_for_planes(
    stack: Any, volume: bool, more: Any, says: str
) -> None:
    three = layer(np.zeros((3, 9, 8)), **more)
    with pytest.raises(ValueError, match=says):
        require_planes([layer(np.zeros((9, 8))), three], stack, volume=volume)


def test_what_the_user_says_of_a_stack_holds() -> None:
    unclear = np.zeros((3, 9, 8))
    require_planes([layer(unclear)], "planes", volume=False)
    require_planes([layer(unclear)], "channels", volume=True)
    require_planes([layer(np.zeros((3, 9, 8, 3)), rgb=True)], "as it says", volume=False)
    steps = segment_steps(layer(unclear), "nuclei")
    with pytest.raises(ValueError, match="does not say whether its 3 are planes or channels"):
        next(steps)


class Brightest:
    """In place of a segmenter: the mask is the brightest channel of each pixel."""

    spatial_dims, unit, network = 2, "um", nn.Identity()

    def __init__(self, bundle: Any) -> None:
        assert bundle == "of three channels"

    def __call__(self, image: Any) -> SimpleNamespace:
        sizes = np.diag(image.affine)[:2].tolist()
        return SimpleNamespace(mask=image.numpy().argmax(axis=0), notes=f"pixels {sizes}")


@pytest.mark.parametrize(
    ("stack", "more"), [("as it says", {"axis_labels": ("c", "y", "x")}), ("channels", {})]
)
def test_channels_of_a_stack_are_one_image(
    stack: Any, more: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_med.segmentation.Segmenter", Brightest)
    pixels = np.random.default_rng(0).random((3, 9, 8))  # (C, Y, X)
    place = {
        "scale": np.array([1.0, 0.5, 0.25]), "translate": np.array([0.0, 3.0, 4.0]),
        "rotate": np.diag([1.0, 2.0, 3.0]), "units": ("pixel", "um", "um"),
        "axis_labels": ("-", "y", "x"),
    }  # fmt: skip
    given = layer(pixels, **{**place, **more})
    steps = segment_steps(given, "of three channels", "mask", stack=stack)
    with pytest.raises(StopIteration) as end:
        next(steps)
    labels, meta, _ = end.value.value
    np.testing.assert_array_equal(labels, pixels.argmax(axis=0))
    assert meta["metadata"][NOTES] == "pixels [0.25, 0.5]"
    assert meta["scale"].tolist() == [0.5, 0.25]
    assert meta["translate"].tolist() == [3, 4]
    assert meta["rotate"].tolist() == [[2, 0], [0, 3]]
    assert (meta["units"], meta["axis_labels"]) == (("um", "um"), ("y", "x"))


def test_labels_over_channels_are_those_of_one() -> None:
    labels = np.zeros((8, 9, 3), np.int32)  # (X, Y, C), as napari makes them
    assert not without_channels(labels, "a").any()
    labels[2, 3, 1] = 7
    np.testing.assert_array_equal(without_channels(labels, "a"), labels[..., 1])
    np.testing.assert_array_equal(without_channels(labels[..., 1], "a"), labels[..., 1])
    labels[2, 3, 0] = 7
    with pytest.raises(ValueError, match="a has labels on 2 channels of one image"):
        without_channels(labels, "a")


def test_options_of_the_command_line_are_fields_here(trained: Path) -> None:
    assert in_napari("the pixel size is unknown") == "the pixel size is unknown"
    asked = in_napari("say --modality ct, or --label-kind mask or --label-kind classes")
    assert asked.endswith(
        "classes; here, say what *labels are*; --modality has no field: the command line takes the "
        "same folders"
    )
    assert in_napari(asked) == asked
    channels = layer(np.arange(216.0).reshape(3, 9, 8))
    steps = segment_steps(channels, trained, stack="channels")
    with pytest.raises(ValueError, match=r"with --channel 0; here, \*Split Stack\* or"):
        next(steps)


def test_how_an_image_is_unlike_those_of_the_training_is_said() -> None:
    mask = np.zeros((24, 20), np.uint8)
    mask[8:16, 8:16] = 1
    steps = segment_steps(layer(mask), "nuclei", "mask")
    while True:
        try:
            next(steps)
        except StopIteration as end:
            _, meta, _ = end.value
            break
    assert meta["metadata"][NOTES] == "it has two grey values alone, as a mask has"


def test_the_manifest_names_what_is_there() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    segment, session = manifest["contributions"]["commands"]
    module, _, name = segment["python_name"].partition(":")
    assert getattr(importlib.import_module(module), name) is napari_widget.segment_widget
    module, _, name = session["python_name"].partition(":")
    source = importlib.util.find_spec(module)  # which needs napari to be imported
    assert f"class {name}(" in Path(source.origin).read_text(encoding="utf-8")
    widgets = [each["command"] for each in manifest["contributions"]["widgets"]]
    assert widgets == [segment["id"], session["id"]]
    assert manifest["name"] == "unet-med"


@pytest.mark.parametrize("right", [True, False])
def test_npe2_judges_the_manifest(tmp_path: Path, right: bool) -> None:
    pytest.importorskip("npe2", reason="it is in the tests' group")
    text = MANIFEST.read_text(encoding="utf-8")
    if not right:
        text = text.replace("id: unet-med.segment", "id: segment")
    path = tmp_path / "napari.yaml"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", str(path)],
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == right, done.stdout + done.stderr
    assert ("identifiers must start with" in done.stdout) != right


def test_the_scale_of_a_layer_is_its_pixel_size() -> None:
    stack = layer(np.zeros((2, 3, 4)), scale=(2, 0.5, 0.25), units=("nm", "micrometer", "mm"))
    assert spacing_of(stack, 3) == (250.0, 0.5, 0.002)
    assert spacing_of(layer(None), 2) == (0.25, 0.5)
    assert spacing_of(layer(None, units=("pixel", "pixel")), 2) is None
