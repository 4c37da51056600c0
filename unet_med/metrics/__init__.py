"""Segmentation scores as their challenges define them: `f(prediction, truth) -> float`.

ISBI 2012 electron microscopy: `pixel_error`, `rand_error`, `warping_error`, `v_rand`, `v_info`.
Cell Tracking Challenge: `seg`, `det`. Objects at given overlaps: `average_precision`. Arrays are
NumPy's, or CPU tensors; everything runs on the CPU. `PixelErrorMetric` and so on are the same as
MONAI metrics; torch and MONAI load on the first use of one of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_med.metrics.bootstrap import bootstrap_interval
from unet_med.metrics.isbi import pixel_error, rand_error, v_info, v_rand, v_scores
from unet_med.metrics.objects import average_precision, det, seg
from unet_med.metrics.warping import warping_error

if TYPE_CHECKING:
    from unet_med.metrics.iteration import (
        AveragePrecisionMetric,
        DETMetric,
        PixelErrorMetric,
        RandErrorMetric,
        SEGMetric,
        VInfoMetric,
        VRandMetric,
        WarpingErrorMetric,
    )

__all__ = [
    "AveragePrecisionMetric",
    "DETMetric",
    "PixelErrorMetric",
    "RandErrorMetric",
    "SEGMetric",
    "VInfoMetric",
    "VRandMetric",
    "WarpingErrorMetric",
    "average_precision",
    "bootstrap_interval",
    "det",
    "pixel_error",
    "rand_error",
    "seg",
    "v_info",
    "v_rand",
    "v_scores",
    "warping_error",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from unet_med.metrics import iteration

        return getattr(iteration, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
