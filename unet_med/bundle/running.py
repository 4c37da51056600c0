"""How a bundle runs: its MONAI workflow, and the command line that does the same."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

from unet_med.bundle.ids import require_ids
from unet_med.bundle.literals import literal
from unet_med.bundle.trust import require_trust
from unet_med.bundle.writing import Place, Settings
from unet_med.errors import hushed


def inference_parser(bundle: Place, ids: Settings) -> Any:
    """MONAI's parser of how a bundle predicts; nothing of it is built yet.

    Args:
        bundle: folder of the bundle.
        ids: ids of its `inference.json` with new values, any Python objects.

    Raises:
        ValueError: it is no bundle, or an id is none of its own.
    """
    from monai.bundle import ConfigParser

    bundle = Path(bundle)
    config = bundle / "configs" / "inference.json"
    if not config.is_file():
        raise ValueError(f"{bundle} is no trained bundle: {config} is missing; train it first")
    parser = ConfigParser(ConfigParser.load_config_file(config))
    require_ids(ids, source=str(bundle), configs=[parser.get()])
    for name, value in {"bundle_root": bundle, **ids}.items():
        parser[name] = literal(value)
    return parser


def load_workflow(
    bundle: Place, kind: str, settings: Settings | None = None, *, trust: bool = True
) -> Any:
    """MONAI `ConfigWorkflow` of a bundle, initialised, not yet run.

    Args:
        bundle: folder of the bundle.
        kind: `"train"` or `"inference"`.
        settings: ids to override for this run; see `unet_med.bundle.literal` for strings.
        trust: run also what unet-med's own bundle does not name.

    Returns:
        The workflow; `.run()` runs it.

    Raises:
        ValueError: the bundle is not trusted, and names what unet-med's own does not.
    """
    from monai.bundle import ConfigWorkflow

    if not trust:
        require_trust(bundle)

    bundle = Path(bundle)
    configs = bundle / "configs"
    with hushed("monai.bundle.workflows", logging.ERROR):
        workflow = ConfigWorkflow(
            config_file=str(configs / f"{kind}.json"),
            meta_file=str(configs / "metadata.json"),
            logging_file=False,
            workflow_type="train" if kind == "train" else "infer",
            **literal({"bundle_root": bundle, **(settings or {})}),
        )
    workflow.initialize()
    return workflow


def command_line(bundle: Place, kind: str, settings: Settings | None = None) -> str:
    """The `python -m monai.bundle` line that runs the same thing, for a POSIX shell."""
    bundle = Path(bundle)
    configs = bundle / "configs"
    words = ["python", "-m", "monai.bundle", "run"]
    for option, name in (
        ("config_file", f"{kind}.json"),
        ("meta_file", "metadata.json"),
        ("logging_file", "logging.conf"),
    ):
        text = str(configs / name)
        words += [f"--{option}", repr(text) if "#" in text else text]  # Fire takes it for a comment
    for key, value in literal({"bundle_root": bundle, **(settings or {})}).items():
        if value is None:
            value = "$None"  # MONAI drops an option that is None; an expression arrives
        words += [f"--{key}", value if isinstance(value, str) else repr(value)]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """A word as `shlex.quote` has it, but that quotes within it stay readable."""
    if "'" in word and not set(word) & set('"$`\\!'):
        return f'"{word}"'
    if word.startswith("$") and not set(word[1:]) & set('"\\'):  # Python, to which they are alike
        word = word.replace("'", '"')
    return shlex.quote(word)
