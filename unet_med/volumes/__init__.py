"""Volumes larger than memory, on one machine or many: the same result as one pass."""

from __future__ import annotations

from unet_med.data.sources import DiskImage, open_source
from unet_med.volumes.blocks import Block, split
from unet_med.volumes.executors import BlocksFailedError, run_blocks
from unet_med.volumes.job import BlockJob

Source = DiskImage  # its name so far, which planning's bundle to start from has as well

__all__ = [
    "Block",
    "BlockJob",
    "BlocksFailedError",
    "DiskImage",
    "Source",
    "open_source",
    "run_blocks",
    "split",
]
