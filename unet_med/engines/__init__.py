"""Handlers and batch preparation that let MONAI's engines train the paper from a config."""

from unet_med.engines.batch import PrepareBatchWeighted, last_loss
from unet_med.engines.budget import TrainingBudget
from unet_med.engines.checkpoints import Checkpoints
from unet_med.engines.guards import LossGuard, OutOfMemory
from unet_med.engines.memory import KeepMemory
from unet_med.engines.progress import ProgressBar
from unet_med.engines.reproducible import Reproducible
from unet_med.engines.state import load_whole, rank, save_atomically
from unet_med.engines.stopping import StopOnSignal
from unet_med.engines.validation import Validation

__all__ = [
    "Checkpoints",
    "KeepMemory",
    "LossGuard",
    "OutOfMemory",
    "PrepareBatchWeighted",
    "ProgressBar",
    "Reproducible",
    "StopOnSignal",
    "TrainingBudget",
    "Validation",
    "last_loss",
    "load_whole",
    "rank",
    "save_atomically",
]
