"""Handlers of MONAI's engines: budget, checkpoints, guards, progress, skipped failures."""

from unet_med.handlers.budget import TrainingBudget
from unet_med.handlers.checkpoint_loader import CheckpointLoader
from unet_med.handlers.checkpoints import Checkpoints
from unet_med.handlers.clear_cache import ClearCache
from unet_med.handlers.evaluator import WholeImageEvaluator
from unet_med.handlers.guards import LossGuard, OutOfMemory
from unet_med.handlers.keep_memory import KeepMemory
from unet_med.handlers.progress import CasesBar, ProgressBar
from unet_med.handlers.reproducible import Reproducible
from unet_med.handlers.rounding import Rounding
from unet_med.handlers.skipped_failures import SkipFailuresDataset, SkipFailuresEvaluator
from unet_med.handlers.stopping import StopOnSignal
from unet_med.handlers.training_state import load_whole, rank, save_atomically
from unet_med.handlers.validation import Validation

WeightsLoader = CheckpointLoader  # its name in bundles of earlier versions

__all__ = [
    "CasesBar",
    "CheckpointLoader",
    "Checkpoints",
    "ClearCache",
    "KeepMemory",
    "LossGuard",
    "OutOfMemory",
    "ProgressBar",
    "Reproducible",
    "Rounding",
    "SkipFailuresDataset",
    "SkipFailuresEvaluator",
    "StopOnSignal",
    "TrainingBudget",
    "Validation",
    "WholeImageEvaluator",
    "load_whole",
    "rank",
    "save_atomically",
]
