"""How a bundle runs: its MONAI workflow, and the command line that does the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unet_med.bundle.writing import Settings


def load_workflow(bundle: Path, kind: str, settings: Settings | None = None) -> Any:
    """MONAI `ConfigWorkflow` of a bundle, initialised, not yet run.

    Args:
        bundle: folder of the bundle.
        kind: `"train"` or `"inference"`.
        settings: ids to override for this run.

    Returns:
        The workflow; `.run()` runs it.
    """
    from monai.bundle import ConfigWorkflow

    configs = bundle / "configs"
    workflow = ConfigWorkflow(
        config_file=str(configs / f"{kind}.json"),
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        workflow_type="train" if kind == "train" else "infer",
        bundle_root=str(bundle),
        **(settings or {}),
    )
    workflow.initialize()
    return workflow


def command_line(bundle: Path, kind: str, settings: Settings | None = None) -> str:
    """The `python -m monai.bundle` line that runs the same thing."""
    import shlex

    configs = bundle / "configs"
    words = ["python", "-m", "monai.bundle", "run"]
    words += ["--config_file", str(configs / f"{kind}.json")]
    words += ["--meta_file", str(configs / "metadata.json")]
    words += ["--logging_file", str(configs / "logging.conf")]
    for key, value in {"bundle_root": str(bundle), **(settings or {})}.items():
        if value is None:
            value = "$None"  # MONAI drops an option that is None; an expression arrives
        words += [f"--{key}", value if isinstance(value, str) else repr(value)]
    return " ".join(shlex.quote(word) for word in words)
