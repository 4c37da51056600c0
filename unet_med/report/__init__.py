"""Pictures of results: image, truth, result, differences; and the learning curve.

matplotlib is imported where it draws, without pyplot: nothing global changes, no
window opens, and threads may draw at once. Every file is written beside its
place and renamed, so that half a picture is never seen.
"""

from unet_med.report.comparison import comparison_figure
from unet_med.report.curve import learning_curve_figure
from unet_med.report.differences import DIFFERENCES, difference_map
from unet_med.report.record import TrainingRecord

__all__ = [
    "DIFFERENCES",
    "TrainingRecord",
    "comparison_figure",
    "difference_map",
    "learning_curve_figure",
]
