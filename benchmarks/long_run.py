"""Memory and open files over many predictions and training steps in one process.

    python benchmarks/long_run.py                   # 2000 of each, minutes
    python benchmarks/long_run.py --count 300

Tiny images and networks: what grows here grows with the number of images, not with their size.
Prints resident memory and open files after a warm-up and at the end, and fails where memory grew
by 2 % or more, or files stayed open.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unet_med import bundle
from unet_med.data import SyntheticCells

TINY: dict[str, Any] = {"features": [2, 4], "label_kind": "instances", "device": "cpu"}
ALLOWED_GROWTH = 0.02


def resident_bytes() -> int:
    """Memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    """File handles of this process."""
    return len(os.listdir("/proc/self/fd"))


class Watch:
    """Notes memory and files after a warm-up, and again each time.

    What happens once, at the end of a training (its pictures), is left out.

    Args:
        warm_up: calls of `tick` before the first note is taken.
    """

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.count = 0
        self.first = self.last = (0, 0)  # bytes, files

    def tick(self, *_: Any) -> None:
        """Count one prediction or step."""
        self.count += 1
        if self.count >= self.warm_up:
            self.last = resident_bytes(), open_files()
        if self.count == self.warm_up:
            self.first = self.last

    def grown(self, name: str) -> bool:
        """Whether memory or files grew since the warm-up; prints both."""
        (memory, files), (memory_now, files_now) = self.first, self.last
        growth = memory_now / memory - 1
        print(
            f"{name}: {self.count} in all; after {self.warm_up}: {memory / 1e6:.1f} MB, {files} "
            f"files; at the end: {memory_now / 1e6:.1f} MB ({growth:+.2%}), {files_now} files",
            flush=True,
        )
        return growth >= ALLOWED_GROWTH or files_now > files


def train(folder: Path, count: int, watch: Watch) -> None:
    """Train for `count` steps with everything that a training has: validation, checkpoints."""
    settings = {
        **TINY,
        "images": str(folder / "images"),
        "labels": str(folder / "labels"),
        "tile_size": 32,
        "batch_size": 1,
        "tiles_per_epoch": count // 10,
        "epochs": 10,
        "val_interval": 1,
        "checkpoint_minutes": 0.02,
        "num_workers": 0,
    }
    root = bundle.copy_bundle(folder / "bundle")
    modern = bundle.override_file("modern")
    bundle.write_settings(root, [modern] if modern else [], settings)
    watched(root, "train", {}, "train::trainer", watch.tick)


def predict(folder: Path, count: int, watch: Watch) -> None:
    """Segment `count` images, one file each."""
    images = sorted(str(path) for path in (folder / "images").iterdir())
    links = folder / "many"
    links.mkdir()
    for k in range(count):
        (links / f"{k:05d}.tif").symlink_to(images[k % len(images)])
    settings = {
        "images": str(links),
        "output_dir": str(folder / "results"),
        "outputs": ["mask", "instances", "probabilities"],
        "device": "cpu",
        "tta": None,
    }
    watched(folder / "bundle", "inference", settings, "evaluator", watch.tick)


def watched(
    root: Path, kind: str, settings: dict[str, Any], engine: str, tick: Callable[..., None]
) -> None:
    """Run a workflow of a bundle, with a call after every iteration."""
    from ignite.engine import Events

    workflow = bundle.load_workflow(root, kind, settings)
    loop = workflow.parser.get_parsed_content(engine)
    loop.add_event_handler(Events.ITERATION_COMPLETED, tick)
    workflow.run()


def main(argv: list[str] | None = None) -> int:
    """Exit code 1 where something grew."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=2000, help="of each (%(default)s)")
    count = options.parse_args(argv).count
    torch.set_num_threads(1)
    steps, images = Watch(count // 2), Watch(count // 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        SyntheticCells(4, (48, 40), num_cells=4).write(folder)
        train(folder, count, steps)
        grown = steps.grown("training steps")
        predict(folder, count, images)
        grown = images.grown("predictions") or grown
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
