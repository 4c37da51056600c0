"""Images with hot pixels: standardised without them, whole as by windows, where a plan says so."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from unet_med.bundle.metadata import _scale
from unet_med.data import save_image
from unet_med.data.grey_values import inner_scale
from unet_med.export.bioimageio import _scale as _package_scale
from unet_med.export.left_out import differences
from unet_med.planning import Plan, describe, fingerprint, make_plan
from unet_med.transforms import Standardize
from unet_med.transforms.windowed import Box, Windowed

HOT = 65535.0


def dim(shape: tuple[int, ...] = (1, 96, 80), seed: int = 0) -> torch.Tensor:
    """Grey values of 200 to 400."""
    return 200 + 200 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("hot", [HOT, -HOT])
def test_a_hot_pixel_takes_no_contrast(hot: float) -> None:
    image = dim((2, 96, 80))
    clean = Standardize()(image)
    image[:, 5, 7] = hot
    own, robust = (Standardize(intensity=scale)(image) for scale in (None, ["robust", None]))
    rest = torch.ones(96, 80, dtype=torch.bool)
    rest[5, 7] = False
    assert own[0][rest].std() < 0.1 * clean[0].std()  # that is what it does
    torch.testing.assert_close(robust[0][rest], clean[0][rest], rtol=0, atol=0.03)
    assert 4 < robust[0, 5, 7].abs() < 6  # a range beyond all others
    torch.testing.assert_close(robust[1], own[1], rtol=0, atol=0)


def test_clean_images_are_clipped_nowhere() -> None:
    image = dim()
    torch.testing.assert_close(Standardize(intensity=["robust"])(image), Standardize()(image))


def test_what_is_constant_but_for_few_values() -> None:
    image = torch.zeros(1, 96, 80)
    image[0, 3, 3] = HOT
    assert torch.count_nonzero(Standardize(intensity=["robust"])(image)) == 0
    image[0, 40:43, 50:54] = 7.0  # 0.16 % of the image: a signal
    found = Standardize(intensity=["robust"])(image)[0]
    low, high, mean, std = inner_scale(image.numpy().ravel())
    assert (low, high) == (-7, 14)
    within = image.clamp(max=14)
    assert (mean, std) == pytest.approx((float(within.mean()), float(within.std(correction=0))))
    assert found[41, 51] == pytest.approx((7 - mean) / std)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("intensity", [["robust", None], ["robust", "robust"]])
def test_windows_equal_the_whole(
    dims: int, intensity: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From so few pixels that the windows miss them where they take others."""
    monkeypatch.setattr("unet_med.transforms.standardize.INNER", 60)
    volume = dim((2, 12, 10, 6)) * torch.tensor([1.0, 50, 7, 0.1, 3, 2])
    volume[:, 3, 4, 2] = HOT * 1e3
    rule = Standardize(dims, intensity)

    def read(box: Box) -> torch.Tensor:
        return volume[(slice(None), *(slice(*side) for side in box))]

    image = Windowed(read, 2, (12, 10, 6), torch.eye(4), {})
    boxes = [
        ((x, x + 4), (y, y + 5), (z, z + 3)) for x in (0, 4, 8) for y in (5, 0) for z in (3, 0)
    ]
    found = rule.first_pass(image, boxes)
    assert list(found.pop("ruled", [])) == [k for k, scale in enumerate(intensity) if scale is None]
    assert {len(rows) for rows in found.values()} == {6 if dims == 2 else 1}
    window = rule.by_window(image, found).read(((3, 9), (2, 8), (1, 5)))
    expected = rule(volume)[:, 3:9, 2:8, 1:5]
    exact = [k for k, scale in enumerate(intensity) if scale == "robust"]
    torch.testing.assert_close(window[exact], expected[exact], rtol=0, atol=0)
    torch.testing.assert_close(window, expected, rtol=0, atol=1e-5)
    assert window[0].abs().max() < 20


def test_another_word_is_no_scale() -> None:
    with pytest.raises(ValueError, match="intensity 'own' is no scale: give 'robust'"):
        Standardize(intensity=["own"])


# --- what the plan decides


def write(folder: Path, spots: float = 300.0, hot: float = 0.0, inside: bool = False) -> Path:
    """Four images of 96 x 80 px and a disc each, in or beside which one pixel may be hot."""
    x, y = np.indices((96, 80))
    for k in range(4):
        label = (np.hypot(x - 40 - k, y - 40) < (2 if spots > 1000 else 12)).astype(np.uint8)
        image = dim(seed=k)[0].numpy() + np.where(label, spots, 0)
        if hot and k != 2:
            image[(40, 40) if inside else (5, 7)] = hot
        for part, array in (("images", image.astype(np.uint16)), ("labels", label)):
            save_image(folder / part / f"{k}.tif", array, has_channels=False)
    return folder


def plan_of(folder: Path, **choices: Any) -> Plan:
    return make_plan(fingerprint(folder / "images", folder / "labels", seconds=0), choices)


@pytest.mark.parametrize("inside", [False, True])
def test_hot_pixels_make_the_plan_robust(tmp_path: Path, inside: bool) -> None:
    plan = plan_of(write(tmp_path, hot=HOT, inside=inside))
    assert plan.value("intensity") == ["robust"]
    why = plan.ids["intensity"].reason
    assert why.startswith("few pixels, hot or dead, rule the deviation of 3 of 4 images")
    assert f"\nintensity {why}" in describe(plan)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    published = plan_of(tmp_path, preset="paper2015")
    assert published.value("intensity") is None


def test_clean_images_and_bright_objects_keep_their_own_scale(tmp_path: Path) -> None:
    clean = plan_of(write(tmp_path / "clean"))
    assert clean.value("intensity") is None
    assert clean.ids["intensity"].reason == "each image by its own mean and deviation"
    assert "\nintensity" not in describe(clean)
    spots = plan_of(write(tmp_path / "spots", spots=9000.0))
    assert spots.value("intensity") is None
    assert spots.ids["intensity"].reason == (
        "each image by its own mean and deviation: few pixels rule that of 4 of 4 images, but "
        "they are objects"
    )


def test_earlier_versions_looked_for_no_hot_pixels(tmp_path: Path) -> None:
    plan = plan_of(write(tmp_path, hot=HOT))
    content = plan.data.to_json()
    del content["extremes"]
    assert make_plan(type(plan.data).from_json(content)).value("intensity") is None


# --- what exports and the card of a bundle say


def test_what_leaves_it_out_says_so() -> None:
    words = differences({"intensity": ["robust"]})["intensity"]
    assert "the bundle clips and scales them without hot and dead pixels" in words
    trained: Any = SimpleNamespace(standardize=Standardize(intensity=["robust"]))
    with pytest.raises(ValueError, match="cannot clip each image to a range of its own"):
        _package_scale(trained)
    assert "clipped where its hot and dead pixels lie" in _scale({"intensity": ["robust"]})
    assert _scale({"intensity": None}).endswith("the whole image's mean and deviation")
