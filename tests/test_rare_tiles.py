"""Tiles that are drawn around rare pixels, against labels whose few pixels are known."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose, RandFlipd, RandRotate90d

from unet_med.data import EpochSampler, ImageCache, SeededDataset, save_image
from unet_med.data.entries import CENTRE, KNOWN, LINES, PLACES
from unet_med.planning import DataFolder, Plan, describe, fingerprint, lay_bundle, make_plan
from unet_med.transforms import RandElasticDeformd, RandGreyValued, RandTileCropd, RarePlacesd
from unet_med.transforms.draws import CutTile, DrawCurve, DrawDeformation, Flip, QuarterTurn
from unet_med.workflows import UNetTrainWorkflow

BOTH = ["image", "label"]
SIDE, TILE, MIDDLE = 60, 8, 6  # px; without a middle it would be half the tile
TILES = 600


def images(*lesions: dict[tuple[int, ...], int], dims: int = 2) -> list[dict[str, Any]]:
    """Every pixel of an image is another number; labels are 0 but for some pixels."""
    items = []
    for values in lesions:
        image = torch.arange(SIDE**2 if dims == 2 else 12**3).float()
        label = torch.zeros(1, *[SIDE if dims == 2 else 12] * dims, dtype=torch.int64)
        for place, value in values.items():
            label[(0, *place)] = value
        items.append({"image": MetaTensor(image.reshape(label.shape)), "label": MetaTensor(label)})
    return items


def steps(values: list[int], ignore: int | None = None) -> list[Any]:
    places = [RarePlacesd("label", values)] if values else []
    return [*places, RandTileCropd(BOTH, TILE, ignore=ignore, middle=MIDDLE)]


def tiles(items: list[dict[str, Any]], chain: list[Any], share: float = 1 / 3, **more: Any) -> Any:
    return SeededDataset(items, Compose(chain), tiles_per_epoch=TILES, rare_share=share, **more)


def middle(item: dict[str, Any]) -> torch.Tensor:
    """Labels where a tile's rare pixel lies."""
    part = slice((TILE - MIDDLE) // 2, (TILE + MIDDLE) // 2)
    return item["label"][(0, *[part] * (item["label"].ndim - 1))].as_tensor()


@pytest.mark.parametrize("share", [1 / 3, 0.0])
def test_without_a_cache_it_is_said(share: float, caplog: pytest.LogCaptureFixture) -> None:
    items = images({(30, 30): 1})
    tiles(items, steps([1]), share, cache=False)
    said = "no tile is drawn around rare pixels (rare, rare_share 0.333333): with cache false"
    assert (said in caplog.text) == (share > 0)
    caplog.clear()
    tiles(items, steps([]), cache=False)
    assert not caplog.text


# --- where they are


@given(
    arrays.arrays(
        np.int64, arrays.array_shapes(min_dims=2, max_dims=3), elements=st.integers(0, 4)
    ),
    st.sets(st.integers(0, 5), min_size=1),
    st.booleans(),
)
def test_places_are_those_of_a_loop(label: np.ndarray, values: set[int], objects: bool) -> None:
    wanted = [1] if objects else sorted(values)
    found = RarePlacesd("label", wanted, objects=objects)({"label": torch.from_numpy(label)[None]})
    most = max(1, label.size // (16 * len(wanted)))
    for value in wanted:
        every = [k for k, v in enumerate(label.flat) if (v > 0 if objects else v == value)]
        own = found[PLACES][1][found[PLACES][0] == value].tolist()
        assert own == sorted({*own})
        assert {*own} <= {*every}
        assert len(own) == min(most, len(every))


def test_they_take_less_than_the_label() -> None:
    label = torch.zeros(1, 400, 400, 8, dtype=torch.uint8)
    label[..., :3] = 1
    label[..., 3:6] = 2
    label[..., 6] = 255  # nobody knows it
    places = RarePlacesd("label", [1, 2])({"label": label})[PLACES]
    assert Counter(places[0].tolist()) == {1: 10_000, 2: 10_000}
    assert places.nbytes < label.nbytes
    planes = Counter((places[1][places[0] == 1] % 8).tolist())
    assert {*planes} == {0, 1, 2}
    assert min(planes.values()) > 3000


@pytest.mark.parametrize(("values", "objects"), [([], False), ([-1], False), ([1, 2], True)])
def test_values_that_cannot_be_rare(values: list[int], objects: bool) -> None:
    with pytest.raises(ValueError, match=r"rare values \[.*\] cannot be; give "):
        RarePlacesd("label", values, objects=objects)


# --- what is drawn


def test_a_third_of_the_tiles_and_each_value_alike() -> None:
    """Value 1 in two of four images, 2 at a corner of one, and many pixels of 1 in one of them."""
    many = {(x, y): 1 for x in range(20, 40) for y in range(30, 33)}
    dataset = tiles(images({(30, 30): 1}, many, {(0, 59): 2}, {}), steps([1, 2]))
    held = Counter(
        value for k in range(TILES) for value in set(middle(dataset[k]).unique().tolist())
    )
    lone = sum(bool((dataset[k]["image"] == 30 * SIDE + 30).any()) for k in range(TILES)
               if (dataset.source(k)["label"] == 1).sum() == 1)  # fmt: skip
    assert 80 < held[2] < 125  # 100 of 600, and a few that chance makes
    assert 80 < held[1] < 135
    assert 35 < lone < 70  # of the 100 half, although it has one pixel of 61


def test_the_pixel_lies_anywhere_in_the_middle() -> None:
    dataset = tiles(images({(30, 30): 1}), steps([1]), share=1.0)
    found = Counter(tuple(*(middle(dataset[k]) == 1).nonzero().tolist()) for k in range(TILES))
    assert set(found) == {(x, y) for x in range(MIDDLE) for y in range(MIDDLE)}
    assert min(found.values()) > TILES / MIDDLE**2 / 3


def test_all_other_tiles_are_what_they_were() -> None:
    items = images({(30, 30): 1}, {(5, 5): 2}, {})
    plain = tiles(items, steps([]))
    assert plain._rare is None  # though a share is asked for, nothing is rare
    rare = tiles(items, steps([1, 2]))
    same = [
        all(torch.equal(plain[k][key], rare[k][key]) for key in BOTH) and CENTRE not in rare[k]
        for k in range(TILES)
    ]
    assert TILES * 0.6 < sum(same) < TILES * 0.73
    assert all((middle(rare[k]) > 0).any() for k in range(TILES) if not same[k])


def test_known_pixels_of_partly_annotated_images_are_kept() -> None:
    items = images({(30, 30): 1, (31, 30): 0, (7, 50): 0})
    label = items[0]["label"]
    known = torch.zeros_like(label, dtype=torch.bool)
    known[0, 30:32, 30], known[0, 7, 50] = True, True
    items[0]["label"] = torch.where(known, label, -1)
    dataset = tiles(items, steps([1], ignore=-1))
    found = [middle(dataset[k]) for k in range(TILES)]
    assert all((part >= 0).any() for part in found)
    ones = sum(bool((part == 1).any()) for part in found)
    assert 0.33 + 0.67 * 0.45 < ones / TILES < 0.33 + 0.67 * 0.85  # of the others two in three


@pytest.mark.parametrize("ignore", [None, -1])
@pytest.mark.parametrize("value", [3, "Ulm"])
def test_entries_of_a_users_list_change_no_tile(ignore: int | None, value: Any) -> None:
    """A list may say of each image in which centre it was taken, and keeps that."""
    theirs = dict.fromkeys(["centre", "places", "known", "lines", "draws"], value)
    items = images({(30, 30): 1}, {(5, 5): 2})

    def chain() -> list[Any]:
        drawn = DrawDeformation(RandElasticDeformd(BOTH)), DrawCurve(RandGreyValued("image"))
        return [*of_lines([*steps([1, 2], ignore), RandFlipd(BOTH, 0.5)]).transforms, *drawn]

    plain = tiles(items, chain())
    listed = tiles([{**item, **theirs} for item in items], chain())
    for position in range(12):
        expected, found = plain[position], listed[position]
        assert {key: found.pop(key) for key in theirs} == theirs
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)


def test_tiles_of_earlier_images_keep_their_turns() -> None:
    new, old = images({(30, 30): 1}, {}), images({}, {}, {(9, 9): 2})
    dataset = tiles(new, steps([1, 2]), replayed=old)
    for k in range(TILES):
        values = set(middle(dataset[k]).unique().tolist())
        assert values <= ({0, 1} if k % 2 == 0 else {0, 2})
    drawn = [dataset._rare.draw(0, k, k % 2) for k in range(TILES)]
    assert {rare.value for rare in drawn if rare is not None} == {1, 2}


# --- however it is applied


def of_lines(chain: list[Any]) -> Compose:
    kinds = {RandTileCropd: CutTile, RandFlipd: Flip, RandRotate90d: QuarterTurn}
    return Compose([kinds.get(type(step), lambda same: same)(step) for step in chain])


@given(st.integers(2, 3), st.sampled_from([None, -1]), st.integers(0, 3))
@settings(max_examples=8)
def test_the_device_cuts_the_tiles_of_the_workers(dims: int, ignore: int | None, seed: int) -> None:
    items = images({(11,) * dims: 1, (3,) * dims: 2}, {(0,) * dims: 2}, {}, dims=dims)
    items[0]["label"][0, :2] = -1

    def chain() -> list[Any]:
        turns = [RandFlipd(BOTH, prob=0.5), RandRotate90d(BOTH, prob=0.75)]
        return [*steps([1, 2], ignore), *turns]

    pixels = tiles(items, chain(), seed=seed)
    cache = ImageCache(device=torch.device("cpu"))
    lines = SeededDataset(items, of_lines(chain()), seed=seed, tiles_per_epoch=TILES, cache=cache,
                          rare_share=1 / 3)  # fmt: skip
    assert lines.on_device is not None
    assert [set(item) for item in lines.on_device.kept] == [
        {PLACES, *["label", KNOWN] * bool(ignore)}
    ] * 3
    for position in range(12):
        expected, found = pixels[position], lines[position]
        assert set(found) == {LINES}
        tile = lines.on_device.tiles([line[None] for line in found[LINES]])
        for key in BOTH:
            assert torch.equal(tile[key][0].to(expected[key].dtype), expected[key].as_tensor())


@pytest.mark.parametrize("workers", [0, 2])
def test_files_and_workers_change_no_tile(workers: int, tmp_path: Path) -> None:
    items = images({(30, 30): 1}, {(5, 5): 2}, {})
    memory = tiles(items, steps([1, 2]))
    files = tiles(items, steps([1, 2]), cache=ImageCache(tmp_path))
    assert len(list(tmp_path.iterdir())) == 3
    sampler = EpochSampler(files)
    loader = DataLoader(files, sampler=sampler, batch_size=1, num_workers=workers)
    for k, item in enumerate(loader):
        assert set(item) == set(BOTH)
        for key in BOTH:
            assert torch.equal(item[key][0].as_tensor(), memory[k][key].as_tensor())
        if k == 40:
            break


# --- what the plan decides


def write(folder: Path, labels: list[np.ndarray], names: dict[str, str] | None = None) -> Path:
    """Images and labels `(X, Y)`, beside one another."""
    for k, label in enumerate(labels):
        image = np.random.default_rng(k).integers(0, 200, label.shape).astype(np.uint8)
        for part, array in (("images", image), ("labels", label)):
            save_image(folder / part / f"{k}.tif", array, has_channels=False)
    return folder


def classes(*shares: float) -> np.ndarray:
    """100 x 100 px, of which value `k + 1` covers a share in blocks."""
    label = np.zeros(10_000, np.uint8)
    first = 0
    for k, share in enumerate(shares):
        label[first : first + round(share * 10_000)] = k + 1
        first += round(share * 10_000)
    return label.reshape(100, 100)


def plan_of(folder: Path, **choices: Any) -> Plan:
    return make_plan(fingerprint(folder / "images", folder / "labels"), choices)


def test_classes_that_cover_little_are_rare(tmp_path: Path) -> None:
    """1 and 3 cover 0.5 and 0.01 %, 2 covers 4 %, and of 255 nothing is known."""
    label = classes(0.01, 0.08, 0.0002)
    label[50:] = np.where(label[50:] == 0, 255, label[50:])
    blank = np.zeros_like(label)
    plan = plan_of(write(tmp_path, [label, blank] * 2), label_kind="classes")
    assert plan.value("rare") == [1, 3]
    assert plan.ids["rare"].reason == (
        "of the pixels 1 covers 0.67 %, 3 covers 0.013 %: some tiles (rare_share) are drawn "
        "around these"
    )
    assert plan.value("augment::crop::middle")["_target_"] == "unet_med.networks.output_sides"
    assert plan.value("augment::crop::ignore") == 255
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert "rare      of the pixels 1 covers 0.67 %" in describe(plan)


def test_classes_in_few_images_are_rare(tmp_path: Path) -> None:
    """However much they cover there: a tile of another image holds none."""
    folder = write(tmp_path, [classes(0.3, 0.4), *[classes(0.3)] * 3])
    plan = plan_of(folder, label_kind="classes")
    assert plan.value("rare") == [2]
    assert plan.ids["rare"].reason == (
        "2 is in 1 of 4 images: some tiles (rare_share) are drawn around these"
    )
    assert "augment::crop::middle" in plan.ids
    write(tmp_path / "third", [classes(0.3, 0.4), *[classes(0.3)] * 2])
    assert plan_of(tmp_path / "third", label_kind="classes").value("rare") is None
    write(tmp_path / "mask", [classes(0.3), *[classes(0.0)] * 3])
    plan = plan_of(tmp_path / "mask")
    assert (plan.value("label_kind"), plan.value("rare")) == ("mask", [1])
    write(tmp_path / "both", [classes(0.3, 0.4, 0.001), *[classes(0.3)] * 3])
    plan = plan_of(tmp_path / "both", label_kind="classes")
    assert plan.value("rare") == [2, 3]
    assert plan.ids["rare"].reason.startswith("of the pixels 3 covers 0.025 %; 2 is in 1 of 4")


@pytest.mark.parametrize(("kind", "rare"), [("classes", [2]), ("instances", [1])])
def test_planes_of_a_stack_count_as_images(kind: str, rare: list[int], tmp_path: Path) -> None:
    """One file of twelve planes: three hold what all of them together have 4 % of, or more."""
    planes = [np.full((40, 40), 0 if kind == "instances" else 1, np.uint8) for _ in range(12)]
    for k, plane in enumerate(planes):
        plane[20:] = 0
        plane[:10, :30] = 2 if k in (3, 4, 9) else plane[:10, :30]
    stack = np.stack(planes, axis=-1)
    for part, array in (("images", stack.astype(np.float32)), ("labels", stack)):
        save_image(tmp_path / part / "a.tif", array, has_channels=False)
    plan = plan_of(tmp_path, label_kind=kind, spatial_dims=2)
    assert plan.value("rare") == rare
    found = "2" if kind == "classes" else "foreground"
    assert f"{found} is in 3 of 12 images" in plan.ids["rare"].reason
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert plan_of(tmp_path, label_kind=kind, spatial_dims=3).value("rare") is None  # one image
    known = plan.data.cases[0]
    earlier = replace(plan.data, cases=(replace(known, in_planes={}, empty=None),))
    asked = {"label_kind": kind, "spatial_dims": 2}
    assert make_plan(earlier, asked).value("rare") is None  # of an earlier version


def test_numbers_are_those_of_the_network(tmp_path: Path) -> None:
    label = np.array([0, 10, 40], np.uint8)[classes(0.04, 0.002)]
    assert plan_of(write(tmp_path, [label] * 3), label_kind="classes").value("rare") == [2]


@pytest.mark.parametrize(("objects", "rare"), [(1, [1]), (60, None)])
def test_objects_that_cover_little_are_rare(
    objects: int, rare: list[int] | None, tmp_path: Path
) -> None:
    """Blobs of 9 px: of 4 x 300 numbers no frequencies are kept."""
    labels = []
    for k in range(4):
        label = np.zeros((300, 300), np.uint16)
        for n in range(10 * objects):
            x, y = divmod(n, 40)
            label[6 * x : 6 * x + 3, 6 * y : 6 * y + 3] = 300 * k * (objects > 1) + n + 1
        labels.append(label)
    folder = write(tmp_path, labels)
    found = fingerprint(folder / "images", folder / "labels")
    assert bool(found.frequencies) == (objects == 1)
    assert found.covered == pytest.approx(90 * objects / 90_000)
    plan = make_plan(found, {"label_kind": "instances"})
    assert plan.value("rare") == rare
    if rare is None:
        assert plan.ids["rare"].reason == "nothing covers less than 2% of the pixels"
        assert "augment::crop::middle" not in plan.ids
    assert make_plan(replace(found, covered=None)).value("rare") is None  # of an earlier version


def test_what_is_asked_for_holds(tmp_path: Path) -> None:
    folder = write(tmp_path, [classes(0.3, 0.001)] * 3)
    asked = {"label_kind": "classes", "rare_share": 0.5}
    plan = plan_of(folder, **asked, rare=[1])
    assert (plan.value("rare"), plan.ids["rare"].reason) == ([1], "as asked")
    assert plan.value("rare_share") == 0.5
    assert "augment::crop::middle" in plan.ids
    assert plan_of(folder, **asked, rare=[]).value("rare") == []
    (tmp_path / "own.json").write_text('{"rare": null}')
    found = fingerprint(folder / "images", folder / "labels")
    assert make_plan(found, asked, overrides=[tmp_path / "own.json"]).value("rare") is None
    assert "rare" not in plan_of(folder, preset="paper2015").ids


def test_a_planned_training_draws_them(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", [classes(0.3, 0.001)] * 3)
    small = {"features": [2, 4], "tile_size": 26, "num_workers": 0}
    for name, rare in (("with", {}), ("without", {"rare": []})):
        plan = plan_of(folder, label_kind="classes", **small, **rare)
        place = DataFolder.of(folder / "images", folder / "labels").settings("images", "labels")
        workflow = UNetTrainWorkflow(lay_bundle(plan, tmp_path / name), **place, device="cpu")
        workflow.initialize()
        dataset = workflow.parser.get_parsed_content("train::dataset")
        held = sum(bool((dataset[k]["label"] == 2).any()) for k in range(120))  # a third are 40
        assert {"with": 28 <= held < 60, "without": held < 20}[name], held
        assert set(dataset[0]) == {"image", "label", "weight"}
