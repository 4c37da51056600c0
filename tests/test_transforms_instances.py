"""Doors to instances and weights: containers, metadata, label kinds, keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import AsDiscreted, Compose, MapTransform

from unet_med import transforms
from unet_med.instances import label_components, separate
from unet_med.transforms import (
    BorderWeightMap,
    BorderWeightMapd,
    Calibrate,
    ClassesFromProbabilities,
    ClassesFromProbabilitiesd,
    ClassWeightMap,
    ClassWeightMapd,
    FalkWeightMap,
    FalkWeightMapd,
    InstancesFromLogits,
    InstancesFromLogitsd,
    LabelInstances,
    LabelInstancesd,
    SeparateInstances,
    SeparateInstancesd,
)
from unet_med.transforms.lengths import axes_in, pixels_along, scaled
from unet_med.weights import border_weight_map, class_weight_map, falk_weight_map

INSTANCES = np.repeat([[[1, 1, 2, 2, 0, 0, 3, -1]]], 5, axis=1)  # (1, 5, 8)
COARSE = torch.tensor([2.0, 2.0, 1.0, 1.0], dtype=torch.float64)
CONTAINERS = pytest.mark.parametrize("container", [np.array, torch.tensor, MetaTensor])


def meta_tensor(values) -> MetaTensor:
    values = torch.as_tensor(np.asarray(values))
    tensor = MetaTensor(values, affine=np.diag([0.5, 0.5, 1, 1]), meta={"filename_or_obj": "a.tif"})
    tensor.applied_operations.append({"class": "RandFlip"})
    return tensor


def scores_of(classes: np.ndarray, num_classes: int) -> torch.Tensor:
    """Logits `(C, *S)` whose argmax is the classes."""
    return torch.from_numpy(3.0 * (np.arange(num_classes)[:, None, None] == classes))


DOORS = [
    (LabelInstances("instances"), LabelInstancesd("x", "instances"), torch.int32),
    (SeparateInstances("falk"), SeparateInstancesd("x", "falk"), torch.int32),
    (BorderWeightMap(7, 3), BorderWeightMapd("x", "x", w0=7, sigma=3), torch.float32),
    (
        FalkWeightMap(7, 3, background=0.2, sigma_balance=4, spacing=2),
        FalkWeightMapd(
            "x",
            "x",
            separation=7,
            sigma_separation=3,
            background=0.2,
            sigma_balance=4,
            spacing=2,
        ),
        torch.float32,
    ),
    (
        ClassWeightMap(4, (1, 2, 3, 4), ignore=-1),
        ClassWeightMapd("x", "x", num_classes=4, class_weights=(1, 2, 3, 4), ignore=-1),
        torch.float32,
    ),
]
EVERY_DOOR = pytest.mark.parametrize(("array", "dictionary", "dtype"), DOORS)


@EVERY_DOOR
@CONTAINERS
def test_same_container_and_shape_come_back(array, dictionary, dtype, container):
    given = container(INSTANCES)
    out = array(given)
    assert type(out) is type(given)
    assert out.shape == given.shape
    assert torch.as_tensor(out).dtype == dtype
    np.testing.assert_array_equal(out, array(INSTANCES))
    np.testing.assert_array_equal(array(INSTANCES[0]), array(INSTANCES)[0])


@EVERY_DOOR
def test_dictionary_door_is_the_array_door(array, dictionary, dtype):
    data = {"x": meta_tensor(INSTANCES), "other": 1}
    out = dictionary(data)
    torch.testing.assert_close(out["x"].as_tensor(), array(torch.from_numpy(INSTANCES)))
    assert out["other"] == 1
    np.testing.assert_array_equal(data["x"], INSTANCES)


@EVERY_DOOR
def test_metadata_is_kept(array, dictionary, dtype):
    given = meta_tensor(INSTANCES)
    out = dictionary({"x": given})["x"]
    torch.testing.assert_close(out.affine, given.affine)
    assert out.meta["filename_or_obj"] == "a.tif"
    assert out.applied_operations == [{"class": "RandFlip"}]


@EVERY_DOOR
def test_absent_key(array, dictionary, dtype):
    with pytest.raises(KeyError, match=r"Key `x`"):
        dictionary({})
    lenient = type(dictionary)(keys="x", allow_missing_keys=True)
    assert lenient({"y": 1}) == {"y": 1}


def test_every_dictionary_transform_has_monais_aliases():
    doors = {getattr(transforms, name) for name in transforms.__all__}
    doors = {door for door in doors if isinstance(door, type) and issubclass(door, MapTransform)}
    assert len(doors) > 20
    for door in doors:
        name = door.__name__.removesuffix("d")
        for alias in (f"{name}d", f"{name}D", f"{name}Dict"):
            assert alias in transforms.__all__
            assert getattr(transforms, alias) is door


def test_a_config_builds_the_doors():
    config = {"t": {"_target_": "unet_med.transforms.BorderWeightMapd", "keys": "label", "w0": 5}}
    transform = ConfigParser(config).get_parsed_content("t")
    weight = transform({"label": INSTANCES})["weight"]
    np.testing.assert_array_equal(weight, BorderWeightMap(5)(INSTANCES))


@pytest.mark.parametrize("foreground", [1, 255, 0.0 + 7])
def test_mask_becomes_components(foreground):
    mask = np.array([[[1, 0, 1], [1, 0, 0]]]) * foreground
    np.testing.assert_array_equal(LabelInstances("mask")(mask), [[[1, 0, 2], [1, 0, 0]]])


def test_mask_connectivity():
    assert LabelInstances("mask", 1)(np.eye(3)[None]).max() == 3
    assert LabelInstancesd("x", "mask", connectivity=3)({"x": np.eye(3)[None]})["x"].max() == 1


def test_mask_of_three_values():
    with pytest.raises(ValueError, match=r"values 1 and 2 besides 0; .*'classes' or 'instances'"):
        LabelInstances("mask")(np.array([[0, 1, 2]]))


@pytest.mark.parametrize("kind", ["mask", "classes", "instances"])
def test_label_that_was_interpolated(kind):
    with pytest.raises(ValueError, match=r"label value 0.5 is not a whole number"):
        LabelInstances(kind)(np.array([[0, 0.5, 1]]))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float32"])
@pytest.mark.parametrize("kind", ["classes", "instances"])
def test_classes_and_instances_pass_as_int32(kind, dtype):
    label = np.array([[0, 2, 1, 255]], dtype)
    out = LabelInstances(kind)(torch.from_numpy(label))
    assert out.dtype == torch.int32
    np.testing.assert_array_equal(out, label.astype(int))


def test_large_numbers_survive():
    out = LabelInstances("instances")(np.array([[0, 2**40]]))
    np.testing.assert_array_equal(out, [[0, 2**40]])


def test_unknown_label_kind():
    with pytest.raises(ValueError, match=r"label kind 'auto'; it is one of mask, classes, inst"):
        LabelInstances("auto")


def test_separate_is_separate():
    np.testing.assert_array_equal(SeparateInstances()(INSTANCES), separate(INSTANCES))
    np.testing.assert_array_equal(SeparateInstances("falk")(INSTANCES), separate(INSTANCES, "falk"))


def test_border_weights_are_equation_2():
    weight = BorderWeightMap(10, 5, class_weights=(1, 2))(INSTANCES)
    expected = np.where(INSTANCES > 0, 2, 1 + border_weight_map(INSTANCES))
    np.testing.assert_allclose(weight, np.where(INSTANCES < 0, 0, expected), rtol=1e-6)


def test_border_weights_balance_background_and_instances():
    weight = BorderWeightMap(w0=0)(INSTANCES)
    np.testing.assert_allclose(weight[INSTANCES == 0].sum(), weight[INSTANCES > 0].sum())
    assert (weight[INSTANCES >= 0] > 0).all()
    assert not weight[INSTANCES < 0].any()


@pytest.mark.parametrize("fill", [0, 1, -1])
def test_border_weights_of_a_constant(fill):
    weight = BorderWeightMap()(np.full((1, 3, 4), fill))
    np.testing.assert_array_equal(weight, np.full((1, 3, 4), float(fill >= 0)))


def test_spacing_is_only_what_is_given():
    plain = BorderWeightMap()(meta_tensor(INSTANCES))
    np.testing.assert_array_equal(plain, BorderWeightMap()(INSTANCES))
    wide = BorderWeightMap(spacing=(1, 3))(INSTANCES)
    assert wide[0, 0, 4] < plain[0, 0, 4]


def test_falk_and_class_doors_are_the_functions():
    np.testing.assert_array_equal(FalkWeightMap()(INSTANCES), falk_weight_map(INSTANCES))
    classes = np.array([[0, 1, 1, 255]])
    np.testing.assert_array_equal(ClassWeightMap()(classes), class_weight_map(classes))


def test_weight_keys():
    door = ClassWeightMapd(("a", "b"), ("wa", "wb"), num_classes=2)
    out = door({"a": np.array([[0, 1]]), "b": np.array([[1, 1, 0]])})
    assert (out["wa"].shape, out["wb"].shape) == ((1, 2), (1, 3))
    with pytest.raises(ValueError, match=r"2 keys write the weights weight, weight; name one"):
        ClassWeightMapd(("a", "b"))


@CONTAINERS
def test_weights_packed_with_the_label_are_those_beside_it(container):
    apart = separate(INSTANCES)
    beside = BorderWeightMapd("label")({"label": container(apart)})
    packed = BorderWeightMapd("label", pack=True)({"label": container(apart)})
    assert set(packed) == {"label"}
    assert type(packed["label"]) is type(beside["weight"])
    foreground = np.where(apart < 0, 255, apart > 0)
    np.testing.assert_array_equal(packed["label"][:1], foreground)
    np.testing.assert_array_equal(packed["label"][1:], beside["weight"])
    classes = np.array([[[0, 2, 255, 1]]])
    packed = ClassWeightMapd("label", num_classes=3, pack=True)({"label": container(classes)})
    np.testing.assert_array_equal(packed["label"][0], classes[0])
    np.testing.assert_array_equal(packed["label"][1], class_weight_map(classes, 3)[0])


@pytest.mark.parametrize("shape", [(12, 10), (2, 12, 10)])
@pytest.mark.parametrize("door", [BorderWeightMapd, ClassWeightMapd])
def test_weights_are_packed_behind_one_channel(door, shape):
    with pytest.raises(
        ValueError, match=r"of shape .*packed behind one channel: give one of numbers"
    ):
        door("label", pack=True)({"label": np.zeros(shape)})


def test_chain_of_the_training_config():
    chain = Compose(
        [
            LabelInstancesd("label", "instances"),
            SeparateInstancesd("label"),
            BorderWeightMapd("label"),
            AsDiscreted("label", threshold=0.5),
        ]
    )
    out = chain({"label": meta_tensor(INSTANCES.astype(np.float32))})
    apart = separate(INSTANCES)
    np.testing.assert_array_equal(out["label"], apart > 0)
    assert out["weight"][0, 2, 1] > 9  # the border between two cells that touched
    np.testing.assert_array_equal(out["weight"] > 0, apart >= 0)


def test_instances_of_logits_are_the_components_of_the_argmax(rng):
    classes = rng.integers(0, 2, (20, 30))
    for scores in (scores_of(classes, 2), scores_of(classes, 2).softmax(0)):
        out = InstancesFromLogits(grow=0)(scores)
        assert out.dtype == torch.int32
        np.testing.assert_array_equal(out, label_components(classes)[None])


@CONTAINERS
def test_instances_of_logits_keep_container_and_metadata(container):
    scores = scores_of(np.array([[0, 1, 1]]), 2).numpy()
    out = InstancesFromLogits()(container(scores))
    assert type(out) is type(container(scores))
    kept = InstancesFromLogitsd("p")({"p": meta_tensor(scores)})["p"]
    torch.testing.assert_close(kept.affine, meta_tensor(scores).affine)
    np.testing.assert_array_equal(kept, out)


def test_classes_that_touch_are_two_instances():
    out = InstancesFromLogits(grow=0)(scores_of(np.array([[1, 1, 2, 2, 0, 1]]), 3))
    np.testing.assert_array_equal(out, [[[1, 1, 3, 3, 0, 2]]])


def test_threshold_is_on_the_foreground_probability():
    background = np.array([[0.9, 0.65, 0.45, 0.2]])
    rest = 1 - background
    probabilities = torch.tensor(np.stack([background, 0.6 * rest, 0.4 * rest]))
    for threshold, expected in ((0.3, [0, 1, 1, 1]), (0.7, [0, 0, 0, 1])):
        out = InstancesFromLogits(0, threshold, softmax=False)(probabilities)
        np.testing.assert_array_equal(out, [[expected]])
        out = InstancesFromLogitsd("p", threshold=threshold)({"p": probabilities.log()})["p"]
        np.testing.assert_array_equal(out, [[expected]])


def test_a_probability_at_a_threshold_is_within():
    """0.75 and 0.25, which float32 holds exactly, beside the nearest numbers below."""
    foreground = np.array([[0.75, 0.25, 0, 0.749, 0.25, 0, 0.75, 0.249]], np.float32)
    probabilities = torch.from_numpy(np.stack([1 - foreground, foreground]))
    rule = {"mask_threshold": 0.25, "reach": 4, "grow": 0, "softmax": False}
    out = InstancesFromLogits(0, 0.75, **rule)(probabilities)
    np.testing.assert_array_equal(out, [[[1, 1, 0, 0, 0, 0, 2, 0]]])
    mask = ClassesFromProbabilities(0.25)(probabilities)
    np.testing.assert_array_equal(mask, [[[1, 1, 0, 1, 1, 0, 1, 0]]])


def test_seeds_take_the_mask_around_them():
    foreground = np.array([[0.2, 0.4, 0.8, 0.5, 0.45, 0.9, 0.6, 0.2, 0.5, 0.5]])
    probabilities = torch.tensor(np.stack([1 - foreground, foreground]))
    rule = {"mask_threshold": 0.35, "reach": 4, "grow": 0, "softmax": False}
    out = InstancesFromLogits(0, 0.7, **rule)(probabilities)
    np.testing.assert_array_equal(out, [[[0, 1, 1, 1, 2, 2, 2, 0, 0, 0]]])
    mask = ClassesFromProbabilities(0.35)(probabilities)
    np.testing.assert_array_equal(mask, [[[0, 1, 1, 1, 1, 1, 1, 0, 1, 1]]])
    assert mask.dtype == torch.float32
    by_key = ClassesFromProbabilitiesd("p", threshold=0.35)({"p": probabilities})["p"]
    np.testing.assert_array_equal(by_key, mask)


def test_a_mask_is_no_smaller_than_its_seeds():
    for threshold in (None, 0.4):
        with pytest.raises(ValueError, match=f"mask_threshold 0.5 and threshold {threshold}: seed"):
            InstancesFromLogits(threshold=threshold, mask_threshold=0.5)


def test_classes_without_a_threshold_are_those_of_monai(rng):
    scores = torch.tensor(rng.random((3, 9, 8)))
    expected = AsDiscreted("p", argmax=True)({"p": scores})["p"]
    found = ClassesFromProbabilitiesd("p")({"p": scores})["p"]
    torch.testing.assert_close(found, expected)


def test_sizes_are_those_of_another_image():
    """Objects of 24 and 12 px, which are 6 and 3 of an image of pixels twice as wide."""
    cells = np.kron(np.array([[1, 0, 1, 0], [1, 0, 0, 0]]), np.ones((4, 3), int))
    scores = meta_tensor(scores_of(cells, 2).numpy())
    coarse = MetaTensor(torch.zeros(1, 4, 6), affine=scores.affine @ torch.diag(COARSE))
    item = {"p": scores, "image": coarse}
    for least, left in ((3, 2), (4, 1), (6, 1), (7, 0)):
        door = InstancesFromLogitsd("p", least, grow=0, sizes_of="image")
        assert door(item)["p"].max() == left, least
    assert InstancesFromLogitsd("p", 7, grow=0)(item)["p"].max() == 2
    kept = {"min_part": 0, "connectivity": 1, "axes": None, "planes": "apart"}
    wide = InstancesFromLogits(1, grow=1, reach=3).on_pixels([2.0, 2.0])
    assert wide.sizes == {"min_size": 4, "reach": [6, 6], "grow": [2, 2], **kept}
    fine = InstancesFromLogits(100, grow=1, reach=3).on_pixels([0.5, 0.5])
    assert fine.sizes == {"min_size": 25, "reach": [2, 2], "grow": [1, 1], **kept}


@pytest.mark.parametrize(
    ("meta", "told", "count"),
    [
        ({}, None, 3),  # pages
        ({"planes": "joined"}, None, 1),
        ({"planes": "joined"}, "apart", 3),
        ({"planes": "apart"}, "joined", 1),
        ({"spacing_source": "nifti"}, None, 1),
        ({"spacing_source": "ome", "unknown_axes": "z"}, None, 3),
        ({"spacing_source": "assumed", "original_affine": np.eye(4)}, None, 3),
        ({"original_affine": np.eye(4)}, None, 1),  # of MONAI's own readers
    ],
)
def test_pages_of_a_stack_are_images_and_slices_are_not(meta, told, count):
    """Three planes with a cell each, which lie upon each other, and the image that says of them."""
    stack = np.zeros((9, 8, 3), np.float32)
    for z in range(3):
        stack[z : z + 5, 1:6, z] = 1
    scores = MetaTensor(np.stack([1 - stack, stack]), meta=meta)
    image = MetaTensor(torch.zeros(1, 9, 8, 3), meta=meta)
    rule = {"spatial_dims": 2, "planes": told, "softmax": False}
    assert InstancesFromLogits(**rule)(scores).max() == count
    item = {"p": scores.as_tensor(), "image": image}
    assert InstancesFromLogitsd("p", sizes_of="image", **rule)(item)["p"].max() == count
    volume = InstancesFromLogits(spatial_dims=3, softmax=False)(scores)
    assert volume.max() == 1


def test_a_network_of_volumes_has_no_planes_apart():
    with pytest.raises(ValueError, match="leave planes out"):
        InstancesFromLogits(spatial_dims=3, planes="apart")


def test_lengths_follow_the_pixels_along_each_axis():
    """Cells 75 px wide and 15 slices thick, learned at a third in the plane: (3, 3, 1)."""
    rule = InstancesFromLogits(10, reach=8, grow=[2, 2, 1], spatial_dims=3)
    found = rule.on_pixels([3.0, 3.0, 1.0])
    assert (found.min_size, found.reach, found.grow) == (90, [24, 24, 8], [6, 6, 1])
    turned = rule.on_pixels([1.0, 3.0, 3.0], [1, 2, 0])  # the network's Z is the image's first
    assert (turned.min_size, turned.reach, turned.grow) == (90, [8, 24, 24], [1, 6, 6])
    one = InstancesFromLogits(10, reach=8, grow=2, spatial_dims=3).on_pixels([3.0, 3.0, 1.0])
    assert (one.reach, one.grow) == ([24, 24, 8], [6, 6, 2])
    planes = InstancesFromLogits(10, reach=8, grow=2, spatial_dims=2).on_pixels([3.0, 2.0, 1.0])
    assert (planes.min_size, planes.reach, planes.grow) == (60, [24, 16, 0], [6, 4, 0])
    rule = InstancesFromLogits(8, grow=[2, 3, 1], spatial_dims=3)  # of the network's X, Y, Z
    assert rule.on_pixels([1.0] * 3, [2, 0, 1]).grow == [3, 1, 2]  # X runs along the image's last
    assert rule.on_pixels([0.25] * 3).sizes["grow"] == [1, 1, 1]  # what separation took


def test_the_last_digit_of_an_affine_changes_no_length():
    for off in (-1e-12, 0, 1e-12):
        assert [scaled(px, 0.5 + off) for px in (0, 1, 3, 7)] == [0, 1, 2, 4]


def test_gaps_between_stacked_cells_stay_where_pixels_shrank_in_the_plane():
    """Planes at a third of their pixels, slices as they are: 2 px of growth are 6, and 2 slices.

    So of two pairs of cells the borders close that the network saw 2 px wide in the plane, and not
    the 6 slices between two others.
    """
    cells = np.zeros((36, 12, 20), np.uint8)
    cells[0:12, :, 0:6], cells[18:30, :, 0:6] = 1, 1  # 6 px apart in the plane
    cells[0:12, :, 12:18] = 1  # 6 slices above the first
    scores = MetaTensor(np.stack([1.0 - cells, cells]).astype(np.float32), affine=np.eye(4))
    coarse = MetaTensor(torch.zeros(1, 12, 4, 20), affine=np.diag([3.0, 3.0, 1.0, 1.0]))
    rule = {"grow": 2, "spatial_dims": 3, "softmax": False, "sizes_of": "image"}
    found = InstancesFromLogitsd("p", 0, **rule)({"p": scores, "image": coarse})["p"][0].numpy()
    numbers = [found[5, 5, 2], found[22, 5, 2], found[5, 5, 15]]
    assert len(set(numbers)) == 3
    assert not found[:6, :, 6:12].any()  # 4 slices each would have filled it
    np.testing.assert_array_equal(found[12:15, :, :6], np.full((3, 12, 6), numbers[0]))
    np.testing.assert_array_equal(found[15:18, :, :6], np.full((3, 12, 6), numbers[1]))
    assert not found[30:].any()


@pytest.mark.parametrize("turn", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_ratios_are_those_of_the_images_axes(turn):
    """Axis k of a grid runs along axis `turn[k]` of the image, either way, at an angle or not."""
    angle, sizes = 0.3, np.diag([0.2, 0.25, 1.0])  # of the image's pixels
    turned = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    image = np.eye(4)
    image[:3, :3] = np.vstack([turned, [0, 0, 1]]) @ sizes
    ratios = [3.0, 1.5, 1.0]  # of the image's pixels, one of the grid's is long along X, Y, Z
    steps = np.eye(4)
    steps[:3, :3] = 0
    for k, axis in enumerate(turn):
        steps[axis, k] = ratios[axis] * (-1) ** k
    grid, other = torch.from_numpy(image @ steps), torch.from_numpy(image)
    assert pixels_along(grid, other, 3) == pytest.approx(ratios)
    assert axes_in(grid, other, (0, 1, 2)) == turn
    assert pixels_along(grid, other, 2) == pytest.approx(ratios[:2])


def test_small_objects_go_before_anything_grows():
    classes = np.array([[1, 1, 0, 1, 0, 1, 1]])
    out = InstancesFromLogits(min_size=2)(scores_of(classes, 2))
    np.testing.assert_array_equal(out, [[[1, 1, 0, 0, 0, 2, 2]]])
    door = InstancesFromLogitsd("p", 2, grow=0, connectivity=2, softmax=False)
    np.testing.assert_array_equal(door({"p": scores_of(classes, 2)})["p"], out)


def test_growth_gives_back_what_separation_took():
    cells = np.pad(np.repeat([[1, 2]], 6, axis=1).repeat(5, axis=0), 2)
    scores = scores_of(separate(cells) > 0, 2)
    np.testing.assert_array_equal(InstancesFromLogits()(scores)[0], cells)
    np.testing.assert_array_equal(InstancesFromLogits(grow=0)(scores)[0], separate(cells))


@pytest.mark.parametrize("fill", [0, 1])
def test_prediction_without_or_full_of_foreground(fill):
    out = InstancesFromLogits()(scores_of(np.full((4, 5), fill), 2))
    np.testing.assert_array_equal(out, np.full((1, 4, 5), fill))


def test_one_channel_is_no_prediction():
    with pytest.raises(ValueError, match=r"shape \(1, 4, 5\); instances need .* foreground chan"):
        InstancesFromLogits()(torch.zeros(1, 4, 5))


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_scores_that_are_no_numbers_are_not_background(threshold):
    scores = torch.rand(2, 4, 5).softmax(0)
    scores[1, 2, 3] = torch.nan
    for rule in (
        InstancesFromLogits(threshold=threshold, softmax=False),
        ClassesFromProbabilities(threshold),
    ):
        with pytest.raises(ValueError, match="the scores hold NaN: so do the network's weights"):
            rule(scores)


def test_scores_are_what_softmax_says():
    """A second softmax leaves 0.73 of a probability of 1, and logits are no probabilities."""
    logits = torch.tensor([[[4.0, -2.0]], [[0.0, 3.0]]])
    surely = InstancesFromLogits(threshold=0.9)
    np.testing.assert_array_equal(surely(logits), [[[0, 1]]])
    for probabilities in (logits.softmax(0), logits.softmax(0).half()):
        with pytest.raises(ValueError, match=r"probabilities already.*softmax=False"):
            surely(probabilities)
        rule = InstancesFromLogits(threshold=0.9, softmax=False)
        np.testing.assert_array_equal(rule(probabilities), [[[0, 1]]])
    for rule in (
        InstancesFromLogits(threshold=0.9, softmax=False),
        ClassesFromProbabilities(0.9),
        Calibrate(2.0),
    ):
        with pytest.raises(ValueError, match=r"from -2 to 4 where probabilities are expected"):
            rule(logits)
