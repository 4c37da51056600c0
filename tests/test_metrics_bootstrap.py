"""Bootstrap intervals of pooled scores."""

from __future__ import annotations

import numpy as np
import pytest

from unet_med.metrics import bootstrap_interval
from unet_med.metrics.bootstrap import mean_interval, resampled
from unet_med.metrics.objects import SEG, precision_score


def share(rows: np.ndarray) -> float:
    return float(rows[:, 0].sum() / rows[:, 1].sum())


@pytest.fixture
def images(rng) -> list[np.ndarray]:
    """Found and all objects of 40 images, one or two rows each."""
    counts = []
    for size in rng.integers(1, 3, 40):
        objects = rng.integers(5, 50, size)
        counts.append(np.stack([rng.binomial(objects, 0.7), objects], axis=1))
    return counts


def test_is_the_percentiles_of_resampled_images(images):
    low, high = bootstrap_interval(images, share, confidence=0.9, resamples=300, seed=5)
    rng = np.random.default_rng(5)
    draws = rng.integers(0, 40, (300, 40))
    scores = sorted(
        sum(images[i][:, 0].sum() for i in draw) / sum(images[i][:, 1].sum() for i in draw)
        for draw in draws
    )
    assert low == pytest.approx(np.percentile(scores, 5))
    assert high == pytest.approx(np.percentile(scores, 95))


def test_width_is_that_of_the_normal_approximation(images):
    """Ratio estimator: its standard error from the residuals of the images."""
    low, high = bootstrap_interval(images, share)
    found, objects = np.array([rows.sum(axis=0) for rows in images]).T
    residuals = found - share(np.concatenate(images)) * objects
    error = np.sqrt((residuals**2).sum()) / objects.sum()
    assert low < share(np.concatenate(images)) < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_one_image_tells_nothing(images):
    assert np.isnan(bootstrap_interval(images[:1], share)).all()
    assert np.isnan(bootstrap_interval([], share)).all()


def test_draws_without_a_score_are_left_out():
    """One image of two has no true object: a quarter of the draws have no SEG."""
    empty, full = np.array([[0.0, 0]]), np.array([[1.5, 2]])
    assert bootstrap_interval([empty, full], SEG.pool) == (0.75, 0.75)
    assert np.isnan(bootstrap_interval([empty, empty], SEG.pool)).all()
    nothing = np.zeros((1, 1, 2), int)
    assert np.isnan(bootstrap_interval([nothing, nothing], precision_score().pool)).all()


# --- groups


WHO = [k % 3 if k % 4 else 7 for k in range(40)]  # 7, 1, 2, 0, 7, 2, 0, 1, ...


def draws_of_groups(count: int, seed: int) -> list[list[int]]:
    """Positions of images: so many groups as there are, each with all of its images."""
    names = list(dict.fromkeys(WHO))
    drawn = np.random.default_rng(seed).integers(0, len(names), (count, len(names)))
    return [[i for g in draw for i in range(40) if WHO[i] == names[g]] for draw in drawn]


def test_groups_are_drawn_with_all_of_their_images(images):
    draws = draws_of_groups(300, 5)
    expected = np.percentile(
        [share(np.concatenate([images[i] for i in d])) for d in draws], [5, 95]
    )
    given = {"groups": WHO, "resamples": 300, "seed": 5}
    assert bootstrap_interval(images, share, confidence=0.9, **given) == pytest.approx(expected)
    values = [share(rows) if k % 5 else np.nan for k, rows in enumerate(images)]
    expected = np.percentile([np.nanmean([values[i] for i in d]) for d in draws], [5, 95])
    assert mean_interval(values, confidence=0.9, **given) == pytest.approx(expected)
    [scores] = resampled([lambda own: float(sum(own))], 40, **given).T
    assert scores.tolist() == [sum(d) for d in draws]


def test_images_of_patients_tell_less_than_as_many_patients(images):
    """Five times the same eight images are eight, not forty."""
    eight = images[:8]
    alone, five = bootstrap_interval(eight, share), [*range(8)] * 5
    assert bootstrap_interval(eight * 5, share, groups=five) == pytest.approx(alone)
    low, high = bootstrap_interval(eight * 5, share)
    assert high - low < 0.6 * (alone[1] - alone[0])


def test_groups_of_one_image_are_images_and_one_group_tells_nothing(images):
    assert bootstrap_interval(images, share, groups=[*range(40)]) == bootstrap_interval(
        images, share
    )
    assert np.isnan(bootstrap_interval(images, share, groups=["a"] * 40)).all()
    assert np.isnan(mean_interval([1.0, 2.0], groups=["a", "a"])).all()
