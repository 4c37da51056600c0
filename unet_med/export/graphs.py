"""What an exported file computes: its module, its inputs and outputs, and what checks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unet_med.export.statistics import FindStatistics, WithStatistics
from unet_med.export.trained import TrainedBundle
from unet_med.geometry import PerAxis, per_axis

TOLERANCE = 1e-4  # of the largest value, between torch and an exported file
STEPS = (3, 2, 5)  # strides above the smallest image that a file is exported with and compared at
MOMENTS = ("mean", "variance")


@dataclass(frozen=True)
class Graph:
    """One file to be written.

    Attributes:
        module: in evaluation.
        cases: its inputs at several sizes; the first is exported with, all are compared. The
            first input is the image, whose batch and sides stay open.
        inputs: names of its inputs.
        outputs: names of its outputs.
    """

    module: nn.Module
    cases: list[tuple[Tensor, ...]]
    inputs: tuple[str, ...] = ("image",)
    outputs: tuple[str, ...] = ("logits",)

    def expected(self, case: tuple[Tensor, ...]) -> list[Tensor]:
        """What torch computes of a case, an output each."""
        with torch.no_grad():
            found = self.module(*case)
        return [found] if isinstance(found, Tensor) else list(found)

    def open_sides(
        self, *, stride: PerAxis, smallest: PerAxis
    ) -> tuple[dict[int, Any] | None, ...]:
        """Shapes of the inputs for torch's exporters: any batch, every side that is legal.

        Args:
            stride: step of the sides, px, one or one an axis.
            smallest: side, px, one or one an axis.
        """
        image = self.cases[0][0]
        axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
        each = partial(per_axis, "px", count=image.ndim - 2)
        pairs = zip(each(stride), each(smallest), strict=True)
        for axis, (step, least) in enumerate(pairs, start=2):
            steps = torch.export.Dim(f"k{axis}", min=max(1, least // step))
            rest = least % step
            axes[axis] = steps if step == 1 else step * steps + rest if rest else step * steps
        return (axes, *[None] * (len(self.inputs) - 1))


def graphs_of(trained: TrainedBundle, *, by_image: bool) -> dict[str, Graph]:
    """The graphs of a bundle's network, by what stands between a file's stem and its suffix.

    Args:
        trained: the bundle.
        by_image: batch normalisation by the statistics of each image: the network takes `mean` and
            `variance` beside the image, and a second graph finds them.
    """
    # torch takes a batch of one for a constant: the first has two images
    images = [trained.example(k, batch=2 if k == STEPS[0] else 1) for k in STEPS]
    if not by_image:
        return {"": Graph(trained.network, [(image,) for image in images])}
    find = Graph(FindStatistics(trained.network), [(i,) for i in images], outputs=MOMENTS)
    cases = [(image, *find.expected((image,))) for image in images]
    network = Graph(WithStatistics(trained.network), cases, inputs=("image", *MOMENTS))
    return {"": network, "statistics": find}


def beside(path: Path, part: str) -> Path:
    """Where a part of an export goes.

    >>> beside(Path("model.pt2"), "statistics").name
    'model.statistics.pt2'
    """
    return path.with_name(f"{path.stem}.{part}{path.suffix}") if part else path


def disagreement(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference of any output, as a share of its largest value."""
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)
    )
