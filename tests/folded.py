"""What trainings with folds are tested on: six small images, and a network of a second."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from unet_med import bundle, folds
from unet_med.cli import main
from unet_med.data import SyntheticCells
from unet_med.folds.judging import NAMED, Judging
from unet_med.folds.networks import of_folds, of_subsets
from unet_med.folds.progress import Progress
from unet_med.planning import DataFolder, Plan
from unet_med.planning.fingerprints import Case, FileFacts

PLACES = ("--images", "--labels")

SMALL = ["--features", "2", "4", "--tile-size", "26", "--epochs", "1", "--device", "cpu"]


def six_cells(folder: Path) -> Path:
    """Write images and labels into a folder, and give it back."""
    SyntheticCells(6, (48, 40), num_cells=4).write(folder)
    return folder


def line(data: Path, output: Path, *words: str) -> list[str]:
    """Words of `unet-med train` on them."""
    places = ["--images", f"{data}/images", "--labels", f"{data}/labels", "--output", str(output)]
    return ["train", *places, *SMALL, *words]


def judged_untrained(output: Path, *words: str) -> folds.Judgement:
    """Lay a bundle as `unet-med train` does, and judge networks that have learned nothing.

    Args:
        output: the bundle.
        words: of `unet-med init`; `--images` and `--labels` among them, and folds.
    """
    assert main(["init", str(output), *SMALL[:-2], *words]) == 0
    plan = Plan.from_json(bundle.read_plan(output))
    images, labels = (words[words.index(w) + 1] if w in words else None for w in PLACES)
    place = DataFolder.of(str(images), labels).settings(plan.data.images, plan.data.labels)
    settings = {**place, "device": "$torch.device('cpu')"}
    progress = Progress.of(output, plan)
    networks = [*of_folds(plan), *of_subsets(plan)]
    parser = bundle.load_workflow(output, "train", settings).parser
    for k, file in enumerate([output / "models/model.pt", *(n.weights(output) for n in networks)]):
        torch.manual_seed(k)
        file.parent.mkdir(parents=True, exist_ok=True)
        network = parser.get_parsed_content("network_def", instantiate=True)
        torch.save({name: weights_like(w) for name, w in network.state_dict().items()}, file)
    progress.done = ["one", *(network.name for network in networks)]
    progress.share(None, None)
    return folds.train(output, settings)


def timed_plan(
    monkeypatch: pytest.MonkeyPatch,
    seconds: Sequence[float],
    pixels: Sequence[Sequence[int]],
    *,
    subsets: int = 0,
    calibrated: bool = False,
) -> Any:
    """As much of a plan as sharing out the minutes takes, and a clock.

    Args:
        monkeypatch: sets the clock, and the network that is loaded.
        seconds: that loading it takes, and judging an image.
        pixels: of the images that each fold holds out.
        subsets: networks of fewer images.
        calibrated: whether probabilities count.
    """
    clock = iter([0.0, seconds[0], 50.0, 50.0 + seconds[1]])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    names = [[f"{k}_{j}.tif" for j in range(len(own))] for k, own in enumerate(pixels)]
    cases = [
        Case(facts_of(name, (count, 1)), facts_of(name, (count, 1)), "0")
        for name, count in zip(chain(*names), chain(*pixels), strict=True)
    ]
    own = SimpleNamespace(
        items=[{NAMED: name} for name in names[0]],
        judged=lambda item: None,
        judge=SimpleNamespace(calibrated=calibrated),
        segmenter=SimpleNamespace(device=torch.device("cpu")),
    )
    monkeypatch.setattr(Judging, "of", lambda *_: own)
    return SimpleNamespace(
        folds=[{"training": [], "validation": [{"image": name} for name in own]} for own in names],
        subsets=[{}] * subsets,
        seen=SimpleNamespace(cases=cases),
        value={"label_kind": "mask", "spatial_dims": 2, "slice_stacks": True}.get,
    )


def facts_of(name: str, shape: tuple[int, ...], sha256: str = "") -> FileFacts:
    """What is known of an image by its header, of one that states no pixel size."""
    sizes = (1.0,) * len(shape)
    return FileFacts(name, sha256, shape, 1, "uint8", sizes, "assumed", "um", None)


def weights_like(weight: torch.Tensor) -> torch.Tensor:
    """Random numbers in place of a weight; counts of batches stay."""
    return torch.randn(weight.shape).abs() if weight.is_floating_point() else weight
