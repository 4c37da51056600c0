"""The choices that are tried on held-out images, what each image says of them, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from math import log2, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unet_med.metrics.objects import precision_score
from unet_med.transforms import InstancesFromLogits

Choice = Mapping[str, Any]  # threshold, mask_threshold, min_size
Counts = NDArray[np.int64]

MASKS = (0.3, 0.4, 0.5, 0.6)
SEEDS = (0.4, 0.5, 0.6, 0.7, 0.8)
SIZES = (0.5, 2.0)  # times the planned smallest object
BAR = 1.25  # standard errors
SCORE = precision_score([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9])


@dataclass(frozen=True)
class Verdict:
    """What held-out images say.

    Attributes:
        choice: of those that were tried.
        score: its average precision, mean over IoU 0.5 to 0.9, over all images.
        before: that of the planned choice.
    """

    choice: Choice
    score: float
    before: float


def around(planned: Choice, free: Sequence[str]) -> list[dict[str, Any]]:
    """Choices to try: the planned one first.

    Args:
        planned: threshold, mask_threshold, min_size.
        free: which of them may be changed.
    """
    pairs = sorted({(max(seed, mask), mask) for mask in MASKS for seed in (mask, *SEEDS)})
    wanted = [{"threshold": seed, "mask_threshold": mask} for seed, mask in pairs]
    wanted += [{"min_size": round(planned["min_size"] * factor)} for factor in SIZES]
    tried = [dict(planned)]
    for change in wanted:
        choice = {**planned, **{id: value for id, value in change.items() if id in free}}
        if choice not in tried and _is_rule(choice):
            tried.append(choice)
    return tried


def count(
    probabilities: torch.Tensor,
    truth: NDArray[Any],
    choices: Sequence[Choice],
    rule: InstancesFromLogits,
    ratios: Sequence[float] | None = None,
) -> Counts:
    """Matched and all objects of an image under each choice, `(choices, thresholds, 2)`.

    Args:
        probabilities: of the classes, on the image's own grid, `(K, *S)`.
        truth: its objects `(*S)`; -1 is ignored.
        choices: what to try.
        rule: of the bundle, which holds in all else.
        ratios: how many of the image's pixels one of the network's is long, along each axis; None:
            one everywhere.
    """
    found = objects_under(choices, probabilities, rule, ratios)
    return np.stack([SCORE.count(objects, truth)[0] for objects in found])


def objects_under(
    choices: Sequence[Choice],
    probabilities: torch.Tensor,
    rule: InstancesFromLogits,
    ratios: Sequence[float] | None = None,
) -> Iterator[NDArray[Any]]:
    """Objects of an image under each choice, `(*S)`; arguments as of `count`."""
    each = ratios or [1.0] * (probabilities.ndim - 1)
    for choice in choices:
        tried = copy(rule)
        for id, value in choice.items():
            setattr(tried, id, value)
        yield tried.on_pixels(each)(probabilities)[0].numpy()


def cross_fitted(
    choices: Sequence[Choice], counts: Sequence[Counts], folds: Sequence[int], least: int
) -> dict[int, int]:
    """Position of the choice that each fold is judged by: the verdict of the other folds' images.

    Args:
        choices: the planned one first.
        counts: of each image, `(choices, thresholds, 2)`.
        folds: number of the fold that held it out.
        least: images that can tell one choice from another; of fewer the planned one stays.
    """
    chosen = {}
    for fold in sorted(set(folds)):
        others = [each for each, own in zip(counts, folds, strict=True) if own != fold]
        told = len(others) >= least
        chosen[fold] = choices.index(choose(choices, np.stack(others)).choice) if told else 0
    return chosen


def choose(choices: Sequence[Choice], counts: Counts) -> Verdict:
    """The choice nearest to the planned one that images do not tell from the best.

    A few images do not say which of many choices is best: some win by chance. So the best choice
    is compared with each other one, as the rule of one standard error does it: of those whose
    score differs by no more than `BAR` standard errors of the difference (by the jackknife, which
    leaves out one image at a time) the nearest to the planned one is taken. The planned one stays
    where it is among them. No image decides alone: a lead that is gone where one image is left out
    is none. Images may hold unlike numbers of objects, so that the bar alone does not see to it.

    Args:
        choices: the planned one first.
        counts: of each image, `(images, choices, thresholds, 2)`.
    """
    scores = _scores(counts.sum(axis=0))
    best = int(scores.argmax())
    gaps = scores[best] - scores
    left_out = np.stack([_scores(counts.sum(axis=0) - one) for one in counts])  # (images, choices)
    jackknife = left_out[:, [best]] - left_out
    spread = ((jackknife - jackknife.mean(axis=0)) ** 2).sum(axis=0)
    errors = np.sqrt(spread * (len(counts) - 1) / len(counts))
    lost = (jackknife <= 0).any(axis=0)
    alike = np.flatnonzero((gaps <= BAR * errors) | lost).tolist()
    nearest = min(alike, key=lambda k: (_distance(choices[k], choices[0]), gaps[k]))
    return Verdict(choices[nearest], float(scores[nearest]), float(scores[0]))


def _scores(counts: Counts) -> NDArray[np.float64]:
    """Score of each choice, of pooled counts `(choices, thresholds, 2)`; 0 without any object."""
    hits, objects = counts[..., 0], counts[..., 1]
    share: NDArray[np.float64] = (hits / np.maximum(objects - hits, 1)).mean(axis=1)
    return share


def _distance(one: Choice, other: Choice) -> float:
    """How far apart two choices lie: a tenth of probability counts as a doubled size."""
    return sqrt(sum(step**2 for step in _steps(one, other)))


def _steps(one: Choice, other: Choice) -> Iterator[float]:
    for id in one:
        a, b = (_number(choice, id) for choice in (one, other))
        yield log2((a + 1) / (b + 1)) if id == "min_size" else 10 * (a - b)


def _number(choice: Choice, id: str) -> float:
    """A value; a threshold that is not set acts as the one in its place."""
    if choice[id] is not None:
        return float(choice[id])
    return 0.5 if id == "threshold" else _number(choice, "threshold")


def _is_rule(choice: Choice) -> bool:
    mask, seed = choice["mask_threshold"], choice["threshold"]
    return mask is None or (seed is not None and mask <= seed)
