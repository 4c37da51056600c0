"""A trained bundle, loaded once: image or box of an image in, result out."""

from __future__ import annotations

from unet_med.segmentation.result import Segmentation
from unet_med.segmentation.segmenter import Segmenter
from unet_med.segmentation.volume import Volume

__all__ = ["Segmentation", "Segmenter", "Volume"]
