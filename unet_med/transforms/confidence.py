"""How sure a prediction is: a number an image, and a map of where it is not."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from unet_med.transforms.calibrate import Calibrate
from unet_med.transforms.instances import ClassesFromProbabilities

__all__ = ["CONFIDENCE", "UNCERTAINTY", "Confidenced", "expected_dice", "uncertainty"]

AGREEMENT = "agreement"  # of the metadata of logits, where `OverlapTileInferer` puts it
CONFIDENCE = "confidence"  # entry of the image's metadata
UNCERTAINTY = "uncertainty"  # key of the map


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
    found = classes.long()
    inside = found > 0
    if not inside.any():
        return None
    both = (probabilities.gather(0, found) * inside).sum(dtype=torch.float64)
    expected = (1 - probabilities[0]).sum(dtype=torch.float64)
    return float(2 * both / (expected + inside.sum()))


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
        image_key: of the image.
        names: key for the map of `uncertainty`; None: none is made.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        threshold: float | None = None,
        temperature: float = 1.0,
        bias: Sequence[float] | None = None,
        image_key: str = "image",
        names: str | None = None,
    ) -> None:
        super().__init__(keys)
        self.classes = ClassesFromProbabilities(threshold)
        self.calibrate = Calibrate(temperature, bias)
        self.image_key = image_key
        self.names = names

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Note the confidence, and make the map where it is wanted."""
        d = dict(data)
        for key in self.key_iterator(d):
            scores, image = d[key], d.get(self.image_key)
            plain = scores.as_tensor() if isinstance(scores, MetaTensor) else scores
            calibrated = plain if self.calibrate.is_neutral else self.calibrate(plain)
            found = self.classes(plain)
            if isinstance(image, MetaTensor):
                image.meta[CONFIDENCE] = self._number(scores, calibrated, found)
            if self.names is not None:
                doubt = uncertainty(calibrated, found)
                like = isinstance(scores, MetaTensor)
                d[self.names] = MetaTensor(doubt).copy_meta_from(scores) if like else doubt
        return d

    def _number(self, scores: Any, calibrated: Any, found: Any) -> float | None:
        expected = expected_dice(calibrated, found)
        views = scores.meta.get(AGREEMENT) if isinstance(scores, MetaTensor) else None
        if expected is None or views is None:
            return expected if expected is None else round(expected, 4)
        agreed = float(torch.as_tensor(views).reshape(-1)[0])
        return round(expected * (0.0 if agreed != agreed else agreed), 4)  # NaN: no view has any
