"""Labels on a coarser grid, against counting the places of each pixel one by one."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from unet_med.transforms import ElementSize


def counted(label: np.ndarray, picked: np.ndarray, factors: list[float]) -> np.ndarray:
    """A loop over new pixels, and over the places in each."""
    out = np.empty(picked.shape, label.dtype)
    for index in np.ndindex(picked.shape):
        axes = []
        for new, side, new_side, factor in zip(
            index, label.shape, picked.shape, factors, strict=True
        ):
            count = max(1, int(np.ceil(factor - 1e-3)))
            centre = ((side - 1) - (new_side - 1) * factor) / 2 + new * factor
            at = [centre + ((k + 0.5) / count - 0.5) * factor for k in range(count)]
            axes.append([min(max(int(np.floor(place + 0.5)), 0), side - 1) for place in at])
        counts = Counter(label[place] for place in product(*axes))
        best = max(counts.values())
        near = picked[index]
        winners = sorted(value for value, count in counts.items() if count == best)
        out[index] = near if near in winners else winners[0]
    return out


@st.composite
def labels(draw):
    dims = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(2, 9)) for _ in range(dims))
    factors = [draw(st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0])) for _ in range(dims)]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return rng.integers(-1, 4, shape).astype(np.int32), factors


@given(labels())
def test_a_label_takes_what_covers_most(case) -> None:
    label, factors = case
    scale = [1 / factor for factor in factors]
    nearest = ElementSize(scale=scale, mode="nearest").resample  # MONAI's own
    sizer = ElementSize(scale=scale, mode="nearest")
    img = MetaTensor(torch.from_numpy(label[None]))
    affine, shape = sizer._grid_of(img.affine, label.shape, img.meta)
    picked = nearest(img, dst_affine=affine, spatial_size=shape, mode="nearest")[0].numpy()
    found = sizer(img)
    assert found.dtype == torch.int32
    if max(factors) <= 1:
        np.testing.assert_array_equal(found[0].numpy(), picked)
    else:
        np.testing.assert_array_equal(found[0].numpy(), counted(label, picked, factors))


@pytest.mark.parametrize("factor", [1.5, 2, 3, 4])
def test_objects_stay_where_they_are_and_apart(factor: float) -> None:
    """Two half discs that touch; the nearest pixel alone shifts them by half a pixel at 2."""
    x, y = np.mgrid[:120, :120]
    inside = np.hypot(x - 59.5, y - 59.5) < 30
    label = np.where(inside, np.where(x < 60, 1, 2), 0).astype(np.int32)
    found = ElementSize(scale=1 / factor, mode="nearest")(torch.from_numpy(label[None]))[0].numpy()
    assert found.shape == (120 / factor,) * 2
    for number in (1, 2):
        own, new = (np.argwhere(part == number) for part in (label, found))
        places = (new.mean(0) + 0.5) * factor - 0.5  # centre of a pixel, in own pixels
        np.testing.assert_allclose(places, own.mean(0), atol=0.12 * factor)
        assert len(new) * factor**2 == pytest.approx(len(own), rel=0.05)
