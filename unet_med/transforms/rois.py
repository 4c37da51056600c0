"""Numbered objects with the class and the score of each, for what writes their outlines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from unet_med.data.tally import Tally
from unet_med.transforms.tensors import tensor_of

FOUND = "found"  # entry of the metadata: what is known of each object, by its number


class ScoreObjectsd(MapTransform):
    """Copy instances to a key whose metadata say what each object is, and how surely.

    `meta["found"]` has a `unet_med.data.tally.Found` for each number: the class that most of its
    pixels have, and their mean foreground probability.

    Args:
        keys: instances, `(1, *S)`; one key.
        probabilities: key of the class probabilities there, `(K, *S)`.
        names: key of the copy.
        allow_missing_keys: no error when the instances are absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        probabilities: str = "pred",
        names: str = "rois",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.probabilities = probabilities
        self.names = names

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Score the objects of one image."""
        d = dict(data)
        for key in self.key_iterator(d):
            labels, scores = (_array(d[k]) for k in (key, self.probabilities))
            tally = Tally(int(labels.max(initial=0)), len(scores))
            tally.add_probabilities(labels[0], scores)
            copied = MetaTensor(tensor_of(d[key]).clone(), meta=dict(getattr(d[key], "meta", {})))
            copied.meta[FOUND] = tally.found()
            d[self.names] = copied
        return d


def _array(image: Any) -> np.ndarray[Any, Any]:
    return np.asarray(tensor_of(image).detach().cpu())


ScoreObjectsD = ScoreObjectsDict = ScoreObjectsd
