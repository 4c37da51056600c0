"""Write a picture to the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from unet_med.data.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#333333"  # of all text


def save(figure: Figure, path: str | os.PathLike[str], dpi: float = 130) -> Path:
    """Write a figure atomically, make its folder if needed, and free the memory it was drawn in."""
    from matplotlib.text import Text

    with atomic_write(path) as beside:
        figure.savefig(beside, dpi=dpi, facecolor="white")
    # Each text holds the canvas it was drawn on, megabytes, in a cycle of references that Python
    # collects only after hundreds of steps.
    for text in figure.findobj(Text):
        text._renderer = None  # type: ignore[attr-defined]
    figure.clear()
    return Path(path)
