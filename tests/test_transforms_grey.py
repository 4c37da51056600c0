"""Grey-value curves rise, within their limits, and image and units survive them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose

from unet_med.transforms import RandGreyValue, RandGreyValued
from unet_med.transforms.grey import change_batch, own_range


def curve_of(seed: int, points: int = 65, **options) -> np.ndarray:
    """Heights of a drawn curve at even positions from 0 to 1."""
    probe = torch.linspace(0, 1, points, dtype=torch.float64).view(1, -1)
    grey = RandGreyValue(value_range=(0, 1), **options).set_random_state(seed)
    return grey(probe).numpy()[0]


@given(st.integers(0, 10_000), st.integers(0, 5))
def test_curve_rises_within_its_limits(seed, levels):
    curve = curve_of(seed, levels=levels)
    slopes = np.diff(curve) * 64
    assert slopes.min() >= 0.8 - 1e-9
    assert slopes.max() <= 1.2 + 1e-9
    assert -0.05 <= curve[0] <= 0.05
    assert 0.95 <= curve[-1] <= 1.05


@given(st.integers(0, 10_000), st.integers(0, 3))
def test_curve_is_straight_between_the_points_of_the_bisection(seed, levels):
    curve = curve_of(seed, levels=levels)
    nodes = np.linspace(0, 64, 2**levels + 1).astype(int)
    expected = np.interp(np.arange(65), nodes, curve[nodes])
    np.testing.assert_allclose(curve, expected, rtol=0, atol=1e-12)


def test_curves_vary_as_much_as_they_may():
    curves = np.array([curve_of(seed, 5) for seed in range(500)])
    slopes = np.diff(curves, axis=1) * 4
    assert slopes.min() < 0.82
    assert slopes.max() > 1.18
    np.testing.assert_allclose(curves.mean(axis=0), np.linspace(0, 1, 5), atol=0.01)
    assert curves[:, 0].std() == pytest.approx(0.1 / 12**0.5, rel=0.1)


def test_eight_bit_values_keep_their_order():
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    out = RandGreyValue().set_random_state(0)(image)
    assert out.dtype == torch.float32
    assert (out.flatten().diff() > 0).all()


def test_scale_and_offset_of_the_image_do_not_matter():
    image = torch.rand(1, 20, 20, dtype=torch.float64)
    plain = RandGreyValue().set_random_state(5)(image)
    scaled = RandGreyValue().set_random_state(5)(image * 4000 - 70)
    torch.testing.assert_close(scaled, plain * 4000 - 70)


def test_values_beyond_a_given_range_continue_the_curve():
    image = torch.tensor([[-0.5, 0.0, 0.1, 0.9, 1.0, 1.5]], dtype=torch.float64)
    out = RandGreyValue(value_range=(0, 1)).set_random_state(0)(image)[0].numpy()
    assert out[0] - out[1] == pytest.approx(-5 * (out[2] - out[1]))
    assert out[5] - out[4] == pytest.approx(5 * (out[4] - out[3]))


@pytest.mark.parametrize(
    "options", [{"prob": 0.0}, {"black": (0, 0), "white": (1, 1), "levels": 0}]
)
def test_curves_that_change_nothing(options):
    image = torch.rand(2, 9, 9)
    torch.testing.assert_close(RandGreyValue(**options)(image).as_tensor(), image)


@pytest.mark.parametrize("image", [torch.full((1, 4, 4), 7.0), torch.zeros(1, 0, 4)])
def test_images_without_contrast_stay(image):
    out = RandGreyValue()(image)
    torch.testing.assert_close(out.as_tensor(), image, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(48, 50), (192, 192), (3, 40, 60, 24)])
def test_the_range_is_that_of_all_values(size):
    image = torch.rand(1, *size[-4:]) ** 3 if len(size) > 2 else torch.rand(1, 1, *size) ** 3
    low, high = own_range(torch.cat([image, -40 * image]))
    assert low.tolist() == [[float(image.min())], [float((-40 * image).min())]]
    assert high.tolist() == [[float(image.max())], [float((-40 * image).max())]]


@pytest.mark.parametrize("hot", [60_000.0, -60_000.0])
@pytest.mark.parametrize("count", [1, 20])
def test_hot_pixels_do_not_change_what_happens_to_all_others(hot, count):
    """Black moved by a twentieth of what a hot pixel has, far beyond all contrast."""
    torch.manual_seed(0)
    image = 200 + 100 * torch.rand(1, 192, 192)
    broken = image.clone()
    places = torch.randperm(192 * 192)[:count]
    broken.view(-1)[places] = hot
    greys = [RandGreyValue().set_random_state(5) for _ in range(2)]
    clean, found = (grey(each) for grey, each in zip(greys, (image, broken), strict=True))
    rest = torch.ones(192 * 192, dtype=torch.bool)
    rest[places] = False
    moved = (found - image).view(-1)[rest].abs().max()
    assert 0 < moved < 40  # the range is 300 wide at most, three times that of the others
    assert (clean - image).abs().max() < 15
    together = change_batch(broken[None], greys[1].curve()[None])
    torch.testing.assert_close(together[0], found.as_tensor(), rtol=1e-6, atol=1e-3)


def test_an_image_of_one_value_and_a_hot_pixel_stays():
    image = torch.zeros(1, 64, 64)
    image[0, 3, 4] = 9.0
    grey = RandGreyValue().set_random_state(0)
    torch.testing.assert_close(grey(image).as_tensor(), image, rtol=0, atol=0)
    together = change_batch(image[None], grey.curve()[None])
    torch.testing.assert_close(together[0], image, rtol=0, atol=0)


@pytest.mark.parametrize("value", [5.0, -5.0])
def test_few_values_on_a_constant_background_are_the_signal(value):
    """They are fewer than hot pixels may be, and had no range at all."""
    image = torch.full((1, 1, 128, 128), 2.0)
    image[..., 40:45, 60:64] = value * torch.linspace(1.5, 2, 4)  # 0.12 % of the image
    low, high = own_range(image)
    assert sorted([float(low), float(high)]) == sorted([2.0, 2 * value])
    grey = RandGreyValue().set_random_state(0)
    assert (grey(image[0]) - image[0]).abs().max() > 0.01 * abs(value)
    together = change_batch(image, grey.curve()[None])
    torch.testing.assert_close(together[0], grey(image[0], randomize=False), rtol=0, atol=1e-5)


@pytest.mark.parametrize("axis", [-1, -2, -3])
def test_the_range_of_a_volume_is_not_that_of_one_plane(axis):
    """64 voxels between two that count, and 64 a side: all that counted lay in one plane."""
    volume = torch.rand(1, 1, 64, 64, 64)
    volume.narrow(axis, 0, 1).zero_()
    volume[0, 0, 9, 9, 9] = 9000.0
    low, high = own_range(volume)
    assert float(low) == 0
    assert 1.9 < float(high) < 2


def test_one_curve_for_all_keys_and_metadata_kept():
    image = MetaTensor(torch.rand(1, 9, 9), meta={"spatial_unit": "um"})
    transform = RandGreyValued(("a", "b")).set_random_state(0)
    out = transform({"a": image, "b": image})
    torch.testing.assert_close(out["a"], out["b"], rtol=0, atol=0)
    assert out["a"].meta["spatial_unit"] == "um"
    again = transform({"a": image, "b": image}, randomize=False)
    torch.testing.assert_close(out["a"], again["a"], rtol=0, atol=0)
    assert (transform({"a": image, "b": image})["a"] != out["a"]).any()


@pytest.mark.parametrize("compose", [False, True])
def test_same_seed_same_curve(compose):
    def run(seed: int) -> torch.Tensor:
        transform = RandGreyValued("image")
        (Compose([transform]) if compose else transform).set_random_state(seed=seed)
        return transform({"image": torch.linspace(0, 1, 50).view(1, 5, 10)})["image"]

    torch.testing.assert_close(run(1), run(1), rtol=0, atol=0)
    assert (run(1) != run(2)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slope": (0.95, 1.2)}, r"does not hold the rise from black to white, which is 0.9 to"),
        ({"slope": (0.8, 1.05)}, r"0.9 to 1.1; widen slope"),
        ({"slope": (0.0, 2.0)}, r"above 0"),
        ({"black": (0.1, 0.0)}, r"black \(0.1, 0.0\) is no pair of \(least, greatest\)"),
        ({"white": (1.0,)}, r"white \(1.0,\) is no pair"),
        ({"levels": -1}, "levels -1 is less than 0"),
        ({"value_range": (1, 1)}, r"value_range \(1, 1\) is empty"),
    ],
)
def test_limits_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        RandGreyValue(**options)


def test_nothing_to_repeat_before_the_first_draw():
    with pytest.raises(RuntimeError, match="there was none yet"):
        RandGreyValue()(torch.rand(1, 4, 4), randomize=False)


def test_missing_keys():
    with pytest.raises(KeyError, match="image"):
        RandGreyValued("image")({})
    assert RandGreyValued("image", allow_missing_keys=True)({"other": 1}) == {"other": 1}
