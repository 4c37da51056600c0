"""The doors that tests go through: a command, whose words may be of any type, and MONAI's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from unet_med.cli import main


def run(*words: Any) -> int:
    """Status of `unet-med WORDS`."""
    return main([str(word) for word in words])


def predict(*words: Any) -> int:
    """Status of `unet-med predict WORDS` on the CPU."""
    return run("predict", *words, "--device", "cpu")


def monai_workflow(root: Path, *names: str, kind: str = "train", **ids: Any) -> ConfigWorkflow:
    """A bundle's configs, merged and initialised by MONAI alone, with ids of one's own."""
    workflow = ConfigWorkflow(
        config_file=[str(root / "configs" / f"{name}.json") for name in names],
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        **{"bundle_root": str(root), **ids},
    )
    workflow.initialize()
    return workflow
