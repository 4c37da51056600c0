"""Inference on images of any size: exact overlap-tile stitching as a MONAI inferer."""

from __future__ import annotations

from unet_med.inferers.overlap_tile import OverlapTileInferer

__all__ = ["OverlapTileInferer"]
