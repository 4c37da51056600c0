"""How wide objects are, along each axis, by what a fingerprint says of their sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unet_med.planning.fingerprints import PERCENTILES, Fingerprint

SMALL, MEDIAN = PERCENTILES.index(5.0), PERCENTILES.index(50.0)
MEDIAN_SECTION = 0.75  # median section of a sphere by planes, of its largest


def object_widths(
    found: Fingerprint, dims: int, pixel: Sequence[float] | NDArray[np.float64] | None
) -> dict[int, list[float]] | None:
    """Widths of small and of median objects along each axis; None where there are none.

    In a plane, that of the circle of the same area. In a volume, that of the ellipsoid of the
    same volume whose median section is that of the objects: planes may lie further apart than
    pixels, whether the files say so or not.

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
    if pixel is not None:
        areas = np.array(objects.plane_area) / np.prod(pixel[:2])
        volumes = np.array(objects.volume) / np.prod(pixel)
    if dims == 2:
        return {k: [2 * float(np.sqrt(areas[k] / np.pi))] * 2 for k in (SMALL, MEDIAN)}
    plane = 2 * float(np.sqrt(areas[MEDIAN] / MEDIAN_SECTION / np.pi))
    median = [plane, plane, float(6 * volumes[MEDIAN] / (np.pi * plane**2))]
    smaller = float(np.cbrt(volumes[SMALL] / volumes[MEDIAN]))
    return {SMALL: [smaller * width for width in median], MEDIAN: median}
