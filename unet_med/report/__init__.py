"""Pictures of results: image, truth, result, differences; and the learning curve.

matplotlib is imported where it draws, without pyplot: nothing global changes, no
window opens, and threads may draw at once. Every file is written beside its
place and renamed, so that half a picture is never seen. `TrainingRecord` loads
ignite on first use; the pictures need neither it nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_med.report.comparison import comparison_figure
from unet_med.report.curve import learning_curve_figure
from unet_med.report.differences import DIFFERENCES, difference_map

if TYPE_CHECKING:
    from unet_med.report.record import TrainingRecord

__all__ = [
    "DIFFERENCES",
    "TrainingRecord",
    "comparison_figure",
    "difference_map",
    "learning_curve_figure",
]


def __getattr__(name: str) -> Any:
    if name == "TrainingRecord":
        from unet_med.report.record import TrainingRecord

        return TrainingRecord
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
