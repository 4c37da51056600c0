"""What is trained in `benchmarks.quality`: this package as it is, and MONAI's networks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from benchmarks.quality_monai import Monai
from benchmarks.quality_sets import ImageSet, Pair


class Method(Protocol):
    """How one tool trains and predicts."""

    def train(
        self, images: ImageSet, pairs: Sequence[Pair], folder: Path, *, minutes: float, seed: int
    ) -> None:
        """Train within the minutes."""

    def predict(self, images: ImageSet, files: Sequence[str], folder: Path) -> list[Path]:
        """A result file for each image."""

    def facts(self, folder: Path) -> Mapping[str, Any]:
        """Versions, steps, and what else a reader has to know."""


class UnetMed:
    """`unet-med train` and `unet-med predict`, with no option but the data and the budget."""

    def train(
        self, images: ImageSet, pairs: Sequence[Pair], folder: Path, *, minutes: float, seed: int
    ) -> None:
        """Run the command in a process of its own, its start included in the minutes."""
        listing = folder / "train.json"
        listing.write_text(json.dumps({"training": list(pairs)}, indent=2), encoding="utf-8")
        budget = ["--minutes", f"{minutes:g}", "--seed", str(seed)]
        _run("train", "--images", str(listing), "--output", str(folder / "bundle"), *budget)

    def predict(self, images: ImageSet, files: Sequence[str], folder: Path) -> list[Path]:
        """Run the command on all images."""
        wanted = [] if images.result == "mask" else [f"--{images.result}"]
        place = ["--bundle", str(folder / "bundle"), "--output", str(folder / "results")]
        _run("predict", *files, *place, *wanted)
        return [self._result(Path(file), folder / "results", images.result) for file in files]

    def facts(self, folder: Path) -> Mapping[str, Any]:
        """Steps of the training, and the version."""
        record = json.loads((folder / "bundle" / "models" / "training.json").read_text("utf-8"))
        return {"version": version("unet-med"), "steps": record.get("iterations")}

    @staticmethod
    def _result(image: Path, folder: Path, kind: str) -> Path:
        (found,) = folder.glob(f"{image.name.partition('.')[0]}_{kind}.*")
        return found


def _run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "unet_med", *words], check=True)


METHODS: dict[str, Method] = {"unet-med": UnetMed(), "monai": Monai()}
