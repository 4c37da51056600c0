"""Note where the pixels of rare values are, for tiles that are drawn around them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from unet_med.data.entries import PLACES
from unet_med.transforms.tensors import labels_of

MOST = 10_000  # pixels of a value that are noted, as nnU-Net does
PIXELS = 16  # of an image for one that is noted: half a byte a pixel, less than a label takes


class RarePlacesd(MapTransform):
    """Note the pixels of rare values in an entry `(2, N)`: values, and pixel numbers.

    Pixels are numbered in the order of the axes, the last one fastest. Of a value with more than
    10,000, and where all of them together were more than a sixteenth of the image, some are noted,
    always the same. `unet_med.data.SeededDataset` draws tiles around them.

    Args:
        keys: the label `(1, *S)`.
        values: which are rare.
        objects: positive values are numbers of objects, and all of them count as 1.
        allow_missing_keys: no error when a key is absent.

    Raises:
        ValueError: no value, or one that is below 0 or, of objects, not 1.
    """

    entry = PLACES  # that it makes

    def __init__(
        self,
        keys: KeysCollection,
        values: Sequence[int],
        *,
        objects: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.values = [int(value) for value in values]
        self.objects = objects
        if not self.values or min(self.values) < 0 or (objects and self.values != [1]):
            rule = "[1], all objects" if objects else "one or more, 0 or larger"
            raise ValueError(f"rare values {self.values} cannot be; give {rule}")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Note them."""
        d = dict(data)
        for key in self.key_iterator(d):
            label = labels_of(d[key])[0].as_subclass(torch.Tensor).flatten()
            d[PLACES] = self._places(label > 0 if self.objects else label)
        return d

    def _places(self, label: torch.Tensor) -> torch.Tensor:
        most = max(1, min(MOST, len(label) // (PIXELS * len(self.values))))
        found = []
        for value in self.values:
            pixels = (label == value).nonzero().flatten()  # (N,)
            if len(pixels) > most:  # every k-th would be those of a few planes
                some = np.random.default_rng(0).choice(len(pixels), most, replace=False)
                pixels = pixels[torch.from_numpy(np.sort(some))]
            found.append(torch.stack([torch.full_like(pixels, value), pixels]))
        return torch.cat(found, dim=1)  # (2, N)


RarePlacesD = RarePlacesDict = RarePlacesd
