"""From nothing to a result: each contestant is a fresh Python process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.timing import Bound, Limit, Race
from unet_med.bundle import copy_bundle, write_settings

NOTHING, TORCH = "python -c pass", "import torch, monai"
IMPORT, HELP, PREDICT = "import unet_med", "unet-med --help", "unet-med predict, 64^2 px"


def races(tiny: bool) -> Iterator[Race]:
    """Start times; the tiny round leaves out what loads torch."""
    light = {
        NOTHING: process("-c", "pass"),
        IMPORT: process("-c", "import unet_med"),
        HELP: process("-m", "unet_med", "--help"),
    }
    bounds = [Bound(IMPORT, NOTHING, 50), Bound(HELP, NOTHING, 500)]
    yield Race("Start", light, bounds, seconds=3)
    if tiny:
        return
    with tempfile.TemporaryDirectory() as folder:
        image, bundle = small_bundle(Path(folder))
        where = ("--bundle", str(bundle), "--output", str(Path(folder) / "out"))
        heavy = {
            TORCH: process("-c", "import torch, monai"),
            PREDICT: process("-m", "unet_med", "predict", str(image), *where),
        }
        yield Race("First result", heavy, [Limit(PREDICT, TORCH, at_most=1.1)], seconds=30)


def process(*words: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)


def small_bundle(folder: Path) -> tuple[Path, Path]:
    """An image and a bundle with random weights."""
    import torch

    from unet_med.networks import unet

    settings = {"preset": "modern", "features": [4, 8, 16, 32, 64]}
    bundle = copy_bundle(folder / "bundle")
    write_settings(bundle, [], settings)
    torch.save(unet(**settings).state_dict(), bundle / "models" / "model.pt")
    image = folder / "image.tif"
    tifffile.imwrite(image, np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))
    return image, bundle
