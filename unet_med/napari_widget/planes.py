"""Planes of a stack that somebody has labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unet_med.data.digest import digest
from unet_med.napari_widget.segmenting import Array

PREDICTED = "unet_med_predicted"  # of a layer's metadata: `plane_digests` of what it began as


def labelled_planes(labels: Array, predicted: Sequence[str] | None = None) -> list[int]:
    """Which planes of a stack somebody has labelled.

    Args:
        labels: `(X, Y, Z)`, whole numbers.
        predicted: `plane_digests` of what a network made, where the labels are a correction of
            it: planes that are as they were nobody has corrected, also those with labels.

    Raises:
        ValueError: there are none.
    """
    if predicted is None:
        found = _painted(labels)
        advice = "has labels: paint some first"
    else:
        pairs = zip(plane_digests(labels), predicted, strict=True)
        found = [z for z, (now, before) in enumerate(pairs) if now != before]
        advice = "was corrected: paint first, or add the plane that is shown"
    if not found:
        raise ValueError(f"no plane {advice}")
    return found


def without_labels(labels: Array) -> str:
    """What an image with labels `(X, Y[, Z])` teaches where nobody has painted; empty: nothing.

    >>> without_labels(np.eye(2, 3)[None])
    '; 1 of 3 planes has no labels and counts as background, or choose planes above'
    """
    if labels.ndim == 2:
        return "" if labels.any() else "; it has no labels and counts as background"
    if not (count := labels.shape[2] - len(_painted(labels))):
        return ""
    has, counts = ("has", "counts") if count == 1 else ("have", "count")
    return (
        f"; {count} of {labels.shape[2]} planes {has} no labels and {counts} as background, or "
        "choose planes above"
    )


def _painted(labels: Array) -> list[int]:
    """Planes of labels `(X, Y, Z)` that hold any."""
    return [z for z in range(labels.shape[2]) if labels[..., z].any()]


def plane_digests(labels: Array) -> list[str]:
    """What tells whether a plane of labels `(X, Y, Z)` has changed."""
    return [digest(labels[..., z].astype(np.int64)) for z in range(labels.shape[2])]
