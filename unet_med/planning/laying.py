"""A bundle that is ready to be trained, by a plan."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from unet_med import bundle
from unet_med.planning.plan import Plan
from unet_med.planning.source import Source


def lay_bundle(
    plan: Plan,
    folder: str | os.PathLike[str],
    *,
    over: bool = False,
    source: Source | None = None,
) -> Path:
    """Write a fresh bundle with the plan, and the plan's ids in its configs.

    Args:
        plan: what `make_plan` decided.
        folder: new or empty folder.
        over: write over a bundle that is there; other files in it stay.
        source: what the plan starts from, of which the bundle keeps the weights.

    Returns:
        The folder. MONAI trains it: `python -m monai.bundle run`, or `UNetTrainWorkflow`, with
        `dataset_dir`, the folder that the data lie in.

    Raises:
        FileExistsError: it holds something already, and not `over`.
    """
    destination = bundle.copy_bundle(Path(folder), over=over)
    bundle.write_plan(destination, plan.to_json())
    if source is not None:
        copy = destination / "models" / source.copy_name
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(source.weights, copy)
    return destination
