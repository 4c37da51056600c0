"""Segment images from a script with a trained bundle.

python workflows/predict.py BUNDLE OUTPUT IMAGE [IMAGE ...]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from unet_med.bundle import load_workflow


def predict(bundle: str, output: str, images: list[str], **settings: Any) -> ConfigWorkflow:
    """Write a mask and instance labels of every image.

    Args:
        bundle: folder of a trained bundle.
        output: folder of the results.
        images: files.
        **settings: ids of `configs/inference.json` to override, for example
            `outputs=["probabilities"]` or `tta="rotations"`.

    Returns:
        The workflow after its run.
    """
    settings = {"images": images, "output_dir": output, **settings}
    workflow = load_workflow(Path(bundle), "inference", settings, trust=False)
    workflow.run()
    return workflow


if __name__ == "__main__":
    predict(sys.argv[1], sys.argv[2], sys.argv[3:])
