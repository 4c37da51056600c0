"""Batches for MONAI's engines: what goes into a step, and what comes out."""

from unet_med.engines.batch import PrepareBatchWeighted, last_loss

__all__ = ["PrepareBatchWeighted", "last_loss"]
