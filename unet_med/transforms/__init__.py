"""MONAI transforms, array and dictionary doors of the layers below.

Names load with the module they live in, on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULE_OF = {
    "SaveSegmentationD": "save",
    "SaveSegmentationDict": "save",
    "SaveSegmentationd": "save",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
