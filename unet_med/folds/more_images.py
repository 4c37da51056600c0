"""From judged networks to what more images would buy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.bundle.files import FOLDS, SUBSETS
from unet_med.folds.fits import choices_of
from unet_med.folds.judged import Judged
from unet_med.folds.scores import Cases, cases_of, training_of
from unet_med.metrics.bootstrap import LEAST, resampled
from unet_med.metrics.power_law import PowerLaw, carried_on, expected_gain, network_scatter
from unet_med.planning import Plan
from unet_med.planning.counting import count_in, learned_before, what_counts
from unet_med.report.more_images import (
    PICTURE,
    LearningCurve,
    Size,
    notes,
    table,
    verdict,
    write_curve,
)
from unet_med.report.score_by_images import score_by_images_figure
from unet_med.report.scores import lower_is_better
from unet_med.report.table import plain
from unet_med.scoring.judging import Judge
from unet_med.scoring.scores import Counted
from unet_med.scoring.tables import mean_of

MORE = 5  # images that one thinks of annotating; of ten or more, also as many again
POINTS = 40  # of the band

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]
Summary = Callable[[Sequence[int]], float]


@dataclass(frozen=True)
class Level:
    """Networks of one size, one a fold.

    Attributes:
        networks: of each fold `fold`, `images`, `minutes`, `steps`, and how objects are made.
        cases: what they made of the images that they have not seen, and the fold of each.
    """

    networks: Sequence[Mapping[str, Any]]
    cases: Cases

    @property
    def images(self) -> float:
        """That each learned from, on average."""
        return float(np.mean([network["images"] for network in self.networks]))


def carry_on(
    output: Path,
    plan: Plan,
    judge: Judge,
    judged: Sequence[Judged],
    smaller: Sequence[Sequence[Judged]],
) -> LearningCurve | None:
    """Say, and write into a bundle, how its score goes on with more images.

    Args:
        output: the bundle.
        plan: of it.
        judge: of its images.
        judged: by the folds' networks.
        smaller: by each network of fewer images, as the plan lists them.

    Returns:
        The curve; None where the score is not defined for the images that judge it.
    """
    levels = levels_of(output, plan, judged, smaller)
    name, unit = next(iter(judge.columns)), what_counts(plan)
    total = count_in(plan, plan.split["training"])
    curve = curve_of(levels, judge, name, total=total, unit=unit, seen=learned_before(plan))
    if curve is None:
        _log.warning(f"no learning curve: {name} is not defined for the images that judge it")
        return None
    write_curve(curve, output)
    score_by_images_figure(curve, output / PICTURE)
    _log.info(f"with fewer images\n{table(curve)}")
    for sentence in (" ".join(verdict(curve)), *notes(curve)):
        _log.info(sentence)
    return curve


def levels_of(
    output: Path, plan: Plan, judged: Sequence[Judged], smaller: Sequence[Sequence[Judged]]
) -> list[Level]:
    """Networks by size, growing. Images of the other folds choose how objects are made."""
    folds = [{**split, "fold": k, "share": 1.0} for k, split in enumerate(plan.folds)]
    places = [f"{SUBSETS}/{k}" for k in range(len(plan.subsets))]
    places += [f"{FOLDS}/{k}" for k in range(len(folds))]
    parts = list(zip([*plan.subsets, *folds], places, strict=True))
    found = {1.0: list(judged)}
    for split, each in zip(plan.subsets, smaller, strict=True):
        found.setdefault(split["share"], []).extend(each)
    levels = []
    for share in sorted(found):
        choices, chosen = choices_of(plan, found[share])
        networks = [
            {
                "fold": split["fold"],
                "images": count_in(plan, split["training"]),
                **training_of(output / place),
                **(choices[chosen[split["fold"]]] if len(choices) > 1 else {}),
            }
            for split, place in parts
            if split["share"] == share
        ]
        levels.append(Level(networks, cases_of(found[share], chosen)))
    return levels


def curve_of(
    levels: Sequence[Level], judge: Judge, name: str, *, total: int, unit: str, seen: int | None
) -> LearningCurve | None:
    """The curve of a score; None where that is not defined.

    Judged by fewer than `LEAST` images, or groups, it has no intervals, as no table of such has.

    Args:
        levels: growing, judged by the same images.
        judge: of the images.
        name: of the score, a share from 0 to 1.
        total: images at hand.
        unit: `images`, or `planes`.
        seen: see `LearningCurve`.
    """
    cases, largest = list(levels[-1].cases), levels[-1].cases.values()
    folds, units = [case.fold for case in largest], [case.unit for case in largest]
    summaries = [_summary(judge, name, [lv.cases[c].counted for c in cases]) for lv in levels]
    scores = np.array([of(range(len(cases))) for of in summaries])
    if np.isnan(scores).any():
        return None
    counts, apart = [level.images for level in levels], [_by_fold(of, folds) for of in summaries]
    scatter = network_scatter(_turned([list(each.values()) for each in apart], name))
    few = len(set(units)) < LEAST
    drawn = np.empty((0, len(levels))) if few else _turned(_drawn(summaries, units, scatter), name)
    errors = _turned(scores, name).tolist()
    steps = [MORE, total] if total >= 2 * MORE else [MORE]
    gains = [expected_gain(counts, errors, drawn, total, more) for more in steps]
    ends = _ends(_turned(drawn, name))
    found = zip(levels, scores.tolist(), ends, apart, strict=True)
    return LearningCurve(
        score=name,
        unit=unit,
        total=total,
        judged=len(cases),
        groups=len(set(units)),
        sizes=[Size(one.images, s, *e, _scored(one.networks, own)) for one, s, e, own in found],
        law=PowerLaw.fit(counts, errors),
        gains=gains,
        band=[] if few else _band(counts, drawn, total + gains[-1].more, name),
        seen=seen,
    )


def _turned(scores: Any, name: str) -> Array:
    """Errors of scores, and scores of errors, as the name says."""
    values = np.asarray(scores, np.float64)
    return values if lower_is_better(name) else 1 - values


def _summary(judge: Judge, name: str, cases: Sequence[Counted]) -> Summary:
    """From positions of cases to their score, as the table of the folds sums it up."""
    pool = judge.columns[name].pool
    if judge.classes is None:  # counts of all cases are pooled
        rows = [case[0][name] for case in cases]
        return lambda drawn: pool(np.concatenate([rows[k] for k in drawn]))
    values, absent = sorted(set().union(*cases)), judge.classes.absent or {}
    of = [[pool(case.get(v, absent)[name]) for case in cases] for v in values]
    return lambda drawn: mean_of([mean_of([own[k] for k in drawn]) for own in of])


def _by_fold(summary: Summary, folds: Sequence[int]) -> dict[int, float]:
    """The score of each fold's images."""
    return {
        fold: summary([k for k, own in enumerate(folds) if own == fold])
        for fold in sorted(set(folds))
    }


def _drawn(summaries: Sequence[Summary], units: Sequence[Hashable], scatter: float) -> Array:
    """Scores of other draws of images, or groups, and of networks, `(R, sizes)`."""
    scores = resampled(summaries, len(units), groups=units)
    noise = np.random.default_rng(0).normal(0, scatter, scores.shape)
    return np.clip(scores + noise, 0, 1)


def _band(
    counts: Sequence[float], drawn: Array, last: int, name: str
) -> list[tuple[float, float, float]]:
    """Numbers of images up to the last, and the ends of the score that each would have."""
    at = np.linspace(counts[0], last, POINTS)
    ends = _ends(_turned(carried_on(counts, drawn, at), name))
    return [(n, *e) for n, e in zip(at.tolist(), ends, strict=True)]


def _ends(drawn: Array) -> list[tuple[Any, Any]]:
    """2.5 % and 97.5 % of each column; None, None where nothing is drawn."""
    if not len(drawn):
        return [(None, None)] * drawn.shape[1]
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0).tolist()
    return list(zip(low, high, strict=True))


def _scored(networks: Sequence[Mapping[str, Any]], scores: Mapping[int, float]) -> list[Any]:
    return [{**each, "score": plain(scores.get(each["fold"], np.nan))} for each in networks]
