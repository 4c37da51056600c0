"""A dotted name leads to one thing.

MONAI finds each `_target_` by `pydoc.locate`. Where a name is a function and a module,
this gives the function on Python 3.11 and the module on 3.13.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import pydoc
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from config_files import targets

import unet_med

READING = ("open", "load")
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


CONFIGS = (ROOT / "configs").glob("*.json")
TARGETS = sorted(name for name in targets(CONFIGS) if name.startswith("unet_med."))


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


def only_paths(function: Any) -> list[str]:
    """Parameters that take a `Path`, and by what they say no text."""
    kinds = getattr(function, "__annotations__", {})
    alone = re.compile(r"(Path|Sequence\[Path\])( \| None)?")
    return [f"{n}: {k}" for n, k in kinds.items() if n != "return" and alone.fullmatch(str(k))]


OFFERED = [name for name in PACKAGES if name.removeprefix("unet_med.") in dir(unet_med)]


@pytest.mark.parametrize("name", OFFERED)
def test_who_takes_a_path_takes_its_text(name: str) -> None:
    """Of public functions and of methods, but for those that readers call among themselves."""
    package = importlib.import_module(name)
    for public in set(getattr(package, "__all__", ())) & public_names(package):
        value = getattr(package, public)
        functions = [value] if inspect.isfunction(value) else []
        if inspect.isclass(value) and not dataclasses.is_dataclass(value):
            own = {**vars(value)}
            names = [n for n in own if n == "__init__" or (n[0] != "_" and n not in READING)]
            functions = [own[name] for name in names]
        assert [only_paths(each) for each in functions if only_paths(each)] == [], public


def shown_to_checkers(package: ModuleType) -> tuple[set[str], dict[str, str]]:
    """Names that a package's text binds; those imported for checkers, with their modules."""
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    bound = {alias.asname or alias.name for node in ast.walk(tree)
             if isinstance(node, ast.ImportFrom) for alias in node.names}  # fmt: skip
    bound |= {node.id for node in ast.walk(tree)
              if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}  # fmt: skip
    bound |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    blocks = [node.body for node in tree.body if isinstance(node, ast.If)
              and ast.unparse(node.test) == "TYPE_CHECKING"]  # fmt: skip
    imported = {
        alias.asname or alias.name: str(node.module)
        for block in blocks
        for node in block
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return bound, imported


@pytest.mark.parametrize("name", PACKAGES)
def test_type_checkers_see_what_is_made_on_first_use(name: str) -> None:
    """The same names, from the same modules; of others a checker says that there are none."""
    package = importlib.import_module(name)
    bound, imported = shown_to_checkers(package)
    offered = set(getattr(package, "__all__", ()) or dir(package))
    if hasattr(package, "__getattr__"):
        assert imported
        assert "__getattr__" not in bound
        assert offered <= bound
    assert imported.keys() <= offered
    for public, module in imported.items():
        assert getattr(package, public) is getattr(importlib.import_module(module), public)
