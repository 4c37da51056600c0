"""The parts of a trained bundle that an export needs: network, geometry, metadata."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unet_med.bundle import inference_parser
from unet_med.bundle.files import ENSEMBLE
from unet_med.bundle.models import is_model
from unet_med.data.atomic import read_json
from unet_med.devices import HOST
from unet_med.export.left_out import LISTED, sentences
from unet_med.inferers import OverlapTileInferer
from unet_med.inferers.batch_statistics import batch_norms
from unet_med.inferers.tiling import Tiling
from unet_med.networks import place
from unet_med.segmentation import Segmenter
from unet_med.transforms import Standardize, Standardized


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
        ids: those of `inference.json` that change a result outside the network, see `left_out`.
        standardize: what the bundle makes of intensities.
    """

    folder: Path
    network: nn.Module
    tiling: Tiling
    in_channels: int
    inferer: OverlapTileInferer
    metadata: dict[str, Any]
    ids: dict[str, Any] = field(default_factory=dict)
    standardize: Standardize = field(default_factory=Standardize)

    def file(self, name: str, path: str | os.PathLike[str] | None) -> Path:
        """Where an export goes: where it is told to, else among the bundle's models.

        Raises:
            ValueError: it is not told, and the bundle is part of the installed package.
        """
        if path is not None:
            return Path(path)
        if is_model(self.folder):
            raise ValueError(
                f"{self.folder.name} is part of the installed unet-med, where nothing is written: "
                "say where the file goes with --output"
            )
        return self.folder / "models" / name

    def left_behind(self, *, by_image: bool = False) -> str:
        """What the bundle does at prediction and an exported network does not, in a sentence.

        Args:
            by_image: the export takes the statistics of each image, as the bundle does.
        """
        said = sentences(self.differing_ids(by_image=by_image))
        if (self.folder / ENSEMBLE).is_file():
            said += " It is the network of all images, without those of the folds (--ensemble)."
        return said.strip()

    def differing_ids(self, *, by_image: bool) -> dict[str, Any]:
        """`ids`, but those that an export has as well."""
        return {id: v for id, v in self.ids.items() if not (by_image and id == "statistics")}

    def example(self, steps: int, batch: int = 1) -> torch.Tensor:
        """Standardised noise `(B, C, *S)`, the first side so many strides above the smallest."""
        axes = self.tiling.axes
        sides = [axis.smallest + (steps + k) * axis.stride for k, axis in enumerate(axes)]
        shape = (batch, self.in_channels, *sides)
        return torch.randn(shape, generator=torch.Generator().manual_seed(steps))


def by_image(trained: TrainedBundle, statistics: str | None = None) -> bool:
    """Whether an export normalises batches by the statistics of each image.

    Args:
        trained: the bundle.
        statistics: `"image"`, `"training"`, or None as the bundle has it.

    Raises:
        ValueError: the network has no such statistics.
    """
    if statistics == "image" and not batch_norms(trained.network):
        raise ValueError(
            "the network has no batch normalisation, whose statistics could be those of an image: "
            "leave --statistics out"
        )
    own = "image" if trained.ids.get("statistics") == "image" else "training"
    return (statistics or own) == "image"


def refuse_statistics(trained: TrainedBundle, statistics: str | None, kind: str) -> None:
    """Refuse a format that cannot hold the bundle's `"statistics": "image"`, unless told to.

    Raises:
        ValueError: names the id, and the ways out.
    """
    if by_image(trained, statistics):
        raise ValueError(
            f'a {kind} file cannot hold "statistics": "image" of the plan, batch normalisation by '
            "each image: use --format pt2 or onnx, which take the statistics beside the image, or "
            "--statistics training for those recorded in training, with other results"
        )


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
        network=place(segmenter.network, HOST, memory_format="contiguous"),
        tiling=segmenter.tiling,
        in_channels=segmenter.in_channels,
        inferer=segmenter.inferer,
        metadata=read_json(metadata),
        ids=_ids(segmenter),
        standardize=rules[0] if rules else Standardize(),
    )


def _ids(segmenter: Segmenter) -> dict[str, Any]:
    """Values of the ids that change a result outside the network."""
    parser = inference_parser(segmenter.folder, {})
    found = {id: parser.get_parsed_content(id) for id in LISTED if id in parser}
    if not batch_norms(segmenter.network):
        found.pop("statistics", None)  # which then does nothing
    return found
