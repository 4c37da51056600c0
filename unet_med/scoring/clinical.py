"""Scores that a clinician reads: overlap, distances and volumes of each class, in its units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import ndimage

from unet_med.data.class_names import require_few
from unet_med.data.file_reader import Volume
from unet_med.data.grids import ORIENTED
from unet_med.data.pixel_size import MICROMETRES
from unet_med.instances import IGNORED
from unet_med.metrics.region import DICE, RELATIVE_VOLUME_ERROR, count_pixels
from unet_med.metrics.surface import Surfaces
from unet_med.scoring.scores import Column, Counts
from unet_med.scoring.tables import mean_of

Array = np.ndarray[Any, Any]
Box = tuple[slice, ...]

PIXELS = "px"
MOST = 2**16  # a list of boxes has a place for every number up to the largest
SLANT = 0.01  # cosine of two axes, by which distances err by up to half a percent


@dataclass(frozen=True)
class Clinical:
    """What is measured, and in which units.

    Attributes:
        unit: of lengths: `"mm"`, `"um"`, or `"px"` where no file states a pixel size.
        dims: axes of the images; an object of planes has an area, not a volume.
        tolerance: of NSD, in the unit.
        in_planes: the images are planes of volumes, so that distances end at the next plane.
    """

    unit: str
    dims: int
    tolerance: float = 1.0
    in_planes: bool = False

    @property
    def columns(self) -> dict[str, Column]:
        """Scores by name, as a table shows them."""
        size = size_unit(self.unit, self.dims)
        one = Column(_mean_of_rows, pooled=False)
        size_column = Column(_mean_of_rows, pooled=False, averaged=False)
        error = Column(RELATIVE_VOLUME_ERROR.pool, pooled=False, averaged=False)
        length = f"{self.unit} in plane" if self.in_planes else self.unit
        return {
            "Dice": Column(DICE.pool),
            f"HD95 {length}": one,
            f"ASSD {length}": one,
            f"NSD {self.tolerance:g} {length}": one,
            size: size_column,
            f"true {size}": size_column,
            f"relative {size.partition(' ')[0]} error": error,
        }

    @property
    def absent(self) -> Counts:
        """What is counted where neither truth nor result holds a class."""
        nothing = np.zeros((1, 3), np.int64)
        return self._counts(nothing, [np.nan] * 3, 0.0)

    def count(self, result: Array, truth: Array, sizes: tuple[float, ...]) -> dict[int, Counts]:
        """Rows of one case for each class that result or truth hold.

        Where a part of the truth is unknown, surfaces count where the known pixels show them, and
        no volume is given, since none is known.

        Args:
            result: classes 1, 2, ..., 0 background, `(X, Y[, Z])`.
            truth: likewise; pixels of 255 count neither here nor there.
            sizes: of a pixel along each axis, in the unit.

        Raises:
            ValueError: more values than there are classes.
        """
        known = truth != IGNORED
        if partly := not known.all():
            result, truth = (np.where(known, label, 0) for label in (result, truth))
        values = np.union1d(np.unique(result), np.unique(truth))
        require_few(values)
        pixel = np.nan if partly else math.prod(sizes) * size_factor(self.unit, self.dims)
        worst = float(np.linalg.norm(np.multiply(sizes, truth.shape)))  # of the whole, not a box
        whole = partly or values.max(initial=0) > MOST
        boxes = {} if whole else boxes_of(result, truth)
        counted = {}
        for value in (int(v) for v in values if v > 0):
            box = boxes.get(value, ...)
            found, true = result[box] == value, truth[box] == value
            surfaces = Surfaces.between(found, true, sizes, known if partly else None)
            surfaces = surfaces._replace(worst=worst)
            counted[value] = self._one(found, true, surfaces, pixel)
        return counted

    def _one(self, found: Array, true: Array, surfaces: Surfaces, pixel: float) -> Counts:
        distances = [surfaces.hd95(), surfaces.assd(), surfaces.nsd(self.tolerance)]
        return self._counts(count_pixels(found, true), distances, pixel)

    def _counts(self, pixels: Array, distances: list[float], pixel: float) -> Counts:
        _, found, true = pixels[0].tolist()
        rows = [np.array([[value]]) for value in (*distances, found * pixel, true * pixel)]
        return dict(zip(self.columns, (pixels, *rows, pixels), strict=True))


def boxes_of(*labels: Array) -> dict[int, Box]:
    """The smallest box with all pixels of a value, in any of the labels, and a pixel around them.

    So an object of one slice of a volume is not taken for a plane.

    >>> boxes_of(np.array([0, 0, 0, 2]), np.array([0, 0, 2, 0]))
    {2: (slice(1, 5, None),)}
    """
    found: dict[int, list[Box]] = {}
    for label in labels:
        for value, box in enumerate(ndimage.find_objects(label), start=1):
            if box is not None:
                found.setdefault(value, []).append(box)
    return {
        value: tuple(
            slice(max(0, min(s.start for s in axis) - 1), max(s.stop for s in axis) + 1)
            for axis in zip(*boxes, strict=True)
        )
        for value, boxes in found.items()
    }


def size_unit(unit: str, dims: int) -> str:
    """What the size of an object is called, with its unit.

    >>> size_unit("mm", 3), size_unit("um", 2)
    ('volume ml', 'area um^2')
    """
    what = "volume" if dims == 3 else "area"
    if unit == PIXELS:
        return f"{what} px"
    return f"{what} ml" if (unit, dims) == ("mm", 3) else f"{what} {unit}^{dims}"


def size_factor(unit: str, dims: int) -> float:
    """Of a size in the unit to the power of the axes: 1 ml is 1000 mm^3."""
    return 1e-3 if (unit, dims) == ("mm", 3) else 1.0


def unit_of(headers: Iterable[Volume]) -> str | None:
    """Unit of the first header that states a pixel size; None: none does."""
    return next((h.spatial_unit for h in headers if h.states_size), None)


def size_of(headers: Sequence[Volume], unit: str) -> tuple[float, ...]:
    """Pixel size along `(X, Y[, Z])`, in a unit, by the first header that states a place as well.

    Else by the first that states a size. A label saved without its affine has a pixel size of 1 in
    its header, whatever its image has.

    Args:
        headers: of files on one grid.
        unit: of the table; with `"px"` every pixel is 1 long.

    Raises:
        ValueError: none states a size, and other files do; or the axes are not at right angles.
    """
    if unit == PIXELS:
        return (1.0,) * len(headers[0].spatial_shape)
    stated = [header for header in headers if header.states_size]
    placed = [header for header in stated if header.spacing_source in ORIENTED]
    if not stated:
        raise ValueError(
            "neither result nor truth states a pixel size, and other files do, in "
            f"{unit}: save them with theirs, or score them apart"
        )
    header = (placed or stated)[0]
    _require_right_angles(header)
    factor = MICROMETRES[header.spatial_unit] / MICROMETRES[unit]
    return tuple(size * factor for size in header.pixel_size)


def _require_right_angles(header: Volume) -> None:
    """Refuse pixels that are no boxes, of which sizes and distances are not those of their sides.

    Raises:
        ValueError: says which axes, and their angle.
    """
    directions = header.affine[:3, :3] / np.linalg.norm(header.affine[:3, :3], axis=0)
    for one, other in combinations(range(len(header.spatial_shape)), 2):
        cosine = float(abs(directions[:, one] @ directions[:, other]))
        if cosine > SLANT:
            raise ValueError(
                f"its axes {'xyz'[one]} and {'xyz'[other]} are at "
                f"{math.degrees(math.acos(cosine)):.3g} degrees, as slices of a tilted gantry are, "
                "so that voxels are no boxes: resample the image to right angles before it is "
                "segmented (dcm2niix does)"
            )


def _mean_of_rows(rows: Array) -> float:
    return mean_of(rows[:, 0].tolist())
