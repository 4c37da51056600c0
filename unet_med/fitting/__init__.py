"""What held-out images decide at the end of a training."""

from unet_med.fitting.handler import FitObjects
from unet_med.fitting.search import Verdict, around, choose, count

__all__ = ["FitObjects", "Verdict", "around", "choose", "count"]
