"""How the networks that judge share their minutes, between learning and judging."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from unet_med.data.cases import files_of
from unet_med.fitting import by_pixels, spread_evenly, timed
from unet_med.folds.judging import NAMED, Judging
from unet_med.folds.networks import of_folds
from unet_med.folds.progress import Progress
from unet_med.planning import Plan
from unet_med.planning.counting import held_in, pixels_in

SLACK = 1.25  # what the judging is given, times what was measured
MOST = 0.5  # of a network's share of the minutes, that the judging may take
LEAST = 0.2  # of it, that its training has in any case

Settings = Mapping[str, Any]


def share_out(output: Path, settings: Settings, plan: Plan, progress: Progress) -> None:
    """How long each network trains, and how many images judge it, by what one image takes."""
    if progress.total is None:  # epochs end the trainings
        return
    share = 60 * progress.total / (len(plan.folds) + len(plan.subsets))
    loading, held = _seconds(output, settings, plan)

    def seconds(images: int) -> float:
        """Seconds that a network's images take, mean over folds."""
        return loading + mean(sum(spread_evenly(own, images)) for own in held)

    counts = range(1, 1 + max(map(len, held)))
    images = max(1, bisect_right(counts, MOST * share, key=seconds))
    # nothing for the fit of the calibration at the end: 0.2 s for 20 images of two classes
    spare = share - progress.overhead - seconds(images)
    progress.share(max(spare, LEAST * share) / 60, images)


def _seconds(output: Path, settings: Settings, plan: Plan) -> tuple[float, list[list[float]]]:
    """What it takes to load a network, and to judge each image that each fold holds out."""
    began = time.monotonic()
    own = Judging.of(output, settings, of_folds(plan)[0], output / "models" / "model.pt")
    loading = time.monotonic() - began

    def seconds_of(k: int) -> float:
        return timed(lambda: own.judged(own.items[k]), own.segmenter.device)

    pixels = pixels_in(plan)
    among = [pixels[tuple(files_of(item[NAMED]))] for item in own.items]
    takes = dict(zip(pixels, by_pixels(among, seconds_of, [*pixels.values()]), strict=True))
    given = SLACK * (2 if own.judge.calibrated else 1)  # times that it is loaded, and each judged
    return given * loading, [[given * takes[each] for each in held] for held in held_in(plan)]
