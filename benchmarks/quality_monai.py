"""The peer in `benchmarks.quality`: MONAI's networks by MONAI's own parts.

`BasicUNet` for planes and `DynUNet` for volumes, of the features that our plan takes on a CPU;
`DiceCELoss`, Adam with a cosine schedule over the minutes, MONAI's random crops, flips, turns,
affine maps and grey values; prediction by `sliding_window_inference` with overlap 0.5 and Gaussian
weights. Objects are the connected components of the foreground. All of it was written once, as
MONAI's tutorials do it, and not tuned.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet, DynUNet
from monai.utils import set_determinism

from benchmarks.quality_sets import ImageSet, Pair
from unet_med.data import AutoReader, LabelReader, save_image
from unet_med.instances import label_components

FEATURES = {2: (16, 32, 64, 128, 256), 3: (8, 16, 32, 64)}
SIDE = {2: 192, 3: 48}
BATCH = {2: 4, 3: 2}
RATE = 2e-3


class Monai:
    """Train and predict with MONAI alone; this package reads the files."""

    results = ("instances", "mask", "probabilities")

    def train(
        self, images: ImageSet, pairs: Sequence[Pair], folder: Path, *, minutes: float, seed: int
    ) -> None:
        """Train for the minutes, loading included."""
        end = time.monotonic() + 60 * minutes
        set_determinism(seed)
        data = CacheDataset(list(pairs), _load(images) + _augment(images.dims), progress=False)
        self.channels = int(data[0]["image"].shape[0])
        self.network = _network(images, self.channels)
        loss = DiceCELoss(softmax=True, to_onehot_y=True)
        optimizer = torch.optim.Adam(self.network.parameters(), RATE)
        begun, self.steps = time.monotonic(), 0
        loader = DataLoader(data, batch_size=BATCH[images.dims], shuffle=True, drop_last=True)
        while time.monotonic() < end:
            for batch in loader:
                share = min(1.0, (time.monotonic() - begun) / (end - begun))
                optimizer.param_groups[0]["lr"] = RATE * (0.01 + 0.99 * (1 + cos(pi * share)) / 2)
                optimizer.zero_grad()
                value = loss(self.network(batch["image"].as_tensor()), batch["label"].as_tensor())
                value.backward()
                optimizer.step()
                self.steps += 1
                if time.monotonic() >= end:
                    break

    @torch.no_grad()
    def predict(self, images: ImageSet, files: Sequence[str], folder: Path) -> list[Path]:
        """A file for each image."""
        self.network.eval()
        prepare = mt.Compose(_load(images, keys=("image",)))
        results = []
        for file in files:
            image = prepare({"image": file})["image"]
            sides = [SIDE[images.dims]] * images.dims
            logits = sliding_window_inference(
                image[None].as_tensor(), sides, 4, self.network, overlap=0.5, mode="gaussian"
            )[0]  # (K, *S)
            if images.result == "probabilities":
                results.append(folder / f"{Path(file).name}.tif")
                save_image(results[-1], logits.softmax(0).numpy())
            else:
                results.append(folder / f"{Path(file).name}.npy")
                np.save(results[-1], self._labels(images, logits).T)  # ([Z,] Y, X)
        return results

    def facts(self, folder: Path) -> Mapping[str, Any]:
        """Steps of the training, and the version."""
        return {"version": f"monai {version('monai')}", "steps": self.steps}

    @staticmethod
    def _labels(images: ImageSet, logits: torch.Tensor) -> np.ndarray[Any, Any]:
        mask = logits.argmax(0).numpy()
        return label_components(mask) if images.result == "instances" else mask


def _network(images: ImageSet, channels: int) -> torch.nn.Module:
    features = FEATURES[images.dims]
    if images.dims == 2:
        return BasicUNet(2, channels, images.classes, (*features, features[0]))
    levels = len(features)
    return DynUNet(
        3, channels, images.classes, [3] * levels, [1, *[2] * (levels - 1)], [2] * (levels - 1),
        filters=features,
    )  # fmt: skip


def _load(images: ImageSet, keys: Sequence[str] = ("image", "label")) -> list[Any]:
    chain: list[Any] = [
        mt.LoadImaged("image", reader=AutoReader(), ensure_channel_first=True),
        mt.NormalizeIntensityd("image", channel_wise=True),
    ]
    if "label" in keys:
        kind = {"instances": "instances", "probabilities": "mask"}.get(images.result, "classes")
        reader = LabelReader(label_kind=kind)
        chain += [
            mt.LoadImaged("label", reader=reader, ensure_channel_first=True),
            mt.Lambdad("label", _apart if kind == "instances" else _classes(kind)),
        ]
    return chain


def _apart(label: MetaTensor) -> MetaTensor:
    """Foreground of instances, with a pixel of background on both sides of a contact."""
    from unet_med.instances import separate

    return label.new_tensor(separate(np.asarray(label)) > 0)


def _classes(kind: str) -> Any:
    return (lambda label: (label > 0).to(label)) if kind == "mask" else (lambda label: label)


def _augment(dims: int) -> list[Any]:
    both: dict[str, Any] = {"keys": ["image", "label"]}
    sides = [SIDE[dims]] * dims
    turns = [mt.RandRotate90d(**both, prob=0.75)] if dims == 2 else []
    return [
        mt.SpatialPadd(**both, spatial_size=sides),  # with zeros, as the sliding window does
        mt.RandSpatialCropd(**both, roi_size=sides, random_size=False),
        *(mt.RandFlipd(**both, prob=0.5, spatial_axis=axis) for axis in range(dims)),
        *turns,
        mt.RandAffined(
            **both, prob=0.3, rotate_range=[0.4] * (1 if dims == 2 else 3),
            scale_range=[0.2] * dims, mode=["bilinear", "nearest"], padding_mode="reflection",
        ),
        mt.RandGaussianNoised("image", prob=0.15, std=0.1),
        mt.RandScaleIntensityd("image", factors=0.2, prob=0.3),
        mt.RandShiftIntensityd("image", offsets=0.2, prob=0.3),
    ]  # fmt: skip
