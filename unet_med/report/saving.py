"""How every picture reaches the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#333333"  # of all text


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write beside and rename; a missing folder is made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        figure.savefig(beside, dpi=130, facecolor="white")
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return target
