"""Is it right: the gpu tests, tiles against one pass, the GPU against the CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.notes import DEVICE, ROOT, Notes
from unet_med.deformation import random_displacement, warp
from unet_med.inferers import OverlapTileInferer
from unet_med.networks import place, unet
from unet_med.precision import rounding
from unet_med.weights import border_weight_map
from unet_med.weights.batches import BorderTargets


def files_of_tests() -> list[Path]:
    """Those with tests that need a GPU; others import what may be missing on its machine."""
    paths = sorted((ROOT / "tests").glob("test_*.py"))
    return [path for path in paths if "mark.gpu" in path.read_text(encoding="utf-8")]


def tests(notes: Notes) -> None:
    """The tests that need a GPU; a tiny run has the simulated one, and no package that may miss."""
    # of versions that the suite has not seen a warning is worth a line, and is no failure
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--tb=short", "-W", "default"]
    words += ["-n", "2" if notes.tiny else "4", *map(str, files_of_tests())]
    env = {"OMP_NUM_THREADS": "1" if notes.tiny else "2"}
    if notes.tiny:
        env |= {"SIMULATED_CUDA": "required", "PYTHONPATH": str(ROOT / "tests" / "bare")}
    said = notes.command("tests", words, seconds=1200 if notes.tiny else 150, **env)
    notes.note("tests", says=said.strip().splitlines()[-1])


def tiles(notes: Notes) -> None:
    """How far tiles are from one pass, and one pass from float64, in deviations of the logits."""
    for preset in ("paper2015", "modern"):
        torch.manual_seed(0)
        network = place(unet(preset, features=notes.features), DEVICE).eval()
        image = torch.randn(1, 1, *((120, 100) if notes.tiny else (700, 620)), device=DEVICE)
        size = (92 if preset == "paper2015" else 64) if notes.tiny else 508
        with torch.inference_mode():
            truth = OverlapTileInferer(-1)(image, network.double())
            network.float()
            for precision in ("float32", "tf32", "bf16"):
                whole = OverlapTileInferer(-1, precision=precision)(image, network)
                size_fit = _legal(network, size)
                tiled = OverlapTileInferer(size_fit, 4, precision=precision)(image, network)
                again = OverlapTileInferer(size_fit, 4, precision=precision)(image, network)
                notes.note(
                    "tiles", preset=preset, precision=precision,
                    tiles_minus_whole=f"{_far(tiled, whole, truth):.1e}",
                    whole_minus_float64=f"{_far(whole, truth, truth):.1e}",
                    labels_differ=int((tiled.argmax(1) != whole.argmax(1)).sum()),
                    of=whole[0, 0].numel(), repeated_equal=torch.equal(tiled, again),
                )  # fmt: skip


def _legal(network: torch.nn.Module, size: int) -> int:
    """The side nearest below that the network takes."""
    from unet_med.inferers.tiling import tiling_of

    tiling = tiling_of(network, torch.empty(1, 1, 1, 1), margin=None, stride=None)
    axis = tiling.axes[0]
    steps = max(0, (size - axis.stepping_side()) // axis.stride)
    return axis.stepping_side() + steps * axis.stride


def _far(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> float:
    return float((a.double() - b.double()).abs().max() / scale.double().std())


def against_the_cpu(notes: Notes) -> None:
    """Weights, deformation and a training step's gradients."""
    rng, side = np.random.default_rng(0), 64 if notes.tiny else 572
    blocks = rng.integers(0, 60, (4, side // 11 + 1, side // 11 + 1)).repeat(11, 1).repeat(11, 2)
    cells = torch.from_numpy(blocks[:, None, :side, :side].astype(np.int32))
    rule = BorderTargets()
    here, there = rule(cells), rule(cells.to(DEVICE)).cpu()
    one = border_weight_map(cells[0, 0])
    field = random_displacement((side, side), rng=np.random.RandomState(0))
    image = torch.rand(1, side, side)
    with rounding("float32", DEVICE):
        warped = warp(image.to(DEVICE), field.to(DEVICE)).cpu()
    notes.note(
        "against the CPU", labels_differ=int((here[:, 0] != there[:, 0]).sum()),
        weights=f"{float((here[:, 1] - there[:, 1]).abs().max()):.1e}", highest=float(one.max()),
        image=f"{float((warped - warp(image, field)).abs().max()):.1e}",
    )  # fmt: skip
