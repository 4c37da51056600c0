"""The calibration that held-out images ask for, and what it is worth on those not fitted to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize

from unet_med import bundle
from unet_med.fitting.predicted import HeldOut
from unet_med.instances import IGNORED, UNKNOWN
from unet_med.metrics.calibration import CALIBRATION, near_borders
from unet_med.planning import Plan
from unet_med.planning.objects import FITTED
from unet_med.transforms import Calibrate
from unet_med.transforms.calibrate import logarithm

MOST = 20_000  # pixels of an image: more do not change three numbers
IN_ALL = 2_000_000  # of all images, which wait in memory for each other: 56 MB of five classes
TOGETHER = 50_000  # pixels of all images that a rule is fitted to, in a second or two
GROUPS = 10  # in which images are left out
PAYS = 0.01  # of the loss on images left out: less is not worth a further number
STEEPEST = 20.0  # times, up or down

Array = NDArray[Any]


@dataclass(frozen=True)
class NearBorders:
    """Pixels of a held-out image within 10 px of a border.

    Attributes:
        probabilities: of the classes, `(K, N)`.
        classes: the true ones, `(N,)`.
    """

    probabilities: torch.Tensor
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """What held-out images say of probabilities.

    Attributes:
        rule: arguments of `unet_med.transforms.Calibrate`; None: they are as good as they are.
        before: expected calibration error near borders, as predicted.
        after: the same by `rule`, each image by what was fitted to images of other groups.
        unseen: classes whose bias in `rule` is that of the others, for too few images have them.
    """

    rule: Mapping[str, Any] | None
    before: float
    after: float
    unseen: tuple[int, ...] = ()


def pixels_of(found: HeldOut, label_kind: str, *, images: int = 1) -> NearBorders:
    """Pixels near the borders of a held-out image, evenly spread where there are very many.

    Args:
        found: the image, predicted.
        label_kind: of its truth.
        images: how many are kept, which share the memory.
    """
    most = max(1, min(MOST, IN_ALL // images))
    truth = found.truth
    if label_kind == "classes":
        truth = np.where(truth == IGNORED, UNKNOWN, truth)
    chosen = np.flatnonzero(near_borders(truth, spacing=found.spacing))
    if len(chosen) > most:
        chosen = chosen[np.linspace(0, len(chosen) - 1, most).astype(np.int64)]
    classes = truth.ravel()[chosen]
    if label_kind != "classes":
        classes = (classes > 0).astype(np.int64)
    return NearBorders(found.probabilities.flatten(1)[:, torch.from_numpy(chosen)], classes)


def calibrate(images: Sequence[NearBorders], groups: Sequence[int]) -> Calibration:
    """The smallest calibration that pays, fitted to all images.

    None, a temperature, or a temperature and a bias a class: the larger one is taken where it
    lowers the loss on images that it was not fitted to by a hundredth. A class of which fewer than
    two groups have pixels says nothing of its own bias.

    Args:
        images: at least two.
        groups: a number an image, at least two; images of one group are left out together.
    """
    rules, losses, rows = _left_out(images, groups)
    best = 0
    for k in range(1, len(rules)):
        if losses[k] < (1 - PAYS) * losses[best]:
            best = k
    before, after = (CALIBRATION.total(np.concatenate(rows[k])) for k in (0, best))
    rule, every = rules[best], range(1, images[0].probabilities.shape[0])
    seen = seen_in(images, groups) if rule and rule["bias"] else every
    return Calibration(rule, before, after, tuple(k for k in every if k not in seen))


def seen_in(images: Sequence[NearBorders], groups: Sequence[int]) -> list[int]:
    """Classes of which images of two groups or more have pixels."""
    pairs = {
        (int(k), group)
        for each, group in zip(images, groups, strict=True)
        for k in np.unique(each.classes)
    }
    counts = Counter(k for k, _ in pairs)
    return sorted(k for k, count in counts.items() if count > 1)


def fitted(images: Sequence[NearBorders], seen: Sequence[int] = ()) -> dict[str, Any]:
    """Arguments of `Calibrate` with the least mean cross-entropy, on `TOGETHER` pixels at most.

    The problem is convex in the inverse of the temperature and in the biases, of which the
    background's is 0. A class that is not among `seen` has the mean of the other classes' biases:
    what parts foreground from background near borders concerns it too, and nothing else is known.
    (A bias of its own would have no lower bound, and the class vanish from all images.)

    Args:
        images: their pixels.
        seen: classes with a bias of their own; without the background, or without another class,
            there are no biases.
    """
    step = max(1, ceil(sum(len(each.classes) for each in images) / TOGETHER))
    chosen = torch.cat([each.probabilities[:, ::step] for each in images], 1)
    logs = logarithm(chosen).double().numpy()  # (K, N)
    classes = np.concatenate([each.classes[::step] for each in images])
    count, pixels = logs.shape
    true = np.eye(count)[:, classes]  # (K, N)
    spread = _spread(count, seen)  # (K, M)

    def loss(x: Array) -> tuple[float, Array]:
        scores = x[0] * logs + (spread @ x[1:])[:, None]
        scores -= scores.max(axis=0)
        wrong = np.exp(scores)
        total = wrong.sum(axis=0)
        wrong /= total
        value = (np.log(total) - (true * scores).sum(axis=0)).mean()
        wrong -= true  # by the scores
        slope = [(wrong * logs).sum() / pixels, *(wrong.mean(axis=1) @ spread)]
        return float(value), np.array(slope)

    start = np.array([1.0, *[0.0] * spread.shape[1]])
    bounds = [(1 / STEEPEST, STEEPEST), *([(None, None)] * (len(start) - 1))]
    found = optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    temperature = round(1 / float(found[0]), 4)
    biases = [round(float(each), 4) for each in spread @ found[1:]] if spread.size else None
    return {"temperature": temperature, "bias": biases}


def _spread(count: int, seen: Sequence[int]) -> Array:
    """Biases of all classes from those that are free, `(K, M)`.

    >>> _spread(4, [0, 1, 3]).tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    free = [k for k in range(1, count) if k in seen and 0 in seen]
    spread = np.zeros((count, len(free)))
    if free:
        spread[1:] = 1 / len(free)
        spread[free] = np.eye(len(free))
    return spread


