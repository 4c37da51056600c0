"""What trainings with folds are tested on: six small images, and a network of a second."""

from __future__ import annotations

from pathlib import Path

from unet_med.data import SyntheticCells

SMALL = ["--features", "2", "4", "--tile-size", "26", "--epochs", "1", "--device", "cpu"]


def six_cells(folder: Path) -> Path:
    """Write images and labels into a folder, and give it back."""
    SyntheticCells(6, (48, 40), num_cells=4).write(folder)
    return folder


def line(data: Path, output: Path, *words: str) -> list[str]:
    """Words of `unet-med train` on them."""
    places = ["--images", f"{data}/images", "--labels", f"{data}/labels", "--output", str(output)]
    return ["train", *places, *SMALL, *words]
