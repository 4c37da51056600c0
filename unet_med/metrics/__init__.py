"""Segmentation scores as their challenges define them: `f(prediction, truth) -> float`.

ISBI 2012 electron microscopy: `pixel_error`, `rand_error`, `warping_error`, `v_rand`, `v_info`.
Cell Tracking Challenge: `seg`, `det`. Objects at given overlaps: `average_precision`. One organ, as
clinicians read it: `dice`, `hd95`, `assd`, `nsd`, `relative_volume_error`. Probabilities:
`expected_calibration_error`, also of the pixels `near_borders` alone. An error against the number
of images: `PowerLaw`. Arrays are NumPy's, or
CPU tensors; everything runs on the CPU. `PixelErrorMetric` and so on are the same as MONAI
metrics; torch and MONAI load on the first use of one of these, or of a surface distance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_med.first_use import on_first_use
from unet_med.metrics.bootstrap import bootstrap_interval
from unet_med.metrics.calibration import expected_calibration_error, near_borders
from unet_med.metrics.isbi import pixel_error, rand_error, v_info, v_rand, v_scores
from unet_med.metrics.objects import average_precision, det, seg
from unet_med.metrics.power_law import PowerLaw
from unet_med.metrics.region import dice, relative_volume_error
from unet_med.metrics.surface import assd, hd95, nsd
from unet_med.metrics.warping import warping_error

if TYPE_CHECKING:
    from unet_med.metrics.iteration import (
        ASSDMetric,
        AveragePrecisionMetric,
        DETMetric,
        HD95Metric,
        NSDMetric,
        PixelErrorMetric,
        RandErrorMetric,
        SEGMetric,
        VInfoMetric,
        VRandMetric,
        WarpingErrorMetric,
    )

__all__ = [
    "ASSDMetric",
    "AveragePrecisionMetric",
    "DETMetric",
    "HD95Metric",
    "NSDMetric",
    "PixelErrorMetric",
    "PowerLaw",
    "RandErrorMetric",
    "SEGMetric",
    "VInfoMetric",
    "VRandMetric",
    "WarpingErrorMetric",
    "assd",
    "average_precision",
    "bootstrap_interval",
    "det",
    "dice",
    "expected_calibration_error",
    "hd95",
    "near_borders",
    "nsd",
    "pixel_error",
    "rand_error",
    "relative_volume_error",
    "seg",
    "v_info",
    "v_rand",
    "v_scores",
    "warping_error",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return on_first_use(__name__, dict.fromkeys(__all__, "iteration"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
