"""PT2 and ONNX files are the network, for whoever has nothing of this package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from test_export import paper, quiet, untrained  # noqa: F401 - fixtures
from torch import Tensor, nn

from unet_med.bundle import find_bundle
from unet_med.bundle.exports import about_other_exports, other_exports
from unet_med.cli import main
from unet_med.data.checksum import sha256
from unet_med.export import card, export_onnx, export_pt2, export_torchscript, load_trained
from unet_med.export import pt2 as pt2_door
from unet_med.export.graphs import Graph
from unet_med.export.left_out import LISTED, left_out
from unet_med.export.statistics import FindStatistics, WithStatistics
from unet_med.inferers import OverlapTileInferer
from unet_med.networks import unet

ALONE = """
import importlib.abc, json, sys
class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("unet_med", "monai"):
            raise ImportError(name)
sys.meta_path.insert(0, Nothing())
try:
    import unet_med
except ImportError:
    pass
else:
    raise SystemExit("unet_med is there")
import numpy as np, onnxruntime, torch
torch.set_grad_enabled(False)
folder = sys.argv[1]
own = {k: "" for k in ("unet_med.json",)}
def pt2(name):
    run = torch.export.load(f"{folder}/{name}.pt2", extra_files=own).module()
    return lambda *args: run(*map(torch.from_numpy, args))
def onnx(name):
    run = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", providers=["CPUExecutionProvider"])
    names = [i.name for i in run.get_inputs()]
    return lambda *args: [torch.from_numpy(x) for x in run.run(None, dict(zip(names, args)))]
images = np.load(f"{folder}/images.npz")
for kind in (pt2, onnx):
    network = kind("net")
    find = kind("net.statistics") if "statistics" in sys.argv else None
    found = {}
    for key, image in images.items():
        given = [x.numpy() for x in find(image)] if find else []
        logits = network(image, *given)
        found[key] = (logits if torch.is_tensor(logits) else logits[0]).numpy()
    np.savez(f"{folder}/{kind.__name__}.npz", **found)
for side in map(int, sys.argv[3:]):
    image = np.zeros((1, 1, side, side), np.float32)
    try:
        pt2("net")(image, *[x.numpy() for x in (find(image) if find else [])])
    except Exception as error:
        print(side, error)
    else:
        raise SystemExit(f"side {side} was taken")
print(own["unet_med.json"])
"""


def alone(folder: Path, images: list[Tensor], *arguments: str) -> tuple[dict[str, Any], str]:
    """Results of both files in a process that cannot import unet_med, and what it printed."""
    np.savez(folder / "images.npz", **{str(k): x.numpy() for k, x in enumerate(images)})
    command = [sys.executable, "-c", ALONE, str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: np.load(folder / f"{name}.npz") for name in ("pt2", "onnx")}, done.stdout


def assert_equal(found: Any, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4 * scale)


IDS = {
    "orientation": "PSR",
    "intensity": [{"low": 0.0, "high": 9.0, "mean": 4.0, "std": 2.0}],
    "element_size": [0.5, 1.0],
    "element_unit": "um",
    "class_values": [0, 7],
    "tta": "flips",
    "mirror_axes": [1],
    "threshold": 0.6,
    "mask_threshold": 0.4,
    "reach": 5,
    "min_size": 3,
    "grow": 2,
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle that does more than its network, and the network in three formats."""
    folder = tmp_path_factory.mktemp("exported")
    bundle = untrained(folder / "bundle", ["paper2015"], features=[2, 4], **IDS)
    export_pt2(bundle, folder / "net.pt2")
    export_onnx(bundle, folder / "net.onnx")
    export_torchscript(bundle, folder / "net.ts")
    return folder


def test_pt2_and_onnx_are_the_network(exported: Path) -> None:
    images = [torch.rand(b, 1, *s) for b, *s in ((1, 18, 18), (3, 60, 100), (1, 300, 44))]
    found, said = alone(exported, images, "training", "19", "16")
    network = load_trained(exported / "bundle").network
    for key, image in enumerate(images):
        with torch.no_grad():
            expected = network(image)
        assert expected.shape[2:] == tuple(side - 16 for side in image.shape[2:])
        assert_equal(found["pt2"][str(key)], expected)
        assert_equal(found["onnx"][str(key)], expected)
    first, second, *_ = said.splitlines()
    assert "shape[2] = 19 to be of the form 2*" in first
    assert ">= 18, but got 16" in second


def test_what_is_left_out_is_listed_in_each_file(exported: Path) -> None:
    pt2, script = {card.CARD: ""}, {card.CARD: ""}
    torch.export.load(exported / "net.pt2", extra_files=pt2)
    torch.jit.load(str(exported / "net.ts"), _extra_files=script)
    model = onnx.load(exported / "net.onnx")
    cards = [json.loads(x[card.CARD]) for x in (pt2, script)]
    cards += [json.loads(next(p.value for p in model.metadata_props if p.key == card.CARD))]
    for found in cards:
        assert {id: entry["value"] for id, entry in found["left_out"].items()} == IDS
        assert found["sides"] == {"smallest": 18, "step": 2, "lost_per_side": 8}
        assert found["weights_sha256"] == sha256(exported / "bundle/models/model.pt")


