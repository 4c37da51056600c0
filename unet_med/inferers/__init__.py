"""Inference on images of any size: exact overlap-tile stitching as a MONAI inferer."""

from __future__ import annotations

from unet_med.inferers.overlap_tile import OverlapTileInferer
from unet_med.inferers.training_pass import TrainingInferer

__all__ = ["OverlapTileInferer", "TrainingInferer"]
