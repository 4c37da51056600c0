"""Surface distances, Dice and volume error: against surface-distance, MONAI and numbers by hand."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from unet_med import metrics

TOLERANCE = 1.3


def pair(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two blobs that differ, on an anisotropic grid: planes and volumes in turn."""
    rng = np.random.default_rng(seed)
    dims = 2 + seed % 2
    shape, spacing = rng.integers(12, 40, dims), rng.uniform(0.3, 4, dims)
    relief = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    moved = np.roll(relief + rng.normal(0, 0.02, shape), int(rng.integers(-3, 4)), 0)
    return moved > 0.02, relief > 0.02, spacing


def deepmind(found: np.ndarray, true: np.ndarray, spacing: Any) -> dict[str, float]:
    """The three scores by surface-distance 0.1; ASSD of its distances and areas."""
    oracle = pytest.importorskip("surface_distance")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls SciPy by old names
        distances = oracle.compute_surface_distances(true, found, spacing)
    sides = [("gt_to_pred", "gt"), ("pred_to_gt", "pred")]
    values = [(distances[f"distances_{a}"], distances[f"surfel_areas_{b}"]) for a, b in sides]
    area = sum(areas.sum() for _, areas in values)
    return {
        "hd95": oracle.compute_robust_hausdorff(distances, 95),
        "nsd": oracle.compute_surface_dice_at_tolerance(distances, TOLERANCE),
        "assd": sum((d * a).sum() for d, a in values) / area,
    }


@pytest.mark.parametrize("seed", range(20))
def test_equals_surface_distance_on_anisotropic_grids(seed: int) -> None:
    found, true, spacing = pair(seed)
    expected = deepmind(found, true, spacing)
    assert metrics.hd95(found, true, spacing) == pytest.approx(expected["hd95"], abs=1e-6)
    assert metrics.assd(found, true, spacing) == pytest.approx(expected["assd"], abs=1e-6)
    own = metrics.nsd(found, true, spacing, tolerance=TOLERANCE)
    assert own == pytest.approx(expected["nsd"], abs=1e-6)
    assert 0 < own < 1


