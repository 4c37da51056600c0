"""Where objects lie and what shape they have, through SimpleITK, which is imported on first use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

AXES = "xyz"
# Squared deviation of a line's pixels across it, px^2, which rounding makes: as much as one pixel
# beside 100,000 in a row.
LINE = 1e-5


def object_shapes(
    label: np.ndarray[Any, Any], edges: Sequence[float], unit: str
) -> Iterator[dict[str, float | None]]:
    """Place and shape of each object, in the order of their numbers.

    `centre` is the mean of an object's pixels, in pixels of the file, the first of which is 0.
    `diameter` is that of a disk or ball of its size. `perimeter`, or `surface`, is estimated by
    lines that cross its edge (Crofton; Lehmann and Legland 2012): within 3 % for disks of 10
    pixels and more, 7 % too low for squares along the axes. `roundness` is the perimeter of
    that disk over its own: about 1 for a disk, above 1 for the smallest objects, up to 1.3 for
    one pixel. `elongation` is length over width of the ellipse with its second moments, None
    for a line. `at edge` is 1 if the image ends at the object, which may go on. A volume of one
    slice is a plane.

    Args:
        label: numbers 1, 2, ... without a gap, 0 background, `(X, Y[, Z])`.
        edges: of a pixel along each axis, in the unit.
        unit: of lengths.

    >>> label = np.zeros((30, 20), int)
    >>> label[4:12, 10:14] = 1
    >>> (shape,) = object_shapes(label, (1.0, 2.0), "um")
    >>> shape["centre x"], shape["centre y"], round(shape["diameter um"], 2), shape["at edge"]
    (7.5, 11.5, 9.03, 0)
    """
    import SimpleITK as sitk

    if label.shape[2:] == (1,):
        label = label[..., 0]  # (X, Y)
    edges = edges[: label.ndim]
    count = int(label.max(initial=0))
    statistics = sitk.LabelShapeStatisticsImageFilter()
    image = sitk.GetImageFromArray(label.T.astype(np.uint32))  # ITK: (X, Y[, Z]) is array (Z, Y, X)
    image.SetSpacing([float(edge) for edge in edges])
    statistics.Execute(image)
    outline = f"perimeter {unit}" if label.ndim == 2 else f"surface {unit}^2"
    for number in range(1, count + 1):
        centre = statistics.GetCentroid(number)
        places = zip(AXES, centre, edges, strict=False)  # of x, y, z as many as there are
        yield {
            **{f"centre {axis}": place / edge for axis, place, edge in places},
            f"diameter {unit}": 2 * statistics.GetEquivalentSphericalRadius(number),
            outline: statistics.GetPerimeter(number),
            "roundness": statistics.GetRoundness(number),
            "elongation": _elongation(statistics.GetPrincipalMoments(number), min(edges)),
            "at edge": int(statistics.GetNumberOfPixelsOnBorder(number) > 0),
        }


def _elongation(moments: Sequence[float], edge: float) -> float | None:
    """Length over width, of which there is none without a width.

    Args:
        moments: second moments along the axes of the object, ascending, in squared units.
        edge: shortest of a pixel, in the unit.
    """
    width, length = moments[-2:]
    return math.sqrt(length / width) if width > LINE * edge**2 else None
