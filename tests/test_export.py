"""Exported networks compute what the bundle computes, wherever they run."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unet_med import bundle
from unet_med.cli import main
from unet_med.export import bioimageio, export_bioimageio, export_onnx, load_trained
from unet_med.export import onnx as onnx_door
from unet_med.export.bioimageio import identifiers
from unet_med.export.graphs import Graph
from unet_med.export.left_out import about_objects
from unet_med.export.wrapper import MirrorPadded
from unet_med.inferers import OverlapTileInferer
from unet_med.inferers.tiling import tiling_of
from unet_med.networks import unet

CORE_PYTHON = "UNET_MED_BIOIMAGEIO_PYTHON"  # of an environment with bioimageio.core


def untrained(folder: Path, overrides: list[str], **settings: Any) -> Path:
    """A bundle with random weights."""
    copy = bundle.copy_bundle(folder)
    files = [path for path in map(bundle.override_file, overrides) if path is not None]
    bundle.write_settings(copy, files, settings)
    config = json.loads((copy / "configs/inference.json").read_text(encoding="utf-8"))
    ids = ("spatial_dims", "in_channels", "out_channels", "features")
    torch.manual_seed(0)
    network = unet(config["preset"], **{name: config[name] for name in ids})
    torch.save(network.state_dict(), copy / "models" / "model.pt")
    return copy


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """torch's exporter logs every step that it takes, and pytest keeps it all."""
    logging.disable(logging.DEBUG)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("paper") / "bundle", [], features=[2, 4, 4])


def test_torchscript_is_the_network(
    paper: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "monai.bundle.scripts"):
        assert main(["export", str(paper), "--format", "torchscript"]) == 0
    assert "monai.bundle.scripts" not in {record.name for record in caplog.records}
    said = capsys.readouterr().out
    assert "model.ts" in said
    assert "note" not in said
    files = {"metadata.json": ""}
    loaded = torch.jit.load(str(paper / "models/model.ts"), _extra_files=files)
    assert json.loads(files["metadata.json"])["name"].startswith("U-Net")
    image = torch.rand(2, 1, 44, 60)
    with torch.no_grad():
        expected = load_trained(paper).network(image)
        torch.testing.assert_close(loaded(image), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["new/model.ts", "plain"])
