"""Seeds that fall into parts where foreground is surer: in a map, by blocks, by probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import measure

from unet_med.data import save_image
from unet_med.instances import LEVEL, instances_from_classes, parted
from unet_med.planning import fingerprint, make_plan
from unet_med.transforms import InstancesFromLogits
from unet_med.volumes.instances import label_blocks

INSTANCES = {"preset": "modern", "label_kind": "instances", "spatial_dims": 2}


def by_recursion(
    kinds: np.ndarray, levels: np.ndarray, min_part: int, connectivity: int
) -> np.ndarray:
    """Seeds of a map, one component after the other; levels are -1 outside of seeds."""
    seeds = np.zeros(kinds.shape, int)

    def components(mask: np.ndarray) -> list[np.ndarray]:
        found = measure.label(mask, connectivity=connectivity)
        return [found == n for n in range(1, found.max() + 1)]

    def fall(seed: np.ndarray, kind: int, level: int) -> None:
        for higher in range(level + 1, levels.max() + 1):
            every = components(seed & (levels >= higher))
            parts = [part for part in every if part.sum() >= min_part]
            if len(parts) > 1:
                for part in parts:
                    fall(part, kind, higher)
                return
        seeds[seed] = kind

    for kind in np.unique(kinds[levels >= 0]).tolist():
        for seed in components((kinds == kind) & (levels >= 0)):
            fall(seed, kind, 0)
    return seeds


@st.composite
def levelled(draw: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Classes, levels, of which -2 is background and -1 mask, and a connectivity."""
    shape = draw(st.lists(st.integers(1, 12), min_size=2, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    coarse = rng.integers(-2, draw(st.integers(0, 4)) + 1, [-(-n // 2) for n in shape])
    levels = coarse
    if draw(st.booleans()):  # wider components than those of noise
        for axis, side in enumerate(shape):
            levels = np.repeat(levels, 2, axis=axis).take(range(side), axis)
    else:
        levels = rng.integers(-2, 4, shape)
    kinds = rng.integers(1, draw(st.integers(1, 2)) + 1, shape)
    return kinds, levels, draw(st.integers(1, len(shape)))


def as_classes(kinds: np.ndarray, levels: np.ndarray) -> np.ndarray:
    seeds = np.where(levels >= 0, kinds + LEVEL * np.maximum(levels, 0), -kinds)
    return np.where(levels == -2, 0, seeds).astype(np.int16)


def test_a_map_of_unsigned_numbers_has_a_mask_too() -> None:
    values = np.array([1 + LEVEL, 1, 1 + LEVEL, 0], np.uint16)
    assert parted(values, 1).tolist() == [1, -1, 1, 0]
    out = np.zeros(4, np.uint8)
    assert label_blocks(values, out, (2,), min_part=1, reach=1) == 2
    assert out.tolist() == [1, 1, 2, 0]


@settings(max_examples=60)
@given(field=levelled(), min_part=st.integers(1, 6))
def test_a_seed_falls_into_the_large_parts_of_higher_levels(
    field: tuple[np.ndarray, np.ndarray, int], min_part: int
) -> None:
    kinds, levels, connectivity = field
    seeds = by_recursion(kinds, levels, min_part, connectivity)
    expected = np.where(levels == -2, 0, np.where(seeds, seeds, -kinds))
    found = parted(as_classes(kinds, levels), min_part, connectivity)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=40)
@given(field=levelled(), min_part=st.integers(1, 6), data=st.data())
def test_blocks_part_seeds_as_the_whole_map(
    field: tuple[np.ndarray, np.ndarray, int], min_part: int, data: Any
) -> None:
    """Sizes of parts are counted over all blocks, and what they take crosses borders."""
    kinds, levels, connectivity = field
    classes = as_classes(kinds, levels)
    rules = {
        "min_part": min_part,
        "min_size": data.draw(st.integers(0, 5)),
        "reach": data.draw(st.integers(0, 3)),
        "grow": data.draw(st.integers(0, 1)),
        "connectivity": connectivity,
        "axes": (0, 1),
        "planes": data.draw(st.sampled_from(["apart", "joined"])),
    }
    expected = instances_from_classes(classes, **rules)
    needed = rules["reach"] + 2 * rules["grow"]
    block = [data.draw(st.integers(max(1, needed), max(6, needed))) for _ in classes.shape]
    out = np.zeros(classes.shape, np.int32)
    assert label_blocks(classes, out, block, **rules) == expected.max(initial=0)
    np.testing.assert_array_equal(out, expected)


def test_two_cells_that_one_threshold_joins_are_two() -> None:
    """A bridge of 0.55 between cells of 0.9; a dim cell and a speck beside stay what they are."""
    foreground = np.array([[0.9, 0.9, 0.55, 0.9, 0.9, 0.1, 0.45, 0.45, 0.1, 0.9, 0.45, 0.7, 0.9]])
    probabilities = torch.tensor(np.stack([1 - foreground, foreground]))
    rule = {"threshold": 0.4, "mask_threshold": 0.3, "reach": 3, "grow": 0, "softmax": False}
    for min_part, expected in (
        (0, [1, 1, 1, 1, 1, 0, 2, 2, 0, 3, 3, 3, 3]),
        (1, [1, 1, 1, 2, 2, 0, 3, 3, 0, 4, 4, 5, 5]),
        (2, [1, 1, 1, 2, 2, 0, 3, 3, 0, 4, 4, 4, 4]),
        (3, [1, 1, 1, 1, 1, 0, 2, 2, 0, 3, 3, 3, 3]),
    ):
        found = InstancesFromLogits(0, min_part=min_part, **rule)(probabilities)
        np.testing.assert_array_equal(found, [[expected]])


@pytest.mark.parametrize("threshold", [None, 0.8, 0.9])
def test_no_level_lies_above_the_highest(threshold: float | None, rng: Any) -> None:
    """Without a threshold nothing is parted, nor at 0.8 or above."""
    foreground = rng.random((30, 20))
    probabilities = torch.tensor(np.stack([1 - foreground, foreground]))
    plain, parts = (
        InstancesFromLogits(0, threshold, min_part=px, softmax=False)(probabilities)
        for px in (0, 1)
    )
    np.testing.assert_array_equal(parts, plain)


def test_parts_of_several_classes_keep_their_class() -> None:
    scores = np.zeros((3, 1, 7))
    scores[1, 0] = [0.9, 0.5, 0.9, 0.0, 0.1, 0.1, 0.1]
    scores[2, 0] = [0.0, 0.1, 0.0, 0.0, 0.8, 0.4, 0.8]
    scores[0] = 1 - scores[1:].sum(0)
    rule = {"threshold": 0.4, "mask_threshold": 0.4, "reach": 1, "grow": 0, "softmax": False}
    classes = InstancesFromLogits(0, min_part=1, **rule).classes(torch.tensor(scores))
    high = [1 + 4 * LEVEL, 1 + 2 * LEVEL, 2 + 4 * LEVEL, 2 + LEVEL]
    assert classes.tolist() == [[high[0], high[1], high[0], 0, high[2], high[3], high[2]]]
    found = InstancesFromLogits(0, min_part=1, **rule)(torch.tensor(scores))
    np.testing.assert_array_equal(found, [[[1, 1, 2, 0, 3, 3, 4]]])


@pytest.mark.parametrize("sizes", [[12, 12, 12], [8, 10, 30]])
def test_the_plan_asks_for_a_tenth_of_a_large_object(sizes: list[int], tmp_path: Path) -> None:
    """Two images of the same objects; the median one is smaller."""
    label = np.zeros((200, 90), np.uint8)
    for number, (side, start) in enumerate(zip(sizes, (5, 40, 80), strict=True), start=1):
        label[start : start + side, 5 : 5 + side] = number
    expected = int(0.1 * np.percentile(2 * [side**2 for side in sizes], 95))
    for name, pixels in (("images", label * 3), ("labels", label)):
        save_image(tmp_path / name / "a.tif", pixels[None])
        save_image(tmp_path / name / "b.tif", pixels[None])
    ids = make_plan(fingerprint(tmp_path / "images", tmp_path / "labels"), INSTANCES).ids
    assert ids["min_part"].value == expected
    assert ids["min_part"].reason.startswith("a tenth of a large object")


def test_the_smallest_part_is_said_in_the_networks_pixels() -> None:
    rule = InstancesFromLogits(10, 0.4, min_part=20).on_pixels([3.0, 2.0])
    assert (rule.min_size, rule.min_part) == (60, 120)
    assert rule.sizes["min_part"] == 120
