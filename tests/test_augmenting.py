"""A tile is what seed, epoch and position make it, whoever applies what was drawn for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandGaussianNoised,
    RandRotated,
    RandZoomd,
    SelectItemsd,
)
from monai.transforms.utils import create_rotate
from scipy.ndimage import affine_transform
from simulated_cuda import is_simulated
from torch import Tensor

from unet_med import bundle
from unet_med.data import EpochSampler, SyntheticCells
from unet_med.data.entries import DRAWS, LINES
from unet_med.engines import PrepareBatchWeighted
from unet_med.networks import presets
from unet_med.planning.rules import _recipes
from unet_med.transforms import (
    Augmenting,
    ClassWeightMapd,
    RandElasticDeformd,
    RandGreyValue,
    RandGreyValued,
    Weighing,
    compose,
)
from unet_med.transforms.draws import (
    CutTile,
    Deform,
    DrawCurve,
    DrawDeformation,
    DrawRotation,
    DrawScaling,
    Flip,
    QuarterTurn,
)
from unet_med.transforms.grey import change_batch

BOTH = ["image", "label"]
MODES = ["bilinear", "nearest"]
ALWAYS = {"augment::rotate::prob": 1.0, "augment::elastic::prob": 1.0}
ZOOMED = {"augment::zoom::_disabled_": False}
SMALL = {"tile_size": 60, "augment::elastic::sigma": 4.0}


def chain(rotate: float = 0.5, elastic: float = 0.5, **options: Any) -> dict[str, Any]:
    turn = {"range_x": 0.7, "range_z": 0.3, "mode": MODES, "padding_mode": "reflection"}
    return {
        "rotate": RandRotated(BOTH, prob=rotate, **{**turn, **options}),
        "elastic": RandElasticDeformd(BOTH, 3.0, prob=elastic, mode=MODES),
        "grey": RandGreyValued("image", prob=0.5),
    }


def zoom(prob: float = 1.0, **options: Any) -> RandZoomd:
    limits = {"min_zoom": [0.7, 0.7], "max_zoom": [1.4, 1.4]}
    alike = {"mode": MODES, "padding_mode": "reflect"}
    return RandZoomd(BOTH, prob=prob, **{**limits, **alike, **options})


def weighing(device: str) -> Weighing:
    """One that leaves labels and weights to a GPU, or does not."""
    found = Weighing({}, "cpu")
    found.on_batches = (lambda label: label) if device == "cuda" else None
    return found


def smooth(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """An image without edges, and labels in stripes."""
    places = torch.meshgrid(*(torch.arange(n) / 7 for n in shape), indexing="ij")
    image = sum(torch.sin(place + k) for k, place in enumerate(places))
    assert isinstance(image, torch.Tensor)
    return {"image": image[None], "label": (image * 3).round().int()[None]}


def drawn(steps: Compose, shape: tuple[int, ...], seed: int) -> dict[str, torch.Tensor]:
    steps.set_random_state(seed=seed)
    item: dict[str, torch.Tensor] = steps(smooth(shape))
    return item


@pytest.mark.parametrize("shape", [(40, 33), (14, 20, 17)])
def test_tiles_that_are_not_rotated_are_the_chains_to_the_bit(shape: tuple[int, ...]) -> None:
    one_by_one = compose([chain(rotate=0.5)])
    at_once = compose([Augmenting(chain(rotate=0.5), weighing("cpu")).in_workers])
    turned = []
    for seed in range(24):
        expected, found = drawn(one_by_one, shape, seed), drawn(at_once, shape, seed)
        assert set(found) == set(BOTH)
        turned.append(one_by_one.transforms[0]._do_transform)
        for key in BOTH:
            assert found[key].dtype == expected[key].dtype
            assert turned[-1] or torch.equal(found[key], expected[key]), (seed, key)
    assert 6 < sum(turned) < 18


@pytest.mark.parametrize("shape", [(60, 51), (32, 40, 36)])
def test_a_rotation_is_monais(shape: tuple[int, ...]) -> None:
    """Within the tile, where neither has to look beyond it."""
    one_by_one = compose([chain(1.0, elastic=0.0)])
    at_once = compose([Augmenting(chain(1.0, elastic=0.0), weighing("cpu")).in_workers])
    inner = (slice(None), *(slice(n // 3, -(n // 3)) for n in shape))
    for seed in range(3):
        expected, found = drawn(one_by_one, shape, seed), drawn(at_once, shape, seed)
        torch.testing.assert_close(
            found["image"].as_tensor()[inner],
            expected["image"].as_tensor()[inner],
            atol=1e-4,
            rtol=0,
        )
        assert (found["label"][inner] == expected["label"][inner]).float().mean() > 0.999
        assert (found["label"] != smooth(shape)["label"]).any()


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("shape", [(40, 33), (14, 20, 17)])
def test_a_zoom_and_the_rotation_before_it_are_one_map(
    shape: tuple[int, ...], rotated: bool
) -> None:
    """In the tile and in its mirror image beyond; each axis by a factor of its own."""
    first, *rest = chain(1.0, elastic=0.0).items()
    steps = dict([*([first] if rotated else []), ("zoom", zoom()), *rest])
    at_once = compose([Augmenting(steps, weighing("cpu")).in_workers])
    at_once.transforms[-1].drawn.prob = 0.0
    at_once.set_random_state(seed=3)
    generator = np.random.default_rng(1)
    image, label = generator.random(shape), generator.integers(0, 9, shape)
    found = at_once({"image": torch.tensor(image)[None], "label": torch.tensor(label)[None]})
    factors = np.asarray(steps["zoom"].rand_zoom._zoom)
    assert len(set(factors.round(6))) == 2
    turn = np.eye(len(shape))
    if rotated:
        drawn = first[1].rand_rotate
        angles = drawn.x if len(shape) == 2 else (drawn.x, drawn.y, drawn.z)
        turn = np.asarray(create_rotate(len(shape), angles))[: len(shape), : len(shape)]
    matrix, centre = turn @ np.diag(1 / factors), (np.array(shape) - 1) / 2
    where = {"matrix": matrix, "offset": centre - matrix @ centre, "mode": "mirror"}
    expected = affine_transform(image, order=1, **where)
    np.testing.assert_allclose(found["image"][0], expected, atol=1e-5)
    assert np.array_equal(found["label"][0], affine_transform(label, order=0, **where))


def test_a_zoom_is_monais() -> None:
    """To a pixel or so, since MONAI zooms to whole sides."""
    one_by_one = zoom(min_zoom=1.3, max_zoom=1.3)
    steps = {"zoom": one_by_one, **chain(elastic=0.0)}
    del steps["rotate"]
    at_once = compose([Augmenting(steps, weighing("cpu")).in_workers])
    at_once.transforms[-1].drawn.prob = 0.0
    square = torch.zeros(1, 60, 60)
    square[:, 20:40, 24:36] = 1
    found, expected = (f({"image": square, "label": square}) for f in (at_once, one_by_one))
    for key in BOTH:
        assert float(found[key].sum()) == pytest.approx(1.3**2 * 240, rel=0.05)
        assert float((found[key] - expected[key]).abs().sum()) < 0.1 * float(expected[key].sum())


def test_tiles_that_are_not_zoomed_are_the_chains_to_the_bit() -> None:
    steps = [{**chain(0.0, 0.5), "zoom": zoom(0.5)}, chain(0.0, 0.5)]
    steps[0] = {name: steps[0][name] for name in ("rotate", "zoom", "elastic", "grey")}
    zoomed, plain = (compose([Augmenting(each, weighing("cpu")).in_workers]) for each in steps)
    same = []
    for seed in range(24):
        for each in (zoomed, plain):  # numbers of a transform follow from its place
            each.set_random_state(seed=seed)
        for each in (zoomed, plain):
            for place, step in enumerate(each.transforms[-2:]):
                step.set_random_state(seed=100 * seed + place)
        found, expected = (each(smooth((40, 33))) for each in (zoomed, plain))
        same.append(torch.equal(found["image"], expected["image"]))
        assert same[-1] != steps[0]["zoom"]._do_transform
    assert 6 < sum(same) < 18


def test_rotation_and_deformation_blur_once() -> None:
    """White noise keeps more of its variance if it is resampled once."""
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 64, 64))).float()
    item = {"image": noise, "label": torch.zeros(1, 64, 64)}
    steps = [
        compose([chain(1.0, 1.0)]),
        compose([Augmenting(chain(1.0, 1.0), weighing("cpu")).in_workers]),
    ]
    kept = []
    for each in steps:
        each.transforms[-1].drawn.prob = 0.0
        each.set_random_state(seed=3)
        kept.append(float(each(dict(item))["image"].var()))
    assert kept[1] == pytest.approx(4 / 9, abs=0.06)  # of bilinear weights, E[(w^2 + (1-w)^2)]^2
    assert kept[0] < 0.75 * kept[1]


@pytest.mark.parametrize(
    ("changed", "rotates", "batched"),
    [
        ({}, True, True),
        ({"rotate": None}, False, True),  # thick slices are not rotated
        ({"rotate": chain(padding_mode="zeros")["rotate"]}, False, True),
        ({"rotate": chain(keep_size=False)["rotate"]}, False, True),
        ({"elastic": RandElasticDeformd(BOTH, mode=["bicubic", "nearest"])}, False, False),
        ({"noise": RandGaussianNoised("image")}, False, False),
        ({"grey": None}, False, False),
        ({"grey": None, "zoom": zoom()}, False, False),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_other_transforms_stay_as_they_are(
    changed: dict[str, Any], rotates: bool, batched: bool, device: str, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    steps = {name: step for name, step in (chain() | changed).items() if step is not None}
    augmenting = Augmenting(steps, weighing(device))
    kinds = [type(step) for step in compose([augmenting.in_workers]).transforms]
    assert (DrawRotation in kinds) == rotates
    assert (Deform in kinds) == (rotates and device == "cpu")
    assert (augmenting.on_batches is not None) == (batched and device == "cuda")
    assert ("the workers change tiles" in caplog.text) == (device == "cuda" and not batched)
    assert len(kinds) == len(steps)


@pytest.mark.parametrize(
    ("step", "composes"),
    [
        (zoom(), True),
        (zoom(padding_mode="edge"), False),
        (zoom(keep_size=False), False),
        (zoom(mode="nearest"), False),
    ],
)
def test_only_a_zoom_that_resamples_alike_is_composed(step: RandZoomd, composes: bool) -> None:
    rotate, *rest = chain().items()
    steps = dict([rotate, ("zoom", step), *rest])
    kinds = [type(each) for each in Augmenting(steps, weighing("cpu")).in_workers.values()]
    expected = [DrawRotation, DrawScaling] if composes else [RandRotated, RandZoomd]
    last = [Deform, RandGreyValued] if composes else [RandElasticDeformd, RandGreyValued]
    assert kinds == [*expected, *last]


@pytest.mark.parametrize(
    ("last", "ends"),
    [
        (None, True),
        (EnsureTyped("image", dtype=torch.float16), False),
        (RandGaussianNoised("image"), False),
    ],
)
def test_what_follows_the_weights_finds_finished_tiles(last: Any, ends: bool, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    weigh = {
        "class_balance": ClassWeightMapd("label", num_classes=2),
        "select": SelectItemsd([*BOTH, "weight"]),
        "tensors": EnsureTyped([*BOTH, "weight"]),
    }
    weighing = Weighing(weigh if last is None else {**weigh, "last": last}, "cuda")
    assert weighing.on_batches is not None
    augmenting = Augmenting(chain(), weighing)
    assert weighing.ends == (augmenting.on_batches is not None) == ends
    assert (type(list(augmenting.in_workers.values())[-2]) is Deform) != ends
    assert ("the workers change tiles: `weigh` ends in" in caplog.text) != ends


@pytest.mark.parametrize("value_range", [None, (0, 5)])
def test_curves_of_a_batch_are_those_of_each_image(value_range: Any) -> None:
    images = torch.rand(4, 2, 9, 8) * 9 - 2
    images[2] = 1.5  # one grey value
    drawn = RandGreyValue(prob=0.7, value_range=value_range).set_random_state(2)
    curves, expected = [], []
    for image in images:
        expected.append(drawn(image))
        curves.append(drawn.curve())
    assert [bool(curve.isnan().any()) for curve in curves] == [False, False, False, True]
    found = change_batch(images, torch.stack(curves), value_range)
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=3e-6)
    assert torch.equal(found[3], images[3])
    assert torch.equal(found[2], images[2]) == (value_range is None)


# --- the whole chain of the bundle ------------------------------------------------------------


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    SyntheticCells(2, (26, 24, 12), num_cells=4).write(folder)
    return folder


def parsed(data: Path, names: list[str], device: str, **ids: Any) -> ConfigParser:
    configs = bundle.find_bundle() / "configs"
    settings = {
        "images": f"{data}/images", "labels": f"{data}/labels", "label_kind": "instances",
        "bundle_root": str(bundle.find_bundle()), "validation_fraction": 0.34, "cache": True,
        "device": f"$torch.device('{device}')", **ids,
    }  # fmt: skip
    files = [configs / f"{name}.json" for name in names]
    parser = ConfigParser(bundle.merge_config(configs / "train.json", files, settings))
    parser.parse()
    return parser


Prepared = tuple[dict[str, Any], Tensor, Tensor]  # what workers send; image and target of it


def prepared(data: Path, names: list[str], device: str, **ids: Any) -> Iterator[Prepared]:
    parser = parsed(data, names, "cuda", **ids)
    dataset = parser.get_parsed_content("train::dataset")
    prepare = PrepareBatchWeighted(
        targets=parser.get_parsed_content("weighing").on_batches,
        augment=parser.get_parsed_content("augmenting").on_batches,
        dataset=dataset,
    )
    assert prepare.augment is not None
    for batch in DataLoader(dataset, sampler=EpochSampler(dataset), batch_size=4, num_workers=0):
        image, target = prepare(batch, device=device)
        assert target is not None
        yield batch, image.cpu(), target.cpu()


def compare(data: Path, names: list[str], tiles: int, device: str, **ids: Any) -> None:
    """Tiles of the workers alone, and those finished on a device that is sent them or cuts them.

    A GPU rounds a product and a sum once, a CPU each: pixels are looked up some 1e-5 px apart.
    That times a slope of up to 10 a px is the image's difference; and of two pixels that are
    equally near another one is taken now and then, which changes the weights all around.
    """
    exact = device == "cpu" or is_simulated()
    atol, flipped = (1e-5, 0.0) if exact else (1e-4, 1e-3)  # of a label's pixels
    ids["tiles_per_epoch"] = tiles
    alone = parsed(data, names, "cpu", **ids).get_parsed_content("train::dataset")
    keeper = {"_target_": "unet_med.data.ImageCache", "device": f"$torch.device('{device}')"}
    ways = prepared(data, names, device, **ids), prepared(data, names, device, cache=keeper, **ids)
    position = changed = weighed = 0
    for (sent, image, target), (held, *found) in zip(*ways, strict=True):
        assert set(sent) == {*BOTH, DRAWS}
        assert set(held) == {LINES, DRAWS}
        assert torch.equal(held[DRAWS], sent[DRAWS])
        assert torch.equal(found[0], image)
        assert torch.equal(found[1], target)
        for here, pair, undone in zip(image, target, sent["image"], strict=True):
            item = alone[position]
            differ = pair[:1] != item["label"].float()
            assert differ.double().mean() <= flipped, position
            torch.testing.assert_close(here, item["image"], rtol=0, atol=atol)
            if not differ.any():
                torch.testing.assert_close(pair[1:], item["weight"], rtol=1e-5, atol=1e-5)
                weighed += 1
            changed += not torch.equal(here, undone)
            position += 1
    assert position == tiles
    assert changed > tiles // 2
    assert weighed > tiles // 2


@pytest.mark.parametrize(
    ("names", "tiles", "ids"),
    [
        ([], 60, {}),
        ([], 48, ALWAYS),
        (["modern"], 48, {}),
        (["modern"], 24, {"rare": [1], "rare_share": 0.5}),
        (["modern"], 24, {**ZOOMED, "augment::zoom::prob": 1.0}),
        (["modern"], 44, {**ALWAYS, "augment::elastic::kernel": "bspline"}),
    ],
)
def test_the_device_makes_the_tiles_of_the_workers(
    names: list[str], tiles: int, ids: dict[str, Any], cells: Path
) -> None:
    compare(cells, names, tiles, "cpu", **SMALL, **ids)


@pytest.mark.parametrize("ids", [{}, ALWAYS, {**ZOOMED, "augment::zoom::prob": 1.0}])
def test_the_device_makes_the_volumes_of_the_workers(ids: dict[str, Any], volumes: Path) -> None:
    size = {"spatial_dims": 3, "tile_size": [20, 20, 10]}
    compare(volumes, ["modern", "volume3d", "modern3d"], 12, "cpu", **size, **ids)


@pytest.mark.parametrize("axes", [None, [0, 2], []])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("preset", presets())
def test_every_recipe_resamples_once_and_leaves_it_to_a_gpu(
    preset: str, dims: int, axes: list[int] | None, volumes: Path
) -> None:
    names = [path.stem for path in _recipes(preset, dims)]
    size = {"spatial_dims": dims, "tile_size": [20, 20, 10][:dims], "mirror_axes": axes}
    kinds = {}
    for device in ("cpu", "cuda"):
        parser = parsed(volumes, names, device, preset=preset, **size)
        augmenting = parser.get_parsed_content("augmenting")
        kinds[device] = [type(step) for step in compose([augmenting.in_workers]).transforms]
        assert (augmenting.on_batches is not None) == (device == "cuda")
    assert kinds["cpu"][-3:] == [DrawRotation, Deform, RandGreyValued]
    assert kinds["cuda"][-3:] == [DrawRotation, DrawDeformation, DrawCurve]
    assert kinds["cuda"][0] == CutTile
    assert {*kinds["cuda"][1:-3]} <= {Flip, QuarterTurn}


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("names", "ids"),
    [([], {}), (["modern"], {}), (["modern"], {"rare": [1]}), (["modern"], ZOOMED)],
)
def test_a_gpu_makes_the_tiles_of_the_workers(
    names: list[str], ids: dict[str, Any], cells: Path
) -> None:
    compare(cells, names, 24, "cuda", **SMALL, **ALWAYS, **ids)


@pytest.mark.gpu
def test_a_gpu_makes_the_volumes_of_the_workers(volumes: Path) -> None:
    size = {"spatial_dims": 3, "tile_size": [20, 20, 10]}
    compare(volumes, ["modern", "volume3d", "modern3d"], 8, "cuda", **size, **ALWAYS)