@pytest.mark.parametrize("seed", range(0, 20, 5))
def test_against_monai(seed: int) -> None:
    """Its surface Dice with subvoxels is ours; its Hausdorff distance counts edge pixels."""
    found, true, spacing = pair(seed)
    one_hot = [torch.from_numpy(mask)[None, None] for mask in (found, true)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls its own parts in a deprecated way
        theirs = compute_surface_dice(
            *one_hot,
            [TOLERANCE],
            include_background=True,
            spacing=list(spacing),
            use_subvoxels=True,
        )
        edges = compute_hausdorff_distance(
            *one_hot, include_background=True, percentile=95, spacing=list(spacing)
        )
    own = metrics.nsd(found, true, spacing, tolerance=TOLERANCE)
    assert own == pytest.approx(theirs.item(), abs=1e-5)  # in 32-bit floats
    diagonal = np.linalg.norm(spacing)
    assert metrics.hd95(found, true, spacing) == pytest.approx(edges.item(), abs=2 * diagonal)
    assert metrics.dice(found, true) == pytest.approx(compute_dice(*one_hot).item(), abs=1e-6)


def test_by_hand() -> None:
    """A square of 2 x 2 px against one that is 2 px longer along x, pixels of 3 x 0.5 mm."""
    true, found = np.zeros((2, 8, 8), bool)
    true[2:4, 2:4], found[2:6, 2:4] = True, True
    corner = math.hypot(3, 0.5) / 2  # length of an element that cuts a corner off
    length = (4 * corner + 2 * 0.5 + 2 * 3) + (4 * corner + 2 * 0.5 + 6 * 3)
    # of the truth only the middle of its end is off, 1 px along y from the prediction's sides;
    # of the prediction one element of each side, 1 px along x, and its end, 2 px
    off = [(0.5, 0.5), (3, 2 * 3), (6, 2 * corner + 0.5)]  # distance, length
    expected = sum(distance * of for distance, of in off) / length
    assert metrics.assd(found, true, (3, 0.5)) == pytest.approx(expected)
    assert metrics.hd95(found, true, (3, 0.5)) == 6
    near = 1 - (off[1][1] + off[2][1]) / length
    assert metrics.nsd(found, true, (3, 0.5), tolerance=1) == pytest.approx(near)
    assert metrics.dice(found, true) == pytest.approx(2 * 4 / 12)
    assert metrics.relative_volume_error(found, true) == 1


def test_empties_as_metrics_reloaded() -> None:
    full, empty = np.ones((3, 4, 5), bool), np.zeros((3, 4, 5), bool)
    diagonal = math.sqrt(6**2 + 4**2 + 2.5**2)
    for one, other in ((full, empty), (empty, full)):
        assert metrics.hd95(one, other, (2, 1, 0.5)) == pytest.approx(diagonal)
        assert metrics.assd(one, other, (2, 1, 0.5)) == pytest.approx(diagonal)
        assert metrics.nsd(one, other, (2, 1, 0.5), tolerance=99) == 0
        assert metrics.dice(one, other) == 0
    assert metrics.relative_volume_error(empty, full) == -1
    for score in (metrics.hd95, metrics.assd, metrics.nsd):
        with pytest.raises(ValueError, match="neither prediction nor truth holds"):
            score(empty, empty, (1, 1, 1))
    with pytest.raises(ValueError, match="neither"):
        metrics.dice(empty, empty)
    with pytest.raises(ValueError, match="truth does not hold"):
        metrics.relative_volume_error(full, empty)


def test_a_volume_of_one_slice_is_a_plane() -> None:
    found, true, spacing = pair(4)
    thick = [*spacing, 5.0]
    for score in (metrics.hd95, metrics.assd, metrics.nsd):
        assert score(found[..., None], true[..., None], thick) == score(found, true, spacing)


def test_the_tolerance_of_a_spacing_in_32_bits() -> None:
    """Three steps of a third of a millimetre are a millimetre, whatever the header's rounding."""
    true, found = np.zeros((2, 12, 3), bool)
    true[2:5], found[2:8] = True, True
    third = float(np.float32(1 / 3))
    assert 3 * third > 1
    assert metrics.nsd(found, true, (third, 1), tolerance=1) == 1


@pytest.mark.parametrize(
    ("shapes", "spacing", "message"),
    [
        (((3, 4), (4, 3)), (1, 1), r"shape \(3, 4\) against truth \(4, 3\)"),
        (((1, 2, 3, 4),) * 2, (1,) * 4, "drop channel and batch axes"),
        (((3, 4),) * 2, (1, 1, 1), r"spacing \[1, 1, 1\] for shape \(3, 4\)"),
        (((3, 4),) * 2, (1, 0), "must be a positive number for each axis"),
    ],
)
def test_refuses(shapes: Any, spacing: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.hd95(*(np.ones(shape) for shape in shapes), spacing)


def test_monai_metrics_are_the_mean_of_the_functions() -> None:
    made = {
        metrics.HD95Metric(): metrics.hd95,
        metrics.ASSDMetric(): metrics.assd,
        metrics.NSDMetric(tolerance=2): lambda *a: metrics.nsd(*a, tolerance=2),
    }
    shape, spacing = (20, 24, 9), (0.5, 1.5, 3.0)
    rng = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, 2, *shape)), (0, 0, 2, 2, 2))
    classes = (smooth > 0.02) + 2 * (smooth < -0.03)  # image, prediction or truth
    classes[1][classes[1] == 2] = 0  # which the second image has nowhere
    hot = np.stack([classes == k for k in range(3)], axis=2).astype(np.float32)
    truth = MetaTensor(hot[:, 1], affine=np.diag([*spacing, 1.0]))
    for metric, function in made.items():
        metric(torch.from_numpy(hot[:, 0]), truth)
        pairs = [(0, 1), (0, 2), (1, 1)]
        values = [function(hot[i, 0, k], hot[i, 1, k], spacing) for i, k in pairs]
        assert metric.aggregate().item() == pytest.approx(np.mean(values), abs=1e-9)
        metric.reset()
        metric(torch.from_numpy(hot[:1, 0]), torch.from_numpy(hot[:1, 1]), spacing=spacing)
        assert metric.aggregate().item() == pytest.approx(np.mean(values[:2]), abs=1e-9)
        metric.reset()
        one = [torch.from_numpy(hot[i, :1, 1:2][0]) for i in (0, 1)]
        metric(one, one)  # lists of one channel, in pixels
        assert metric.aggregate().item() in (0, 1)
        metric.reset()
        metric(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
        with pytest.raises(ValueError, match="has seen no object"):
            metric.aggregate()
