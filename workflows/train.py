"""Train from a script: load the bundle's config, override a few ids, run.

Copy this file, edit `SETTINGS`, and run it from the bundle's folder:

    python workflows/train.py IMAGES LABELS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from unet_med.bundle import literal

BUNDLE = Path(__file__).resolve().parents[1]
SETTINGS: dict[str, Any] = {
    "bundle_root": str(BUNDLE),
    "label_kind": "mask",  # or "classes", "instances"
    "features": [16, 32, 64, 128, 256],  # the paper: None, that is 64 to 1024
    "epochs": 100,
}


def train(images: str, labels: str, **settings: Any) -> ConfigWorkflow:
    """Train on a folder of images with labels of the same names.

    Args:
        images: folder of images, one stack, or a MONAI data list.
        labels: folder of labels, or one stack.
        **settings: ids of `configs/train.json` to override.

    Returns:
        The workflow after its run; `workflow.network_def` is the trained network.
    """
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "train.json"),
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        **literal({**SETTINGS, "images": images, "labels": labels, **settings}),
    )
    workflow.initialize()
    workflow.run()
    return workflow


if __name__ == "__main__":
    train(*sys.argv[1:3])
