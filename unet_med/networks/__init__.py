"""The U-Net of 2015 and its descendants: `UNet`, and `unet(preset)` for published settings."""

from __future__ import annotations

from unet_med.networks.architecture import UNet
from unet_med.networks.ensemble import Ensemble, joined_weights, together
from unet_med.networks.placing import chosen_memory_format, place
from unet_med.networks.published import PRESETS, presets, unet
from unet_med.networks.sides import output_sides
from unet_med.networks.state_dict import load_weights, read_weights, start_from
from unet_med.networks.wrapping import unwrapped

__all__ = [
    "PRESETS",
    "Ensemble",
    "UNet",
    "chosen_memory_format",
    "joined_weights",
    "load_weights",
    "output_sides",
    "place",
    "presets",
    "read_weights",
    "start_from",
    "together",
    "unet",
    "unwrapped",
]
