"""What the plan makes of thick slices: poolings, kernels, tiles, and lengths in one unit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unet_med import bundle
from unet_med.data import SyntheticCells, save_image
from unet_med.networks import UNet, output_sides
from unet_med.planning import Fingerprint, describe, fingerprint, make_plan
from unet_med.planning.objects import decide_grow
from unet_med.planning.sizes import in_proportion
from unet_med.planning.thick_slices import decide_rotation, decide_spacing, halve_the_finest
from unet_med.transforms import BorderWeightMap, RandElasticDeform

FEATURES = [2, 2, 2, 2]


@pytest.fixture(scope="module")
def thick(tmp_path_factory: pytest.TempPathFactory) -> Fingerprint:
    folder = tmp_path_factory.mktemp("thick")
    cells = SyntheticCells(2, (40, 48, 12), spacing=(0.5, 0.5, 2.5), num_cells=4, axial_blur=3.0)
    cells.write(folder)
    return fingerprint(folder / "images", folder / "labels")


def with_voxels(found: Fingerprint, size: Any, shape: Any = (512, 512, 100)) -> Fingerprint:
    """The same files, had they other voxels and sides."""
    cases = [
        replace(case, image=replace(case.image, pixel_size=tuple(size), shape=tuple(shape)))
        for case in found.cases
    ]
    return replace(found, cases=tuple(cases))


def decided(found: Fingerprint, **choices: Any) -> Any:
    return make_plan(found, {"features": FEATURES, "label_kind": "instances", **choices})


def test_thick_slices_are_pooled_last(thick: Fingerprint) -> None:
    plan = decided(thick)
    assert plan.value("spacing") == [1.0, 1.0, 5.0]
    assert plan.value("pool") == [[2, 2, 1], [2, 2, 1], 2]
    assert plan.value("kernel_size") == [[3, 3, 1], [3, 3, 1], 3, 3]
    assert "voxels of 0.5 x 0.5 x 2.5 um" in plan.ids["spacing"].reason
    assert "one axis is 5 times as coarse" in plan.ids["pool"].reason
    assert "pooled    by 2 x 2 x 1, 2 x 2 x 1, 2: one axis" in describe(plan)
    assert plan.value("augment::rotate::range_z") == 0.262  # within the slices alone
    assert plan.value("augment::rotate::range_x") == 0.0


@pytest.mark.parametrize(
    ("size", "spacing", "pool", "kernels"),
    [
        ((0.5, 0.5, 0.5), None, None, None),
        ((0.5, 0.5, 0.52), None, None, None),
        ((0.5, 0.5, 0.9), [1.0, 1.0, 1.8], None, None),
        ((0.5, 0.5, 1.0), [1.0, 1.0, 2.0], [[2, 2, 1], 2, 2], [[3, 3, 1], 3, 3, 3]),
        ((0.5, 0.5, 5.0), [1.0, 1.0, 10.0], [[2, 2, 1]] * 3, [[3, 3, 1]] * 3 + [3]),
        ((3.0, 1.0, 1.0), [1.0, 1.0, 3.0], [[2, 2, 1], 2, 2], [[3, 3, 1], 3, 3, 3]),
    ],
)
def test_levels_follow_the_voxel(
    thick: Fingerprint, size: Any, spacing: Any, pool: Any, kernels: Any
) -> None:
    plan = decided(with_voxels(thick, size, (100, 100, 100)), scale=1)
    found = [plan.value(id) for id in ("spacing", "pool", "kernel_size")]
    assert found == [spacing, pool, kernels]  # RAS with the coarsest axis last


@pytest.mark.parametrize(
    ("size", "shape", "features"),
    [
        (0.5, (100, 100, 48), [8, 16, 32, 64, 128]),
        (0.5, (100, 100, 47), [8, 16, 32, 64]),  # no room
        ((0.5, 0.5, 2.5), (100, 100, 48), [8, 16, 32, 64]),  # pooled by axis
    ],
)
def test_even_volumes_with_room_get_a_level_more(
    thick: Fingerprint, size: Any, shape: Any, features: list[int]
) -> None:
    found = with_voxels(thick, np.broadcast_to(size, 3).tolist(), shape)
    choices = {"label_kind": "instances", "scale": 1}
    assert make_plan(found, choices).value("features") == features
    asked = make_plan(found, {**choices, "features": [8, 16, 32, 64]})
    assert asked.value("features") == [8, 16, 32, 64]
    assert make_plan(found, choices, device="cuda").value("features") is None
    assert make_plan(found, {**choices, "preset": "cicek2016"}).value("features")[-1] == 64


def test_who_asks_is_heard(thick: Fingerprint, tmp_path: Path) -> None:
    plan = decided(thick, pool=2, spacing=[1, 1, 4])
    assert [plan.value(id) for id in ("pool", "kernel_size", "spacing")] == [2, None, [1, 1, 4]]
    assert plan.ids["pool"].reason == "as asked"
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"spacing": None}))
    plan = make_plan(thick, {"features": FEATURES}, overrides=[other])
    assert (plan.value("spacing"), plan.value("pool")) == (None, None)
    for choices in ({"preset": "paper2015"}, {"spatial_dims": 2}):
        assert decided(thick, **choices).value("pool") is None
    foreign = make_plan(thick, {"label_kind": "instances"}, overrides=["basicunet"])
    assert foreign.value("pool") is None
    assert foreign.value("spacing") == [1.0, 1.0, 5.0]
    silent = replace(thick, cases=tuple(
        replace(case, image=replace(case.image, pixel_size_source="assumed"))
        for case in thick.cases
    ))  # fmt: skip
    assert decided(silent).value("spacing") == [1.0, 1.0, 2.6]  # the cells are as flat
    assert decided(replace(silent, instances=None)).value("spacing") is None


def test_larger_working_voxels_count(thick: Fingerprint) -> None:
    plan = decided(thick, element_size=[1.0, 1.0, 2.5])
    assert plan.value("spacing") == [1.0, 1.0, 2.5]
    assert plan.value("pool") == [[2, 2, 1], 2, [2, 2, 1]]
    assert decided(thick, scale=[0.2, 0.2, 1.0]).value("spacing") is None


@given(
    spacing=st.lists(st.sampled_from([1.0, 1.3, 2.0, 3.0, 5.0, 10.0]), min_size=3, max_size=3),
    shape=st.lists(st.integers(1, 300), min_size=3, max_size=3),
    depth=st.integers(1, 4),
)
def test_levels_are_nnunets(spacing: Any, shape: Any, depth: int) -> None:
    pool, kernels = halve_the_finest(spacing, shape, depth)
    with torch.device("meta"):
        net = UNet(3, features=[2] * (depth + 1), pool=pool, kernel_size=kernels)
    assert [axis.kernels[-1] for axis in net.axes] == [3] * 3
    found = [[list(of) for of in zip(*rows, strict=True)] for rows in (
        (axis.pools for axis in net.axes), (axis.kernels[:-1] for axis in net.axes)
    )]  # fmt: skip
    assert found == nnunets_levels(spacing, shape, depth)


def nnunets_levels(spacing: Any, shape: Any, depth: int) -> list[Any]:
    """`get_pool_and_conv_props` of nnU-Net 2, of so many levels; no side is short but a coarse one.

    Kernels are set to 3 when their axis comes within a factor of 2 of the finest, and stay so.
    """
    size, sides = [*spacing], [*shape]
    coarse = [axis for axis in range(3) if size[axis] >= 2 * min(size)]
    kernels, pools, kernel = [], [], [1] * 3
    for _ in range(depth):
        valid = [axis for axis in range(3) if axis not in coarse or sides[axis] >= 2 * 4]
        finest = min(size[axis] for axis in valid)
        valid = [axis for axis in valid if size[axis] / finest < 2]
        kernel = [3 if size[axis] / min(size) < 2 else kernel[axis] for axis in range(3)]
        pool = [2 if axis in valid else 1 for axis in range(3)]
        size = [side * factor for side, factor in zip(size, pool, strict=True)]
        sides = [math.ceil(side / factor) for side, factor in zip(sides, pool, strict=True)]
        pools.append(pool)
        kernels.append(kernel)
    return [pools, kernels]


def test_no_axis_waits_for_one_of_few_slices() -> None:
    """Five slices of 3 px, two levels later the shortest sides of all, were pooled to two."""
    pool, kernels = halve_the_finest((1, 1, 3), (96, 96, 5), 4)
    assert pool == [[2, 2, 1]] * 4
    assert kernels == [[3, 3, 1], 3, 3, 3, 3]


def test_the_spacing_is_that_of_the_median_voxel_whatever_the_units(thick: Fingerprint) -> None:
    sizes = [((1, 1, 2), "um"), ((1, 1, 3), "um"), ((0.001, 0.001, 0.009), "mm")]
    image = thick.cases[0].image
    images = [replace(image, pixel_size=size, unit=unit) for size, unit in sizes]
    cases = tuple(replace(thick.cases[0], image=image) for image in images)
    decision = decide_spacing(replace(thick, cases=cases), {"spatial_dims": 3})
    assert decision.value == [1.0, 1.0, 3.0]
    assert decision.reason.startswith("voxels of 1 x 1 x 3 um")


@given(
    spacing=st.lists(st.sampled_from([1.0, 1.5, 3.0, 5.0, 10.0]), min_size=3, max_size=3),
    shape=st.lists(st.integers(1, 600), min_size=3, max_size=3),
)
def test_tiles_are_a_steps_load_and_as_long_as_images_allow(spacing: Any, shape: Any) -> None:
    sides = in_proportion(shape, spacing, 64)
    assert all(1 <= side <= length for side, length in zip(sides, shape, strict=True))
    assert np.prod(sides) <= 64**3
    lengths = np.multiply(sides, spacing)
    cut = np.array([side < length for side, length in zip(sides, shape, strict=True)])
    if cut.any():  # what an image cuts off, the others have, alike but for whole voxels
        assert lengths[cut].max() <= lengths[cut].min() + max(spacing)
        assert lengths[~cut].max(initial=0) <= lengths[cut].max() + max(spacing)


def test_a_tile_covers_as_much_in_depth_as_in_the_plane(thick: Fingerprint) -> None:
    plan = decided(with_voxels(thick, (0.5, 0.5, 2.5)), scale=1)
    assert plan.value("tile_size") == [112, 112, 22]  # 109 x 109 x 21, to the stride
    even = decided(with_voxels(thick, (0.5, 0.5, 0.5)), scale=1)
    assert even.value("tile_size") == [64, 64, 64]


def flat_balls(times: int) -> np.ndarray:
    """Twelve balls of 20 px, whose planes lie so many times as far apart as pixels; numbered."""
    x, y, z = np.indices((96, 72, 24 // times * 2))
    off = ((x % 24 - 11.5) ** 2 + (y % 24 - 11.5) ** 2) + (
        (z % (24 // times) + 0.5) * times - 12
    ) ** 2
    number = x // 24 * 6 + y // 24 * 2 + z // (24 // times) + 1
    return np.where(off < 10**2, number, 0).astype(np.uint16)


@pytest.mark.parametrize(
    ("times", "choices", "spacing", "pool"),
    [
        (1, {}, None, None),
        (4, {}, 4.0, [[2, 2, 1], [2, 2, 1], 2]),
        (4, {"scale": [0.5, 0.5, 1.0]}, 2.0, [[2, 2, 1], 2, [2, 2, 1]]),  # 4 planes stay
        (4, {"label_kind": "classes", "out_channels": 25}, None, None),
        (4, {"preset": "cicek2016"}, None, None),
        (4, {"spacing": [1, 1, 1]}, 1, None),
    ],
    ids=["even", "flat", "flat, made smaller", "classes", "of a paper", "told"],
)
def test_flat_objects_say_how_thick_planes_are_where_no_file_does(
    tmp_path: Path, times: int, choices: dict[str, Any], spacing: float | None, pool: Any
) -> None:
    label = flat_balls(times)
    for k in range(2):
        for part, array in (("images", label.astype(np.float32)), ("labels", label)):
            save_image(tmp_path / part / f"{k}.tif", array, has_channels=False)
    found = fingerprint(tmp_path / "images", tmp_path / "labels")
    assert not any(case.image.states_size for case in found.cases)
    plan = decided(found, **{"spatial_dims": 3, "scale": 1, **choices})
    rest = None if spacing is None else [1, 1, pytest.approx(spacing, rel=0.15)]
    assert plan.value("spacing") == rest
    assert plan.value("pool") == pool
    assert plan.value("grow") == ([2, 2, 1] if pool else None)
    said = "not all files say their voxel size, but the median object is"
    assert (said in plan.ids["spacing"].reason) == (pool is not None)


def test_objects_grow_by_a_slice_where_slices_are_thick(thick: Fingerprint) -> None:
    """Two pixels in the plane; two slices would be half an object of four."""
    assert decided(thick).value("grow") == [2, 2, 1]
    assert decided(thick).value("threshold") == 0.8  # of planes 0.6
    assert decide_grow("instances", (1.0, 1.0, 1.2)) == {}  # 2 / 1.2 px are 2
    assert decide_grow("instances", None) == decide_grow("classes", (1, 1, 9)) == {}
    assert "grow" not in decided(thick, spacing=[1, 1, 1]).ids
    assert decided(thick, grow=3).value("grow") == 3


def test_no_slice_is_turned_into_another() -> None:
    recipe = {"spatial_dims": 3, "augment::rotate::range_x": 0.0, "augment::rotate::range_z": 0.2}
    assert decide_rotation(None, recipe) == {}
    assert decide_rotation([1, 1, 5], recipe) == {}
    assert decide_rotation([1, 2.9, 9], recipe) == {}
    turned = {
        id.rpartition("_")[2]: why.value for id, why in decide_rotation([4, 1, 1], recipe).items()
    }
    assert turned == {"x": 0.2, "y": 0.0, "z": 0.0}
    assert decide_rotation([1, 4, 16], recipe)["augment::rotate::_disabled_"].value is True


def test_one_spacing_reaches_weights_and_the_elastic_field(thick: Fingerprint) -> None:
    ids = {id: why.value for id, why in decided(thick).ids.items()}
    train = bundle.find_bundle() / "configs" / "train.json"
    parser, network = bundle.network_of(bundle.merge_config(train, [], ids))
    assert (network.stride, network.depth) == ((8, 8, 2), 3)
    border = parser.get_parsed_content("weigh::border")
    elastic = parser.get_parsed_content("augment::elastic")
    assert border.rule.spacing == elastic.drawn.spacing == [1.0, 1.0, 5.0]


def test_an_elastic_field_is_as_strong_along_all_axes() -> None:
    field = RandElasticDeform(sigma=10.0, spacing=(1.0, 1.0, 5.0)).set_random_state(3)
    plain = RandElasticDeform(sigma=10.0).set_random_state(3)
    shares = torch.tensor([1.0, 1.0, 0.2]).view(3, 1, 1, 1)
    image = torch.zeros(1, 12, 10, 8)
    for each in (field, plain):
        each.randomize(image)
    torch.testing.assert_close(field.displacement(image), plain.displacement(image) * shares)
    one = RandElasticDeform(sigma=(10.0, 5.0, 5.0), spacing=2.0).set_random_state(3)
    one.randomize(image)
    halves = torch.tensor([0.5, 0.25, 0.25]).view(3, 1, 1, 1)
    torch.testing.assert_close(one.displacement(image), plain.displacement(image) * halves)


def test_a_border_weighs_by_its_width_in_space() -> None:
    label = np.zeros((9, 9, 9), np.int32)
    label[:, :, :3], label[:, :, 5:] = 1, 2  # 2 px apart along z
    label[:, 6:, :] = 0
    thin = BorderWeightMap(class_weights=(1, 1))(label)[4, 2, 3]
    thick = BorderWeightMap(class_weights=(1, 1), spacing=(1, 1, 5))(label)[4, 2, 3]
    assert thin == pytest.approx(1 + 10 * np.exp(-(3**2) / 50), rel=1e-5)  # 1 px and 2 px
    assert thick == pytest.approx(1 + 10 * np.exp(-(15**2) / 50), rel=1e-5)


def test_blur_along_the_light_leaves_the_rest_alone() -> None:
    options: Any = {"num_cells": 5, "kind": "fluorescence", "noise": 0.0, "seed": 4}
    sharp, blurred = (
        SyntheticCells(1, (20, 20, 20), axial_blur=blur, **options)[0] for blur in (1.0, 4.0)
    )
    assert torch.equal(sharp["label"], blurred["label"])
    rough = [
        [float(item["image"].diff(dim=axis).square().mean()) for axis in (1, 2, 3)]
        for item in (sharp, blurred)
    ]
    assert rough[1][2] < 0.5 * rough[0][2]  # along z
    assert rough[1][2] < 0.5 * rough[1][0]
    assert torch.equal(SyntheticCells(1, (20, 20, 20), **options)[0]["image"], sharp["image"])
    with pytest.raises(ValueError, match="axial_blur 2 for 2 axes; it is 0 or more, of volumes"):
        SyntheticCells(1, (20, 20), axial_blur=2)


@pytest.mark.parametrize("tile", [44, [44, 60, 36]])
def test_sides_of_the_output_are_those_that_come_out(tile: Any) -> None:
    """Of a tile with one side for all axes too, whose output is not the same along all."""
    options: dict[str, Any] = {"pool": [[2, 2, 1], 2], "kernel_size": [[3, 3, 1], 3, 3]}
    network = UNet(3, 1, 2, features=[2, 2, 2], **options).eval()
    image = torch.zeros(1, 1, *([tile] * 3 if isinstance(tile, int) else tile))
    with torch.no_grad():
        assert output_sides(network, tile) == [*network(image).shape[2:]]
