"""Pictures and pages of results: image, truth, result, errors; and the learning curve.

matplotlib is imported by the functions that draw, without pyplot: nothing global changes, no
window opens, and several threads may draw. Files are written atomically. `TrainingRecord` and
`PredictionRecord` load ignite on first use; the pictures need neither ignite nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_med.first_use import on_first_use
from unet_med.report.comparison import comparison_figure
from unet_med.report.curve import learning_curve_figure
from unet_med.report.differences import DIFFERENCES, difference_map
from unet_med.report.objects import OBJECTS, classify_objects

if TYPE_CHECKING:
    from unet_med.report.page import html_report
    from unet_med.report.prediction import PredictionRecord, unfinished
    from unet_med.report.record import TrainingRecord

_MODULE_OF = {
    "PredictionRecord": "prediction",
    "TrainingRecord": "record",
    "html_report": "page",
    "unfinished": "prediction",
}

__all__ = [
    "DIFFERENCES",
    "OBJECTS",
    "PredictionRecord",
    "TrainingRecord",
    "classify_objects",
    "comparison_figure",
    "difference_map",
    "html_report",
    "learning_curve_figure",
    "unfinished",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return on_first_use(__name__, _MODULE_OF, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
