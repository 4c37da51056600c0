"""Prepare the batches of MONAI's engines, and read the loss of a step."""

from unet_med.engines.batch import PrepareBatchWeighted, last_loss

__all__ = ["PrepareBatchWeighted", "last_loss"]
