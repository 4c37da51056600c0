"""Distances between surfaces, in the units of the spacing: HD95, ASSD and NSD.

Definitions as in DeepMind's surface-distance (Nikolov et al. 2021), which the Medical Segmentation
Decathlon scores with and Metrics Reloaded (Maier-Hein et al. 2024) builds on: the surface runs
between pixels, it is cut into the elements of marching cubes (of marching squares in planes), and
each element counts with its area (its length). Counting edge voxels instead, as other packages
do, weighs a thick slice's face like a thin side; `docs/how-to/score-results.md` has the numbers.

Where a part of the image is known alone, an element counts if the known ones among the pixels that
meet there lie on both sides of the surface, and by the share of them that is known: so every known
pixel has an eighth (a fourth) of each element around it, and of a single known plane the outlines
count as far as the plane is thick. Of the unknown pixels each is what the nearest known one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from unet_med.metrics.region import as_mask

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
        holds: whether prediction and truth hold anything.
    """

    to_truth: Floats
    prediction: Floats
    to_prediction: Floats
    truth: Floats
    worst: float
    holds: tuple[bool, bool]

    @classmethod
    def between(
        cls,
        prediction: ArrayLike,
        truth: ArrayLike,
        spacing: Sequence[float],
        known: ArrayLike | None = None,
    ) -> Surfaces:
        """Measure two masks of one grid.

        Args:
            prediction: object where not 0, `(X, Y)` or `(X, Y, Z)`; a volume that is one pixel
                thick is a plane.
            truth: likewise, the same shape.
            spacing: pixel size along each axis.
            known: not 0 where the truth is known, the same shape; None: everywhere.

        Raises:
            ValueError: shapes that differ, a spacing that does not fit them, or a value that is
                no whole number.
        """
        masks = [as_mask(mask) for mask in (prediction, truth)]
        sizes = _checked(masks, spacing)
        worst = float(np.linalg.norm(sizes * masks[0].shape))
        seen = None if known is None or np.all(known) else np.asarray(known) != 0
        if seen is not None:
            masks = [mask & seen for mask in masks]
        if masks[0].ndim == 3 and 1 in masks[0].shape:
            flat = masks[0].shape.index(1)
            masks, sizes = [np.take(mask, 0, flat) for mask in masks], np.delete(sizes, flat)
            seen = None if seen is None else seen.take(0, flat)
        holds = bool(masks[0].any()), bool(masks[1].any())
        if seen is not None and any(holds):
            masks, seen = _continued(masks, seen, sizes)
        (found, areas), (true, true_areas) = (_elements(mask, sizes, seen) for mask in masks)
        return cls(*_nearest(found, areas, true), *_nearest(true, true_areas, found), worst, holds)

    @property
    def undefined(self) -> bool:
        """Whether neither holds anything, or the surface of one that does is nowhere known."""
        return not any(self.holds) or (
            all(self.holds) and not (self.prediction.size and self.truth.size)
        )

    def hd95(self) -> float:
        """See `hd95`; NaN where it is undefined."""
        if self.undefined or not all(self.holds):
            return np.nan if self.undefined else self.worst
        sides = (self.to_truth, self.prediction), (self.to_prediction, self.truth)
        return max(_percentile(*side) for side in sides)

    def assd(self) -> float:
        """See `assd`; NaN where it is undefined."""
        if self.undefined or not all(self.holds):
            return np.nan if self.undefined else self.worst
        total = self.to_truth @ self.prediction + self.to_prediction @ self.truth
        return float(total / (self.prediction.sum() + self.truth.sum()))

    def nsd(self, tolerance: float) -> float:
        """See `nsd`; NaN where it is undefined."""
        if self.undefined or not all(self.holds):
            return np.nan if self.undefined else 0.0
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
        ValueError: both are empty, shapes that differ, a spacing that does not fit them, or a value
            that is no whole number, as of probabilities and NaN.

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


def _continued(masks: Sequence[Mask], known: Mask, sizes: Floats) -> tuple[list[Mask], Mask]:
    """Masks in which the unknown is what the nearest known pixel is, and what is known of them.

    All get a pixel more on each side. What lies beyond the image is without, as always, but known
    only where the image is known a pixel further in: or else of a plane that is known alone, the
    whole would be a surface if it is the image's last one, and the outline if it is not.
    """
    seen = np.pad(known, 1, mode="reflect")
    nearest = ndimage.distance_transform_edt(
        ~seen, sizes, return_distances=False, return_indices=True
    )
    return [np.pad(mask, 1)[tuple(nearest)] for mask in masks], seen


def _elements(mask: Mask, sizes: Floats, known: Mask | None = None) -> tuple[Floats, Floats]:
    """Places `(N, D)` and areas of the elements of a surface.

    An element lies where 4 pixels of a plane, or 8 of a volume, meet that are neither all within
    nor all without. What lies beyond the image is without.

    Args:
        mask: of the object.
        sizes: of a pixel along each axis.
        known: where it is known; None: everywhere.
    """
    from monai.metrics.utils import get_code_to_measure_table

    if not mask.any():
        return np.empty((0, mask.ndim)), np.empty(0)
    (box,) = ndimage.find_objects(mask.view(np.uint8))
    first = np.array([part.start for part in box])
    padded = np.pad(mask[box], 1)
    code = np.zeros([side - 1 for side in padded.shape], np.uint8)
    corners = list(product((0, 1), repeat=mask.ndim))
    windows = [
        tuple(slice(start, start + side) for start, side in zip(corner, code.shape, strict=True))
        for corner in reversed(corners)
    ]
    for bit, window in enumerate(windows):
        code |= padded[window].view(np.uint8) << np.uint8(bit)
    on = (code > 0) & (code < (1 << len(corners)) - 1)
    table, _ = get_code_to_measure_table(sizes.tolist())
    places, areas = (np.argwhere(on) + first) * sizes, table.numpy().astype(np.float64)[code[on]]
    if known is None:
        return places, areas
    ends = zip(first, first + padded.shape, strict=True)
    seen = np.pad(known, 1)[tuple(slice(*end) for end in ends)]  # as `padded`
    total, inside = (np.sum([x[w][on] for w in windows], axis=0) for x in (seen, seen & padded))
    both = (inside > 0) & (inside < total)
    return places[both], (areas * total / len(corners))[both]


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
