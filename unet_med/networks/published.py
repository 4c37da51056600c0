"""Published settings of the U-Net, written as differences from `UNet`'s defaults."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from unet_med.geometry import PerLevel
from unet_med.networks.architecture import UNet

PRESETS: dict[str, dict[str, Any]] = {
    # Ronneberger et al. 2015, figure 1: the defaults; 31,030,658 parameters
    "paper2015": {},
    # the authors' network phseg_v5 of October 2015: 31,100,354 parameters
    "release2015": {
        "up_act": "relu",
        "up_channels": "keep-last",  # 128 -> 128, so the last level joins 192 channels
        "dropout_levels": (-2, -1),  # in place on d3c, which feeds pooling and skip, and on d4c
    },
    # Falk et al. 2019, the network of the Fiji plugin
    "falk2019": {
        "act": ("leakyrelu", {"negative_slope": 0.1}),
        "up_act": ("leakyrelu", {"negative_slope": 0.1}),
        "dropout": 0.0,
    },
    # Çiçek et al. 2016, figure 2: 19,069,955 parameters without those of batch normalisation
    "cicek2016": {
        "spatial_dims": 3,
        "in_channels": 3,
        "out_channels": 3,
        "features": (64, 128, 256, 512),
        "norm": "batch",
        "dropout": 0.0,
        "up_channels": "keep",
        "up_bias": False,
        "double_before_pool": True,
    },
    # ours: what learned fastest in equal time on ISBI 2012, and still exactly tileable
    "modern": {"dropout": 0.0, "padding": "same", "norm": "batch"},
}
"""Arguments of `UNet` by which each published network, and ours, departs from its defaults."""


def presets() -> dict[str, dict[str, Any]]:
    """Every argument of `UNet` that each preset fixes, defaults included.

    >>> presets()["cicek2016"]["features"]
    (64, 128, 256, 512)
    """
    parameters = inspect.signature(UNet).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters}
    return {name: {**defaults, **departures} for name, departures in PRESETS.items()}


def unet(
    preset: str = "paper2015",
    *,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    out_channels: int | None = None,
    features: Sequence[int] | None = None,
    pool: PerLevel | None = None,
    kernel_size: PerLevel | None = None,
    **overrides: Any,
) -> UNet:
    """A `UNet` with published settings.

    Args:
        preset: a key of `PRESETS`.
        spatial_dims: 2 or 3; `None` for the preset's.
        in_channels: channels of the image; `None` for the preset's.
        out_channels: number of classes; `None` for the preset's.
        features: channels of each level; `None` for the preset's.
        pool: factors of the poolings; `None` for the preset's.
        kernel_size: widths of the convolutions; `None` for the preset's.
        **overrides: any other argument of `UNet`, in place of the preset's.

    Raises:
        ValueError: the preset is unknown; the message lists the known ones.

    >>> unet("paper2015", features=(4, 8, 16)).depth
    2
    """
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is unknown; the presets are {', '.join(PRESETS)}")
    common = {
        "spatial_dims": spatial_dims,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "features": features,
        "pool": pool,
        "kernel_size": kernel_size,
    }
    given = {name: value for name, value in common.items() if value is not None}
    return UNet(**{**PRESETS[preset], **given, **overrides})
