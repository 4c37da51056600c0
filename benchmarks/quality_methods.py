"""What is trained in `benchmarks.quality`: this package as it is, and its peers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.quality_monai import Monai
from benchmarks.quality_sets import ImageSet, Pair

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "benchmarks" / "peers"
NO_TRAINING = {"dims": 2, "classes": 2, "training": [], "seed": 0, "end": 0.0}
ANY = ("instances", "mask", "probabilities")


class Method(Protocol):
    """How one tool trains and predicts.

    Attributes:
        results: what it can give, of the kinds of `ImageSet.result`.
    """

    results: Sequence[str]

    def train(
        self, images: ImageSet, pairs: Sequence[Pair], folder: Path, *, minutes: float, seed: int
    ) -> None:
        """Train within the minutes."""

    def predict(self, images: ImageSet, files: Sequence[str], folder: Path) -> list[Path]:
        """A result file for each image."""

    def facts(self, folder: Path) -> Mapping[str, Any]:
        """Versions, steps, and what else a reader has to know."""


@dataclass(frozen=True)
class UnetMed:
    """`unet-med train` and `unet-med predict`.

    Attributes:
        options: of the training beside the data and the budget; none in `benchmarks.quality`.
    """

    options: Sequence[str] = ()
    results: Sequence[str] = ANY

    def train(
        self, images: ImageSet, pairs: Sequence[Pair], folder: Path, *, minutes: float, seed: int
    ) -> None:
        """Run the command in a process of its own, its start included in the minutes."""
        listing = folder / "train.json"
        listing.write_text(json.dumps({"training": list(pairs)}, indent=2), encoding="utf-8")
        options = ["--minutes", f"{minutes:g}", "--seed", str(seed), *self.options]
        _run("train", "--images", str(listing), "--output", str(folder / "bundle"), *options)

    def predict(self, images: ImageSet, files: Sequence[str], folder: Path) -> list[Path]:
        """Run the command on all images."""
        wanted = [] if images.result == "mask" else [f"--{images.result}"]
        place = ["--bundle", str(folder / "bundle"), "--output", str(folder / "results")]
        _run("predict", *files, *place, *wanted)
        return [result_of(file, folder / "results", images.result) for file in files]

    def facts(self, folder: Path) -> Mapping[str, Any]:
        """Steps of the training, and the version."""
        record = json.loads((folder / "bundle" / "models" / "training.json").read_text("utf-8"))
        return {"version": version("unet-med"), "steps": record.get("iterations")}


@dataclass(frozen=True)
class Peer:
    """A tool in an environment of its own (`make peers`), run by a script that knows nothing of us.

    Attributes:
        name: of the environment in `build/peers`, and of the script `benchmarks/peers/run_NAME.py`.
        results: what it can give.
    """

    name: str
    results: Sequence[str]

    @property
    def python(self) -> Path:
        """Of its environment."""
        return ROOT / "build" / "peers" / self.name / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether `make peers` has been run."""
        return self.python.exists()

    def train(
        self, images: ImageSet, pairs: Sequence[Pair], folder: Path, *, minutes: float, seed: int
    ) -> None:
        """Run the script until the minutes have passed, its start included."""
        job = {"dims": images.dims, "classes": images.classes, "result": images.result}
        job |= {"training": list(pairs), "seed": seed, "end": time.time() + 60 * minutes}
        self._run("train", job, folder)

    def predict(self, images: ImageSet, files: Sequence[str], folder: Path) -> list[Path]:
        """Run the script on all images."""
        job = json.loads((folder / "train_job.json").read_text("utf-8"))
        self._run("predict", {**job, "images": list(files)}, folder)
        return [Path(file) for file in json.loads((folder / "results.json").read_text("utf-8"))]

    def facts(self, folder: Path) -> Mapping[str, Any]:
        """What the script says of its training."""
        return dict(json.loads((folder / "facts.json").read_text("utf-8")))

    def match(self, found: Sequence[Any], truths: Sequence[Any], folder: Path) -> dict[str, float]:
        """Average precision of anybody's objects, as this tool counts it; see `MATCHING`."""
        sides = {"f": found, "t": truths}
        np.savez(
            folder / "objects.npz",
            **{f"{side}{k}": a for side, each in sides.items() for k, a in enumerate(each)},
        )
        self._run("match", {**NO_TRAINING, "result": "instances"}, folder)
        return dict(json.loads((folder / "matching.json").read_text("utf-8")))

    def _run(self, action: str, job: Mapping[str, Any], folder: Path) -> None:
        if not self.installed:
            raise FileNotFoundError(f"{self.python} is missing: `make peers` installs {self.name}")
        file = folder / f"{action}_job.json"
        file.write_text(json.dumps(job, indent=2), encoding="utf-8")
        script = SCRIPTS / f"run_{self.name}.py"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(
            [str(self.python), str(script), action, str(file)], check=True, env=environment
        )


def result_of(image: str, folder: Path, kind: str) -> Path:
    """The file that `unet-med predict` wrote for an image."""
    (found,) = folder.glob(f"{Path(image).name.partition('.')[0]}_{kind}.*")
    return found


def _run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "unet_med", *words], check=True)


MATCHING = Peer("stardist", ["instances"])  # its average precision is an oracle for ours

METHODS: dict[str, Method] = {
    "unet-med": UnetMed(),
    "monai": Monai(),
    "nnunet": Peer("nnunet", ANY),
    "stardist": MATCHING,
    "cellpose": Peer("cellpose", ["instances"]),
}
