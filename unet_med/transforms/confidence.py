"""How sure a prediction is: a number an image, and a map of where it is not."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import isnan
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from unet_med.data.entries import AGREEMENT
from unet_med.devices import widest_float
from unet_med.transforms.calibrate import Calibrate
from unet_med.transforms.instances import ClassesFromProbabilities
from unet_med.transforms.tensors import noted, with_metadata_of

CONFIDENCE = "confidence"  # entry of the image's metadata


def uncertainty(probabilities: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Chance that the class of a pixel is wrong, `(1, *S)`.

    Args:
        probabilities: calibrated, `(K, *S)`.
        classes: those of the mask, `(1, *S)`.
    """
    return 1 - probabilities.gather(0, classes.long())


def expected_dice(probabilities: torch.Tensor, classes: torch.Tensor) -> float | None:
    """Dice of a mask, pooled over foreground classes, that calibrated probabilities expect.

    Twice the probability of the mask's own classes inside it, over the expected foreground plus
    the mask's (soft Dice confidence: Borges et al. 2024).

    Args:
        probabilities: calibrated, `(K, *S)`.
        classes: those of the mask, `(1, *S)`.

    Returns:
        0 to 1; None where the mask is empty.
    """
    return dice_of(dice_terms(probabilities, classes))


def dice_terms(probabilities: torch.Tensor, classes: torch.Tensor) -> list[float]:
    """Sums that `expected_dice` is made of; those of the parts of an image add up.

    Args:
        probabilities: calibrated, `(K, *S)`.
        classes: those of the mask, `(1, *S)`.

    Returns:
        Probability of the mask's own classes inside it, expected foreground, and the mask, px.
    """
    found = classes.long()
    inside, wide = found > 0, widest_float(probabilities.device)
    both = (probabilities.gather(0, found) * inside).sum(dtype=wide)
    expected = (1 - probabilities[0]).sum(dtype=wide)
    return torch.stack([both, expected, inside.sum().to(both)]).tolist()


def dice_of(terms: Sequence[float]) -> float | None:
    """The Dice of such sums; None where the mask is empty."""
    both, expected, found = terms
    return 2 * both / (expected + found) if found else None


def confidence(expected: float | None, agreed: float | None) -> float | None:
    """Confidence of an image.

    Args:
        expected: Dice that calibrated probabilities expect; None: nothing is found.
        agreed: Dice of the views with their mean, NaN where no view has any; None: there is one.

    Returns:
        0 to 1, or None where nothing is found.
    """
    if expected is None or agreed is None:
        return expected
    return expected * (0.0 if isnan(agreed) else agreed)


class Confidenced(MapTransform):
    """Note in the metadata of the image, as `confidence`, how sure a prediction is of it.

    It is the Dice that calibrated probabilities expect (`expected_dice`), times the Dice of the
    views of test-time averaging with their mean, where there are several. None stands for an image
    in which nothing is found.

    Args:
        keys: class probabilities, not calibrated, `(K, *S)`; they stay.
        threshold: of the mask, as `ClassesFromProbabilities` takes it.
        temperature: see `Calibrate`.
        bias: likewise.
        names: key for the map of `uncertainty`; None: none is made.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        threshold: float | None = None,
        temperature: float = 1.0,
        bias: Sequence[float] | None = None,
        names: str | None = None,
    ) -> None:
        super().__init__(keys)
        self.classes = ClassesFromProbabilities(threshold)
        self.calibrate = Calibrate(temperature, bias)
        self.names = names

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Note the confidence, and make the map where it is wanted."""
        d = dict(data)
        for key in self.key_iterator(d):
            scores, image = d[key], d.get("image")
            plain = scores.as_tensor() if isinstance(scores, MetaTensor) else scores
            calibrated, found = self.judge(plain)
            if isinstance(image, MetaTensor):
                sure = confidence(expected_dice(calibrated, found), _agreement(scores))
                d["image"] = noted(image, CONFIDENCE, rounded(sure))
            if self.names is not None:
                d[self.names] = with_metadata_of(scores, uncertainty(calibrated, found))
        return d

    def judge(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Calibrated probabilities `(K, *S)`, and classes of the mask `(1, *S)`, of others."""
        calibrated = scores if self.calibrate.is_neutral else self.calibrate(scores)
        return calibrated, self.classes(scores)


def rounded(number: float | None) -> float | None:
    """A confidence as records have it."""
    return None if number is None else round(number, 4)


def _agreement(scores: Any) -> float | None:
    """Of the views of an image, by its metadata."""
    views = scores.meta.get(AGREEMENT) if isinstance(scores, MetaTensor) else None
    return None if views is None else float(torch.as_tensor(views).reshape(-1)[0])


ConfidenceD = ConfidenceDict = Confidenced
