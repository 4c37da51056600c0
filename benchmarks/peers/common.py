"""What the peers' scripts share: a job in JSON, images in arrays, results in files.

These scripts run in environments without `unet_med` and import nothing of it. A job says `dims`,
`classes`, what `result` is wanted, the pairs of `training`, the `seed`, and when the minutes `end`
(seconds since 1970); for a prediction also `images`. All that a script writes lies in the job's
own folder: results with their list `results.json`, and `facts.json`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from skimage.io import imread

Array = np.ndarray[Any, Any]


class Job:
    """What is asked for, and where its files are."""

    def __init__(self, file: str) -> None:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        self.folder = Path(file).parent
        self.dims: int = content["dims"]
        self.classes: int = content["classes"]
        self.result: str = content["result"]
        self.seed: int = content["seed"]
        self.end: float = content["end"]
        self.training: list[dict[str, str]] = content["training"]
        self.images: list[str] = content.get("images", [])

    @property
    def seconds_left(self) -> float:
        """Of the minutes."""
        return self.end - time.time()

    def arrays(self) -> tuple[list[Array], list[Array]]:
        """Training images `(Y, X[, C])` or `(Z, Y, X)`, and their labels."""
        images, labels = ([read(pair[key]) for pair in self.training] for key in ("image", "label"))
        return images, labels

    def say(self, package: str, **facts: Any) -> None:
        """Write the version of the package, and the facts, for the row of the benchmark."""
        content = {"version": f"{package} {version(package)}", **facts}
        (self.folder / "facts.json").write_text(json.dumps(content), encoding="utf-8")

    def write(self, found: dict[str, Array]) -> None:
        """Write a file for each image: labels, or probabilities with their classes first."""
        files = []
        (self.folder / "results").mkdir(exist_ok=True)
        for image, array in found.items():
            files.append(str(self.folder / "results" / f"{Path(image).name.partition('.')[0]}.tif"))
            kind, axes = (np.float32, "C") if self.result == "probabilities" else (np.int32, "")
            axes += "ZYX"[-self.dims :]
            options = {"metadata": {"axes": axes}, "photometric": "minisblack"}
            tifffile.imwrite(files[-1], array.astype(kind), **options)
        self.list_results(files)

    def list_results(self, files: list[str]) -> None:
        """Write the list of result files, one an image."""
        (self.folder / "results.json").write_text(json.dumps(files), encoding="utf-8")


def read(file: str) -> Array:
    """An image or label."""
    return tifffile.imread(file) if file.endswith(".tif") else imread(file)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def run(**actions: Callable[[Job], None]) -> None:
    """The command line of a script: an action and the file of its job."""
    action, file = sys.argv[1:]
    actions[action](Job(file))