def test_exports_of_other_weights_are_named(exported: Path, tmp_path: Path) -> None:
    """As they stay beside the weights of a training that went on."""
    models = tmp_path / "models"
    models.mkdir()
    names = [Path(shutil.copy(file, models)).name for file in exported.glob("net.*")]
    with zipfile.ZipFile(models / "net.bioimageio.zip", "w", zipfile.ZIP_DEFLATED) as package:
        package.write(exported / "net.onnx", "weights.onnx")
    assert sorted(names) == ["net.onnx", "net.pt2", "net.ts"]
    assert other_exports(tmp_path) == []  # of what is not trained
    weights = Path(shutil.copy(exported / "bundle/models/model.pt", models))
    assert about_other_exports(tmp_path) == ""
    weights.write_bytes(b"of ten minutes more")
    expected = ["net.bioimageio.zip", "net.onnx", "net.pt2", "net.ts"]
    assert other_exports(tmp_path) == expected
    assert about_other_exports(tmp_path).endswith("export anew: " + ", ".join(expected))


def test_statistics_are_those_of_the_inferer() -> None:
    torch.manual_seed(0)
    network = unet("modern", features=(2, 4, 4)).eval()
    find, use = FindStatistics(network), WithStatistics(network)
    inferer = OverlapTileInferer(statistics="image")
    for image in (torch.rand(1, 1, 16, 20), 9 * torch.rand(1, 1, 64, 32)):
        with torch.no_grad():
            found = use(image, *find(image))
            torch.testing.assert_close(found, inferer(image, network), rtol=0, atol=1e-4)
            assert (found - network(image)).abs().max() > 0.1


@pytest.mark.long
def test_statistics_of_each_image_go_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = untrained(tmp_path / "bundle", ["modern"], features=[2, 4], tta=None)
    for kind in ("pt2", "onnx"):
        path = tmp_path / f"net.{kind}"
        assert main(["export", str(bundle), "--format", kind, "--output", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"written   {tmp_path / 'net.statistics.onnx'}" in said
    assert "batch-normalisation" not in said
    images = [torch.rand(1, 1, *s) * k for k, s in ((1, (16, 22)), (9, (64, 30)), (3, (100, 8)))]
    found, said = alone(tmp_path, images, "statistics")
    trained = load_trained(bundle)
    assert trained.inferer.statistics == "image"
    for key, image in enumerate(images):
        expected = trained.inferer(image, trained.network).detach()
        assert_equal(found["pt2"][str(key)], expected)
        assert_equal(found["onnx"][str(key)], expected)
        fixed = OverlapTileInferer(-1)(image, trained.network).detach()
        assert float((fixed - expected).abs().max()) > 0.01 * float(expected.abs().max())
    assert json.loads(said)["statistics"] == "inputs mean and variance"


@pytest.mark.parametrize("kind", ["torchscript", "bioimageio"])
def test_statistics_that_a_file_cannot_hold_are_refused_by_name(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = untrained(tmp_path / "bundle", ["modern"], features=[2, 4])
    assert main(["export", str(bundle), "--format", kind]) == 2
    assert 'cannot hold "statistics": "image" of the plan' in capsys.readouterr().err
    assert [p.name for p in (bundle / "models").iterdir() if p.name != "README.md"] == ["model.pt"]


def test_statistics_of_a_network_that_has_none(
    paper: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["export", str(paper), "--format", "onnx", "--statistics", "image"]
    assert main(command) == 2
    assert "has no batch normalisation" in capsys.readouterr().err


def test_ids_that_do_nothing_are_not_listed(paper: Path) -> None:  # noqa: F811
    trained = load_trained(paper)
    assert left_out(trained.ids) == {}
    assert left_out({"scale": 1, "class_values": [0, 1], "statistics": None}) == {}
    assert list(left_out({"scale": 0.5})) == ["scale"]
    assert list(left_out({"scale": 0.5, "element_size": [1.0]})) == ["element_size"]


# Ids of inference.json that no export has to tell of: the network itself, what lies where, how
# a run goes, what describes and does nothing, and what the ids of the plan are put into.
NETWORK = {"preset", "features", "spatial_dims", "in_channels", "out_channels", "network_def"}
NETWORK |= {"pool", "kernel_size"}
RUN = {"bundle_root", "dataset_dir", "output_dir", "images", "checkpoint", "outputs", "device"}
RUN |= {"fail_fast", "skip_done", "result_name", "result_file", "network", "margin", "stride"}
RUN |= {"precision", "memory_format", "compile", "members"}
WORDS = {"label_kind", "modality", "class_names", "trained_on", "segments", "dicom_seg", "rois"}
PARTS = {"reader", "data", "record", "todo", "prepare", "preprocessing", "dataset", "dataloader"}
PARTS |= {"inferer", "finish", "postprocessing", "handlers", "evaluator", "initialize", "run"}


def test_every_id_is_in_an_export_or_listed() -> None:
    ids = json.loads((find_bundle() / "configs/inference.json").read_text(encoding="utf-8"))
    assert set(ids) - NETWORK - RUN - WORDS - PARTS == set(LISTED)


@pytest.mark.long
def test_pt2_that_computes_something_else_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = untrained(tmp_path / "bundle", ["paper2015"], features=[2, 4])
    write = pt2_door._write

    def another(graph: Graph, path: Path, text: str, **how: Any) -> None:
        write(Graph(nn.Sequential(graph.module, nn.ReLU()), graph.cases), path, text, **how)

    monkeypatch.setattr(pt2_door, "_write", another)
    with pytest.raises(ValueError, match="the exported file differs from the network by"):
        export_pt2(bundle, tmp_path / "out" / "net.pt2")
    assert list((tmp_path / "out").iterdir()) == []
