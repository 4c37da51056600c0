"""What was counted in a held-out image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.fitting import NearBorders
from unet_med.scoring.scores import Counted

Files = tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """What was counted in a held-out image.

    Attributes:
        image: its files, as the plan names them.
        plane: of a stack; None: it is no plane.
        unit: number of what it is drawn with: its group, its copies.
        fold: that held it out.
        rows: what is counted under each choice.
        counts: as `unet_med.fitting.count`; None where nothing is fitted.
        near: its pixels near borders, as predicted.
        calibration: of the probabilities that were counted; None: as predicted.
    """

    image: Files
    plane: int | None
    unit: int
    fold: int
    rows: Sequence[Counted]
    counts: NDArray[np.int64] | None = None
    near: NearBorders | None = None
    calibration: Mapping[str, Any] | None = None
