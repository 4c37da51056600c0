"""What configs of a bundle hold, as JSON says it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def config_of(folder: Path, name: str = "train") -> dict[str, Any]:
    """A config of a bundle."""
    text = (folder / f"configs/{name}.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def targets(paths: Iterable[Path]) -> set[str]:
    """Every `_target_` of some configs, at any depth."""
    return {name for path in paths for name in _within(json.loads(path.read_text("utf-8")))}


def _within(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _within(part)
