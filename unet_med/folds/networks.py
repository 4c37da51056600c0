"""The networks beside that of all images: where each lies, and what it learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_med.bundle.files import FOLDS, SUBSETS
from unet_med.planning import Plan


@dataclass(frozen=True)
class Network:
    """One of those beside the network of all images.

    Attributes:
        name: in `progress.json`.
        folder: of its weights, in the bundle.
        splits: file of the bundle that lists what it learns from.
        position: there.
        fold: that holds out what it is judged by.
    """

    name: str
    folder: str
    splits: str
    position: int
    fold: int

    def ids(self, output: Path) -> dict[str, Any]:
        """Ids with which `train.json` trains it, also by MONAI alone."""
        return {
            "split_file": (output / "configs" / self.splits).absolute(),
            "fold": self.position,
            "output_dir": (output / self.folder).absolute(),
        }

    def weights(self, output: Path) -> Path:
        """File of its weights."""
        return output / self.folder / "model.pt"


def of_folds(plan: Plan) -> list[Network]:
    """Networks of all that a fold does not hold out."""
    return [Network(str(k), f"{FOLDS}/{k}", "folds.json", k, k) for k in range(len(plan.folds))]


def of_subsets(plan: Plan) -> list[Network]:
    """Networks of a part of that."""
    return [
        Network(f"subset {k}", f"{SUBSETS}/{k}", "subsets.json", k, split["fold"])
        for k, split in enumerate(plan.subsets)
    ]
