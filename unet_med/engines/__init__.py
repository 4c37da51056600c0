"""Prepare the batches of MONAI's engines, and read the losses of their steps."""

from unet_med.engines.batch import PrepareBatchWeighted, last_loss, loss_of, read_losses, read_now

__all__ = ["PrepareBatchWeighted", "last_loss", "loss_of", "read_losses", "read_now"]
