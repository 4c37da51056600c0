"""Distances between surfaces, in the units of the spacing: HD95, ASSD and NSD.

Definitions as in DeepMind's surface-distance (Nikolov et al. 2021), which the Medical Segmentation
Decathlon scores with and Metrics Reloaded (Maier-Hein et al. 2024) builds on: the surface runs
between pixels, it is cut into the elements of marching cubes (of marching squares in planes), and
each element counts with its area (its length). Counting edge voxels instead, as other packages
do, weighs a thick slice's face like a thin side; `docs/how-to/score-results.md` has the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

__all__ = ["assd", "hd95", "nsd"]

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

SHARE = 0.95  # of the surface that lies no further away than HD95
SLACK = 1e-6  # headers hold spacings as 32-bit floats: 3 x 0.33333334 mm is 1 mm
NEITHER = "neither prediction nor truth holds the object: the score is not defined; leave it out"


class Surfaces(NamedTuple):
    """Elements of two surfaces, and how far each lies from the other surface.

    Attributes:
        to_truth: of the prediction's elements, ascending; infinite where there is no truth.
        prediction: their areas.
        to_prediction: of the truth's elements, likewise.
        truth: their areas.
        worst: diagonal of the image, further than any two of its pixels are apart.
    """

    to_truth: Floats
    prediction: Floats
    to_prediction: Floats
    truth: Floats
    worst: float

    @classmethod
    def between(cls, prediction: ArrayLike, truth: ArrayLike, spacing: Sequence[float]) -> Surfaces:
        """Measure two masks of one grid.

        Args:
            prediction: object where not 0, `(X, Y)` or `(X, Y, Z)`; a volume that is one pixel
                thick is a plane.
            truth: likewise, the same shape.
            spacing: pixel size along each axis.

        Raises:
            ValueError: shapes that differ, or a spacing that does not fit them.
        """
        masks = [np.asarray(mask) != 0 for mask in (prediction, truth)]
        sizes = _checked(masks, spacing)
        worst = float(np.linalg.norm(sizes * masks[0].shape))
        if masks[0].ndim == 3 and 1 in masks[0].shape:
            flat = masks[0].shape.index(1)
            masks, sizes = [mask.take(0, flat) for mask in masks], np.delete(sizes, flat)
        (found, areas), (true, true_areas) = (_elements(mask, sizes) for mask in masks)
        return cls(*_nearest(found, areas, true), *_nearest(true, true_areas, found), worst)

    @property
    def empty(self) -> tuple[bool, bool]:
        """Whether prediction and truth hold nothing."""
        return not self.prediction.size, not self.truth.size

    def hd95(self) -> float:
        """See `hd95`; NaN where neither holds anything."""
        if any(self.empty):
            return np.nan if all(self.empty) else self.worst
        sides = (self.to_truth, self.prediction), (self.to_prediction, self.truth)
        return max(_percentile(*side) for side in sides)

    def assd(self) -> float:
        """See `assd`; NaN where neither holds anything."""
        if any(self.empty):
            return np.nan if all(self.empty) else self.worst
        total = self.to_truth @ self.prediction + self.to_prediction @ self.truth
        return float(total / (self.prediction.sum() + self.truth.sum()))

    def nsd(self, tolerance: float) -> float:
        """See `nsd`; NaN where neither holds anything."""
        if any(self.empty):
            return np.nan if all(self.empty) else 0.0
        near = tolerance * (1 + SLACK)
        right = self.prediction[self.to_truth <= near].sum()
        right += self.truth[self.to_prediction <= near].sum()
        return float(right / (self.prediction.sum() + self.truth.sum()))


def hd95(prediction: ArrayLike, truth: ArrayLike, spacing: Sequence[float]) -> float:
    """Hausdorff distance of 95 %: the larger of two distances, one for each surface.

    That of a surface is the smallest within which 95 % of its area lie from the other surface.

    Args:
        prediction: object where not 0, `(X, Y)` or `(X, Y, Z)`.
        truth: likewise, the same shape.
        spacing: pixel size along each axis.

    Returns:
        Distance in the unit of the spacing; the diagonal of the image where one of them is empty.

    Raises:
        ValueError: both are empty, shapes that differ, or a spacing that does not fit them.

    >>> hd95([[1, 1, 1, 1, 0, 0]], [[1, 1, 0, 0, 0, 0]], (1, 0.5))  # ends 2 pixels apart
    1.0
    """
    return _defined(Surfaces.between(prediction, truth, spacing).hd95())


def assd(prediction: ArrayLike, truth: ArrayLike, spacing: Sequence[float]) -> float:
    """Average symmetric surface distance: mean over the area of both surfaces.

    Args:
        prediction: object where not 0, `(X, Y)` or `(X, Y, Z)`.
        truth: likewise, the same shape.
        spacing: pixel size along each axis.

    Returns:
        Distance in the unit of the spacing; the diagonal of the image where one of them is empty.

    Raises:
        ValueError: as `hd95`.

    >>> assd([[1, 1]], [[1, 1]], (1, 1))
    0.0
    """
    return _defined(Surfaces.between(prediction, truth, spacing).assd())


def nsd(
    prediction: ArrayLike, truth: ArrayLike, spacing: Sequence[float], *, tolerance: float = 1.0
) -> float:
    """Normalised surface distance, or surface Dice: share of both surfaces that lie near enough.

    Args:
        prediction: object where not 0, `(X, Y)` or `(X, Y, Z)`.
        truth: likewise, the same shape.
        spacing: pixel size along each axis.
        tolerance: distance that still counts as right, in the unit of the spacing.

    Returns:
        Score in [0, 1]; 0 where one of them is empty.

    Raises:
        ValueError: as `hd95`.

    >>> nsd([[1, 1]], [[1, 1]], (1, 1), tolerance=0)
    1.0
    """
    return _defined(Surfaces.between(prediction, truth, spacing).nsd(tolerance))


def _defined(score: float) -> float:
    if np.isnan(score):
        raise ValueError(NEITHER)
    return score


def _checked(masks: Sequence[Mask], spacing: Sequence[float]) -> Floats:
    """The spacing of two masks, one number an axis."""
    prediction, truth = (mask.shape for mask in masks)
    if prediction != truth or len(truth) not in (2, 3):
        raise ValueError(
            f"prediction of shape {prediction} against truth {truth}: both must be one plane "
            "(X, Y) or one volume (X, Y, Z); drop channel and batch axes"
        )
    sizes = np.asarray(spacing, np.float64)
    if sizes.shape != (len(truth),) or not ((sizes > 0) & np.isfinite(sizes)).all():
        raise ValueError(
            f"spacing {np.asarray(spacing).tolist()} for shape {truth}: it must be a positive "
            "number for each axis"
        )
    return sizes


def _elements(mask: Mask, sizes: Floats) -> tuple[Floats, Floats]:
    """Places `(N, D)` and areas of the elements of a surface.

    An element lies where 4 pixels of a plane, or 8 of a volume, meet that are neither all within
    nor all without. What lies beyond the image is without.
    """
    from monai.metrics.utils import get_code_to_measure_table

    if not mask.any():
        return np.empty((0, mask.ndim)), np.empty(0)
    first, cut = _box(mask)
    padded = np.pad(cut, 1)
    code = np.zeros([side - 1 for side in padded.shape], np.uint8)
    corners = list(product((0, 1), repeat=mask.ndim))
    for bit, corner in enumerate(reversed(corners)):
        window = tuple(
            slice(start, start + side) for start, side in zip(corner, code.shape, strict=True)
        )
        code |= padded[window].view(np.uint8) << np.uint8(bit)
    on = (code > 0) & (code < (1 << len(corners)) - 1)
    table, _ = get_code_to_measure_table(sizes.tolist())
    return (np.argwhere(on) + first) * sizes, table.numpy().astype(np.float64)[code[on]]


def _box(mask: Mask) -> tuple[NDArray[np.intp], Mask]:
    """First corner and content of the smallest box that holds a mask."""
    first, cut = [], []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        first.append(inside[0])
        cut.append(slice(inside[0], inside[-1] + 1))
    return np.array(first), mask[tuple(cut)]


def _nearest(places: Floats, areas: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Distances to the nearest of the others, ascending, with the areas in that order."""
    if not len(places) or not len(others):
        return np.full(len(places), np.inf), areas
    distances = KDTree(others).query(places)[0]
    order = np.argsort(distances, kind="stable")
    return distances[order], areas[order]


def _percentile(distances: Floats, areas: Floats) -> float:
    covered = np.cumsum(areas) / areas.sum()
    place = np.searchsorted(covered, SHARE - SLACK)
    return float(distances[min(int(place), len(distances) - 1)])
