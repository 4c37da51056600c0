"""What a network says of an image that it has not seen, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray

from unet_med.bundle import load_config
from unet_med.segmentation import Segmenter
from unet_med.transforms import InstancesFromLogits, compose

READING = ("image", "label", "channel_first", "reorient", "orient", "plane", "label_instances")


@dataclass(frozen=True)
class HeldOut:
    """A held-out image, predicted.

    Attributes:
        probabilities: of the classes, not calibrated, on the image's own grid, `(K, *S)`.
        truth: its objects or classes, `(*S)`.
        ratios: how many of the image's pixels one of the network's is long, along each axis.
        rule: how the bundle makes objects, px of the network; None: it does not.
        spacing: size of a pixel along each axis, in `unit`.
        unit: the image's own; those of other images may be others.
    """

    probabilities: torch.Tensor
    truth: NDArray[np.int64]
    ratios: tuple[float, ...]
    rule: InstancesFromLogits | None
    spacing: tuple[float, ...]
    unit: str


def reading(load: Mapping[str, Any]) -> Compose:
    """Image and truth on the image's grid, `(C, *S)` and `(1, *S)`, of a training's chain `load`.

    Args:
        load: the chain by name, of which those in `READING` are used.
    """
    return compose([{name: load[name] for name in READING if name in load}])


def judging(folder: Path, weights: Path, device: Any) -> Segmenter:
    """The network that is judged, as the bundle predicts with it, but not calibrated.

    Thresholds are of such probabilities, and a calibration is of what it finds there.
    """
    known = load_config(folder / "configs" / "inference.json")  # one of an earlier version?
    plain: dict[str, Any] = {"calibration": None} if "calibration" in known else {}
    return Segmenter(folder, checkpoint=weights, device=device, trust=True, **plain)


def held_out(segmenter: Segmenter, loaded: Mapping[str, Any]) -> HeldOut:
    """Predict an image that `reading` has loaded with a segmenter of `judging`."""
    result = segmenter(loaded["image"])
    truth = np.asarray(loaded["label"])[0].astype(np.int64)
    affine = torch.as_tensor(loaded["image"].affine)
    sizes = torch.linalg.norm(affine[:-1, : truth.ndim], dim=0)  # a plane may stand upright
    return HeldOut(
        probabilities=torch.from_numpy(np.ascontiguousarray(result.probabilities)),
        truth=truth,
        ratios=result.ratios,
        rule=segmenter.rule,
        spacing=tuple(float(size) for size in sizes),
        unit=loaded["image"].meta.get("spatial_unit") or "mm",  # as MONAI's own readers mean
    )