def test_torchscript_is_written_under_the_name_that_was_given(
    name: str, paper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    assert main(["export", str(paper), "--format", "torchscript", "--output", str(path)]) == 0
    assert f"written   {path}" in capsys.readouterr().out
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
    assert torch.jit.load(str(path))(torch.rand(1, 1, 44, 44)).shape == (1, 2, 4, 4)


@pytest.mark.parametrize("kind", ["torchscript", "bioimageio"])
def test_an_export_that_fails_leaves_the_file_that_was_there(
    kind: str, paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(*_: Any, **options: Any) -> None:
        path = options.get("filepath") or options["output_path"]
        Path(path).write_text("half")
        raise OSError(28, "No space left on device", str(path))

    if kind == "bioimageio":
        spec = pytest.importorskip("bioimageio.spec")
        monkeypatch.setattr(spec, "save_bioimageio_package", cut_short)
        for name in ("write_parts", "_describe"):
            monkeypatch.setattr(f"unet_med.export.bioimageio.{name}", lambda *_: None)
    monkeypatch.setattr("monai.bundle.ckpt_export", cut_short)
    path = tmp_path / "model"
    path.write_text("whole")
    assert main(["export", str(paper), "--format", kind, "--output", str(path)]) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["model"]
    assert path.read_text() == "whole"


def test_any_name_of_a_class_becomes_one_that_a_package_takes() -> None:
    v0_5 = pytest.importorskip("bioimageio.spec.model.v0_5")
    names = [
        "left-kidney",
        "2nd molar",
        "tumor (core)",
        "tumor core",
        "class",
        "",
        "\u00b5m\u00b2",
        "細胞",
    ]
    found = identifiers(names)
    assert [v0_5.Identifier(name) for name in found] == found
    assert found[:4] == ["left_kidney", "_2nd_molar", "tumor_core", "tumor_core_2"]
    assert len({*found}) == len(names)


@pytest.mark.long
def test_onnx_has_open_sides(paper: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    path = export_onnx(paper, tmp_path / "net.onnx")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    network = load_trained(paper).network
    for batch, *sides in ((1, 44, 44), (3, 60, 100), (1, 300, 44)):
        image = torch.rand(batch, 1, *sides)
        [found] = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            expected = network(image)
        assert found.shape == (batch, 2, *(side - 40 for side in sides))
        scale = float(expected.abs().max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)


def test_onnx_that_computes_something_else_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    nothing = nn.Conv2d(1, 1, 1)
    export = onnx_door._export

    def another(graph: Graph, path: Path, **how: Any) -> None:
        export(Graph(nn.Sequential(graph.module, nn.ReLU()), graph.cases), path, **how)

    monkeypatch.setattr(onnx_door, "_export", another)
    path = tmp_path / "x.onnx"
    graph = Graph(nothing, [(torch.randn(2, 1, 8, 8),)])
    with pytest.raises(ValueError, match="onnxruntime differs from torch by"):
        onnx_door.write_onnx(graph, path, stride=1, smallest=1, card={})
    assert list(tmp_path.iterdir()) == []


def in_blocks(model: MirrorPadded, image: Tensor) -> Tensor:
    """What a consumer does: mirrored by the halo, cut, the halo dropped; the slow way."""
    halo, inner = model.halo, 2 * model.stride
    dims = image.ndim - 2
    padded = torch.nn.functional.pad(image, [halo] * 2 * dims, mode="reflect")
    out = torch.full((1, 2, *image.shape[2:]), torch.nan, dtype=image.dtype)
    for corner in np.ndindex(*(side // inner for side in image.shape[2:])):
        start = [c * inner for c in corner]
        block = padded[(..., *(slice(s, s + inner + 2 * halo) for s in start))]
        middle = model(block)[(..., *[slice(halo, halo + inner)] * dims)]
        out[(..., *(slice(s, s + inner) for s in start))] = middle
    return out


def reversed_axes(image: Tensor) -> Tensor:
    return image.permute(0, 1, *range(image.ndim - 1, 1, -1))


@pytest.mark.parametrize(
    ("preset", "shape"),
    [("paper2015", (64, 80)), ("paper2015", (12, 16, 12)), ("modern", (144, 160))],
)
def test_blocks_equal_one_pass(preset: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    features = (2, 2, 2, 2) if len(shape) == 2 else (2, 2)  # depth 3: margin 44, stride 8
    network = unet(preset, features=features, spatial_dims=len(shape)).double().eval()
    image = torch.rand(1, 1, *shape, dtype=torch.float64)  # (1, 1, [Z,] Y, X)
    model = MirrorPadded(network, tiling_of(network, image, margin=None, stride=None))
    assert model.halo % model.stride == 0
    assert network.margin <= model.halo < network.margin + model.stride
    with torch.no_grad():
        logits = OverlapTileInferer(-1)(reversed_axes(image), network)
        expected = reversed_axes(torch.softmax(logits, dim=1))
        found = in_blocks(model, image)
        torch.testing.assert_close(model(image), expected, rtol=0, atol=1e-12)
    if preset == "modern":  # at the border it has zeros, a consumer mirrors
        inside = np.s_[..., 64:-64, 64:-64]
        found, expected = found[inside], expected[inside]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def package(paper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("bioimageio.spec")
    pytest.importorskip("onnxruntime")
    return export_bioimageio(paper, tmp_path_factory.mktemp("package") / "model.zip")


def test_package_passes_the_formats_checks(package: Path) -> None:
    from bioimageio.spec import InvalidDescr, load_description

    model = load_description(package, perform_io_checks=True)
    assert not isinstance(model, InvalidDescr), model.validation_summary
    assert model.validation_summary.status in ("passed", "valid-format")
    assert {axis.halo for axis in model.outputs[0].axes if hasattr(axis, "halo")} == {20}
    with zipfile.ZipFile(package) as files:
        names = set(files.namelist())
        text = files.read(next(n for n in names if n.endswith(".yaml"))).decode()
    assert {"model.ts", "model.onnx", "cover.png", "README.md", "test_input.npy"} <= names
    assert "mode: reflect" in text  # left out, a consumer reads zeros


CT = {"low": 100.0, "high": 900.0, "mean": 400.0, "std": 200.0}


def test_a_package_says_how_intensities_are_scaled() -> None:
    pytest.importorskip("bioimageio.spec")

    def steps(*scales: dict[str, float] | None) -> list[Any]:
        trained: Any = SimpleNamespace(standardize=SimpleNamespace(intensity=scales))
        return bioimageio._preprocessing(trained, ["y", "x"])

    clip, fixed = steps(CT)
    assert (clip.kwargs.min, clip.kwargs.max) == (100.0, 900.0)
    assert (fixed.kwargs.mean, fixed.kwargs.std) == (400.0, 200.0)
    [own] = steps(None, None)
    assert (own.id, own.kwargs.axes) == ("zero_mean_unit_variance", ["y", "x"])
    with pytest.raises(ValueError, match=r"clip each of 2 channels.*--format onnx or torchscript"):
        steps(CT, None)


@pytest.mark.long
def test_a_package_carries_the_scale_of_ct(tmp_path: Path) -> None:
    spec = pytest.importorskip("bioimageio.spec")
    pytest.importorskip("onnxruntime")
    ids = {"features": [2, 4], "intensity": [CT], "modality": ["ct"]}
    folder = untrained(tmp_path / "bundle", ["paper2015"], **ids)
    path = export_bioimageio(folder, tmp_path / "model.zip")
    model = spec.load_description(path)
    clip, fixed = (step for step in model.inputs[0].preprocessing if step.id != "ensure_dtype")
    assert (clip.kwargs.min, clip.kwargs.max) == (100.0, 900.0)
    assert (fixed.kwargs.mean, fixed.kwargs.std) == (400.0, 200.0)
    with zipfile.ZipFile(path) as files:
        files.extractall(tmp_path)
    trained = load_trained(folder)
    seen = (np.load(tmp_path / "test_input.npy").clip(100, 900) - 400) / 200
    with torch.no_grad():
        expected = MirrorPadded(trained.network, trained.tiling)(torch.from_numpy(seen))
    np.testing.assert_allclose(np.load(tmp_path / "test_output.npy"), expected, atol=1e-6)
    several = untrained(tmp_path / "two", ["paper2015"], **{**ids, "intensity": [CT, None]})
    with pytest.raises(ValueError, match=r"clip each of 2 channels.*--format onnx or torchscript"):
        export_bioimageio(several, tmp_path / "two.zip")


CORE_SCRIPT = """
import sys
import numpy as np
from bioimageio.core import Sample, Tensor, create_prediction_pipeline, test_description
from bioimageio.spec import load_model_description

package, image, output = sys.argv[1:4]
model = load_model_description(package, perform_io_checks=True)
for weights in ("torchscript", "onnx"):
    summary = test_description(model, weight_format=weights)
    assert summary.status == "passed", summary.format()
pipeline = create_prediction_pipeline(model, weight_format="torchscript")
array = Tensor(np.load(image), dims=[axis.id for axis in model.inputs[0].axes])
sample = Sample(members={"image": array}, stat={}, id="s")
predicted = pipeline.predict_sample_with_blocking(sample, ns=2)
np.save(output, predicted.members["probabilities"].data.values)
"""


@pytest.mark.skipif(CORE_PYTHON not in os.environ, reason=f"{CORE_PYTHON} names no Python")
def test_bioimageio_core_runs_the_package(package: Path, paper: Path, tmp_path: Path) -> None:
    """The zoo's own test, and its blocks, in an environment of its own (pydantic < 2.14)."""
    image = np.random.default_rng(0).normal(500, 90, (1, 1, 160, 200)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    arguments = [package, tmp_path / "image.npy", tmp_path / "output.npy"]
    command = [os.environ[CORE_PYTHON], "-c", CORE_SCRIPT, *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", env=environment, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    trained = load_trained(paper)
    standard = torch.from_numpy((image - image.mean()) / image.std())
    with torch.no_grad():
        logits = trained.inferer(reversed_axes(standard), trained.network)
    expected = reversed_axes(torch.softmax(logits, dim=1)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "output.npy"), expected, rtol=0, atol=1e-5)


def test_the_rule_of_objects_is_left_behind(tmp_path: Path) -> None:
    settings = {"threshold": 0.6, "mask_threshold": 0.4, "reach": 5}
    folder = untrained(tmp_path / "bundle", [], **settings)
    said = load_trained(folder).left_behind()
    seeds = "seeds of at least 0.6 foreground, which take what is at least 0.4 within 5 px, "
    assert seeds + "0 px or more in all." in said


def test_the_rule_of_objects_says_whose_pixels_it_counts() -> None:
    ids = {"threshold": 0.6, "reach": [5, 5, 2], "min_size": 9, "scale": [0.5, 0.5, 1]}
    said = about_objects(ids)
    assert "at least 0.6 within 5 x 5 x 2 px, 9 px or more in all, counted in the pixels" in said
    assert "counted in" not in about_objects({**ids, "scale": 1})
    words = "of which one that a higher probability parts into pieces of 20 px or more is as many"
    assert f"0.6 foreground, {words}, which take what" in about_objects({**ids, "min_part": 20})


def test_what_is_left_behind_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = untrained(tmp_path / "bundle", ["modern"], features=[2, 4])
    command = ["export", str(folder), "--format", "torchscript", "--statistics", "training"]
    assert main(command) == 0
    assert (
        "note      The exported network uses the batch-normalisation statistics recorded in "
        "training, where the bundle takes those of each image and looks at the image once, where "
        "the bundle averages over its rotated copies: results differ."
    ) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ({"scale": 0.5}, "scaled by 0.5"),
        ({"element_size": [0.5, 1.0], "element_unit": "um"}, "brought to 0.5 x 1 um a pixel"),
    ],
)
def test_a_bundle_of_other_pixels_says_so(tmp_path: Path, ids: dict[str, Any], words: str) -> None:
    folder = untrained(tmp_path / "bundle", ["paper2015"], features=[2, 4], **ids)
    left = load_trained(folder).left_behind()
    assert f"sees images as they come, where the bundle's are {words}" in left


def test_a_bundle_with_a_scale_of_grey_values_says_so(tmp_path: Path) -> None:
    ids = {"features": [2, 4], "intensity": [{"low": 0.0, "high": 9.0, "mean": 4.0, "std": 2.0}]}
    left = load_trained(untrained(tmp_path / "bundle", ["paper2015"], **ids)).left_behind()
    assert "takes grey values as they come, where the bundle clips and scales those of CT" in left


def test_a_bundle_of_one_orientation_says_so(tmp_path: Path) -> None:
    ids = {"features": [2, 4], "orientation": "PSR"}
    left = load_trained(untrained(tmp_path / "bundle", ["paper2015"], **ids)).left_behind()
    assert "takes axes as they come, where the bundle turns volumes to PSR: results differ" in left


def test_what_is_no_trained_bundle_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bundle.copy_bundle(tmp_path / "bundle")
    assert main(["export", str(folder), "--format", "onnx"]) == 2
    assert "holds no trained weights (models/model.pt): train it first" in capsys.readouterr().err
    torch.save(unet(features=(2, 4)).state_dict(), folder / "models/model.pt")
    for inside in ("models", "models/model.pt"):
        message = rf"{inside} holds no .*: give the bundle itself, {re.escape(str(folder))}$"
        with pytest.raises(ValueError, match=message):
            load_trained(folder / inside)
    with pytest.raises(ValueError, match=r"model.pt does not fit the network at \S+ and \d+ more"):
        load_trained(folder)


@pytest.mark.parametrize(
    ("door", "missing"), [(export_onnx, "onnxruntime"), (export_bioimageio, "bioimageio.spec")]
)
def test_a_missing_extra_is_named(
    door: Any, missing: str, paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"pip install 'unet-med\[export\]'"):
        door(paper, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
