"""The repository root is a MONAI bundle; so is every copy of it."""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import shlex
import shutil
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest
import torch
from config_files import targets
from doors import monai_workflow
from monai.bundle import ConfigWorkflow, load, verify_metadata, verify_net_in_out
from processes import finish, start_module

import unet_med
from unet_med import bundle
from unet_med.bundle.running import _quoted
from unet_med.data import load_image
from unet_med.workflows import UNetInferWorkflow

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"features": [2, 4, 8], "tile_size": 84, "epochs": 1, "num_workers": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cells: Path) -> Path:
    """A copy of the bundle, trained for one epoch through its own `train.json`."""
    folder = bundle.copy_bundle(tmp_path_factory.mktemp("bundle") / "copy")
    settings = {"images": f"{cells}/images", "labels": f"{cells}/labels", **SMALL}
    settings["label_kind"] = "instances"
    bundle.write_settings(folder, [], settings)
    workflow = bundle.load_workflow(folder, "train")
    workflow.run()
    return folder


def test_every_target_can_be_found() -> None:
    configs = sorted((ROOT / "configs").rglob("*.json"))
    assert len(configs) >= 5
    found = targets(configs)
    assert len(found) > 20
    for name in found:
        assert name.startswith(("unet_med.", "monai.", "torch.", "ignite.")), name
        assert locate(name) is not None, name


def test_metadata_states_this_version() -> None:
    metadata = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["version"] == unet_med.__version__
    assert metadata["version"] in metadata["changelog"]
    assert metadata["required_packages_version"]["unet-med"] == unet_med.__version__
    pinned = dict(
        line.split(";")[0].strip().split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and 'python_version < "3.11"' not in line
    )
    assert metadata["pytorch_version"] == pinned["torch"]
    assert metadata["monai_version"] == pinned["monai"]
    assert metadata["numpy_version"] == pinned["numpy"]


@pytest.mark.data
def test_metadata_passes_monai_offline(shared: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    shutil.copyfile(shared / "data/monai/meta_schema_20240725.json", schema)
    verify_metadata(
        meta_file=str(ROOT / "configs/metadata.json"),
        filepath=str(schema),
        hash_val=hashlib.sha256(schema.read_bytes()).hexdigest(),
        hash_type="sha256",
    )


def test_network_agrees_with_metadata() -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(ROOT / "configs/metadata.json"),
        config_file=str(ROOT / "configs/inference.json"),
        features=[2, 4, 8, 16, 32],
        device="cpu",
    )


@pytest.mark.parametrize("kind", ["train", "inference"])
def test_required_properties_are_there(kind: str, trained: Path, cells: Path) -> None:
    workflow = bundle.load_workflow(trained, kind, {"images": f"{cells}/images"})
    assert workflow.check_properties() == []


def test_default_config_is_the_paper(cells: Path) -> None:
    data = {"images": f"{cells}/images", "labels": f"{cells}/labels", "label_kind": "instances"}
    workflow = monai_workflow(ROOT, "train", device="$torch.device('cpu')", **data)
    assert sum(p.numel() for p in workflow.network_def.parameters()) == 31_030_658
    item = workflow.train_dataset[0]
    assert {k: tuple(v.shape) for k, v in item.items()} == {
        "image": (1, 572, 572),
        "label": (1, 572, 572),
        "weight": (1, 572, 572),
    }
    assert set(torch.unique(item["label"]).tolist()) == {0.0, 1.0}
    assert float(item["weight"].min()) > 0
    assert float(item["weight"].max()) > 5  # a border between touching cells


def test_training_leaves_a_bundle(trained: Path) -> None:
    names = ("model.pt", "resume/checkpoint.pt", "learning_curve.png", "preview.png")
    for name in (*names, "training.json"):
        assert (trained / "models" / name).stat().st_size > 0
    for name in ("configs/train.json", "docs/README.md", "LICENSE"):
        assert (trained / name).is_file()


def test_inference_writes_results_on_the_images_grid(
    trained: Path, cells: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"images": f"{cells}/images", "output_dir": str(tmp_path)}
    bundle.load_workflow(trained, "inference", settings).run()
    image = load_image(cells / "images" / "cells_000.tif")
    for name in ("mask", "instances"):
        result = load_image(tmp_path / f"cells_000_{name}.tif")
        assert result.shape == image.shape
        assert torch.equal(result.affine, image.affine)
    assert len(list(tmp_path.glob("*.tif"))) == 6
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    weights = trained / "models" / "model.pt"
    assert record["weights"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert list(record["images"]) == ["cells_000", "cells_001", "cells_002"]
    assert record["settings"]["label_kind"] == "instances"


@pytest.mark.parametrize("door", ["inference", "evaluate", "python"])
def test_initialize_loads_the_trained_weights(door: str, trained: Path, cells: Path) -> None:
    saved = torch.load(trained / "models/model.pt", weights_only=True)
    ids = {"images": f"{cells}/images", "device": "$torch.device('cpu')"}
    workflow: Any
    if door == "python":
        workflow = UNetInferWorkflow(trained, **ids)
    else:
        config = str(trained / f"configs/{door}.json")
        root = str(trained)
        workflow = ConfigWorkflow(config, workflow_type="infer", bundle_root=root, **ids)
    workflow.initialize()
    network = workflow.network_def
    assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())
    assert not network.training


def test_initialize_of_an_untrained_bundle_leaves_the_network(tmp_path: Path) -> None:
    workflow = UNetInferWorkflow(bundle.copy_bundle(tmp_path / "copy"), features=[2, 4])
    workflow.initialize()
    assert workflow.network_def.depth == 1


