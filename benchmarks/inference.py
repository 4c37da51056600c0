"""Overlap-tile inference against the fastest tiling of a sweep, and against MONAI's inferer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from monai.inferers import Inferer, SlidingWindowInferer
from monai.networks.nets import BasicUNet
from torch import nn

from benchmarks.timing import Limit, Race, all_cores
from unet_med.inferers import OverlapTileInferer
from unet_med.networks import unet

FEATURES = (8, 16, 32, 64, 128)
OURS, GAUSSIAN = "unet_med, tile_size auto", "MONAI BasicUNet, overlap 0.5, gaussian"


def races(tiny: bool) -> Iterator[Race]:
    """Both presets at 512^2, `paper2015` at 2048^2 and 8192^2, `modern` in 3-D."""
    for preset, side, seconds in (
        ("paper2015", 512, 5),
        ("modern", 512, 5),
        ("paper2015", 2048, 20),
    ):
        shape = (64, 64) if tiny else (side, side)
        sweep = (572, 700, 956, 1212) if preset == "paper2015" else (576, 704, 960, 1216)
        yield race(preset, shape, [t for t in sweep if t < side + 184 and not tiny], seconds)
    flat, deep = ((96, 96), (16, 32, 32)) if tiny else ((8192, 8192), (128, 512, 512))
    yield tilings("paper2015", FEATURES, flat, (572,) if tiny else (572, 700, 956))
    yield tilings("modern", FEATURES[:3], deep, (32,) if tiny else (128, 192))


def race(preset: str, shape: tuple[int, ...], sweep: list[int], seconds: float) -> Race:
    """Every tiling is a contestant; the fastest is the limit."""
    network = unet(preset, features=FEATURES).eval()
    peer = BasicUNet(2, 1, 2, (*FEATURES, FEATURES[0])).eval()
    image = torch.rand(1, 1, *shape)
    roi = [min(512, side) for side in shape]
    windows = {
        "MONAI BasicUNet, overlap 0.25": SlidingWindowInferer(roi, 4, overlap=0.25),
        GAUSSIAN: SlidingWindowInferer(roi, 4, overlap=0.5, mode="gaussian"),
    }
    tasks = {OURS: run(OverlapTileInferer(), image, network)}
    for size in [*sweep, -1]:
        name = f"tile_size {size}" if size > 0 else "one pass"
        tasks[name] = run(OverlapTileInferer(size), image, network)
    limits = [Limit(OURS, name, at_most=1.1) for name in tasks if name != OURS]
    for name, window in windows.items():
        tasks[name] = run(window, image, peer)
    if max(shape) >= 2048:
        limits.append(Limit(OURS, GAUSSIAN, at_least=2.5))
    title = f"Inference, {preset}, {' x '.join(map(str, shape))} px, features 8..128"
    return Race(title, tasks, limits, threads=all_cores(), seconds=seconds)


def tilings(
    preset: str, features: Sequence[int], shape: tuple[int, ...], sweep: Sequence[int]
) -> Race:
    """Tile sizes alone, for images whose pass as a whole would not fit into memory."""
    network = unet(preset, spatial_dims=len(shape), features=features).eval()
    image = torch.rand(1, 1, *shape)
    tasks = {OURS: run(OverlapTileInferer(), image, network)}
    for size in sweep:
        tasks[f"tile_size {size}"] = run(OverlapTileInferer(size), image, network)
    limits = [Limit(OURS, f"tile_size {size}", at_most=1.1) for size in sweep]
    sides, last = " x ".join(map(str, shape)), features[-1]
    title = f"Inference, {preset}, {sides} px, features {features[0]}..{last}"
    return Race(title, tasks, limits, threads=all_cores(), seconds=20)


def run(inferer: Inferer, image: torch.Tensor, network: nn.Module) -> Callable[[], object]:
    def infer() -> None:
        with torch.no_grad():
            inferer(image, network)

    return infer
