"""The bundle among others: the model zoo's checks, MONAI Label's contract."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import (
    ConfigParser,
    ConfigWorkflow,
    ckpt_export,
    load,
    onnx_export,
    verify_metadata,
    verify_net_in_out,
)
from monai.bundle import run as run_bundle
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, LoadImaged, SaveImaged
from onnxruntime import InferenceSession

from unet_med import bundle
from unet_med.cli import main
from unet_med.data import SyntheticCells, load_image
from unet_med.workflows import UNetInferWorkflow

NAME = "unet_biomedical_segmentation"
PRESETS = ["paper2015", "modern"]


@pytest.fixture(scope="module", params=PRESETS)
def zoo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cells: Path
) -> Path:
    """A folder of models with one in it, trained for one epoch and then moved there."""
    made, models = (tmp_path_factory.mktemp(name) for name in ("made", "zoo"))
    words = ["--images", f"{cells}/images", "--labels", f"{cells}/labels", "--device", "cpu"]
    words += ["--preset", request.param, "--features", "2", "2", "4", "--epochs", "1"]
    assert main(["train", *words, "--output", str(made / NAME)]) == 0
    shutil.move(made / NAME, models / NAME)
    (models / "model_info.json").write_text(json.dumps({f"{NAME}_v0.0.1": {}}))
    return models


# --- the model zoo: ci/verify_bundle.py, full mode --------------------------------------------


def check_files(folder: Path) -> None:
    for name in ("configs/metadata.json", "LICENSE", "models/model.pt", "configs/inference.json"):
        assert (folder / name).is_file(), name
    assert not list(folder.glob("large_files.*"))  # nothing to be downloaded


def check_version(models: Path, folder: Path) -> None:
    metadata = json.loads((folder / "configs/metadata.json").read_text(encoding="utf-8"))
    assert metadata["version"] in metadata["changelog"]
    known = json.loads((models / "model_info.json").read_text(encoding="utf-8"))
    assert f"{NAME}_v{metadata['version']}" not in known
    assert metadata["supported_apps"] == {}  # no app's properties to be checked


def test_model_zoo_verification(zoo: Path) -> None:
    folder = zoo / NAME
    check_files(folder)
    check_version(zoo, folder)
    common = {
        "meta_file": str(folder / "configs/metadata.json"),
        "config_file": str(folder / "configs/inference.json"),
        "bundle_root": str(folder),
    }
    verify_net_in_out(net_id="network_def", **common)
    exported = folder / "models" / "verify_model.ts"
    ckpt_export(
        net_id="network_def",
        filepath=str(exported),
        ckpt_file=str(folder / "models/model.pt"),
        **common,
    )
    assert torch.jit.load(str(exported)).training is False
    assert max(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 25 * 2**20


def test_a_bundle_holds_no_path_of_the_machine_that_made_it(zoo: Path, cells: Path) -> None:
    texts = [p for p in (zoo / NAME).rglob("*") if p.suffix in (".json", ".md", ".conf", ".csv")]
    assert len(texts) > 8
    private = (str(Path.home()), str(cells.parent), str(zoo.parent))
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert not [place for place in private if place in text], path


def test_a_moved_bundle_segments_the_folder_that_it_is_given(
    zoo: Path, cells: Path, tmp_path: Path
) -> None:
    """`python -m monai.bundle run --dataset_dir`, as every user of the zoo says it."""
    new = tmp_path / "new"
    SyntheticCells(2, (72, 64), num_cells=6, seed=7).write(new)
    for path in sorted((new / "images").iterdir()):
        path.rename(path.with_name(path.name.replace("cells", "other")))
    places = {"bundle_root": str(zoo / NAME), "dataset_dir": str(new / "images")}
    run_bundle(
        config_file=str(zoo / NAME / "configs/inference.json"),
        meta_file=str(zoo / NAME / "configs/metadata.json"),
        output_dir=str(tmp_path / "out"),
        device="$torch.device('cpu')",
        **places,
    )
    masks = {path.name for path in (tmp_path / "out").glob("*_mask.tif")}
    assert masks == {"other_000_mask.tif", "other_001_mask.tif"}


@pytest.mark.parametrize("kind", ["train", "inference", "evaluate", "python"])
def test_monais_properties_act(kind: str, zoo: Path, cells: Path, tmp_path: Path) -> None:
    folder = zoo / NAME
    places = {"output_dir": str(tmp_path / "out")}
    workflow: Any
    if kind == "python":
        workflow = UNetInferWorkflow(folder, **places)
    else:
        config = str(folder / f"configs/{kind}.json")
        usual = "train" if kind == "train" else "infer"
        workflow = ConfigWorkflow(
            config, workflow_type=usual, bundle_root=str(folder), logging_file=False, **places
        )
    labelled = kind in ("train", "evaluate")
    workflow.dataset_dir = str(cells if labelled else cells / "images")
    workflow.device = torch.device("cpu")
    workflow.initialize()
    id = {"train": "train::dataset::data", "evaluate": "scored"}.get(kind, "data")
    data = workflow.parser.get_parsed_content(id)
    assert data
    assert all(str(item["image"]).startswith(str(cells)) for item in data)
    assert workflow.parser.get_parsed_content("output_dir") == str(tmp_path / "out")


@pytest.mark.parametrize(
    "zoo", [pytest.param("paper2015", marks=pytest.mark.long), "modern"], indirect=True
)
@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
def test_monais_onnx_takes_the_tiles_of_the_training(zoo: Path, tmp_path: Path) -> None:
    folder, path = zoo / NAME, tmp_path / "model.onnx"
    tile = json.loads((folder / "configs/train.json").read_text(encoding="utf-8"))["tile_size"]
    onnx_export(
        net_id="network_def",
        filepath=str(path),
        ckpt_file=str(folder / "models/model.pt"),
        meta_file=str(folder / "configs/metadata.json"),
        config_file=str(folder / "configs/inference.json"),
        bundle_root=str(folder),
    )
    session = InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    [entry] = session.get_inputs()
    sides = tile if isinstance(tile, list) else [tile] * 2
    assert entry.shape == [1, 1, *sides]
    network = load(NAME, bundle_dir=str(zoo), source="github").eval()
    image = torch.randn(1, 1, *sides)
    with torch.no_grad():
        expected = network(image).numpy()
    np.testing.assert_allclose(
        session.run(None, {entry.name: image.numpy()})[0], expected, atol=1e-4
    )


@pytest.mark.data
def test_model_zoo_metadata(zoo: Path, shared: Path) -> None:
    folder = zoo / NAME
    (folder / "eval").mkdir(exist_ok=True)
    schema = folder / "eval" / "schema.json"
    shutil.copyfile(shared / "data/monai/meta_schema_20240725.json", schema)
    with pytest.warns(UserWarning, match="hash"):  # the zoo's call gives none
        verify_metadata(meta_file=str(folder / "configs/metadata.json"), filepath=str(schema))


def test_metadata_describes_the_trained_network(tmp_path: Path) -> None:
    folder = bundle.copy_bundle(tmp_path / "copy")
    settings = {"features": [2, 4, 8], "in_channels": 3, "out_channels": 4, "spatial_dims": 3}
    bundle.write_settings(folder, [], {**settings, "label_kind": "classes"})
    metadata = json.loads((folder / "configs/metadata.json").read_text(encoding="utf-8"))
    image = metadata["network_data_format"]["inputs"]["image"]
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert (image["num_channels"], pred["num_channels"]) == (3, 4)
    # depth 2: input 4 k + 12 with k > 4, output 40 px less
    # the paper's tile of 572 px comes first
    assert image["spatial_shape"] == ["4*n + 568"] * 3
    assert pred["spatial_shape"] == ["4*n + 528"] * 3
    modern = {"features": None, "preset": "modern", "spatial_dims": 2, "tile_size": [192, 160]}
    bundle.write_settings(folder, [], modern)
    text = (folder / "configs/metadata.json").read_text(encoding="utf-8")
    assert (text.count('"16*n + 176"'), text.count('"16*n + 144"')) == (2, 2)
    bundle.write_settings(folder, [], {"preset": "paper2015", "tile_size": 570})  # it takes none
    text = (folder / "configs/metadata.json").read_text(encoding="utf-8")
    assert text.count('"16*n + 172"') == text.count('"16*n - 12"') == 2
    assert list(pred["channel_def"].values()) == ["background", "class 1", "class 2", "class 3"]


# --- MONAI Label: monailabel/tasks/infer/bundle.py and train/bundle.py ------------------------

INFER_KEYS = ("device", "bundle_root", "network_def", "preprocessing", "postprocessing", "inferer")
TRAIN_KEYS = (
    "device",
    "bundle_root",
    "network",
    "network_def",
    "train#trainer#max_epochs",
    "train#dataset#data",
    "train#handlers",
    "validate#dataset#data",
)


def label_config(folder: Path, kind: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / f"{kind}.json"))
    parser.config.update({"bundle_root": str(folder)})
    return parser


def without(transforms: Compose, kind: type) -> Iterator[Any]:
    return (t for t in transforms.transforms if not isinstance(t, kind))


def test_monai_label_segments(zoo: Path, cells: Path) -> None:
    folder = zoo / NAME
    words = ("deepedit", "deepgrow", "detection", "classification")
    assert not any(word in NAME for word in words)
    config = label_config(folder, "inference")
    assert all(config.get(key) is not None for key in INFER_KEYS)
    config.config.update({"device": "cpu"})
    metadata = json.loads((folder / "configs/metadata.json").read_text(encoding="utf-8"))
    image_key, image_format = next(iter(metadata["network_data_format"]["inputs"].items()))
    pred_key, pred_format = next(iter(metadata["network_data_format"]["outputs"].items()))
    assert len(image_format["spatial_shape"]) == 2
    labels = {v.lower(): int(k) for k, v in pred_format["channel_def"].items()}
    assert labels == {"background": 0, "foreground": 1}

    network = config.get_parsed_content("network_def", instantiate=True)
    network.load_state_dict(torch.load(folder / "models/model.pt", weights_only=True))
    network.eval()
    before = config.get_parsed_content("preprocessing", instantiate=True)
    assert isinstance(before, Compose)
    assert any(isinstance(t, LoadImaged) for t in before.transforms)
    inferer = config.get_parsed_content("inferer", instantiate=True)
    assert isinstance(inferer, SlidingWindowInferer)
    data = {image_key: f"{cells}/images/cells_000.tif"}
    for transform in before.transforms:
        data = transform(data)
    with torch.no_grad():
        data[pred_key] = inferer(data[image_key][None], network)[0]
    after = config.get_parsed_content("postprocessing", instantiate=True)
    results = set(folder.rglob("*.tif"))
    for transform in without(after, SaveImaged):
        data = transform(data)
    assert set(folder.rglob("*.tif")) == results  # nothing is written on the server
    found = data[pred_key]
    original = load_image(f"{cells}/images/cells_000.tif")
    assert isinstance(found, MetaTensor)
    assert found.shape == original.shape
    assert set(torch.unique(found).tolist()) <= {0.0, 1.0}  # a label map


def test_monai_label_trains_on(zoo: Path, cells: Path) -> None:
    folder = zoo / NAME
    config = label_config(folder, "train")
    assert all(config.get(key) is not None for key in TRAIN_KEYS)
    handlers = config.get("train#handlers", [])
    target = "CheckpointLoader"
    assert not [t for t in handlers if t.get("_target_") == target]
    load = {"model": "$@network"}
    weights = str(folder / "models/model.pt")
    loader = {"_target_": target, "load_path": weights, "load_dict": load, "strict": False}
    items = [{k: f"{cells}/{k}s/cells_00{i}.tif" for k in ("image", "label")} for i in (0, 1)]
    before = Path(weights).stat().st_mtime_ns
    run_bundle(
        run_id="run",
        init_id=None,
        final_id=None,
        meta_file=str(folder / "configs/metadata.json"),
        config_file=str(folder / "configs/train.json"),
        **{
            "bundle_root": str(folder),
            "train#trainer#max_epochs": 1,
            "train#dataset#data": items[:1],
            "validate#dataset#data": items[1:],
            "device": "cpu",
            "train#handlers": [loader, *handlers],
        },
    )
    assert Path(weights).stat().st_mtime_ns > before
