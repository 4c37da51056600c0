"""Elastic deformation of image and label by one draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Rand2DElasticd, Rand3DElasticd
from torch.nn import functional as F

from benchmarks.timing import Limit, Race, all_cores
from unet_med.deformation import random_displacement
from unet_med.transforms import RandElasticDeformd

KEYS = ("image", "label")
MODES = ("bilinear", "nearest")
OURS, BARE = "unet_med RandElasticDeformd", "limit: two bare grid_sample"


def races(tiny: bool) -> Iterator[Race]:
    """2-D, the paper's tile, on all cores and on one, as a loader's worker has it; 3-D."""
    for threads in sorted({all_cores(), 1}, reverse=True):
        yield race_2d((60, 60) if tiny else (572, 572), threads)

    volume = (8, 16, 16) if tiny else (64, 128, 128)
    peer = "MONAI Rand3DElasticd"
    race = Race(
        f"Elastic, image + label (1, {', '.join(map(str, volume))})",
        {OURS: ours(volume), BARE: bare(volume), peer: monai_3d(volume)},
        [Limit(OURS, peer, at_least=8)],
        threads=all_cores(),
        seconds=10,
    )
    race.add_peer("torchio", "torchio", lambda module: torchio(module, volume))
    yield race


def race_2d(shape: tuple[int, int], threads: int) -> Race:
    peer = "MONAI Rand2DElasticd"
    race = Race(
        f"Elastic, image + label (1, {shape[0]}, {shape[1]}), sigma 10 px, {threads} thread(s)",
        {OURS: ours(shape), BARE: bare(shape), peer: monai_2d(shape)},
        [Limit(OURS, BARE, at_most=1.5), Limit(OURS, peer, at_least=20)],
        threads=threads,
        missing=[],
    )
    race.add_peer(
        "batchgenerators.transforms.spatial_transforms",
        "batchgenerators",
        lambda module: batchgenerators(module, shape),
    )
    race.add_peer("elasticdeform", "elasticdeform", lambda module: elasticdeform(module, shape))
    race.add_peer("torchio", "torchio", lambda module: torchio(module, (*shape, 1)))
    return race


def pair(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """An image and its label, as the pipeline has them."""
    rng = torch.Generator().manual_seed(0)
    image = torch.rand((1, *shape), generator=rng)
    return {"image": MetaTensor(image), "label": MetaTensor((image * 100).int())}


def ours(shape: tuple[int, ...]) -> Callable[[], object]:
    transform = RandElasticDeformd(KEYS, mode=MODES).set_random_state(0)
    data = pair(shape)
    return lambda: transform(data)


def bare(shape: tuple[int, ...]) -> Callable[[], object]:
    """Both samplings with a grid that is there already."""
    images = [tensor.as_tensor()[None].float() for tensor in pair(shape).values()]
    field = random_displacement(shape, rng=np.random.default_rng(0))
    axes = torch.meshgrid(*[torch.linspace(-1, 1, side) for side in shape], indexing="ij")
    places = [a + d * (2 / (side - 1)) for a, d, side in zip(axes, field, shape, strict=True)]
    grid = torch.stack(places[::-1], dim=-1)[None].contiguous()
    options = {"padding_mode": "reflection", "align_corners": True}

    def run() -> None:
        for image, mode in zip(images, MODES, strict=True):
            F.grid_sample(image, grid, mode=mode, **options)

    return run


def monai_2d(shape: tuple[int, ...]) -> Callable[[], object]:
    transform = Rand2DElasticd(
        KEYS, spacing=(256, 256), magnitude_range=(10, 10), prob=1, mode=MODES
    ).set_random_state(0)
    data = pair(shape)
    return lambda: transform(data)


def monai_3d(shape: tuple[int, ...]) -> Callable[[], object]:
    transform = Rand3DElasticd(
        KEYS, sigma_range=(5, 7), magnitude_range=(50, 150), prob=1, mode=MODES
    ).set_random_state(0)
    data = pair(shape)
    return lambda: transform(data)


def batchgenerators(module: ModuleType, shape: tuple[int, ...]) -> Callable[[], object]:
    off = {"do_rotation": False, "do_scale": False, "random_crop": False}
    transform = module.SpatialTransform(
        shape, alpha=(100.0, 100.0), sigma=(20.0, 20.0), border_mode_data="reflect", **off
    )
    data = {key: tensor[None].numpy() for key, tensor in pair(shape).items()}
    return lambda: transform(data=data["image"], seg=data["label"])


def elasticdeform(module: ModuleType, shape: tuple[int, ...]) -> Callable[[], object]:
    data = [tensor[0].numpy() for tensor in pair(shape).values()]
    return lambda: module.deform_random_grid(
        data, sigma=10, points=3, order=[1, 0], mode="mirror", axis=[(0, 1)] * 2
    )


def torchio(module: ModuleType, shape: tuple[int, ...]) -> Callable[[], object]:
    flat = 1 in shape
    move = module.RandomElasticDeformation(
        num_control_points=7, max_displacement=(10, 10, 0 if flat else 7), locked_borders=2
    )
    tensors: dict[str, Any] = {k: v.reshape(1, *shape) for k, v in pair(shape).items()}
    subject = module.Subject(
        image=module.ScalarImage(tensor=tensors["image"]),
        label=module.LabelMap(tensor=tensors["label"]),
    )
    return lambda: move(subject)
