"""What a stranger's bundle names is said before it runs, and weights are tensors alone."""

from __future__ import annotations

import ast
import json
import pydoc
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hostile import Payload
from test_handlers_skipped_failures import SIDE, good, predict

from unet_med.bundle import config_files, find_bundle
from unet_med.bundle.trust import _EARLIER, foreign, own_names
from unet_med.handlers import CheckpointLoader
from unet_med.transforms import SaveImageResultd

ROOT = Path(__file__).resolve().parents[1]
NAMED = Path(__file__).with_name("named_by_bundles.txt")


@pytest.fixture
def bundle(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "bundle")
    good(tmp_path / "a.tif")
    return tmp_path / "bundle"


def edit(bundle: Path, **ids: Any) -> None:
    path = bundle / "configs" / "inference.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | ids), encoding="utf-8")


def refusal(bundle: Path, capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    capsys.readouterr()
    assert predict(bundle.parent / "a.tif", bundle, bundle.parent / "results", *words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "unet-med: error:" in line]
    assert len(lines) == 1
    return lines[0]


def touching(marker: Path) -> dict[str, Any]:
    """Ids that would each leave a marker behind, by the text that must be named."""
    return {
        "subprocess.getoutput": {"_target_": "subprocess.getoutput", "cmd": f"touch {marker}"},
        f"$__import__('pathlib').Path('{marker}').touch()":
            f"$__import__('pathlib').Path('{marker}').touch()",
        "monai.utils.module.optional_import": {"_target_": "monai.utils.module.optional_import"},
        "evil.Reader": {"_target_": "monai.transforms.LoadImaged", "keys": "image",
                        "reader": "evil.Reader"},
        "%/etc/other.json::x": "%/etc/other.json::x",
        "@elsewhere": {"_target_": "@elsewhere"},
    }  # fmt: skip


@pytest.mark.parametrize("number", range(6))
def test_what_a_strangers_bundle_names_is_said_and_does_not_run(
    number: int, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    text, entry = list(touching(marker).items())[number]
    edit(bundle, initialize=[entry])
    said = refusal(bundle, capsys)
    assert text in said
    assert f"unet-med inspect {bundle}" in said
    assert "--trust" in said
    assert not marker.exists()
    assert not (tmp_path / "results").exists()


def test_block_by_block_is_no_way_around(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    edit(bundle, initialize=[touching(marker)["subprocess.getoutput"]])
    assert predict(tmp_path / "a.tif", bundle, tmp_path / "out.ome.zarr") == 2
    assert "subprocess.getoutput" in capsys.readouterr().err
    assert not marker.exists()


@pytest.mark.parametrize("name", ["monai.handlers.MLFlowHandler", "unet_med.handlers.Checkpoints"])
def test_what_trainings_alone_call_is_foreign_to_a_prediction(
    name: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sends files to an address, the other writes into any folder."""
    assert any(name in path.read_text(encoding="utf-8") for path in config_files(find_bundle()))
    edit(bundle, handlers=["@record", {"_target_": name, "_disabled_": True}])
    assert name in refusal(bundle, capsys)


def test_trust_runs_it(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker = tmp_path / "marker"
    edit(bundle, initialize=[touching(marker)["subprocess.getoutput"]])
    assert predict(tmp_path / "a.tif", bundle, tmp_path / "results", "--trust") == 0
    assert marker.exists()  # the payload of the test above is a real one
    assert "inspect" not in "".join(capsys.readouterr())


def test_our_own_bundles_are_not_foreign(trained: Path) -> None:
    assert foreign(find_bundle()) == []
    assert foreign(trained) == []
    assert len(config_files(trained)) > 5


def test_a_device_is_not_foreign(bundle: Path) -> None:
    edit(bundle, device="$torch.device('cuda:1')")
    assert foreign(bundle) == []
    edit(bundle, device="$torch.device('cuda' if torch.cuda.is_available() else 'cpu')")
    assert foreign(bundle) == []  # as bundles of earlier versions have it
    edit(bundle, device="$torch.device('cpu') or print()")
    assert foreign(bundle) == ["$torch.device('cpu') or print()"]


def test_bundles_of_earlier_versions_are_not_foreign(bundle: Path) -> None:
    path = bundle / "configs" / "inference.json"
    text = path.read_text(encoding="utf-8")
    for ours, theirs in {
        "unet_med.handlers.SkipFailuresDataset": "monai.data.Dataset",
        "unet_med.handlers.SkipFailuresEvaluator": "monai.engines.SupervisedEvaluator",
        "unet_med.handlers.CheckpointLoader": "monai.handlers.CheckpointLoader",
        "unet_med.transforms.SaveImageResultd": "unet_med.transforms.SaveSegmentationd",
    }.items():
        assert ours in text
        text = text.replace(ours, theirs)
    path.write_text(text, encoding="utf-8")
    assert foreign(bundle) == []
    theirs = text.replace("monai.handlers.CheckpointLoader", "unet_med.handlers.WeightsLoader")
    path.write_text(theirs, encoding="utf-8")
    assert foreign(bundle) == []
    assert pydoc.locate("unet_med.handlers.WeightsLoader") is CheckpointLoader
    assert pydoc.locate("unet_med.transforms.SaveSegmentationd") is SaveImageResultd


def test_nothing_that_a_bundle_ever_named_becomes_foreign() -> None:
    """Trained bundles keep their configs: what ours no longer name belongs into `_EARLIER`."""
    ever = {*NAMED.read_text(encoding="utf-8").splitlines()}
    ours = own_names()
    assert not (lost := ever - ours - _EARLIER), f"put into _EARLIER: {lost}"
    assert not (new := ours - ever), f"write into {NAMED.name}: {new}"


# --- weights


def test_a_pickled_checkpoint_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker, weights = tmp_path / "marker", bundle / "models/model.pt"
    torch.save({"weight": Payload(marker)}, weights)
    said = refusal(bundle, capsys, "--trust")
    assert "model.pt holds more than tensors (it calls " in said
    assert "weights_only" not in said
    assert not marker.exists()
    torch.load(weights, weights_only=False)
    assert marker.exists()  # it would have


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_damaged_weights(name: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import save_file

    state = torch.load(bundle / "models/model.pt", weights_only=True)
    (bundle / "models/model.pt").unlink()
    path = bundle / "models" / name
    save_file(state, path) if name.endswith("tensors") else torch.save(state, path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert name in refusal(bundle, capsys)
    other = {key: value.repeat_interleave(2, 0) for key, value in state.items() if value.ndim}
    save_file(other, path) if name.endswith("tensors") else torch.save(other, path)
    said = refusal(bundle, capsys)
    assert f"{name} does not fit the network at contracting.0.0.convs.0.conv.weight" in said
    assert "give the preset, features and channels of the training that made it" in said


def test_safetensors_give_the_same_result(bundle: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    words = (tmp_path / "a.tif", bundle)
    assert predict(*words, tmp_path / "pt", "--probabilities") == 0
    state = torch.load(bundle / "models/model.pt", weights_only=True)
    save_file(state, bundle / "models/model.safetensors")
    (bundle / "models/model.pt").unlink()
    assert predict(*words, tmp_path / "st", "--probabilities") == 0
    found = [tifffile.imread(tmp_path / f"{kind}/a_probabilities.tif") for kind in ("pt", "st")]
    assert found[0].shape == (2, SIDE, SIDE)
    np.testing.assert_array_equal(*found)


def test_an_archive_is_no_bundle_and_is_not_unpacked(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        archive.writestr("../outside.txt", "gotcha")
        archive.writestr("models/model.pt", "x")
    assert predict(tmp_path / "a.tif", tmp_path / "bundle.zip", tmp_path / "results") == 2
    assert "holds no trained weights" in capsys.readouterr().err
    assert not list(tmp_path.parent.rglob("outside.txt"))


def test_weights_are_only_ever_loaded_as_tensors() -> None:
    """No `torch.load` of ours without `weights_only=True`, no unpickling, no unpacking."""
    calls = 0
    for path in [*ROOT.glob("unet_med/**/*.py"), *ROOT.glob("workflows/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            assert not name.startswith(("pickle.load", "joblib.", "dill.", "torch.hub")), path
            assert not name.endswith(("extractall", "unpack_archive")), path
            assert name not in ("eval", "exec", "torch.jit.load"), path
            if name == "torch.load":
                calls += 1
                assert "weights_only=True" in ast.unparse(node), path
            if name.endswith("np.load"):
                assert "allow_pickle=False" in ast.unparse(node), path
    assert calls >= 1
