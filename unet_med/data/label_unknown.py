"""Pixels of labels that nobody annotated: -1, whatever a file calls them, and what they hide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_med.instances import IGNORED, UNKNOWN


def mark_unknown(label: np.ndarray, unknown: int | None) -> np.ndarray:
    """Labels in which -1 is unknown, whatever a file calls it; 0 is background.

    Args:
        label: integers of any shape.
        unknown: the file's value. 0: background is painted as well, as 1, and every other value
            is one less in the result. None: the file's values are the result's.

    >>> mark_unknown(np.array([0, 1, 255], np.uint8), 255).tolist()
    [0, 1, -1]
    >>> mark_unknown(np.array([0, 1, 2, 3], np.uint8), 0).tolist()
    [-1, 0, 1, 2]
    """
    if unknown is None or unknown == UNKNOWN:
        return label
    signed = label.astype(np.int64 if label.dtype.itemsize > 2 else np.int32)
    return signed - 1 if unknown == 0 else np.where(signed == unknown, UNKNOWN, signed)


def unknown_of(
    label: np.ndarray, planes: np.ndarray, values: np.ndarray, held: Sequence[np.ndarray]
) -> dict[str, Any]:
    """What a summary says of unknown pixels: `cut`, `plane_cut`, `blank` and `empty`.

    Args:
        label: `(X, Y[, Z])`.
        planes: the same, planes first.
        values: that it holds.
        held: that each plane holds.
    """
    blank = {
        mark: tuple(k for k, own in enumerate(held) if set(own.tolist()) <= {UNKNOWN, mark})
        for mark in (UNKNOWN, IGNORED)
    }
    mask = values[values > 0].tolist() == [IGNORED]
    nothing = {UNKNOWN, 0} if mask else {UNKNOWN, IGNORED, 0}
    empty = tuple(k for k, own in enumerate(held) if 0 in own and set(own.tolist()) <= nothing)
    marked = {mark: where for mark, where in blank.items() if where}
    found: dict[str, Any] = {"blank": marked, "empty": empty}
    if values[0] != UNKNOWN:
        return found
    within, beside = (_beside_unknown(label, axes) for axes in (label.ndim, 2))
    cut = np.isin(values, label[within])
    sides = np.moveaxis(beside, 2, 0) if label.ndim == 3 else beside[None]
    plane_cut = [
        np.isin(own[own > 0], plane[side])
        for own, plane, side in zip(held, planes, sides, strict=True)
    ]
    return {**found, "cut": cut, "plane_cut": np.concatenate(plane_cut)}


def _beside_unknown(label: np.ndarray, axes: int) -> np.ndarray:
    """Pixels that share a face with an unknown one along the first axes."""
    unknown, beside = label == UNKNOWN, np.zeros(label.shape, bool)
    for axis in range(min(axes, label.ndim)):
        moved, out = np.moveaxis(unknown, axis, 0), np.moveaxis(beside, axis, 0)
        out[1:] |= moved[:-1]
        out[:-1] |= moved[1:]
    return beside
