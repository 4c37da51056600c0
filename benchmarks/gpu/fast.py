"""How fast: products of matrices, training steps, the loader behind them, prediction."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.inferers import SlidingWindowInferer

from benchmarks.gpu.notes import DEVICE, Notes, kernels, kernels_now
from unet_med import bundle
from unet_med.data import SyntheticCells
from unet_med.engines.batch import READ_EVERY
from unet_med.inferers import OverlapTileInferer, TrainingInferer
from unet_med.losses import WeightedCrossEntropyLoss
from unet_med.networks import place, unet
from unet_med.precision import autocast, rounding
from unet_med.weights.batches import BorderTargets

TERA_FLOP = {"paper2015": 0.9022, "modern": 0.1623}  # a step on a tile of 572 or 192 px, counted
BATCHES = {"paper2015": 8, "modern": 16}  # of the trainer, and of the steps beside it


def ceilings(notes: Notes) -> None:
    """What this GPU can do at most: a product of matrices."""
    side = 256 if notes.tiny else 8192
    dtypes = {"bf16": torch.bfloat16, "tf32": torch.float32, "float32": torch.float32}
    for name, dtype in dtypes.items():
        a, b = (torch.randn(side, side, device=DEVICE, dtype=dtype) for _ in range(2))
        with rounding(name, DEVICE):
            took = notes.milliseconds(lambda a=a, b=b: a @ b)
        notes.note("product of matrices", precision=name, TFLOPs=round(2 * side**3 / took / 1e9, 1))


def steps(notes: Notes) -> None:
    """Training steps on fixed tensors; what deterministic kernels cost is seen at the end."""
    cases = [
        ("paper2015", batch, precision, layout)
        for precision, layout in (("bf16", "channels_last"), ("bf16", "contiguous"),
                                  ("tf32", "channels_last"), ("float32", "channels_last"))
        for batch in (1, 8, 16)
    ] + [("modern", batch, "bf16", "channels_last") for batch in (4, 16, 64)]  # fmt: skip
    for case in cases[:2] if notes.tiny else cases:
        _timed_step(notes, *case)
    with kernels(deterministic=False):
        for preset, batch in BATCHES.items():
            _timed_step(notes, preset, 1 if notes.tiny else batch, "bf16", "channels_last")


def _timed_step(notes: Notes, preset: str, batch: int, precision: str, layout: str) -> None:
    run = _step(notes, preset, batch, precision, layout)
    with rounding(precision, DEVICE):
        took = notes.milliseconds(run)
    rate = 1000 * batch / took
    notes.note(
        "training step", preset=preset, batch=batch, precision=precision, layout=layout,
        **kernels_now(), images_per_s=round(rate, 1),
        TFLOPs=round(TERA_FLOP[preset] * rate, 1), ms=round(took, 2),
    )  # fmt: skip
    torch.cuda.empty_cache()


def _step(notes: Notes, preset: str, batch: int, precision: str, layout: str) -> Callable[[], None]:
    side = notes.side(preset)
    network = unet(preset, features=notes.features)
    network = place(network, DEVICE, memory_format=layout).train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-6, momentum=0.99)
    loss, inferer = WeightedCrossEntropyLoss(), TrainingInferer(precision)
    images = torch.randn(batch, 1, side, side, device=DEVICE)
    label = (torch.rand(batch, 1, side, side, device=DEVICE) > 0.5).float()
    target = torch.cat([label, torch.ones_like(label)], 1)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(inferer(images, network), target).backward()
        optimizer.step()

    return step


def weights(notes: Notes) -> None:
    """Labels and weights of a batch."""
    side, batch = (64, 2) if notes.tiny else (512, 16)
    few = torch.randint(0, 300, (batch, 1, side // 16, side // 16), device=DEVICE)
    cells = few.repeat_interleave(16, 2).repeat_interleave(16, 3).int()
    took = notes.milliseconds(lambda: BorderTargets()(cells))
    notes.note("weights", side=side, ms_an_image=round(took / batch, 3))


def pipeline(notes: Notes) -> None:
    """The trainer with its loader: tiles a second, next to the step alone."""
    folder = notes.folder / "pipeline"
    size = (120, 120) if notes.tiny else (700, 700)
    SyntheticCells(4, size, num_cells=10 if notes.tiny else 80).write(folder / "cells")
    for preset, batch in BATCHES.items():
        root = folder / preset
        bundle.copy_bundle(root)
        override = bundle.override_file(preset)
        settings: dict[str, Any] = {
            "images": f"{folder}/cells/images", "labels": f"{folder}/cells/labels",
            "label_kind": "instances", "features": notes.features, "preset": preset,
            "tile_size": notes.side(preset), "batch_size": 1 if notes.tiny else batch,
            "epochs": 100_000, "tiles_per_epoch": 4 if notes.tiny else 4096,
            "minutes": 0.01 if notes.tiny else 0.15, "device": "$torch.device('cuda')",
            "val_interval": 100_000, **({"num_workers": 0} if notes.tiny else {}),
        }  # fmt: skip
        bundle.write_settings(root, [override] if override else [], settings)
        every = 1 if notes.tiny else READ_EVERY
        notes.note("trainer with loader", preset=preset, **_trained(root, every))


def _trained(root: Path, every: int) -> dict[str, Any]:
    """Tiles a second, after a quarter of the steps that are looked at: `every` so many."""
    workflow = bundle.load_workflow(root, "train")
    trainer = workflow.parser.get_parsed_content("train::trainer")
    done: list[tuple[int, float]] = []  # steps, and when
    seen: dict[str, bool] = {}
    trainer.add_event_handler(  # behind the handlers that read losses, so the GPU is done as well
        Events.ITERATION_COMPLETED(every=every),
        lambda engine: done.append((engine.state.iteration, time.monotonic())),
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=1), lambda: seen.update(kernels_now())
    )
    workflow.run()
    batch = workflow.parser.get_parsed_content("batch_size")
    return {**seen, "images_per_s": _rate(done, batch), "steps": trainer.state.iteration}


def _rate(done: list[tuple[int, float]], batch: int) -> float | str:
    """Images a second between two steps, a quarter aside in which all warms up."""
    if len(done) < 2:
        return "too few steps"
    (first, began), (last, ended) = done[len(done) // 4], done[-1]
    return round(batch * (last - first) / (ended - began), 1)


def prediction(notes: Notes) -> None:
    """Tiles against MONAI's sliding window at half overlap with Gaussian weights."""
    side, roi = (96, 52) if notes.tiny else (2048, 512)
    network = place(unet("modern", features=notes.features), DEVICE).eval()
    image = torch.randn(1, 1, side, side, device=DEVICE)
    monai = SlidingWindowInferer(roi, 8, overlap=0.5, mode="gaussian")
    for precision in ("float32", "bf16"):
        ways: dict[str, Callable[[], Any]] = {
            "ours": partial(OverlapTileInferer(precision=precision), image, network),
            "ours, tiles": partial(OverlapTileInferer(roi, 8, precision=precision), image, network),
            "MONAI, 0.5 gaussian": partial(_cast, precision, monai, image, network),
        }
        for name, way in ways.items():
            with torch.inference_mode(), rounding(precision, DEVICE):
                took = notes.milliseconds(way)
            notes.note(
                "prediction", way=name, precision=precision, **kernels_now(), side=side,
                ms=round(took, 1),
            )  # fmt: skip


def _cast(
    precision: str, inferer: Callable[..., Any], image: torch.Tensor, network: torch.nn.Module
) -> Any:
    """An inferer in a precision, as MONAI's evaluator runs it with `amp`."""
    with autocast(precision, DEVICE):
        return inferer(image, network)
