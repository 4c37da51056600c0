"""Surface distances, Dice and volume error: against surface-distance, MONAI and numbers by hand."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from oracles import known_surface
from scipy import ndimage

from unet_med import metrics
from unet_med.metrics.surface import Surfaces, _continued, _percentile

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


@pytest.mark.parametrize("count", range(20, 400, 40))
def test_nineteen_of_twenty_elements_are_95_percent(count: int) -> None:
    """Whatever their sum is rounded to."""
    distances = np.repeat([1.0, 7.0], [count * 19 // 20, count // 20])
    for area in (0.1, 1 / 3, 0.7):
        assert _percentile(distances, np.full(count, area)) == 1
        less = np.where(distances > 1, 1.0001, 1) * area
        assert _percentile(distances, less) == 7


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


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_a_plane(axis: int) -> None:
    found, true, spacing = pair(4)
    thick = np.insert(spacing, axis, 5.0)
    slices = np.expand_dims(found, axis), np.expand_dims(true, axis)
    for score in (metrics.hd95, metrics.assd, metrics.nsd):
        assert score(*slices, thick) == score(found, true, spacing)


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


@pytest.mark.parametrize("wrong", [np.nan, 0.4, -np.inf])
def test_a_probability_or_nan_is_no_mask(wrong: float) -> None:
    """A network of NaN scored 1, and a map of probabilities was an object wherever it was not 0."""
    true = np.ones((4, 4))
    soft = np.where(np.eye(4) > 0, wrong, 1.0)
    scores = (metrics.dice, metrics.relative_volume_error, lambda a, b: metrics.hd95(a, b, (1, 1)))
    for score in scores:
        for pair in ((soft, true), (true, soft)):
            with pytest.raises(ValueError, match=r"is not a whole number.*threshold"):
                score(*pair)
    for metric in (metrics.HD95Metric(), metrics.ASSDMetric(), metrics.NSDMetric()):
        with pytest.raises(ValueError, match=r"whole number|takes binary masks"):
            metric(torch.from_numpy(soft)[None, None], torch.from_numpy(true)[None, None])
    with pytest.raises(ValueError, match=r"is not a whole number.*threshold"):
        metrics.v_rand(true, soft)  # what the truth may hold, too
    assert metrics.dice(true * 255, true.astype(np.float16)) == 1


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
        metric(
            torch.from_numpy(hot[:1, 0]), torch.from_numpy(hot[:1, 1]), spacing=np.array(spacing)
        )
        assert metric.aggregate().item() == pytest.approx(np.mean(values[:2]), abs=1e-9)
        metric.reset()
        one = [torch.from_numpy(hot[i, :1, 1:2][0]) for i in (0, 1)]
        metric(one, one)  # lists of one channel, in pixels
        assert metric.aggregate().item() in (0, 1)
        metric.reset()
        metric(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
        assert metric.aggregate().isnan()  # there is no object
        metric.reset()
        with pytest.raises(ValueError, match="has seen no image: call it before"):
            metric.aggregate()


def test_each_image_of_a_collated_batch_has_its_own_pixels() -> None:
    """Lines that lie 4 px apart, of 0.5 and of 3 mm."""
    truth, found = torch.zeros(1, 9, 9), torch.zeros(1, 9, 9)
    truth[:, 2], found[:, 6] = 1, 1
    sizes = (0.5, 3.0)
    labels = [MetaTensor(truth, affine=np.diag([size, 1.0, 1.0, 1.0])) for size in sizes]
    batch = list_data_collate([{"label": label} for label in labels])["label"]
    assert batch.affine.shape == (2, 4, 4)
    metric = metrics.HD95Metric()
    scores = metric(torch.stack([found, found]), batch)
    assert scores.flatten().tolist() == pytest.approx([4 * size for size in sizes])


def test_pixels_are_those_of_the_images_axes_wherever_they_run() -> None:
    """The first axis runs to the feet in steps of 3 mm: planes 4 px apart are 12 mm apart."""
    truth, found = torch.zeros(1, 1, 9, 5, 7), torch.zeros(1, 1, 9, 5, 7)
    truth[:, :, 2], found[:, :, 6] = 1, 1
    affine = np.array([[0, 1, 0, 8], [0, 0, 0.5, 0], [-3, 0, 0, 7], [0, 0, 0, 1.0]])
    metric = metrics.HD95Metric()
    assert metric(found, MetaTensor(truth, affine=affine)).item() == pytest.approx(12)
    assert metric(MetaTensor(found, affine=affine), truth).item() == pytest.approx(12)
    assert metric(found, truth).item() == 4


@pytest.mark.parametrize(
    "metric", [metrics.HD95Metric(), metrics.ASSDMetric(), metrics.NSDMetric()]
)
def test_numbers_of_classes_are_no_mask(metric: Any) -> None:
    """Two classes in one channel were one object, in silence; white is 255 or 1."""
    numbers = torch.zeros(1, 1, 6, 6)
    numbers[..., 1:3, :], numbers[..., 3:5, :] = 1, 2
    with pytest.raises(ValueError, match=r"Metric takes binary masks.* values from 1 to 2"):
        metric(numbers > 0, numbers)
    metric(numbers > 0, (numbers > 0) * 255)


def test_both_have_one_channel_a_class() -> None:
    one_hot = torch.eye(2)[torch.ones(1, 6, 6).long()].movedim(-1, 1)
    with pytest.raises(
        ValueError, match=r"2 channel\(s\) of the prediction against 1 of the truth"
    ):
        metrics.HD95Metric()(one_hot, one_hot[:, 1:])


# --- where a part of the image is known


def scores(surfaces: Surfaces) -> list[float]:
    return [surfaces.hd95(), surfaces.assd(), surfaces.nsd(TOLERANCE)]


def by_loops(sides: list[list[tuple[np.ndarray, float]]]) -> list[float]:
    """HD95, ASSD and NSD of the elements of two surfaces, each pair of them by itself."""
    far, area = [], []
    for own, other in (sides, sides[::-1]):
        far.append([min(np.linalg.norm(a - b) for b, _ in other) for a, _ in own])
        area.append([share for _, share in own])
    ends = []
    for distances, shares in zip(far, area, strict=True):
        gone = 0.0
        for distance, share in sorted(zip(distances, shares, strict=True)):
            gone += share
            if gone >= (0.95 - 1e-6) * sum(shares):
                ends.append(distance)
                break
    every = [*zip(far[0] + far[1], area[0] + area[1], strict=True)]
    total = sum(share for _, share in every)
    mean = sum(distance * share for distance, share in every) / total
    near = sum(share for distance, share in every if distance <= TOLERANCE * (1 + 1e-6))
    return [max(ends), mean, near / total]


def blobs(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    relief = ndimage.gaussian_filter(rng.normal(size=shape), 1.2)
    return np.roll(relief, 1, 0) + rng.normal(0, 0.02, shape) > 0.03, relief > 0.03


PARTS = {
    "planes": np.s_[:, :, [0, 3, 4]],
    "a corner": np.s_[:5, :4, :],
    "all but a corner": np.s_[2:, 1:, :3],
    "a column": np.s_[1:8, 2:7, :],
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_known_of_a_surface_by_loops(part: str, dims: int) -> None:
    spacing = (0.8, 1.5, 3.1)[:dims]
    found, true = blobs(5, (9, 8, 7)[:dims])
    known = np.zeros(found.shape, bool)
    known[PARTS[part][3 - dims :] if part == "planes" else PARTS[part][:dims]] = True
    surfaces = Surfaces.between(found, true, spacing, known)
    elements = [known_surface(mask & known, known, spacing) for mask in (found, true)]
    assert surfaces.prediction.sum() == pytest.approx(sum(area for _, area in elements[0]))
    assert surfaces.truth.sum() == pytest.approx(sum(area for _, area in elements[1]))
    assert scores(surfaces) == pytest.approx(by_loops(elements), rel=1e-5)
    wild = np.where(known, found, np.random.default_rng(0).random(found.shape) < 0.5)
    assert scores(Surfaces.between(wild, true, spacing, known)) == scores(surfaces)


@pytest.mark.parametrize("planes", [(2, 8), (0, 5), (3, 11)])
def test_planes_that_are_known_alone_are_scored_by_their_outlines(planes: tuple[int, ...]) -> None:
    """As the planes are, one by one, their elements taken together; the first and last one, too."""
    found, true = blobs(3, (30, 25, 12))
    known = np.zeros(found.shape, bool)
    known[..., planes] = True
    got = Surfaces.between(found, true, (0.8, 1.5, 90.0), known)
    each = [Surfaces.between(found[..., z], true[..., z], (0.8, 1.5)) for z in planes]
    whole = Surfaces(
        *(np.concatenate(parts) for parts in [*zip(*each, strict=True)][:4]), 0.0, (True, True)
    )
    orders = [np.argsort(whole.to_truth), np.argsort(whole.to_prediction)]
    whole = whole._replace(
        to_truth=whole.to_truth[orders[0]], prediction=whole.prediction[orders[0]],
        to_prediction=whole.to_prediction[orders[1]], truth=whole.truth[orders[1]],
    )  # fmt: skip
    assert scores(got) == pytest.approx(scores(whole), rel=1e-5)


def test_bad_outlines_in_planes_that_are_known_alone_are_bad() -> None:
    """A square of 20 px moved by 6: its faces lie over one another, and say nothing."""
    found, true, known = np.zeros((3, 40, 40, 9), bool)
    found[16:36, 10:30], true[10:30, 10:30], known[..., [2, 6]] = True, True, True
    got = Surfaces.between(found, true, (1, 1, 5), known)
    flat = Surfaces.between(found[..., 2], true[..., 2], (1, 1))
    assert scores(got) == pytest.approx(scores(flat))
    assert got.hd95() == pytest.approx(6)
    sheets = Surfaces.between(found & known, true & known, (1, 1, 5))  # as they were scored
    assert sheets.assd() < 0.5 * got.assd()
    assert sheets.nsd(TOLERANCE) > got.nsd(TOLERANCE) + 0.2


def test_the_unknown_is_what_the_nearest_known_pixel_is_in_the_world() -> None:
    """Two pixels of 1 mm are nearer than one of 5 mm."""
    inside, known = np.zeros((2, 5, 3), bool)
    inside[0, 1] = known[0, 1] = known[2, 2] = True
    for spacing, within in (((1.0, 5.0), True), ((1.0, 1.0), False)):
        [filled], _ = _continued([inside], known, np.array(spacing))
        assert filled[1:-1, 1:-1][2, 1] == within


def test_a_surface_that_is_known_everywhere_is_what_it_was() -> None:
    found, true, spacing = pair(3)
    plain = Surfaces.between(found, true, spacing)
    for known in (None, np.ones(found.shape), np.ones(found.shape, bool)):
        assert scores(Surfaces.between(found, true, spacing, known)) == scores(plain)
    inside = [np.pad(np.ones((2, 2, 2), bool), 10) for _ in range(2)]
    seen = np.ones(inside[0].shape, bool)
    seen[-1, -1, -1] = False  # a pixel that no element of theirs has
    assert scores(Surfaces.between(*inside, (1, 1, 1), seen)) == [0.0, 0.0, 1.0]


def test_a_surface_of_which_nothing_is_known_has_no_distance() -> None:
    """An object that fills what is known ends somewhere else; one that is not there is missed."""
    known = np.zeros((9, 9), bool)
    known[3:6, 3:6] = True
    filled, part, none = known.copy(), known & (np.arange(9) < 4), np.zeros_like(known)
    for found, true in ((filled, part), (part, filled), (filled, filled), (none, none)):
        assert np.isnan(scores(Surfaces.between(found, true, (1, 1), known))).all()
    diagonal = np.hypot(9, 9)
    for found, true in ((none, filled), (filled, none), (none, part)):
        assert scores(Surfaces.between(found, true, (1, 1), known)) == [diagonal, diagonal, 0.0]
    assert scores(Surfaces.between(part, part, (1, 1), known)) == [0.0, 0.0, 1.0]
    assert np.isnan(scores(Surfaces.between(filled, filled, (1, 1), none))).all()
