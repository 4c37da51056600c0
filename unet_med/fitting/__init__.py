"""What held-out images decide at the end of a training."""

from unet_med.fitting.calibration import (
    Calibration,
    NearBorders,
    calibrate,
    pixels_of,
    write_calibration,
)
from unet_med.fitting.handler import FitObjects, in_groups
from unet_med.fitting.predicted import HeldOut, held_out, judging, reading
from unet_med.fitting.search import (
    Verdict,
    around,
    choose,
    count,
    cross_fitted,
    objects_under,
)
from unet_med.fitting.stacks import in_words, summed, units_of_files
from unet_med.fitting.timing import by_pixels, spread_evenly, timed
from unet_med.fitting.verdicts import fits_objects, planned_objects, write_verdict

__all__ = [
    "Calibration",
    "FitObjects",
    "HeldOut",
    "NearBorders",
    "Verdict",
    "around",
    "by_pixels",
    "calibrate",
    "choose",
    "count",
    "cross_fitted",
    "fits_objects",
    "held_out",
    "in_groups",
    "in_words",
    "judging",
    "objects_under",
    "pixels_of",
    "planned_objects",
    "reading",
    "spread_evenly",
    "summed",
    "timed",
    "units_of_files",
    "write_calibration",
    "write_verdict",
]
