"""What an export needs of a trained bundle: its network, its geometry, what is left behind."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

from unet_med.bundle import find_weights
from unet_med.inferers import OverlapTileInferer
from unet_med.inferers.batch_statistics import batch_norms
from unet_med.inferers.tiling import Tiling, tiling_of
from unet_med.networks import load_weights

VIEWS = {"flips": "mirrored", "rotations": "rotated"}


@dataclass(frozen=True)
class TrainedBundle:
    """A bundle's network, ready to be exported.

    Attributes:
        folder: the bundle.
        network: in evaluation, on the CPU.
        tiling: its geometry, px.
        in_channels: channels of an image.
        inferer: how the bundle itself predicts.
        metadata: content of `metadata.json`.
    """

    folder: Path
    network: nn.Module
    tiling: Tiling
    in_channels: int
    inferer: OverlapTileInferer
    metadata: dict[str, Any]

    def left_behind(self) -> str:
        """What the bundle does at prediction and an exported network does not, one sentence."""
        parts = []
        if self.inferer.statistics == "image" and batch_norms(self.network):
            parts.append(
                "uses the batch-normalisation statistics recorded in training, where the bundle "
                "takes those of each image"
            )
        if self.inferer.tta:
            parts.append(
                f"looks at the image once, where the bundle averages over its "
                f"{VIEWS[self.inferer.tta]} copies"
            )
        return f"The exported network {' and '.join(parts)}: results differ." if parts else ""

    def sides(self, steps: int) -> int:
        """Input side of the network: the smallest and so many strides more, px."""
        return self.tiling.smallest + steps * self.tiling.stride

    def example(self, side: int, seed: int = 0) -> torch.Tensor:
        """Standardised noise `(1, C, *S)`, all sides alike."""
        shape = (1, self.in_channels, *[side] * self.tiling.spatial_dims)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def load_trained(bundle: str | os.PathLike[str]) -> TrainedBundle:
    """The network of `inference.json` with the bundle's weights.

    Args:
        bundle: folder of a trained bundle.

    Raises:
        ValueError: it is no trained bundle, its weights do not fit, or it does not predict with
            an `OverlapTileInferer`.
    """
    folder = Path(bundle)
    config = folder / "configs" / "inference.json"
    if not config.is_file():
        raise ValueError(f"{folder} is no trained bundle: {config} is missing; train it first")
    weights = find_weights(folder)
    parser = ConfigParser(ConfigParser.load_config_file(config))
    parser["bundle_root"] = str(folder)
    network = parser.get_parsed_content("network_def")
    load_weights(network, weights)
    inferer = parser.get_parsed_content("inferer")
    if not isinstance(inferer, OverlapTileInferer):
        raise ValueError(f"{config}: inferer is {type(inferer).__name__}, not OverlapTileInferer")
    channels = parser.get_parsed_content("in_channels")
    image = torch.empty(1, channels, *[1] * parser.get_parsed_content("spatial_dims"))
    tiling = tiling_of(network, image, margin=inferer.margin, stride=inferer.stride)
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return TrainedBundle(
        folder=folder,
        network=network.eval(),
        tiling=tiling if tiling.padding else tiling.assume("same"),  # MONAI's networks
        in_channels=channels,
        inferer=inferer,
        metadata=metadata,
    )