def write_calibration(
    folder: Path, found: Calibration, images: str, left_out: str = "images"
) -> None:
    """Write a calibration into a bundle, its plan and its model card.

    What the user asked for stays.

    Args:
        folder: the bundle.
        found: what held-out images say.
        images: which they were, in words.
        left_out: what `found.after` is of, in words.
    """
    plan = Plan.from_json(bundle.read_plan(folder))
    before = plan.ids.get("calibration")
    if before and not before.reason.startswith(FITTED):
        return
    error = "expected calibration error within 10 px of borders"
    reason = f"{FITTED}{images}: {error} {found.before:.3f}"
    if found.rule is None:
        reason += ", which no temperature lowers"
    else:
        reason += f", {found.after:.3f} calibrated, on {left_out} not used for the fit"
    if found.unseen:
        what = "class" if len(found.unseen) == 1 else "classes"
        which = ", ".join(str(k) for k in found.unseen)
        reason += f"; {what} {which} near borders in fewer than two of them: the others' mean bias"
    rule = None if found.rule is None else dict(found.rule)
    bundle.write_settings(folder, [], {"calibration": rule}, reason=reason)
    text = f"## Probabilities\n\nThe probabilities of this bundle are {_words(rule)}: {reason}.\n"
    bundle.write_section(folder, "probabilities", text)


def _left_out(
    images: Sequence[NearBorders], groups: Sequence[int]
) -> tuple[list[Mapping[str, Any] | None], list[float], list[list[Array]]]:
    """Each rule fitted to all; its loss and its bins on images left out, by rule and image."""
    losses: list[list[float]] = [[], [], []]
    rows: list[list[Array]] = [[], [], []]
    for group in sorted(set(groups)):
        pairs = list(zip(images, groups, strict=True))
        others = [image for image, own in pairs if own != group]
        rules = _rules(others, [own for own in groups if own != group])
        for image in (image for image, own in pairs if own == group):
            for k, rule in enumerate(rules):
                found = Calibrate(**(rule or {}))(image.probabilities)
                picked = found[torch.from_numpy(image.classes), torch.arange(found.shape[1])]
                losses[k].append(float(-logarithm(picked).double().sum()))
                rows[k].append(CALIBRATION.count(found, image.classes))
    return _rules(images, groups), [sum(each) for each in losses], rows


def _rules(images: Sequence[NearBorders], groups: Sequence[int]) -> list[Mapping[str, Any] | None]:
    """From the smallest to the largest."""
    return [None, fitted(images), fitted(images, seen_in(images, groups))]


def _words(rule: Mapping[str, Any] | None) -> str:
    if rule is None:
        return "those of the network"
    text = f"calibrated by a temperature of {rule['temperature']:g}"
    if rule["bias"]:
        text += " and a bias of " + ", ".join(f"{each:g}" for each in rule["bias"][1:])
    return text
