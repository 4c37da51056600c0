"""The 2015 U-Net as MONAI components.

Importing this package loads neither torch nor MONAI and registers nothing;
submodules load on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_SUBMODULES = (
    "bundle",
    "data",
    "deformation",
    "engines",
    "export",
    "geometry",
    "handlers",
    "inferers",
    "instances",
    "losses",
    "memory",
    "metrics",
    "napari_widget",
    "networks",
    "planning",
    "report",
    "scoring",
    "segmentation",
    "transforms",
    "volumes",
    "weights",
    "workflows",
)
_NAMES = {"Segmenter": "segmentation"}  # name: its module


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_SUBMODULES, *_NAMES, "__version__"])
