"""Results scored against their truth, and measured without it: what commands print, as tables.

`evaluate` does what `unet-med evaluate` does, and `measure` what `unet-med measure` does. Scores of
arrays are in `unet_med.metrics`.
"""

from __future__ import annotations

from unet_med.report.table import ScoreRow, ScoreTable, read_scores, write_scores
from unet_med.scoring.evaluation import Evaluation, evaluate
from unet_med.scoring.measurement import measure
from unet_med.scoring.tables import format_table

__all__ = [
    "Evaluation",
    "ScoreRow",
    "ScoreTable",
    "evaluate",
    "format_table",
    "measure",
    "read_scores",
    "write_scores",
]
