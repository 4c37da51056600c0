"""What the configs of a bundle would import, evaluate or open, found without doing it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_CONFIG_BYTES, MAX_CONFIG_ENTRIES, MAX_CONFIG_DEPTH = 16 << 20, 1_000_000, 100


@dataclass(frozen=True)
class ConfigUse:
    """One place of a config where MONAI imports, evaluates or opens something.

    Attributes:
        file: the config file.
        id: where it stands in the file, as MONAI counts: `train::handlers::0`.
        kind: `"target"`, a dotted name that is imported and called; `"expression"`, Python that
            is evaluated (`$...`); or `"macro"`, another file that is opened (`%...`).
        text: the name, the expression or the macro, as it stands there.
    """

    file: str
    id: str
    kind: str
    text: str


def config_files(bundle: str | Path) -> list[Path]:
    """Every config file of a bundle, metadata included: MONAI parses that too.

    Raises:
        FileNotFoundError: there is none.
    """
    folder = Path(bundle) / "configs"
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".yaml", ".yml"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no config: give the folder that `configs` is in")
    return files


def targets_of(configs: Iterable[str | Path]) -> list[ConfigUse]:
    """What config files would import, evaluate or open, without doing any of it.

    Args:
        configs: config files, JSON or YAML.

    Returns:
        In the order of the files: every `_target_`, every `$` expression, every `%` macro.

    >>> from unet_med.bundle import config_files, find_bundle
    >>> uses = targets_of(config_files(find_bundle()))
    >>> sorted({use.text.split(".")[0] for use in uses if use.kind == "target"})
    ['monai', 'torch', 'unet_med']
    """
    return [use for path in map(Path, configs) for use in uses_in(path.as_posix(), _content(path))]


def load_config(path: str | os.PathLike[str]) -> Any:
    """Content of a config file that anybody may have written; nothing in it is evaluated.

    Args:
        path: JSON or YAML.

    Raises:
        ValueError: it is neither, or too large, too deep or endless.
    """
    path = Path(path)
    if (size := path.stat().st_size) > MAX_CONFIG_BYTES:
        raise ValueError(f"{path} has {size} bytes, a config at most {MAX_CONFIG_BYTES}")
    try:
        content = _parse(path)
    except ImportError:
        raise
    except Exception as error:  # YAML's own errors are no ValueError
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be read as a config: {reason}") from error
    _check_tree(path, content)
    return content


def planned_values(plan: Any) -> dict[str, Any]:
    """Ids and values of a `plan.json` that anybody may have written."""
    ids = plan.get("ids") if isinstance(plan, dict) else None
    entries = ids if isinstance(ids, dict) else {}
    return {id: e.get("value") if isinstance(e, dict) else e for id, e in entries.items()}


def _content(path: Path) -> Any:
    """A config as it acts: the values of a plan are written into the configs as they are."""
    content = load_config(path)
    if path.name == "plan.json" and isinstance(content, dict):
        return {**content, "ids": planned_values(content)}
    return content


def _parse(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text, object_pairs_hook=_all_pairs)
    try:
        import yaml
    except ImportError:
        raise ImportError(f"{path} is YAML: pip install pyyaml, to read it") from None
    return yaml.safe_load(text)


def _check_tree(path: Path, content: Any) -> None:
    """Aliases of YAML can make a tree without end, or with more leaves than atoms, of few bytes."""
    count, rest = 0, [(content, 0)]
    while rest:
        node, depth = rest.pop()
        count += 1
        if count > MAX_CONFIG_ENTRIES or depth > MAX_CONFIG_DEPTH:
            raise ValueError(
                f"{path} has more than {MAX_CONFIG_ENTRIES} entries or {MAX_CONFIG_DEPTH} levels"
            )
        children = node.values() if isinstance(node, dict) else node
        if isinstance(node, dict | list):
            rest += [(child, depth + 1) for child in children]


def _all_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON file; of a key that stands there twice, no value hides the other."""
    content: dict[str, Any] = {}
    for key, value in pairs:
        while key in content:
            key += " (again)"
        content[key] = value
    return content


def uses_in(file: str, node: Any, id: str = "") -> Iterator[ConfigUse]:
    """What one value of a config would import, evaluate or open; the value stands at `id`."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from uses_in(file, value, f"{id}::{key}" if id else str(key))
    elif isinstance(node, str):
        last = re.split("::|#", id)[-1].split(" ")[0]
        if node.startswith("$"):
            yield ConfigUse(file, id, "expression", node)
        elif node.startswith("%"):
            yield ConfigUse(file, id, "macro", node)
        elif last == "_target_":
            yield ConfigUse(file, id, "target", node)
