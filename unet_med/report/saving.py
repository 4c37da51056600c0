"""How every picture reaches the disk."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

from unet_med.data.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#333333"  # of all text


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write beside and rename; a missing folder is made."""
    with atomic_write(path) as beside:
        figure.savefig(beside, dpi=130, facecolor="white")
    # Every text of a figure holds the canvas it was drawn on, megabytes, in a cycle of references
    # that nothing else collects for hundreds of steps.
    figure.clear()
    gc.collect()
    return Path(path)
