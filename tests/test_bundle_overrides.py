"""Override files: each changes one thing, trains, and predicts with what it trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from doors import monai_workflow
from monai.bundle import ConfigParser

from unet_med import bundle
from unet_med.data import find_pairs, load_image, save_image
from unet_med.inferers import OverlapTileInferer
from unet_med.networks import start_from, unet
from unet_med.workflows import UNetInferWorkflow, UNetTrainWorkflow

ROOT = Path(__file__).resolve().parents[1]
CPU = "$torch.device('cpu')"
TINY: dict[str, Any] = {
    "features": [2, 2, 2],
    "tile_size": 64,
    "batch_size": 1,
    "tiles_per_epoch": 3,
    "epochs": 1,
    "num_workers": 0,
    "label_kind": "instances",
    "device": CPU,
}
TINY_NETWORKS: dict[str, dict[str, Any]] = {
    "basicunet": {"features": [2, 2, 2, 2, 2, 2]},
    "attention": {"features": [2, 2, 2, 2, 2]},
    "modern": {},
    "finetune": {"tile_size": 84},
    "sparse": {"tile_size": 84, "label_kind": "classes"},
}


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory, cells: Path) -> Path:
    """Classes of two small patches in each image, 255 elsewhere."""
    folder = tmp_path_factory.mktemp("sparse")
    for pair in find_pairs(f"{cells}/images", f"{cells}/labels"):
        label = load_image(pair["label"]).numpy()
        classes = np.full(label.shape, 255, np.uint8)
        for window in np.s_[:, 8:20, 8:20], np.s_[:, 40:50, 30:42]:
            classes[window] = label[window] > 0
        save_image(folder / "labels" / Path(pair["label"]).name, classes)
    return folder


def override(name: str) -> Path:
    path = bundle.override_file(name)
    assert path is not None, name
    return path


def trained(folder: Path, names: Sequence[str], **settings: Any) -> Path:
    """A bundle trained with override files for a few steps."""
    copy = bundle.copy_bundle(folder)
    bundle.write_settings(copy, [override(name) for name in names], {**TINY, **settings})
    bundle.load_workflow(copy, "train").run()
    return copy


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, cells: Path) -> Path:
    images = {"images": f"{cells}/images", "labels": f"{cells}/labels", "tile_size": 84}
    return trained(tmp_path_factory.mktemp("first") / "bundle", [], **images)


@pytest.mark.parametrize("name", list(TINY_NETWORKS))
def test_trains_and_predicts(
    name: str, cells: Path, sparse: Path, pretrained: Path, tmp_path: Path
) -> None:
    settings = {"images": f"{cells}/images", "labels": f"{cells}/labels", **TINY_NETWORKS[name]}
    if name == "sparse":
        settings["labels"] = f"{sparse}/labels"
    if name == "finetune":
        settings["pretrained"] = str(pretrained / "models/model.pt")
    folder = trained(tmp_path / "bundle", [name], **settings)
    curve = (folder / "models/learning_curve.csv").read_text(encoding="utf-8").splitlines()
    losses = [float(row.split(",")[2]) for row in curve[1:] if row.split(",")[2]]
    assert np.isfinite(losses).all()
    out = {"images": f"{cells}/images", "output_dir": str(tmp_path / "out"), "outputs": ["mask"]}
    bundle.load_workflow(folder, "inference", {**out, "device": CPU}).run()
    image = load_image(cells / "images/cells_001.tif")
    assert load_image(tmp_path / "out/cells_001_mask.tif").shape == image.shape


@pytest.mark.parametrize("name", list(TINY_NETWORKS))
def test_monai_merges_it_by_itself(name: str, cells: Path, sparse: Path, pretrained: Path) -> None:
    """As `--config_file "['configs/train.json','configs/NAME.json']"`, no code of ours."""
    workflow = monai_workflow(
        ROOT, "train", name,
        **{**TINY, **TINY_NETWORKS[name]},
        images=f"{cells}/images",
        labels=f"{sparse if name == 'sparse' else cells}/labels",
        **({"pretrained": f"{pretrained}/models/model.pt"} if name == "finetune" else {}),
    )  # fmt: skip
    assert workflow.check_properties() == []
    assert workflow.parser.get_parsed_content("train::trainer") is not None


@pytest.fixture
def one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A group of a single process."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    place = f"file://{tmp_path}/rendezvous"
    dist.init_process_group("gloo", init_method=place, rank=0, world_size=1)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


STANDALONE = {"train", "evaluate", "inference", "metadata"}
OVERRIDES = sorted({path.stem for path in (ROOT / "configs").glob("*.json")} - STANDALONE)
LEARNED = {"multi_gpu_train": ["modern", "modern3d"]}  # files before it


@pytest.mark.parametrize("name", OVERRIDES)
def test_every_override_starts_from_the_weights(
    name: str, one_process: None, tmp_path: Path
) -> None:
    """The network that is trained, whatever a file makes of it, and a loss that can be built."""
    names = ["train", *LEARNED.get(name, []), name]
    files = [str(ROOT / "configs" / f"{part}.json") for part in names]
    settings = {"features": [2, 2], **TINY_NETWORKS.get(name, {}), "device": CPU}
    start = ConfigParser()
    start.read_config(files)
    start.update(settings)
    weights = start.get_parsed_content("network_def").state_dict()
    torch.save(weights, tmp_path / "start.pt")
    parser = ConfigParser()
    parser.read_config(files)
    parser.update({**settings, "pretrained": f"{tmp_path}/start.pt", "frozen": None})
    parser.get_parsed_content("initialize")
    network = parser.get_parsed_content("network")
    network = getattr(network, "module", network)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, weights[key], rtol=0, atol=0)
    assert parser.get_parsed_content("validate::evaluator::network") is network
    assert isinstance(parser.get_parsed_content("loss"), torch.nn.Module)


def reach(network: torch.nn.Module, stride: int, side: int) -> int:
    """Furthest input pixel that an output pixel depends on, px, over all places in a cell."""
    furthest = 0
    for phase in range(stride):
        image = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
        at = side // 2 // stride * stride + phase
        network(image)[0, 0, at, at].backward()
        assert image.grad is not None
        seen = torch.nonzero(image.grad[0, 0])
        furthest = max(furthest, int((seen - at).abs().max()))
    return furthest


def tiny_network(name: str) -> tuple[torch.nn.Module, dict[str, Any]]:
    config = {**ConfigParser.load_config_file(override(name)), **TINY_NETWORKS[name]}
    common = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
    torch.manual_seed(0)
    network = ConfigParser({**config, **common}).get_parsed_content("network_def")
    return network.double().eval(), {k: config[k] for k in ("margin", "stride")}


def test_declared_margin_makes_tiles_exact() -> None:
    network, facts = tiny_network("basicunet")
    found = reach(network, facts["stride"], 240)
    assert facts["margin"] - facts["stride"] < found <= facts["margin"]
    image = torch.rand(1, 1, 400, 48, dtype=torch.float64)
    ways = [
        OverlapTileInferer(size, **facts) for size in ([-1, -1], [2 * facts["margin"] + 64, -1])
    ]
    with torch.no_grad():
        whole, tiled = (inferer(image, network) for inferer in ways)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)


def test_attention_takes_whole_images() -> None:
    network, facts = tiny_network("attention")
    image = torch.rand(1, 1, 75, 61, dtype=torch.float64)
    with torch.no_grad():
        assert OverlapTileInferer(**facts)(image, network).shape == (1, 2, 75, 61)
        with pytest.raises(ValueError, match="computes statistics over the whole image"):
            OverlapTileInferer(48, **facts)(image, network)


def test_finetuning_keeps_the_contracting_path(
    pretrained: Path, cells: Path, tmp_path: Path
) -> None:
    first = torch.load(pretrained / "models/model.pt", weights_only=True)
    workflow = UNetTrainWorkflow(
        overrides=["finetune"],
        images=f"{cells}/images",
        labels=f"{cells}/labels",
        pretrained=str(pretrained / "models/model.pt"),
        output_dir=str(tmp_path),
        **{**TINY, "tile_size": 84, "learning_rate": 0.1},
    )
    workflow.run()
    last = torch.load(tmp_path / "model.pt", weights_only=True)
    fixed = [n for n in first if n.startswith(("contracting", "bottom"))]
    assert 0 < len(fixed) < len(first)
    for name, value in first.items():
        assert torch.equal(last[name], value) == (name in fixed), name


def test_start_from(tmp_path: Path) -> None:
    torch.manual_seed(0)
    two = unet(features=(2, 3))
    torch.save(two.state_dict(), tmp_path / "two.pt")
    three = unet(features=(2, 3), out_channels=3)
    start_from(three, tmp_path / "two.pt")  # other classes: a last layer of its own
    torch.testing.assert_close(three.bottom.state_dict(), two.bottom.state_dict())
    assert three.logits.conv.weight.shape[0] == 3
    with pytest.raises(ValueError, match=r"two.pt does not fit the network at contracting\S+ and"):
        start_from(unet(features=(4, 3)), tmp_path / "two.pt")
    with pytest.raises(ValueError, match="frozen='encoder' fits no parameter; they begin with"):
        start_from(two, frozen="encoder")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds no state dictionary"):
        start_from(two, tmp_path / "list.pt")


def test_every_tile_of_sparse_images_has_annotation(cells: Path, sparse: Path) -> None:
    workflow = UNetTrainWorkflow(
        overrides=["sparse"],
        images=f"{cells}/images",
        labels=f"{sparse}/labels",
        **{**TINY, "label_kind": "classes", "tile_size": 24, "features": [2, 2]},
    )
    workflow.parser["tiles_per_epoch"] = 40
    workflow.parser["augment"] = {"crop": workflow.parser["augment"]["crop"]}
    dataset = workflow.train_dataset
    tiles = [dataset[index]["weight"] for index in range(40)]
    assert all(float(tile.sum()) > 0 for tile in tiles)
    assert any(float(tile.min()) == 0 for tile in tiles)


# --- workflows --------------------------------------------------------------------------------


def losses(folder: Path) -> list[str]:
    lines = (folder / "learning_curve.csv").read_text(encoding="utf-8").splitlines()
    clock = [
        i for i, name in enumerate(lines[0].split(",")) if "second" in name or "minute" in name
    ]
    rows = [line.split(",") for line in lines]
    return [",".join(v for i, v in enumerate(row) if i not in clock) for row in rows]


def test_workflows_equal_the_config(cells: Path, tmp_path: Path) -> None:
    images = {"images": f"{cells}/images", "labels": f"{cells}/labels"}
    settings = {**TINY, **images, "tile_size": 84, "epochs": 2}
    monai_workflow(ROOT, "train", **settings, output_dir=str(tmp_path / "config")).run()
    python = {**settings, "device": torch.device("cpu"), "output_dir": str(tmp_path / "python")}
    workflow = UNetTrainWorkflow(**python)
    workflow.run()
    assert workflow.check_properties() is None or workflow.check_properties() == []
    assert losses(tmp_path / "config") == losses(tmp_path / "python")
    saved = [torch.load(tmp_path / n / "model.pt", weights_only=True) for n in ("config", "python")]
    for name, value in saved[0].items():
        assert torch.equal(value, saved[1][name]), name

    found = {}
    for name in ("config", "python"):
        common = {
            "images": f"{cells}/images",
            "features": TINY["features"],
            "checkpoint": str(tmp_path / name / "model.pt"),
            "output_dir": str(tmp_path / name),
            "device": CPU,
        }
        if name == "config":
            bundle.load_workflow(ROOT, "inference", common).run()
        else:
            UNetInferWorkflow(**common).run()
        found[name] = load_image(tmp_path / name / "cells_000_instances.tif").numpy()
    np.testing.assert_array_equal(found["config"], found["python"])


def test_parts_are_read_and_replaced(cells: Path) -> None:
    images = {"images": f"{cells}/images", "labels": f"{cells}/labels"}
    workflow = UNetTrainWorkflow(**{**TINY, **images}, overrides=["modern"])
    assert workflow.network_def.padding == "same"
    mine = unet("modern", features=(3, 3))
    workflow.network_def = mine
    workflow.initialize()
    assert workflow.trainer.network is mine
    assert workflow.bundle_root == str(bundle.find_bundle())
    with pytest.raises(
        FileNotFoundError,
        match="no override file modren: give the path of one, or one of attention, ",
    ):
        UNetTrainWorkflow(overrides=["modren"])


def test_ten_lines_are_enough(pretrained: Path, cells: Path, tmp_path: Path) -> None:
    UNetInferWorkflow(pretrained, images=f"{cells}/images", output_dir=str(tmp_path)).run()
    assert len(list(tmp_path.glob("*.tif"))) == 6


def test_appended_lists_are_merged(tmp_path: Path) -> None:
    more = tmp_path / "more.json"
    same = {"_target_": "monai.transforms.Identityd", "keys": "image"}
    more.write_text(json.dumps({"+augment": {"same": same}, "+run": ["$print()"]}))
    train = bundle.find_bundle() / "configs" / "train.json"
    before = json.loads(train.read_text(encoding="utf-8"))
    merged = bundle.merge_config(train, [more], {})
    assert list(merged["augment"].items()) == [*before["augment"].items(), ("same", same)]
    assert merged["run"] == [*before["run"], "$print()"]
