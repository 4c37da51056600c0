"""The U-Net of 2015 and its descendants: `UNet`, and `unet(preset)` for published settings."""

from __future__ import annotations

from unet_med.networks.presets import PRESETS, presets, unet
from unet_med.networks.unet import UNet
from unet_med.networks.weights import load_weights, read_weights, start_from

__all__ = ["PRESETS", "UNet", "load_weights", "presets", "read_weights", "start_from", "unet"]
