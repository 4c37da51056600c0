"""The parts of a trained bundle that an export needs: network, geometry, metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unet_med.inferers import OverlapTileInferer
from unet_med.inferers.batch_statistics import batch_norms
from unet_med.inferers.tiling import Tiling
from unet_med.segmentation import Segmenter
from unet_med.transforms import InstancesFromLogits, Orientd, Standardize, Standardized

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
        rule: how the bundle makes objects of probabilities; None: it makes none.
        working_pixels: as `Segmenter` has it.
        orientation: that the bundle brings images to; None: none.
        standardize: what the bundle makes of intensities.
    """

    folder: Path
    network: nn.Module
    tiling: Tiling
    in_channels: int
    inferer: OverlapTileInferer
    metadata: dict[str, Any]
    rule: InstancesFromLogits | None
    working_pixels: str | None = None
    orientation: str | None = None
    standardize: Standardize = field(default_factory=Standardize)

    def left_behind(self) -> str:
        """One sentence: what the bundle does at prediction and an exported network does not."""
        parts = []
        if self.working_pixels:
            parts.append(f"sees images as they come, where the bundle's are {self.working_pixels}")
        if self.orientation:
            parts.append(
                f"takes axes as they come, where the bundle turns volumes to {self.orientation}"
            )
        if any(self.standardize.intensity):
            parts.append(
                "takes grey values as they come, where the bundle clips and scales those of CT "
                "(`intensity` in its plan)"
            )
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
        said = f"The exported network {' and '.join(parts)}: results differ." if parts else ""
        return f"{said} {self._about_objects()}".strip()

    def _about_objects(self) -> str:
        """One sentence: how the bundle makes objects, which an export does not."""
        rule = self.rule
        if rule is None or rule.threshold is None:
            return ""
        mask = rule.threshold if rule.mask_threshold is None else rule.mask_threshold
        return (
            f"It gives probabilities, of which the bundle makes objects: seeds of at least "
            f"{rule.threshold:g} foreground, which take what is at least {mask:g} within "
            f"{rule.reach} px, {rule.min_size} px or more in all."
        )

    def sides(self, steps: int) -> list[int]:
        """Input sides of the network: the smallest and so many strides more, px."""
        return [axis.smallest + steps * axis.stride for axis in self.tiling.axes]

    def example(self, sides: Sequence[int], seed: int = 0) -> torch.Tensor:
        """Standardised noise `(1, C, *sides)`."""
        shape = (1, self.in_channels, *sides)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def load_trained(bundle: str | os.PathLike[str], *, trust: bool = False) -> TrainedBundle:
    """The network of a trained bundle, on the CPU.

    Args:
        bundle: folder of a trained bundle.
        trust: run also what unet-med's own bundle does not name.

    Raises:
        ValueError: it is no trained bundle, its weights do not fit, it is not trusted, or it does
            not predict with an `OverlapTileInferer`.
    """
    segmenter = Segmenter(bundle, device="cpu", trust=trust)
    metadata = segmenter.folder / "configs" / "metadata.json"
    steps = segmenter.preprocessing.transforms
    rules = [step.rule for step in steps if isinstance(step, Standardized)]
    return TrainedBundle(
        folder=segmenter.folder,
        network=segmenter.network,
        tiling=segmenter.tiling,
        in_channels=segmenter.in_channels,
        inferer=segmenter.inferer,
        metadata=json.loads(metadata.read_text(encoding="utf-8")),
        rule=segmenter.rule,
        working_pixels=segmenter.working_pixels,
        orientation=next((s.orientation for s in steps if isinstance(s, Orientd)), None),
        standardize=rules[0] if rules else Standardize(),
    )
