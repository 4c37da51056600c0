"""What is measured of labels: sizes, numbers of objects, intensities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_med.data.class_names import ClassNames, require_few
from unet_med.data.labels import IGNORED

Array = np.ndarray[Any, Any]
Scores = dict[str, float | None]

STATISTICS: Mapping[str, Callable[[Array], Any]] = {
    "mean": np.mean,
    "deviation": np.std,
    "lowest": np.min,
    "median": np.median,
    "highest": np.max,
}


@dataclass(frozen=True)
class Size:
    """What sizes are called, and the size of a pixel."""

    name: str
    pixel: float


def class_rows(
    label: Array, size: Size, grey: Array | None, names: ClassNames, pieces: Array | None
) -> Iterator[tuple[str, Scores]]:
    """A row a class; of a single one the objects are the instances, else connected pieces."""
    values = np.unique(label)
    require_few(values)
    classes = [int(value) for value in values if value > 0 and value != IGNORED]
    if set(values.tolist()) <= {0, IGNORED}:  # a mask of 0 and 255
        classes = [int(value) for value in values if value > 0]
    for value in sorted({*classes, *names}):
        inside = label == value
        objects = pieces if pieces is not None and classes == [value] else _components(inside)
        single = "foreground" if len(classes) == 1 and value in (1, IGNORED) else str(value)
        yield names.get(value, single), whole_scores(inside, size, object_sizes(objects), grey)
    if not classes and not names:
        yield "", whole_scores(label > 0, size, np.empty(0, np.int64), grey)


def object_rows(label: Array, size: Size, grey: Array | None) -> Iterator[tuple[str, Scores]]:
    """A row an object, in the order of their numbers."""
    values, where, counts = np.unique(label, return_inverse=True, return_counts=True)
    order = np.argsort(where.ravel(), kind="stable")
    ends = np.cumsum(counts)
    pixels = None if grey is None else grey.reshape(len(grey), -1)[:, order]
    for value, end, count in zip(values.tolist(), ends.tolist(), counts.tolist(), strict=True):
        if value > 0:
            own = None if pixels is None else pixels[:, end - count : end]
            yield str(value), {size.name: count * size.pixel, **_intensities(own)}


def whole_scores(inside: Array, size: Size, sizes: Array, grey: Array | None) -> Scores:
    """Size of a class, number and sizes of its objects, and its intensities."""
    what = size.name.partition(" ")[2]
    scores: Scores = {size.name: float(inside.sum()) * size.pixel, "objects": float(len(sizes))}
    for name, share in (("smallest", 0.0), ("median", 0.5), ("largest", 1.0)):
        known = float(np.quantile(sizes, share)) * size.pixel if len(sizes) else None
        scores[f"{name} object {what}"] = known
    return {**scores, **_intensities(None if grey is None else grey[:, inside])}


def _intensities(pixels: Array | None) -> Scores:
    """`STATISTICS` of each channel, `(C, N)`; NaN left out."""
    scores: Scores = {}
    for channel, values in enumerate(() if pixels is None else pixels):
        known = values[np.isfinite(values)].astype(np.float64)
        of = f" {channel}" if pixels is not None and len(pixels) > 1 else ""
        for name, compute in STATISTICS.items():
            scores[f"{name} intensity{of}"] = float(compute(known)) if len(known) else None
    return scores


def object_sizes(label: Array) -> Array:
    """Pixels of each object."""
    values, counts = np.unique(label, return_counts=True)
    return counts[values > 0]


def _components(inside: Array) -> Array:
    from scipy import ndimage

    pieces: Array = ndimage.label(inside, np.ones((3,) * inside.ndim))[0]
    return pieces
