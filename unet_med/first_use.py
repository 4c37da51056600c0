"""Names that a package offers and whose modules load on first use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def on_first_use(package: str, modules: Mapping[str, str], name: str) -> Any:
    """What a package answers when it is asked for a name that it has not loaded yet.

    Args:
        package: its name.
        modules: of each name that it offers the module within it.
        name: that is asked for.

    Raises:
        AttributeError: it is not offered.
    """
    if name in modules:
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
