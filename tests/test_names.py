"""A dotted name leads to one thing.

MONAI finds each `_target_` by `pydoc.locate`. Where a name is a function and a module,
this gives the function on Python 3.11 and the module on 3.13.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import pydoc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import unet_med

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "unet_med"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
}
PACKAGES = ["unet_med"] + [
    found.name
    for found in pkgutil.walk_packages(unet_med.__path__, "unet_med.")
    if found.ispkg and "._" not in found.name
]


def public_names(package: ModuleType) -> set[str]:
    """What a package offers: its `__all__`, or else its names that are no modules."""
    if hasattr(package, "__all__"):
        return set(package.__all__)
    submodules = getattr(package, "_SUBMODULES", ())
    names = {name for name in dir(package) if not name.startswith("_")} - set(submodules)
    return {name for name in names if not isinstance(getattr(package, name), ModuleType)}


def targets(config: Any) -> Iterator[str]:
    """Every `_target_` of a config, at any depth."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield config["_target_"]
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from targets(part)


TARGETS = sorted(
    {
        target
        for path in (ROOT / "configs").glob("*.json")
        for target in targets(json.loads(path.read_text(encoding="utf-8")))
        if target.startswith("unet_med.")
    }
)


def test_there_are_names_to_check() -> None:
    assert {"unet_med.geometry", "unet_med.networks", "unet_med.networks.blocks"} <= MODULES
    assert {"unet_med", "unet_med.networks", "unet_med.data.protection"} <= set(PACKAGES)
    assert "SyntheticCells" in public_names(importlib.import_module("unet_med.data"))
    assert len(TARGETS) > 20


@pytest.mark.parametrize("name", PACKAGES)
def test_no_public_name_is_the_path_of_a_module(name: str) -> None:
    package = importlib.import_module(name)
    assert {f"{name}.{public}" for public in public_names(package)} & MODULES == set()


def test_no_target_is_the_path_of_a_module() -> None:
    assert set(TARGETS) & MODULES == set()
    assert [t for t in TARGETS if isinstance(pydoc.locate(t), (ModuleType, type(None)))] == []


@pytest.mark.parametrize("name", PACKAGES)
def test_dir_shows_what_is_made_on_first_use(name: str) -> None:
    package = importlib.import_module(name)
    assert set(getattr(package, "__all__", ())) <= set(dir(package))
