"""How images that a network has not seen are scored: as `unet-med evaluate` scores such labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_med.data.pixel_size import MICROMETRES
from unet_med.fitting import HeldOut, objects_under
from unet_med.instances import UNKNOWN
from unet_med.planning import Plan
from unet_med.scoring import families, scores
from unet_med.scoring.clinical import PIXELS, Clinical
from unet_med.scoring.families import CLINICAL, known_interior, known_mask
from unet_med.scoring.scores import Column, Counted
from unet_med.scoring.tables import Classes

Choice = Mapping[str, Any]


@dataclass(frozen=True)
class Judge:
    """What is counted in a held-out image.

    Attributes:
        family: of the scores, as `unet-med evaluate --metrics` calls it.
        columns: of the table.
        count: from an image and the choices of how objects are made to what is counted under
            each; of masks and classes, which know no choice, once.
        classes: of the table.
        calibrated: whether it counts probabilities, as `unet-med predict` writes them.
    """

    family: str
    columns: Mapping[str, Column]
    count: Callable[[HeldOut, Sequence[Choice]], list[Counted]]
    classes: Classes | None = None
    calibrated: bool = False


def judge_of(plan: Plan) -> Judge:
    """The judge of a plan's images."""
    kind, images = plan.value("label_kind"), [case.image for case in plan.seen.cases]
    stated = all(image.states_size for image in images)
    millimetres = stated and all(image.unit == "mm" for image in images)
    family = families.choose(None, kind, millimetres=millimetres)
    if family == CLINICAL:
        return _clinical(plan, images[0].unit if stated else PIXELS)
    columns = scores.columns_of(families.FAMILIES[family])
    if family == "isbi":
        return Judge(family, columns, _membranes, calibrated=True)
    return Judge(family, columns, _objects)


def _objects(found: HeldOut, choices: Sequence[Choice]) -> list[Counted]:
    assert found.rule is not None
    made = objects_under(choices, found.probabilities, found.rule, found.ratios)
    return [scores.count_scores(each.T, found.truth.T, scores.INSTANCES) for each in made]


def _membranes(found: HeldOut, choices: Sequence[Choice]) -> list[Counted]:
    """Of masks: their pieces are numbered to learn from, and are one foreground to be scored."""
    foreground = found.probabilities[-1].numpy().T  # ([Z,] Y, X)
    mask = np.where(found.truth < 0, UNKNOWN, found.truth > 0).T
    return [scores.count_planes(*known_interior(foreground, mask))]


def _clinical(plan: Plan, unit: str) -> Judge:
    """Dice, distances and volumes of each class, in one unit where all images state theirs.

    Planes of volumes have distances within the plane, where `unet-med evaluate` has those of the
    volume: they are named apart.
    """
    dims = plan.value("spatial_dims")
    deep = any(case.image.plane_count > 1 for case in plan.seen.cases)
    rules = Clinical(unit, dims, in_planes=dims == 2 and deep)
    is_mask = plan.value("label_kind") == "mask"

    def count(found: HeldOut, choices: Sequence[Choice]) -> list[Counted]:
        result = found.probabilities.argmax(dim=0).numpy().astype(np.int64)
        truth = known_mask(found.truth) if is_mask else found.truth
        return [rules.count(result, truth, sizes_of(found, unit))]

    names = plan.value("class_names") or []
    values = plan.value("class_values") or range(plan.value("out_channels"))

    def name_of(value: int) -> str:
        known = ["foreground"] if is_mask else names or [str(each) for each in values[1:]]
        return str(known[value - 1])

    return Judge(CLINICAL, rules.columns, count, Classes(name_of, rules.absent))


def sizes_of(found: HeldOut, unit: str) -> tuple[float, ...]:
    """Pixel size of an image along each axis in the unit of the table, as `clinical.size_of`."""
    if unit == PIXELS:
        return (1.0,) * len(found.spacing)
    factor = MICROMETRES[found.unit] / MICROMETRES[unit]
    return tuple(size * factor for size in found.spacing)
