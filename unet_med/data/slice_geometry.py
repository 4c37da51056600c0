"""Planes as one volume: their order and their affine, from where each says that it lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unet_med.data.grids import LPS_TO_RAS, TOLERANCE

_SAME_PLACE = 1e-3  # of the largest step


def stack_planes(
    points: np.ndarray, cosines: np.ndarray, sizes: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Order planes along their normal, and say where the volume that they make lies.

    Args:
        points: `(N, 3)`, centre of each plane's first pixel, mm, LPS.
        cosines: `(N, 6)`, directions of the rows and of the columns of each.
        sizes: of a pixel along X and Y, and of the step where there is one plane, mm.

    Returns:
        Order of the planes, `(N,)`, and the affine, 4x4, voxel `(X, Y, Z)` to world, RAS, mm.

    Raises:
        ValueError: a size is 0; or the planes are not parallel, lie in one place, or not in equal
            steps along their normal.
    """
    if not all(size > 0 for size in sizes):
        raise ValueError("its header states a pixel size of 0, so that it is unknown")
    if np.ptp(cosines, axis=0).max() > 1e-3:
        raise ValueError("its slices do not have one orientation: save each stack as a series")
    row, column = (v / np.linalg.norm(v) for v in cosines[0].reshape(2, 3))
    directions = np.stack([row, column, np.cross(row, column)], axis=1)  # columns X, Y, Z
    order = np.argsort(points @ directions[:, 2], kind="stable")
    points = points[order]
    step = float(sizes[2])
    if len(points) > 1:
        step = float(np.linalg.norm(points[-1] - points[0])) / (len(points) - 1)
        _require_straight(points, directions, np.array([sizes[0], sizes[1], step]))
    affine = np.eye(4)
    affine[:3, :3] = directions * [sizes[0], sizes[1], step]
    affine[:3, 3] = points[0]
    return order, LPS_TO_RAS @ affine


def _require_straight(points: np.ndarray, directions: np.ndarray, sizes: np.ndarray) -> None:
    """Refuse planes that do not lie where the affine says: one missing, a tilted gantry."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if twice := int((steps <= _SAME_PLACE * steps.max()).sum()):
        raise ValueError(
            f"{twice} of its {len(points)} slices lie where others do: it holds several images, "
            "of several times or echoes, or a file twice; keep one a folder"
        )
    places = points[0] + np.outer(np.arange(len(points)) * sizes[2], directions[:, 2])
    off = np.abs((points - places) @ directions).max(axis=0)
    far = off > TOLERANCE * sizes
    if np.ptp(steps) > 0.01 * np.median(steps) or (far[2] and not far[:2].any()):
        raise ValueError(
            f"its slices are {steps.min():.4g} to {steps.max():.4g} mm apart: a slice is missing "
            "or the spacing is not even"
        )
    if far.any():
        cosine = abs((points[-1] - points[0]) @ directions[:, 2]) / steps.sum()
        raise ValueError(
            f"its slices shift sideways by up to {np.linalg.norm(off[:2]):.3g} mm, by a gantry "
            f"tilt of {np.degrees(np.arccos(min(1.0, cosine))):.3g} degrees, which a straight "
            "stack cannot say: resample it first (dcm2niix does, and writes NIfTI)"
        )