def test_monai_loads_the_trained_network(trained: Path) -> None:
    network = load(trained.name, bundle_dir=str(trained.parent), source="github")
    saved = torch.load(trained / "models/model.pt", weights_only=True)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, saved[name], rtol=0, atol=0)


def test_monai_command_line_runs_the_config(trained: Path, cells: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "bundle"))
    bundle.write_settings(copy, [], {"tta": "flips", "fail_fast": True})
    settings: dict[str, Any] = {"images": f"{cells}/images", "output_dir": str(tmp_path)}
    settings |= {"outputs": ["mask", "probabilities"], "tta": None, "fail_fast": False}
    line = bundle.command_line(copy, "inference", settings)
    _, _, module, *words = shlex.split(line)  # python -m monai.bundle run ...
    assert finish(start_module(module, words, tmp_path)) == 0, (tmp_path / "stderr").read_text()
    written = {path.name for path in tmp_path.glob("cells_002_*")}
    assert written == {"cells_002_mask.tif", "cells_002_probabilities.tif"}
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert record["settings"]["tta"] is None  # not the bundle's own


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("$torch.device('cpu')", "'$torch.device(\"cpu\")'"),
        ("['a.tif', 'b.tif']", "\"['a.tif', 'b.tif']\""),
        ("it's.tif", '"it\'s.tif"'),
        ("plain", "plain"),
        ("$'a\\n'", None),  # what is not plain is as `shlex` has it
        ("['$a']", None),
        ('["it\'s"]', None),
    ],
)
def test_the_line_is_for_people_too(word: str, shown: str | None) -> None:
    quoted = _quoted(word)
    assert quoted == (shlex.quote(word) if shown is None else shown)
    (read,) = shlex.split(quoted)
    if word.startswith("$torch"):  # the same Python
        assert ast.dump(ast.parse(read[1:])) == ast.dump(ast.parse(word[1:]))
    else:
        assert read == word


def test_the_record_has_all_settings_that_change_a_result() -> None:
    """`--resume` takes what the record has for done, so nothing may be missing there."""
    config = json.loads((bundle.find_bundle() / "configs/inference.json").read_text())
    parts = {id for id, value in config.items() if isinstance(value, dict) and "_target_" in value}
    parts |= {"prepare", "finish", "handlers", "initialize", "run", "network"}
    places = {"bundle_root", "dataset_dir", "output_dir", "images", "checkpoint", "device"}
    runs = {"outputs", "fail_fast", "skip_done", "result_name", "result_file"}
    said = {"modality", "trained_on"}  # about the image; no pixel follows from it
    sizes = {"in_channels", "out_channels"}  # the weights have them
    settings = config["record"]["settings"]
    assert set(settings) == set(config) - parts - places - runs - said - sizes
    assert settings.pop("precision")["precision"] == "@precision"  # what it means on the device
    assert all(value == f"@{id}" for id, value in settings.items())


def test_evaluation_scores_all_pairs(trained: Path) -> None:
    monai_workflow(trained, "evaluate", kind="infer", scored="@pairs").run()
    details = (trained / "eval/val_mean_dice_raw.csv").read_text(encoding="utf-8").splitlines()
    assert len(details) == 4  # a header and three images


def test_copy_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(FileExistsError, match=r"not empty: choose a new folder$"):
        bundle.copy_bundle(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/plan.json").touch()  # a training has begun there
    with pytest.raises(FileExistsError, match="go on with its training by `unet-med train --resu"):
        bundle.copy_bundle(tmp_path)


def test_copy_takes_a_folder_of_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()  # as Snakemake makes them for its outputs
    assert (bundle.copy_bundle(tmp_path) / "configs/train.json").is_file()


def test_a_copy_that_does_not_fit_is_not_left(tmp_path: Path, monkeypatch: Any) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(
        OSError, match=r"attention\.json cannot be written: No space left on device"
    ):
        bundle.copy_bundle(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(OSError, match="cannot be written"):
        bundle.copy_bundle(tmp_path / "there")
    assert (tmp_path / "there").is_dir()  # it was there before


def test_copy_has_the_two_workflows_and_no_experiment(trained: Path) -> None:
    names = {path.name for path in (trained / "workflows").iterdir()}
    assert names == {"train.py", "predict.py"}


def test_override_files_change_ids_that_exist() -> None:
    train = json.loads((ROOT / "configs/train.json").read_text(encoding="utf-8"))
    inference = json.loads((ROOT / "configs/inference.json").read_text(encoding="utf-8"))
    for name in ("modern", "modern3d", "volume3d", "tensorboard", "mlflow"):
        path = ROOT / "configs" / f"{name}.json"
        for key in json.loads(path.read_text(encoding="utf-8")):
            assert key.lstrip("+").split("::")[0] in {**train, **inference}, f"{path.name}: {key}"


def test_settings_reach_both_configs(tmp_path: Path) -> None:
    folder = bundle.copy_bundle(tmp_path / "copy")
    modern = bundle.override_file("modern")
    assert modern is not None
    bundle.write_settings(folder, [modern], {"features": [4, 8], "epochs": 7, "no_such_id": 1})
    train = json.loads((folder / "configs/train.json").read_text(encoding="utf-8"))
    inference = json.loads((folder / "configs/inference.json").read_text(encoding="utf-8"))
    assert train["features"] == inference["features"] == [4, 8]
    assert train["epochs"] == 7
    assert "epochs" not in inference
    assert train["preset"] == inference["preset"] == "modern"
    assert "no_such_id" not in train
