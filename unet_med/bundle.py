"""The bundle: where it is, a writable copy of it, its settings, and how it runs.

The repository root is the bundle; a wheel carries a copy. A training's output
folder is a bundle too, with the settings of that training written into its
configs, so that every later run needs nothing but the folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_med.data.beside import written_beside

PARTS = ("configs", "workflows", "docs/README.md", "LICENSE")

Settings = Mapping[str, Any]


def find_bundle() -> Path:
    """Folder of the bundle that this installation carries.

    Raises:
        FileNotFoundError: neither a wheel's copy nor a checkout is there.
    """
    package = Path(__file__).resolve().parent
    for root in (package / "_bundle", package.parent):
        if (root / "configs" / "metadata.json").is_file():
            return root
    raise FileNotFoundError(f"no bundle beside {package}: reinstall unet-med")


def copy_bundle(destination: str | Path, *, over: bool = False) -> Path:
    """Write a fresh bundle, without weights, into a new or empty folder.

    Args:
        destination: folder to make.
        over: write over a bundle that is there; other files in it stay.

    Returns:
        The folder.

    Raises:
        FileExistsError: it holds something already, and not `over`.
    """
    root, destination = find_bundle(), Path(destination)
    if (
        not over
        and destination.exists()
        and (not destination.is_dir() or any(destination.iterdir()))
    ):
        raise FileExistsError(f"{destination} exists and is not empty: choose a new folder")
    for part in PARTS:
        source, target = root / part, destination / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=over)
        elif source.is_file():
            shutil.copyfile(source, target)
    (destination / "models").mkdir(exist_ok=True)
    return destination


def override_file(name: str) -> Path | None:
    """Config file `configs/NAME.json` of the bundle that changes the defaults, if there is one."""
    path = find_bundle() / "configs" / f"{name}.json"
    return path if path.is_file() else None


def merge_config(config: Path, overrides: Sequence[Path], settings: Settings) -> dict[str, Any]:
    """Config file with override files and single settings merged in, as MONAI merges them.

    Args:
        config: config file, JSON.
        overrides: files of ids that replace those of the config; ids that the
            config does not know are left out (an override serves training and
            inference alike).
        settings: single ids, likewise.

    Returns:
        The content of the config file.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_file(config))
    for pairs in [*(json.loads(path.read_text(encoding="utf-8")) for path in overrides), settings]:
        parser.update({k: v for k, v in pairs.items() if k.split("::")[0] in parser})
    content = parser.get()
    return dict(content)


def write_settings(bundle: Path, overrides: Sequence[Path], settings: Settings) -> None:
    """Write a training's choices into `train.json` and `inference.json` of a bundle."""
    for name in ("train", "inference"):
        path = bundle / "configs" / f"{name}.json"
        content = merge_config(path, overrides, settings)
        with written_beside(path) as beside:
            beside.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


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
        text = value if isinstance(value, str) else json.dumps(value)
        words += [f"--{key}", text.replace("null", "None")]
    return " ".join(shlex.quote(word) for word in words)
