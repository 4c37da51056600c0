"""Segmentation scores as their challenges define them: `f(prediction, truth) -> float`.

ISBI 2012 electron microscopy: `pixel_error`, `rand_error`, `warping_error`, `v_rand`, `v_info`.
Cell Tracking Challenge: `seg`, `det`. Objects at given overlaps: `average_precision`. Arrays are
NumPy's, or CPU tensors; everything runs on the CPU.
"""

from __future__ import annotations

from unet_med.metrics.isbi import pixel_error, rand_error, v_info, v_rand, v_scores
from unet_med.metrics.objects import average_precision, det, seg
from unet_med.metrics.warping import warping_error

__all__ = [
    "average_precision",
    "det",
    "pixel_error",
    "rand_error",
    "seg",
    "v_info",
    "v_rand",
    "v_scores",
    "warping_error",
]
