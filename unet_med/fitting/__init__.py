"""What held-out images decide at the end of a training."""

from unet_med.fitting.handler import FitObjects, planned_objects, spread_evenly, write_verdict
from unet_med.fitting.predicted import HeldOut, held_out, reading
from unet_med.fitting.search import (
    Verdict,
    around,
    choose,
    count,
    cross_fitted,
    objects_under,
)

__all__ = [
    "FitObjects",
    "HeldOut",
    "Verdict",
    "around",
    "choose",
    "count",
    "cross_fitted",
    "held_out",
    "objects_under",
    "planned_objects",
    "reading",
    "spread_evenly",
    "write_verdict",
]
