"""How wide objects are, along each axis, by what a fingerprint says of their sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unet_med.planning.fingerprints import MEDIAN, SMALL, Fingerprint

MEDIAN_SECTION = 0.75  # median section of a sphere by planes, of its largest
COMPACT = 2.0  # times as wide as its faces say a disc is; see decision 0010
ALIKE = 0.95  # of the circle's width: medians of both need not be of one object


def plane_widths(areas: np.ndarray, faces: np.ndarray) -> NDArray[np.float64]:
    """Width of objects in a plane, px: that of the circle of the same area, within bounds.

    A disc of radius r has an area of pi r^2 and 8 r faces of pixels to others, so 16 / pi times
    area by faces is its diameter; of a strip that is about twice its width, however long it is.

    Args:
        areas: of the objects, px.
        faces: of each object, to pixels of other values.

    >>> plane_widths(np.array([314, 2000]), np.array([80, 2004])).round(1).tolist()
    [20.0, 10.2]
    """
    circles = 2 * np.sqrt(areas / np.pi)
    return np.minimum(circles, COMPACT * 16 / np.pi * areas / np.maximum(faces, 1))


def depths(volumes: np.ndarray, faces: np.ndarray) -> NDArray[np.float64]:
    """How far objects reach across planes at most, px, by `COMPACT`.

    A ball of radius r has a volume of 4/3 pi r^3 and 2 pi r^2 faces across planes, so three times
    volume by faces is its diameter, also where planes lie further apart than pixels.

    Args:
        volumes: of the objects, px.
        faces: of each object, to pixels of other values in the planes before and behind.
    """
    found: NDArray[np.float64] = COMPACT * 3 * volumes / np.maximum(faces, 1)
    return found


def compact_width(found: Fingerprint) -> float | None:
    """Width of the median object in a plane, px of the first image, where its faces bound nothing.

    A value that lies in more than four discs of equal size, or in strips, has more faces than
    `plane_widths` grants to a circle of its area.

    Returns:
        None: it has; or there are no objects, or an earlier version did not look at faces.
    """
    objects = found.instances
    if objects is None or objects.width_px is None:
        return None
    circle = 2 * float(np.sqrt(objects.plane_px[MEDIAN] / np.pi))
    width = objects.width_px[MEDIAN]
    return width if width > ALIKE * circle else None


def is_compact(widths: np.ndarray, areas: np.ndarray) -> bool:
    """Whether faces bound the widths of a value little, in its planes; see `compact_width`.

    Args:
        widths: of `plane_widths`.
        areas: of the value in each plane, px.
    """
    circles = 2 * np.sqrt(areas / np.pi)
    return bool(np.median(widths) > ALIKE * np.median(circles))


def object_widths(
    found: Fingerprint, dims: int, pixel: Sequence[float] | NDArray[np.float64] | None
) -> dict[int, list[float]] | None:
    """Widths of small and of median objects along each axis; None where there are none.

    In a plane, see `plane_widths`. In a volume, that of the ellipsoid of the same volume whose
    median section is that of the objects: planes may lie further apart than pixels, whether the
    files say so or not. Across planes it is no more than `depths` says.

    Args:
        found: what the files say.
        dims: axes of the network.
        pixel: size of the pixels to count in, in the unit of the first image; None: each image's
            own.

    Returns:
        By position in `PERCENTILES`, `SMALL` and `MEDIAN`, px.
    """
    if found.instances is None:
        return None
    objects = found.instances
    areas, volumes = np.array(objects.plane_px), np.array(objects.volume_px)
    widths, reach = objects.width_px, objects.depth_px
    sides = np.ones(3)
    if pixel is not None:
        areas = np.array(objects.plane_area) / np.prod(pixel[:2])
        volumes = np.array(objects.volume) / np.prod(pixel)
        widths, reach = objects.width, objects.depth
        sides = np.array([np.sqrt(np.prod(pixel[:2]))] * 2 + [pixel[-1]])
    circles = 2 * np.sqrt(areas / np.pi)
    wide = circles if widths is None else np.array(widths) / sides[0]
    if dims == 2:
        return {k: [float(wide[k])] * 2 for k in (SMALL, MEDIAN)}
    whole = circles[MEDIAN] / np.sqrt(MEDIAN_SECTION)
    deep = 6 * volumes[MEDIAN] / (np.pi * whole**2)
    deep = deep if reach is None else min(deep, reach[MEDIAN] / sides[2])
    median = [float(wide[MEDIAN] / np.sqrt(MEDIAN_SECTION))] * 2 + [float(deep)]
    smaller = float(np.cbrt(volumes[SMALL] / volumes[MEDIAN]))
    return {SMALL: [smaller * width for width in median], MEDIAN: median}
