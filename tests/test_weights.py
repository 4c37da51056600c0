"""Distances and weight maps against one full distance transform an instance."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    border_weights_by_transforms,
    falk_weights_by_loops,
    two_nearest_by_transforms,
)
from skimage import io, measure
from strategies import instance_maps, pixel_sizes

from unet_med.weights import (
    all_at_once,
    border_weight_map,
    class_weight_map,
    distances,
    falk_weight_map,
    two_nearest,
)

METHODS = pytest.mark.parametrize("method", ["cheapest", "boxes", "keys", "bits"])
EACH = pytest.mark.parametrize("method", ["boxes", "keys", "bits"])  # of which the cheapest is one


def assert_two_nearest(labels, spacing, limit=None, method="cheapest"):
    for ours, theirs in zip(
        two_nearest(labels, spacing, limit, method=method),
        two_nearest_by_transforms(labels, spacing),
        strict=True,
    ):
        assert ours.dtype == np.float32
        limit = limit or 1e6
        sure = np.abs(theirs - limit) > 1e-4  # rounding decides on the limit itself
        theirs[theirs > limit] = np.inf
        np.testing.assert_allclose(ours[sure], theirs[sure], rtol=1e-6)


@EACH
@given(data=st.data())
def test_distances_are_exact(method, data):
    labels = data.draw(instance_maps())
    assert_two_nearest(labels, data.draw(pixel_sizes(labels.ndim)), method=method)


@EACH
@given(data=st.data(), limit=st.floats(0.3, 30))
def test_distances_are_exact_up_to_the_limit(method, data, limit):
    labels = data.draw(instance_maps())
    assert_two_nearest(labels, data.draw(pixel_sizes(labels.ndim)), limit, method)


@METHODS
def test_limit_itself_is_within(method):
    d1, d2 = two_nearest(np.array([[1], [0], [0], [0], [0], [2]]), None, 3, method=method)
    np.testing.assert_array_equal(d1.T, [[0, 1, 2, 2, 1, 0]])
    np.testing.assert_array_equal(d2.T, [[np.inf, np.inf, 3, 3, np.inf, np.inf]])


@METHODS
@pytest.mark.parametrize("limit", [120, 130, 200])  # squares outgrow int16
def test_long_distances(method, limit):
    labels = np.zeros((260, 4), int)
    labels[[0, 150, 255], [0, 3, 1]] = 1, 2, 3
    assert_two_nearest(labels, None, limit, method)


@EACH
@given(data=st.data(), w0=st.floats(0, 50), sigma=st.floats(0.5, 12))
def test_border_weights_are_equation_2(method, data, w0, sigma):
    labels = data.draw(instance_maps())
    spacing = data.draw(pixel_sizes(labels.ndim))
    weight = border_weight_map(labels, w0, sigma, spacing, method=method)
    assert weight.dtype == np.float32
    expected = border_weights_by_transforms(labels, w0, sigma, spacing)
    np.testing.assert_allclose(weight, expected, atol=1e-5)


@given(labels=instance_maps(max_side=(20, 9, 5)), data=st.data())
def test_falk_weights_are_the_recipe(labels, data):
    classes = np.zeros(labels.shape, int)
    for number in np.unique(labels[labels > 0]):
        classes[labels == number] = data.draw(st.integers(1, 2))
    numbers = {
        "separation": st.floats(0, 100),
        "sigma_separation": st.floats(0.5, 12),
        "background": st.floats(0.01, 1),
        "sigma_balance": st.floats(0.5, 20),
        "spacing": pixel_sizes(labels.ndim),
    }
    for options in ({}, data.draw(st.fixed_dictionaries(numbers))):
        for given_classes, expected in ((classes, classes), (None, labels > 0)):
            np.testing.assert_allclose(
                falk_weight_map(labels, given_classes, **options),
                falk_weights_by_loops(labels, expected, **options),
                rtol=1e-5,
            )


@pytest.mark.data
@pytest.mark.parametrize("slice_", [0, 17])
def test_border_weights_of_real_membranes(shared, slice_):
    labels = measure.label(io.imread(shared / f"data/isbi2012/label/{slice_}.png"), connectivity=1)
    weight = border_weight_map(labels[:256, :300])
    expected = border_weights_by_transforms(labels[:256, :300])
    np.testing.assert_allclose(weight, expected, atol=1e-5)
    assert weight.max() > 5  # membranes a few pixels thin


@pytest.mark.data
def test_border_weights_of_real_cells_in_fragments(shared):
    file = sorted(shared.glob("data/usiigaci-t98g/train/*/instances_ids.png"))[0]
    labels = io.imread(file).astype(np.int32)[::2, ::2]
    np.testing.assert_allclose(
        border_weight_map(labels), border_weights_by_transforms(labels), atol=1e-5
    )


def test_anisotropic_volume(rng):
    labels = measure.label(rng.random((9, 40, 42)) < 0.05, connectivity=1).astype(np.int32)
    labels[labels > 60] = 0
    spacing = (2.18, 1.0, 0.5)
    np.testing.assert_allclose(
        border_weight_map(labels, 10, 4.0, spacing),
        border_weights_by_transforms(labels, 10, 4.0, spacing),
        atol=1e-5,
    )


@METHODS
@pytest.mark.parametrize("labels", [np.zeros((5, 6), int), np.full((5, 6), -1)])
def test_no_instance(method, labels):
    assert all(np.isinf(d).all() for d in two_nearest(labels, method=method))
    np.testing.assert_array_equal(border_weight_map(labels, method=method), np.zeros((5, 6)))
    expected = np.full((5, 6), 0.1, np.float32) * (labels == 0)
    np.testing.assert_array_equal(falk_weight_map(labels), expected)


@METHODS
def test_one_instance_of_one_pixel(method):
    labels = np.zeros((5, 6), int)
    labels[2, 3] = 7
    d1, d2 = two_nearest(labels, method=method)
    assert not border_weight_map(labels, method=method).any()
    y, x = np.indices(labels.shape)
    np.testing.assert_allclose(d1, np.hypot(y - 2, x - 3), rtol=1e-6)
    assert np.isinf(d2).all()


@METHODS
def test_all_foreground(method):
    labels = np.repeat([[1, 1, 2, 2]], 3, axis=0)
    d1, d2 = two_nearest(labels, method=method)
    assert not border_weight_map(labels, method=method).any()
    assert not d1.any()
    np.testing.assert_array_equal(d2, np.repeat([[2, 1, 1, 2]], 3, axis=0))


def test_instance_in_many_fragments_is_one():
    labels = np.zeros((64, 64), int)
    labels[::4, ::4] = 1
    assert not border_weight_map(labels).any()
    labels[30:32, 30:32] = 2
    np.testing.assert_allclose(
        border_weight_map(labels), border_weights_by_transforms(labels), atol=1e-5
    )


def test_few_instances_far_apart_cost_a_few_transforms():
    """Without a limit they would be searched for all over the image: halves are measured."""
    labels = np.zeros((150, 260), int)
    labels[[3, 80, 140], [250, 9, 130]] = 1, 2, 3
    transform = distances.distance_transform_edt
    with mock.patch.object(distances, "distance_transform_edt", side_effect=transform) as counted:
        assert_two_nearest(labels, None)
    assert counted.call_count == 1 + 2 * 2


@pytest.mark.parametrize(
    ("side", "every", "method"), [(192, 6, "keys"), (400, 20, "keys"), (400, 150, "boxes")]
)
def test_nearby_instances_need_no_transform_of_the_image(side, every, method):
    labels = np.zeros((side, side), np.int32)
    grid = labels[::every, ::every]
    grid[:] = np.arange(1, grid.size + 1).reshape(grid.shape)
    choose = distances.cheapest
    with (
        mock.patch.object(distances, "distance_transform_edt") as image_wide,
        mock.patch.object(distances, "cheapest", side_effect=choose) as chosen,
    ):
        weight = border_weight_map(labels, sigma=3.0)
    image_wide.assert_not_called()
    assert choose(*chosen.call_args.args) == method
    expected = 10 * np.exp(-(every**2) / (2 * 3**2))
    np.testing.assert_allclose(weight[every // 2, 0], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("spacing", [None, (2.0, 1.0, 1.0), (3.0, 0.7, 1.3)])
@pytest.mark.parametrize("reach", [6.0, None])
def test_many_instances_in_many_blocks(spacing, reach, rng):
    """Numbers of 11 bits; runs and searches that end with a block."""
    labels = rng.integers(1, 1500, (20, 30, 64)) * (rng.random((20, 30, 64)) < 0.02)
    everywhere, pixel = np.ones(labels.shape, bool), spacing or (1.0, 1.0, 1.0)
    limit = reach or np.linalg.norm(np.multiply(labels.shape, pixel))
    found = all_at_once.minima_over_keys(labels, everywhere, pixel, limit, block=1000)
    expected = two_nearest(labels, spacing, reach, method="bits")
    for ours, theirs in zip(found, expected, strict=True):
        ours[ours > limit] = np.inf
        np.testing.assert_allclose(ours.reshape(labels.shape), theirs, rtol=1e-6)


def test_keys_of_64_bits():
    """Squares and numbers that do not fit 32 bits together."""
    labels = np.zeros((70, 600), np.int32)
    labels[[0, 60, 69], [0, 590, 3]] = 40_000, 39_999, 40_000 - 2**12
    assert_two_nearest(labels, None, method="keys")


@given(data=st.data(), sigma=st.floats(0.5, 8))
def test_what_a_large_sum_spares_was_negligible(data, sigma):
    """Pixels are given up only where `d1 + d2` is so large that the term is not wanted."""
    labels = data.draw(instance_maps(axes=(2, 3)))
    pixel = tuple(data.draw(st.sampled_from([1.0, 1.5, 3.0])) for _ in labels.shape)
    total = 6 * sigma
    wanted = labels == 0
    d1, d2 = distances.distances(labels, wanted, pixel, total, total=total, method="keys")
    theirs = two_nearest_by_transforms(labels, pixel)
    sums = theirs[0][wanted] + theirs[1][wanted]
    sure = sums < total - 1e-4
    np.testing.assert_allclose((d1 + d2)[sure], sums[sure], rtol=1e-5)
    assert (d1 + d2 >= total - 1e-3)[~sure].all()


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int64", "float32", "float64"])
def test_any_dtype_of_label(dtype):
    labels = np.array([[1, 0, 0, 2, 0, 200]])
    np.testing.assert_array_equal(
        border_weight_map(labels.astype(dtype)), border_weight_map(labels)
    )


def test_numbers_too_large_for_a_table():
    labels = np.array([[1, 0, 0, 2, 0, 3, -1]])
    large = np.array([[5, 0, 0, 2**40, 0, 2**31, -(2**40)]])
    np.testing.assert_array_equal(border_weight_map(large), border_weight_map(labels))
    far_below = np.array([[1, 0, 0, 2, 0, 3, -(2**40)]])  # 0 as int32
    np.testing.assert_array_equal(falk_weight_map(far_below), falk_weight_map(labels))


def test_labels_are_left_as_they_were():
    labels = np.array([[1, 0, 0, 2, 0, -1]])
    before = labels.copy()
    border_weight_map(labels), falk_weight_map(labels), class_weight_map(labels > 0)
    np.testing.assert_array_equal(labels, before)


def test_sigma_is_in_the_unit_of_the_spacing():
    labels = np.array([[1, 0, 0, 0, 2]])
    np.testing.assert_allclose(
        border_weight_map(labels, sigma=2.5, spacing=0.5), border_weight_map(labels, sigma=5.0)
    )


@pytest.mark.parametrize("spacing", [(2.0, 0.5), 2.0, None])
def test_tensors_and_channel_axis(spacing):
    labels = np.array([[1, 0, 0, 2], [0, 0, 3, 3], [0, 0, 0, 0]])
    for function in (border_weight_map, falk_weight_map):
        array = function(labels, spacing=spacing)
        channel = function(torch.from_numpy(labels)[None], spacing=spacing)
        assert channel.dtype == torch.float32
        np.testing.assert_array_equal(channel.numpy(), array[None])
    for ours, channel in zip(
        two_nearest(labels, spacing), two_nearest(labels[None], spacing), strict=True
    ):
        np.testing.assert_array_equal(channel, ours[None])


def test_one_slice_volume_has_three_sizes():
    labels = np.array([[[1, 0, 2]]])
    np.testing.assert_array_equal(two_nearest(labels, (9, 1, 4))[0], [[[0, 4, 0]]])


def test_class_weights_balance_the_classes():
    label = np.array([[0, 0, 0, 1], [2, 2, 255, 255]])
    weight = class_weight_map(label, 5)
    for k in range(3):
        np.testing.assert_allclose(weight[label == k].sum(), 6 / 3, rtol=1e-6)
    assert not weight[label == 255].any()
    np.testing.assert_allclose(weight[label != 255].mean(), 1, rtol=1e-6)


@given(st.lists(st.sampled_from([0, 1, 2, 255]), max_size=12))
def test_class_weights_are_finite_and_positive(values):
    label = np.array(values, np.int32)
    weight = class_weight_map(label, 3)
    assert weight.dtype == np.float32
    assert np.isfinite(weight).all()
    np.testing.assert_array_equal(weight > 0, label != 255)


def test_class_weights_as_given():
    label = torch.tensor([[0, 1, 9, 1]], dtype=torch.uint8)
    weight = class_weight_map(label, 2, (0.25, 3.0), ignore=9)
    torch.testing.assert_close(weight, torch.tensor([[0.25, 3.0, 0.0, 3.0]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: border_weight_map(x * 0.5), r"label value 0.5 is not a whole number"),
        (lambda x: border_weight_map(x, sigma=0), r"border sigma 0; it must be positive"),
        (lambda x: border_weight_map(x, w0=-1), r"border weight -1; it must be 0 or more"),
        (lambda x: border_weight_map(x, w0=np.nan), r"border weight nan"),
        (lambda x: two_nearest(x, 0.0), r"spacing \[0.0\]; it must be positive"),
        (lambda x: two_nearest(x, (1, 1, 1)), r"spacing \[1.0, 1.0, 1.0\] for instances of shape"),
        (lambda x: two_nearest(x, None, -1), r"max_distance -1; it must be positive"),
        (lambda x: falk_weight_map(x, x[:, :2]), r"classes of shape \(1, 2\) for instances"),
        (lambda x: class_weight_map(x + 1), r"class 3 in a label of 2 classes; .* 0..1 and 255"),
        (lambda x: class_weight_map(x - 1), r"class -1 in a label"),
        (lambda x: class_weight_map(x, 3, (1, 2)), r"2 class weights for 3 classes"),
        (lambda x: class_weight_map(x, 3, (1, 1, -2)), r"finite and not negative"),
    ],
)
def test_errors_say_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.array([[1, 0, 2]]))


@pytest.mark.gpu
def test_weights_stay_on_the_device():
    labels = torch.tensor([[[1, 0, 2]]], device="cuda")
    for weight in (border_weight_map(labels), falk_weight_map(labels), class_weight_map(labels, 3)):
        assert weight.device == labels.device
