"""A bundle with a tiny network of random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from unet_med import bundle
from unet_med.networks import unet

NETWORK_IDS = (
    *("preset", "spatial_dims", "in_channels", "out_channels"),
    *("features", "pool", "kernel_size"),
)


def make_bundle(folder: Path, **choices: Any) -> Path:
    """A bundle with a tiny network of random weights; `choices` go into its inference.json."""
    torch.manual_seed(0)
    choices = {"preset": "paper2015", "features": [4, 8], "out_channels": 3, **choices}
    bundle.copy_bundle(folder)
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text()) | choices
    path.write_text(json.dumps(config))
    network = unet(**{name: config[name] for name in NETWORK_IDS})
    for bias in (p for p in network.parameters() if p.ndim == 1):
        bias.data.normal_()  # without, dead features tie the classes
    for layer in network.modules():
        if hasattr(layer, "running_var"):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


def network_of(folder: Path) -> torch.nn.Module:
    """The bundle's network, as MONAI's own parser builds and loads it."""
    config = json.loads((folder / "configs" / "inference.json").read_text())
    network = unet(**{name: config[name] for name in NETWORK_IDS})
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    return network.eval()
