"""Peak memory of `unet-med evaluate`, by the number of its volumes, in processes of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.memory import OURS, peak_of
from benchmarks.timing import Limit, Race


def races(tiny: bool) -> Iterator[Race]:
    """Two organs in each volume, and results that are off by a few voxels."""
    few, many, side = (1, 2, 16) if tiny else (4, 40, 128)
    tasks = {f"{n} volumes": cache(lambda n=n: peak(n, side)) for n in (few, many)}
    yield Race(
        f"Peak memory, unet-med evaluate --metrics clinical, volumes of {side}^3",
        tasks,
        [] if tiny else [Limit(f"{many} volumes", f"{few} volumes", at_most=1.05)],
        seconds=0,
        unit="MiB",
    )


def peak(volumes: int, side: int) -> float:
    """MiB of a process that scores a cohort."""
    with tempfile.TemporaryDirectory() as name:
        results, truths = Path(name) / "results", Path(name) / "truth"
        for number in range(volumes):
            truth = organs(side, np.random.default_rng(number))
            save(truths / f"c{number}.nii.gz", truth)
            save(results / f"c{number}_mask.nii.gz", np.roll(truth, 2, axis=number % 3))
        words = ["evaluate", str(results), str(truths), "--label-kind", "classes"]
        return peak_of(OURS, words)


def organs(side: int, rng: np.random.Generator) -> np.ndarray:
    """Two balls, 1 and 2."""
    places = np.stack(np.meshgrid(*(np.arange(side),) * 3, indexing="ij"), axis=-1)
    label = np.zeros((side,) * 3, np.uint8)
    for value, centre in ((1, 0.3), (2, 0.7)):
        middle = side * centre + rng.uniform(-0.05, 0.05, 3) * side
        label[np.linalg.norm(places - middle, axis=-1) < 0.2 * side] = value
    return label


def save(path: Path, label: np.ndarray) -> None:
    """A NIfTI of voxels of 0.8 x 0.8 x 2 mm."""
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(label, np.diag([0.8, 0.8, 2.0, 1.0])), path)
