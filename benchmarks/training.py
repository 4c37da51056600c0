"""A training step against other networks, and what the whole pipeline adds to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import BasicUNet, DynUNet
from skimage import io
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Limit, Race, all_cores
from benchmarks.weights import cells
from unet_med import bundle
from unet_med.engines import PrepareBatchWeighted
from unet_med.networks import unet

ISBI = Path("../shared/data/isbi2012")
FEATURES = [16, 32, 64, 128, 256]


def races(tiny: bool) -> Iterator[Race]:
    """The step; the pipeline of `modern` and of the default configuration."""
    yield step_race([4, 4, 8, 8, 16] if tiny else FEATURES, 204 if tiny else 572)
    if not tiny:
        yield step_race([4 * n for n in FEATURES], 572)
    yield pipeline_race("modern", tiny)
    if not tiny:
        yield pipeline_race(None, tiny)


def step_race(features: list[int], side: int) -> Race:
    """Per tile read; the paper's network answers for the middle of it alone."""
    same = side // 16 * 16  # the nearest that networks without mirrored borders take
    modern, peer = "unet_med modern", "MONAI BasicUNet"
    kernels = [3] * len(features)
    dyn = DynUNet(2, 1, 2, kernels, [1, *[2] * (len(features) - 1)], [2] * (len(features) - 1),
                  filters=features)  # fmt: skip
    tasks = {
        modern: step(unet("modern", features=features), same),
        peer: step(BasicUNet(2, 1, 2, (*features, features[0])), same),
        "MONAI DynUNet": step(dyn, same),
        f"unet_med paper2015, {side} px": step(unet("paper2015", features=features), side),
    }
    tasks["limit of modern: a matrix product of as many operations"] = product(tasks[modern])
    title = f"Training step in float32, features {features[0]}..{features[-1]}, tile {same} px"
    limits = [Limit(modern, peer, at_least=2.5)]
    return Race(title, tasks, limits, threads=all_cores(), seconds=20)


def step(network: nn.Module, side: int) -> Callable[[], object]:
    """Forward, plain cross-entropy, backward, Adam: the same for every network."""
    optimizer = torch.optim.Adam(network.parameters())
    image = torch.rand(1, 1, side, side)
    with torch.no_grad():
        label = network(image).argmax(dim=1)
    return lambda: optimise(network, optimizer, lambda: F.cross_entropy(network(image), label))


def product(task: Callable[[], object]) -> Callable[[], object]:
    """Products of square matrices, of as many multiplications and additions as a task counts."""
    with FlopCounterMode(display=False) as counter:
        task()
    side = 2048 if counter.get_total_flops() > 1e11 else 256
    matrix = torch.rand(side, side)
    times = max(1, round(counter.get_total_flops() / (2 * side**3)))

    def run() -> None:
        for _ in range(times):
            matrix @ matrix

    return run


def optimise(network: nn.Module, optimizer: Any, loss: Callable[[], torch.Tensor]) -> None:
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def pipeline_race(preset: str | None, tiny: bool) -> Race:
    """The loader in the training's own process, as on a CPU, and the step of the configuration."""
    parser = configured(preset, [4, 4, 8, 8, 16] if tiny else FEATURES)
    dataset = parser.get_parsed_content("train::dataset")
    network = parser.get_parsed_content("network").train()
    loss, optimizer = (parser.get_parsed_content(key) for key in ("loss", "optimizer"))
    count = 1 if tiny else parser["batch_size"]
    prepare, position = PrepareBatchWeighted(), iter(range(10**6))

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        items = [dataset[next(position) % len(dataset)] for _ in range(count)]
        return prepare({key: torch.stack([i[key] for i in items]) for key in items[0]})

    def train(image: torch.Tensor, target: torch.Tensor) -> None:
        optimise(network, optimizer, lambda: loss(network(image), target))

    fixed = batch()
    whole, alone = "load, augment, weigh, step", "the step on a fixed batch"
    side, name = fixed[0].shape[-1], preset or "default train.json"
    return Race(
        f"Training pipeline, {name}, {count} x {side} px, features 16..256, no workers",
        {alone: lambda: train(*fixed), whole: lambda: train(*batch()), "the batch alone": batch},
        [Limit(whole, alone, at_most=1.15)],
        threads=all_cores(),
        seconds=15,
    )


def configured(preset: str | None, features: list[int]) -> ConfigParser:
    """`train.json`, with the files of a preset merged in, on ISBI slices or generated cells."""
    root = bundle.find_bundle()
    overrides = [root / "configs" / f"{preset}.json"] if preset else []
    settings = {"features": features, "device": "$torch.device('cpu')"}
    content = bundle.merge_config(root / "configs" / "train.json", overrides, settings)
    content["split"] = [pairs(), []]
    parser = ConfigParser(content)
    parser.parse()
    return parser


def pairs() -> list[dict[str, str]]:
    """Two slices."""
    if ISBI.is_dir():
        return [{k: str(ISBI / k / f"{n}.png") for k in ("image", "label")} for n in (0, 1)]
    folder = Path("runs") / "benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    label = (cells((512, 512), 136) > 0).astype(np.uint8) * 255
    for key in ("image", "label"):
        io.imsave(folder / f"{key}.png", label, check_contrast=False)
    return [{key: str(folder / f"{key}.png") for key in ("image", "label")}]
