"""Ids of configs: whether there are such, and what several sets of them come to."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unet_med.bundle.files import find_bundle
from unet_med.bundle.inspection import load_config

PLANNED = ("train", "inference", "evaluate")  # configs that a plan is written into
Entry = Mapping[str, Any]  # {"value": ..., "reason": ...}


def combine(*sets: Mapping[str, Entry]) -> dict[str, dict[str, Any]]:
    """Several sets of ids as one, which merges into a config as they do one after the other.

    A later value replaces an earlier one and all that was said of its parts; what is appended
    (`+id`) several times is appended in that order.

    Args:
        sets: `{"value": ..., "reason": ...}` by id.

    >>> old, new = ({"value": v, "reason": ""} for v in (1, 2))
    >>> list(combine({"a::b": old, "c": old}, {"a": new}))
    ['c', 'a']
    """
    combined: dict[str, dict[str, Any]] = {}
    for id, entry in (pair for ids in sets for pair in ids.items()):
        value, before = entry["value"], combined.pop(id, None)
        if id.startswith("+") and before is not None:
            value = _joined(before["value"], value)
        elif not id.startswith("+"):
            for part in [p for p in combined if p == f"+{id}" or _is_part(p.lstrip("+"), id)]:
                del combined[part]
        combined[id] = {**entry, "value": value}
    return combined


def entries_of(values: Mapping[str, Any], reason: str) -> dict[str, dict[str, Any]]:
    """Ids that all have one reason, as a plan keeps them."""
    return {id: {"value": value, "reason": reason} for id, value in values.items()}


def values_of(ids: Mapping[str, Entry]) -> dict[str, Any]:
    """Values of ids, without what is said of them.

    >>> values_of({"epochs": {"value": 20, "reason": "asked"}})
    {'epochs': 20}
    """
    return {id: entry["value"] for id, entry in ids.items()}


def require_ids(
    ids: Iterable[str], *, source: str, configs: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """Refuse ids that no config has.

    Args:
        ids: as in an override file: `epochs`, `+train::handlers`, `network_def::dropout`.
        source: who says them, for the message.
        configs: contents of configs, of which one must have each id; None: those of this
            installation that a plan is written into.

    Raises:
        ValueError: the first id that is not there, with the nearest one that is.
    """
    ids = list(ids)
    contents = _planned_configs() if configs is None else configs
    known = {id for content in contents for id in content}
    for id in ids:
        having = [content for content in contents if first_of(id) in content]
        if not having:
            near = difflib.get_close_matches(first_of(id), sorted(known), 1)
            advice = f"did you mean {near[0]}?" if near else "docs/reference/configs.md lists them"
            raise ValueError(f"{source}: no config has an id {id}; {advice}")
        problems = [misplaced(id, content, ids) for content in having]
        if all(problems):
            raise ValueError(f"{source}: {problems[0]}")


def first_of(id: str) -> str:
    """The id of a config that an id lies in.

    >>> first_of("+train::handlers")
    'train'
    """
    return re.split("::|#", id.lstrip("+"))[0]


def misplaced(id: str, config: Mapping[str, Any], others: Iterable[str] = ()) -> str | None:
    """Why an id such as `augment::elastik::prob` has no place in a config; None where it has.

    Its last part may be new: an argument of a component, a transform of a chain.

    Args:
        id: the id.
        config: content of the config.
        others: ids that are set with it, and may make the place.
    """
    parts = re.split("::|#", id.lstrip("+"))
    if any("::".join(parts[:depth]) in others for depth in range(2, len(parts))):
        return None
    node: Any = config
    for depth, part in enumerate(parts[:-1]):
        names = [str(name) for name in (node if isinstance(node, dict) else range(len(node)))]
        if part not in names:
            within = "::".join(parts[:depth])
            return f"{id}: {within} has no {part}; it has {', '.join(names)}"
        node = node[part] if isinstance(node, dict) else node[int(part)]
        if not isinstance(node, dict | list):
            break  # an expression, or another id
    return None


def _planned_configs() -> list[dict[str, Any]]:
    configs = find_bundle() / "configs"
    return [load_config(configs / f"{name}.json") for name in PLANNED]


def _is_part(id: str, whole: str) -> bool:
    return id.startswith((f"{whole}::", f"{whole}#"))


def _joined(one: Any, other: Any) -> Any:
    """Two values that are appended one after the other, as MONAI does."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **other}
    return [*one, *other]
