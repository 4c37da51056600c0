"""The transforms of the configs have names, and override files hit what they name."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doors import monai_workflow
from monai.bundle import ConfigParser
from monai.metrics import DiceMetric
from monai.transforms import Compose

from unet_med import bundle
from unet_med.data import SyntheticCells
from unet_med.networks import load_weights, unet

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
CHAINS = ("load", "augment", "weigh")
PROGRAMS = ("train", "inference", "evaluate", "metadata")
OVERRIDES = [p.stem for p in sorted(CONFIGS.glob("*.json")) if p.stem not in PROGRAMS]
INSERTED = {
    "augment::noise": {"_target_": "monai.transforms.RandGaussianNoised", "keys": "image"},
    "augment::_after_::noise": "flip",
}
AUGMENT = ["RandTileCropd", "RandFlipd", "RandRotate90d", "RandRotated", "RandElasticDeformd"]
AUGMENT += ["RandGreyValued"]


def parsed(files: Sequence[Path], **settings: Any) -> ConfigParser:
    """What MONAI makes of `--config_file "['configs/train.json', ...]"`, no code of ours."""
    parser = ConfigParser(ConfigParser.load_config_files(files))  # type: ignore[arg-type]
    parser.update(settings)
    return parser


def transforms_of(parser: ConfigParser, id: str = "train::preprocessing") -> list[Any]:
    composed = parser.get_parsed_content(id)
    assert isinstance(composed, Compose)
    return list(composed.transforms)


def names_of(transforms: Sequence[Any]) -> list[str]:
    return [type(transform).__name__ for transform in transforms]


def held(transform: Any, name: str) -> Any:
    """The attribute of that name, of a transform or of what it wraps."""
    for owner in (transform, *vars(transform).values()):
        if hasattr(owner, name):
            return getattr(owner, name)
    raise AssertionError(f"{type(transform).__name__} keeps no {name}")


def check_target(parser: ConfigParser, id: str, value: Any) -> None:
    """That what a training runs has the value which an override file gives an id."""
    chain, name, *rest = id.split("::")
    if name == "class_balance":  # of classes alone: see test_classes_weigh_by_the_recipe
        return
    if rest == ["_disabled_"]:
        left_out = name not in parser.get_parsed_content(chain)
        assert left_out == parser.get_parsed_content(id)
        return
    if name == "_after_":
        order, parts = transforms_of(parser), parser.get_parsed_content(chain)
        assert order.index(parts[rest[0]]) == order.index(parts[value]) + 1
        return
    if not rest:
        target = value["_target_"].rpartition(".")[2]
        assert names_of([parser.get_parsed_content(chain)[name]]) == [target]
        return
    [argument] = rest
    transform = parser.get_parsed_content(chain)[name]
    steps = transforms_of(parser)  # some draw what others of their kind apply
    assert any(transform in (step, getattr(step, "transform", None)) for step in steps)
    found = held(transform, argument)
    wanted = parser.get_parsed_content(id)
    if argument.startswith("range_"):  # MONAI keeps both ends
        wanted = (-wanted, wanted)
    assert np.array_equal(found, wanted), id


@pytest.mark.parametrize("name", OVERRIDES)
def test_an_insertion_leaves_every_override_on_its_target(name: str, tmp_path: Path) -> None:
    inserted = tmp_path / "inserted.json"
    inserted.write_text(json.dumps(INSERTED), encoding="utf-8")
    override = CONFIGS / f"{name}.json"
    content = json.loads(override.read_text(encoding="utf-8"))
    for files in ([inserted, override], [override, inserted]):
        parser = parsed([CONFIGS / "train.json", *files])
        names = names_of(transforms_of(parser))
        assert names.index("RandGaussianNoised") == names.index("RandFlipd") + 1
        for id, value in content.items():
            if id.split("::")[0] in CHAINS:
                check_target(parser, id, value)
            elif not id.startswith("+"):
                assert parser[id] == value, id


def test_there_are_overrides_of_transforms() -> None:
    assert {"modern", "modern3d", "volume3d", "sparse"} <= set(OVERRIDES)
    contents = [json.loads((CONFIGS / f"{name}.json").read_text()) for name in OVERRIDES]
    ids = {id for content in contents for id in content if id.split("::")[0] in CHAINS}
    assert {"augment::rotate::prob", "weigh::border::class_weights"} < ids
    assert len(ids) >= 8


@pytest.mark.parametrize("names", [[], ["modern"]])
def test_volumes_are_not_turned_by_quarters(names: list[str]) -> None:
    files = [CONFIGS / f"{name}.json" for name in ("train", *names)]
    plane = parsed(files).get_parsed_content("augment")
    assert names_of(plane.values())[1:] == AUGMENT
    volume = parsed([*files, CONFIGS / "volume3d.json"], spatial_dims=3)
    chain = volume.get_parsed_content("augment")
    assert list(chain) == [name for name in plane if name != "quarter_turn"]
    rotate, elastic = chain["rotate"], chain["elastic"]
    assert (held(rotate, "range_x"), held(rotate, "range_z")) == ((0.0, 0.0), (-0.262, 0.262))
    assert held(elastic, "sigma") == 2.0
    often = (0.2, 0.2) if names else (0.5, 1.0)  # the recipe's, in planes and volumes alike
    assert (held(rotate, "prob"), held(elastic, "prob")) == often


@pytest.mark.parametrize(
    ("dims", "sides", "found"),
    [
        (2, 60, ["flip", "quarter_turn"]),
        (2, [60, 60], ["flip", "quarter_turn"]),
        (2, [60, 44], ["flip", "flip_y"]),
        (3, [60, 44, 20], ["flip"]),
        (3, [60, 60, 20], ["flip"]),
    ],
)
def test_tiles_of_unequal_sides_are_flipped_in_place_of_turned(
    dims: int, sides: Any, found: list[str]
) -> None:
    """A tile turned by a quarter would not fit into its batch; squares keep their draws."""
    files = [CONFIGS / "train.json", *[CONFIGS / "volume3d.json"] * (dims == 3)]
    chain = parsed(files, spatial_dims=dims, tile_size=sides).get_parsed_content("augment")
    assert [name for name in chain if name.startswith(("flip", "quarter"))] == found


def test_an_override_of_what_is_not_there_is_refused() -> None:
    words = "augment::elastik::prob: augment has no elastik; it has _after_, crop, flip, flip_y, fl"
    with pytest.raises(ValueError, match=words):
        bundle.merge_config(str(CONFIGS / "train.json"), [], {"augment::elastik::prob": 0.5})
    merged = bundle.merge_config(CONFIGS / "inference.json", [], {"augment::elastik::prob": 0.5})
    assert "augment" not in merged  # training's alone


def json_blocks(page: str) -> list[dict[str, Any]]:
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [json.loads(block) for block in blocks]


def test_the_inserted_transform_of_the_how_to_page() -> None:
    [example] = [b for b in json_blocks("change-the-recipe.md") if "augment::noise" in b]
    parser = ConfigParser(bundle.merge_config(CONFIGS / "train.json", [], example))
    steps = transforms_of(parser)
    place = names_of(steps).index("RandGaussianNoised")
    assert names_of(steps)[place - 1 : place + 2] == [
        "RandRotated",
        "RandGaussianNoised",
        "RandElasticDeformd",
    ]
    assert (steps[place - 1].prob, steps[place].prob) == (0.2, 0.3)


def test_falks_weights_of_the_how_to_page() -> None:
    [example] = json_blocks("scripted-pipelines.md")
    parser = ConfigParser(bundle.merge_config(CONFIGS / "train.json", [], example))
    weigh = names_of(transforms_of(parser))[-5:]
    assert weigh[:3] == ["FalkWeightMapd", "SeparateInstancesd", "Foregroundd"]
    assert parser["weigh::separate::kind"] == "falk"


# --- the chain after the network --------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "made"),
    [
        (["mask"], {"mask"}),
        (["probabilities", "mask"], {"mask", "probabilities"}),
        (["instances"], {"instances"}),
        (["mask", "instances", "probabilities"], {"mask", "instances", "probabilities"}),
    ],
)
def test_only_what_is_asked_for_is_made(outputs: list[str], made: set[str]) -> None:
    parser = parsed([CONFIGS / "inference.json"], outputs=outputs)
    steps = transforms_of(parser, "postprocessing")
    logits = torch.tensor([[[4.0, 0.0, 0.0]], [[0.0, 1.0, 2.0]]])  # (K, X, Y)
    item: dict[str, Any] = {"pred": logits}
    for step in steps[:-1]:  # the last one saves
        item = step(item)
    assert set(item) == {"pred", *made}
    assert ("InstancesFromLogitsd" in names_of(steps)) == ("instances" in made)
    assert item["pred"].tolist() == [[[0, 1, 1]]]
    if "probabilities" in made:
        torch.testing.assert_close(item["probabilities"], logits.softmax(dim=0))
    for key in made - {"probabilities"}:
        assert item[key].tolist() == [[[0, 1, 1]]]


def test_the_scores_of_an_image_are_not_copied() -> None:
    """An image may be large: of all classes there is one array, and probabilities are that one."""
    outputs = ["mask", "instances", "probabilities"]
    parser = parsed([CONFIGS / "inference.json"], outputs=outputs)
    item: dict[str, Any] = {"pred": torch.randn(2, 3, 5)}
    for step in transforms_of(parser, "postprocessing")[:-1]:  # the last one saves
        item = step(item)
        whole = {value.data_ptr() for value in item.values() if len(value) == 2}
        assert len(whole) == 1, step
    assert set(item) == {"pred", *outputs}


def test_a_threshold_of_instances_is_of_the_probability() -> None:
    """0.7 against 0.3 is above 0.6; with a second softmax it would be 0.599."""
    logits = torch.tensor([[[0.3, 0.5]], [[0.7, 0.5]]]).log()
    parser = parsed([CONFIGS / "inference.json"], **{"finish::instances::threshold": 0.6})
    item: dict[str, Any] = {"pred": logits}
    for step in transforms_of(parser, "postprocessing")[:3]:
        item = step(item)
    assert item["instances"].tolist() == [[[1, 0]]]


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_evaluation_loads_what_inference_loads(suffix: str, tmp_path: Path) -> None:
    SyntheticCells(1, (40, 40), num_cells=3).write(tmp_path / "data")
    network = unet("modern", features=(2, 4))
    weights = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save({"epoch": 3, "network": network.state_dict()}, weights)
    else:
        pytest.importorskip("safetensors.torch").save_file(network.state_dict(), weights)
    ids = {"preset": "modern", "statistics": "image", "features": [2, 4], "label_kind": "instances"}
    places = {"bundle_root": str(tmp_path), "checkpoint": str(weights)}
    cpu = "$torch.device('cpu')"
    workflow = monai_workflow(CONFIGS.parent, "evaluate", **ids, **places, device=cpu)
    workflow.run()
    expected = unet("modern", features=(2, 4))
    load_weights(expected, weights)
    for name, value in workflow.network_def.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name


@pytest.mark.parametrize(("preset", "weights"), [("modern", (1.0, 1.0)), ("paper2015", (4 / 7, 4))])
def test_classes_weigh_by_the_recipe(preset: str, weights: tuple[float, float]) -> None:
    recipe = [CONFIGS / f"{preset}.json"] if preset == "modern" else []
    ids = {"out_channels": 2, "label_kind": "classes"}
    parser = ConfigParser(bundle.merge_config(CONFIGS / "train.json", recipe, ids))
    weigh = parser.get_parsed_content("weigh")["class_balance"]
    label = np.zeros((1, 4, 4), np.uint8)
    label[0, 1, 1:3] = 1  # 14 and 2 pixels: 16 / (2 * 14) and 16 / (2 * 2)
    weight = np.asarray(weigh({"label": label})["weight"])
    assert (weight[label == 0] == np.float32(weights[0])).all()
    assert (weight[label == 1] == np.float32(weights[1])).all()


@pytest.mark.parametrize("name", ["train", "evaluate"])
@pytest.mark.parametrize(("kind", "count"), [("classes", 4), ("mask", 2)])
def test_validation_scores_numbers_of_classes_as_one_hot_maps(
    name: str, kind: str, count: int
) -> None:
    parser = parsed([CONFIGS / f"{name}.json"], label_kind=kind, out_channels=count)
    finish, rule = (
        parser.get_parsed_content(f"validate::{id}") for id in ("postprocessing", "key_metric")
    )
    generator = torch.Generator().manual_seed(0)
    items = []
    for _ in range(3):
        label = torch.randint(count - 1, (1, 9, 8), generator=generator).float()  # one is absent
        logits = torch.randn(count, 9, 8, generator=generator)
        items.append(finish({"image": label, "pred": logits, "label": label}))
    metric, pairs = rule["val_mean_dice"].metric_fn, []
    for item in items:
        pair = [item[key] for key in ("pred", "label")]
        assert [each.shape for each in pair] == [(1, 9, 8), (1, 9, 8)]
        one_hot = [torch.stack([each[0] == k for k in range(count)]).float() for each in pair]
        metric(*([each] for each in pair))
        pairs.append(one_hot)
    slow = DiceMetric(include_background=False)
    slow([found for found, _ in pairs], [true for _, true in pairs])
    found, expected = metric.get_buffer(), slow.get_buffer()
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
