"""Shades of images, and a colour for each label: neighbours differ, matching instances agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.report.differences import Labels, overlaps

Colours = NDArray[np.float64]

PALETTE = (
    *("#ff6b6b", "#3fa7ff", "#ffd43b", "#2fc48d", "#b56cff"),
    *("#ff9a3c", "#25c5da", "#f472b6", "#a3d63b"),
)
UNMATCHED = "#ececec"  # a result instance that is no cell of the truth (IoU at most 0.5)


def rgb(names: Sequence[str]) -> Colours:
    """Hex colours as `(n, 3)` in 0..1."""
    return np.array([[int(n[i : i + 2], 16) / 255 for i in (1, 3, 5)] for n in names])


def palette(kinds: Mapping[str, str | None]) -> Colours:
    """Colours by code, of names with their colours; what has none is black."""
    return rgb([colour or "#000000" for colour in kinds.values()])


def contours(labels: Labels) -> NDArray[np.bool_]:
    """Outermost pixels of each label, `(X, Y)`; 0 is background."""
    from skimage.segmentation import find_boundaries

    found: NDArray[np.bool_] = find_boundaries(labels, mode="inner", background=0)
    return found


def stretched(image: NDArray[Any]) -> Colours:
    """Grey values between the 0.5th and 99.5th percentile as 0..1, `(X, Y, 3)`."""
    values = image.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    values = np.nan_to_num(np.clip(values, low, high) - low) / max(high - low, 1e-12)  # NaN: black
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=-1)


def class_colours(count: int) -> Colours:
    """A colour for each class 0..count-1, `(count, 3)`, round and round the palette."""
    return rgb([UNMATCHED, *PALETTE])[_positions(count)]


def instance_colours(instances: Labels) -> Colours:
    """A colour for each instance number, `(N + 1, 3)`, unlike those of its neighbours."""
    from skimage.segmentation import expand_labels

    count = int(instances.max(initial=0)) + 1
    near = expand_labels(np.maximum(instances, 0), distance=8)
    neighbours: dict[int, set[int]] = {}
    for axis in range(near.ndim):
        a, b = np.moveaxis(near, axis, 0)[:-1], np.moveaxis(near, axis, 0)[1:]
        for i, j in np.unique(np.stack([a[a != b], b[a != b]]), axis=1).T.tolist():
            neighbours.setdefault(i, set()).add(j)
            neighbours.setdefault(j, set()).add(i)
    choice = _positions(count)
    for i in range(1, count):  # greedy: its own colour unless an earlier neighbour wears it
        taken = {choice[j] for j in neighbours.get(i, ()) if 0 < j < i}
        free = [p for p in range(1, len(PALETTE) + 1) if p not in taken]
        if free and choice[i] in taken:
            choice[i] = free[i % len(free)]
    return rgb([UNMATCHED, *PALETTE])[choice]


def matched_colours(truth: Labels, result: Labels, colours: Colours) -> Colours:
    """For each result instance the colour of its true one, `(M + 1, 3)`; grey without one."""
    t, r = np.maximum(truth, 0), np.maximum(result, 0)
    matched = np.repeat(rgb([UNMATCHED]), int(r.max(initial=0)) + 1, axis=0)
    pairs, shared = overlaps(t, r)
    union = np.bincount(t.ravel())[pairs[0]] + np.bincount(r.ravel())[pairs[1]] - shared
    i, j = pairs[:, shared / union > 0.5]
    matched[j] = colours[i]
    return matched


def _positions(count: int) -> NDArray[np.intp]:
    """Palette positions of labels 0..count-1: 0 for background, then 1.. round and round."""
    return np.append(0, 1 + np.arange(count - 1) % len(PALETTE))
