"""Other runtimes for the network of a bundle: seconds from file to label.

A runtime stands in for the network alone; reading, tiling, mirroring, standardising, objects and
writing stay as they are. Statistics of batch normalisation are found in torch. Leave the machine
alone: what is timed is the clock.

    pip install openvino onnxruntime onnx onnxscript   # openvino in an environment of its own
    python -m benchmarks runtimes
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Limit, Race
from unet_med import Segmenter, bundle
from unet_med.data import SyntheticCells
from unet_med.export import export_onnx
from unet_med.export.graphs import TOLERANCE
from unet_med.inferers.batch_statistics import batch_norms
from unet_med.networks import unet

FEATURES, SIDE = (16, 32, 64, 128, 256), 704  # as `unet-med train` on a CPU; px
WANTED = 1.25  # times as fast as torch, or it is not worth another way to run


class Foreign(nn.Module):
    """A network whose passes another runtime makes; all that is asked of it torch's answers."""

    def __init__(self, network: nn.Module, run: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self.run = network, run
        for name in ("margin", "stride", "padding", "spatial_dims", "depth", "tileable"):
            setattr(self, name, getattr(network, name))
        self.output_size, self.input_size_for = network.output_size, network.input_size_for

    def forward(self, x: Tensor) -> Tensor:
        """Logits of tiles; statistics are looked for in torch."""
        layers = batch_norms(self.network)
        if any(layer.training for layer in layers):
            return self.network(x)
        given = {"image": x.numpy()}
        for name, buffer in (("mean", "running_mean"), ("variance", "running_var")):
            if layers:
                given[name] = torch.cat([getattr(layer, buffer) for layer in layers]).numpy()
        return torch.from_numpy(self.run(given))


def races(tiny: bool) -> Iterator[Race]:
    """Two presets, at one and two threads."""
    for preset in ("modern",) if tiny else ("modern", "paper2015"):
        for threads in (1,) if tiny else (1, 2):
            yield _race(preset, threads, tiny)


def _race(preset: str, threads: int, tiny: bool) -> Race:
    folder = Path(tempfile.mkdtemp())
    features, side = ((2, 4), 64) if tiny else (FEATURES, SIDE)
    torch.set_num_threads(threads)
    root = _trained(folder / "bundle", preset, features)
    SyntheticCells(1, (side, side), num_cells=side // 12).write(folder / "cells")
    image = next((folder / "cells" / "images").iterdir())
    file = export_onnx(root, folder / "net.onnx")
    race = Race(
        f"{preset}, {side} x {side} px, features {features[0]}..{features[-1]}, "
        f"{threads} thread(s), from file to label",
        {"torch": partial(_segment, Segmenter(root, tta=None), image, folder)},
        threads=threads,
        seconds=20,
        unit="s",
    )
    if not tiny:
        compiled = Segmenter(root, tta=None)
        compiled.network = torch.compile(compiled.network)
        race.tasks["torch.compile"] = partial(_segment, compiled, image, folder)
    for package, make in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
        enter = partial(_entrant, root, make, file, threads, image, folder)
        race.add_peer(package, package, enter)
    race.limits = [Limit(name, "torch", at_least=WANTED) for name in list(race.tasks)[1:]]
    return race


def _entrant(
    root: Path, make: Any, file: Path, threads: int, image: Path, folder: Path, package: ModuleType
) -> Callable[[], float]:
    segmenter = Segmenter(root, tta=None)
    expected = segmenter(image).probabilities
    segmenter.network = Foreign(segmenter.network, make(package, file, threads)).eval()
    error = float(abs(segmenter(image).probabilities - expected).max())
    if error > TOLERANCE:
        raise ValueError(f"{package.__name__} differs by {error:.1e}")
    return partial(_segment, segmenter, image, folder)


def _onnxruntime(package: ModuleType, file: Path, threads: int) -> Callable[..., Any]:
    options = package.SessionOptions()
    options.intra_op_num_threads = threads
    session = package.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda given: session.run(None, given)[0]


def _openvino(package: ModuleType, file: Path, threads: int) -> Callable[..., Any]:
    core = package.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(str(file), "CPU", settings)
    return lambda given: model(given)[0].copy()


def _segment(segmenter: Segmenter, image: Path, folder: Path) -> float:
    """Seconds of the clock."""
    begin = time.perf_counter()
    segmenter(image).save(folder / "results")
    return time.perf_counter() - begin


def _trained(folder: Path, preset: str, features: tuple[int, ...]) -> Path:
    """A bundle with random weights."""
    root = bundle.copy_bundle(folder)
    override = bundle.override_file(preset)
    files = [override] if override else []
    bundle.write_settings(
        root, files, {"features": list(features), "device": "$torch.device('cpu')"}
    )
    torch.manual_seed(0)
    network = unet(preset, features=features)
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root
