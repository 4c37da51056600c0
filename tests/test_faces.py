"""Faces between pixels of a label, against a loop over all pairs of neighbours."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet_med.data import summarize_label
from unet_med.data.faces import count_faces, count_values, places_among

SHAPES = st.tuples(*[st.integers(1, 5)] * 2) | st.tuples(*[st.integers(1, 4)] * 3)


def labels(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Few values and a huge one, which no table holds."""
    return arrays(np.int64, shape, elements=st.sampled_from([-1, 0, 1, 2, 7, 10**12]))


def neighbours(label: np.ndarray) -> list[tuple[int, tuple[int, ...], int, int]]:
    """Axis, place and value of each pixel, and value of a neighbour, as often as there are."""
    found = []
    for place in product(*map(range, label.shape)):
        for axis, step in product(range(label.ndim), (-1, 1)):
            beside = [*place]
            beside[axis] += step
            if 0 <= beside[axis] < label.shape[axis]:
                found.append((axis, place, int(label[place]), int(label[tuple(beside)])))
    return found


@given(SHAPES.flatmap(labels))
def test_each_pixel_and_each_of_its_neighbours(label: np.ndarray) -> None:
    planes = np.moveaxis(label, 2, 0) if label.ndim == 3 else label[None]
    values, counts = count_values(label)
    held = [count_values(plane)[0] for plane in planes]
    found = count_faces(planes, values, counts, held)
    pairs = neighbours(label)
    other = [(axis, place, one) for axis, place, one, beside in pairs if one != beside]
    expected = {
        "sides": Counter(one for *_, one, _ in pairs),
        "unlike": Counter(one for *_, one in other),
        "touching": Counter(o for *_, o, beside in pairs if o != beside and min(o, beside) > 0),
        "across": Counter(one for axis, _, one in other if axis == 2),
    }
    for name, count in expected.items():
        assert getattr(found, name).tolist() == [count[value] for value in values.tolist()], name
    inside = Counter(((*place, 0)[2], one) for axis, place, one in other if axis < 2)
    rows = [inside[k, v] for k, own in enumerate(held) for v in own.tolist() if v > 0]
    assert found.in_planes.tolist() == rows
    summary = summarize_label(label, blobs=False)
    assert summary.plane_faces.tolist() == rows
    assert len(summary.plane_sizes) == len(rows)
    assert summary.across.tolist() == found.across.tolist()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "uint64", "float32"])
def test_values_are_those_of_numpy(dtype: str) -> None:
    label = np.array([[3, 3, 0], [100, 3, 0]], dtype)
    values, counts = count_values(label)
    assert values.dtype == label.dtype
    assert (values.tolist(), counts.tolist()) == ([0, 3, 100], [2, 3, 1])
    assert places_among(values)(label).tolist() == [[1, 1, 0], [2, 1, 0]]


def test_small_integers_of_eight_bits_do_not_overflow() -> None:
    label = np.array([[-128, 127]], np.int8)
    assert count_values(label)[0].tolist() == [-128, 127]
    assert places_among(label[0])(label).tolist() == [[0, 1]]
