"""One network of all images, and K that judge what they have not seen.

With a learning curve there are more of each fold, which learn from fewer images.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from unet_med import bundle
from unet_med.bundle.files import ENSEMBLE
from unet_med.data.image_cache import ImageCache
from unet_med.data.tensor_file import write_tensors
from unet_med.folds.judging import judged_by
from unet_med.folds.more_images import carry_on
from unet_med.folds.networks import Network, of_folds, of_subsets
from unet_med.folds.progress import Progress
from unet_med.folds.scores import score
from unet_med.folds.sharing import share_out
from unet_med.memory import free_memory
from unet_med.networks import joined_weights
from unet_med.planning import Plan
from unet_med.report.folds import write_card
from unet_med.report.more_images import LearningCurve
from unet_med.report.table import ScoreTable
from unet_med.scoring.judging import judge_of

_log = logging.getLogger(__name__)

Settings = Mapping[str, Any]


class Judgement(NamedTuple):
    """How good a bundle is, by networks that have not seen the images which they judge.

    Attributes:
        scores: of each image, and of all together; also in `models/folds/scores.json`.
        curve: what more images would buy; None: the plan asks for none, or it is not defined.
    """

    scores: ScoreTable
    curve: LearningCurve | None


def train(output: str | os.PathLike[str], settings: Mapping[str, Any] | None = None) -> Judgement:
    """Train what is not finished of a bundle's networks, and judge each image by unseen ones.

    It is what `unet-med train --folds` and `--learning-curve` do when the plan is laid. Scores and
    networks are kept in the bundle; called again, it goes on where it was ended.

    Args:
        output: a bundle that was planned with `folds` or `learning_curve`.
        settings: ids of its `train.json` for this run, as `dataset_dir` and `device`.

    Returns:
        The score of the images, each by a network that has not learned from it.

    Raises:
        ValueError: the bundle was planned without folds.
    """
    folder = Path(output)
    if not bundle.read_plan(folder).get("folds"):
        raise ValueError(
            f"{folder} was planned without folds: plan it with `folds` or `learning_curve`, or "
            "train its one network with `unet_med.bundle.load_workflow`"
        )
    with _one_cache(folder, settings or {}) as cached:
        return _train_all(folder, cached)


@contextmanager
def _one_cache(output: Path, settings: Settings) -> Iterator[Settings]:
    """Settings with one cache of images for all networks, which learn from the same ones."""
    parser = bundle.load_workflow(output, "train", settings).parser
    cache = parser.get_parsed_content("cache")
    if not isinstance(cache, ImageCache):  # a config of the user's has none
        yield settings
        return
    with cache.shared():
        yield {**settings, "cache": cache}


def _train_all(output: Path, settings: Settings) -> Judgement:
    plan = Plan.from_json(bundle.read_plan(output))
    progress = Progress.of(output, plan)
    if not progress.is_done("one"):
        took = _train_one(output, settings)
        progress.finish("one", overhead=took - _spared(settings, len(plan.folds)))
    if progress.images is None:
        share_out(output, settings, plan, progress)
    networks, judge = of_folds(plan), judge_of(plan)
    _train(output, settings, networks, progress, "fold")
    write_tensors(joined_weights([each.weights(output) for each in networks]), output / ENSEMBLE)
    look = partial(judged_by, output, settings, progress=progress, calibrated=judge.calibrated)
    judged = [each for own in look(networks, near=True) for each in own]
    scores = score(output, plan, judge, judged)
    write_card(output, scores)
    if not plan.subsets:
        return Judgement(scores, None)
    smaller = of_subsets(plan)
    _train(output, settings, smaller, progress, "network of fewer images")
    shares = [split["share"] for split in plan.subsets]  # growing
    sizes = [[n for n, own in zip(smaller, shares, strict=True) if own == share]
             for share in dict.fromkeys(shares)]  # fmt: skip
    found = [own for size in sizes for own in look(size)]
    return Judgement(scores, carry_on(output, plan, judge, judged, found))


def _train_one(output: Path, settings: Settings) -> float:
    """Train the network of all images; seconds that this run took besides those of its budget."""
    began = time.monotonic()
    workflow = bundle.load_workflow(output, "train", settings)
    workflow.run()
    budget = workflow.parser.get_parsed_content("budget")
    return time.monotonic() - began - 60 * float(budget.run_minutes)


def _spared(settings: Settings, folds: int) -> float:
    """Seconds that each network after the first need not load images for.

    Those that its fold holds out it loads, for validations do without what tiles need.
    """
    cache = settings.get("cache")
    return cache.before.seconds * (1 - 1 / folds) if cache else 0.0


def _train(
    output: Path, settings: Settings, networks: Sequence[Network], progress: Progress, what: str
) -> None:
    """Train those that are not finished."""
    for number, network in enumerate(networks, start=1):
        if not progress.is_done(network.name):
            _log.info(f"{what} {number} of {len(networks)}")
            own = {**settings, **network.ids(output), "minutes": progress.minutes, "resume": True}
            free_memory(None)  # a training leaves circles that hold what it had on a GPU
            bundle.load_workflow(output, "train", own).run()
            progress.finish(network.name)
