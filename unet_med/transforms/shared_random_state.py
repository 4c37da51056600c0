"""Base of random dictionary transforms: one random draw serves all keys."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from unet_med.transforms.tensors import as_tensor


class SharedRandomTransform(Randomizable, MapTransform):
    """Base of random dictionary transforms: one random draw serves all keys.

    Args:
        keys: entries that change.
        drawn: the random array transform; subclasses apply its last draw to every key.
        allow_missing_keys: no error when a key is absent.
    """

    def __init__(
        self, keys: KeysCollection, drawn: Randomizable, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.drawn = drawn

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> SharedRandomTransform:
        """Seed the one draw."""
        super().set_random_state(seed, state)
        self.drawn.set_random_state(state=self.R)
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw for all keys; `data` is one of the images, `(C, *S)`."""
        self.drawn.randomize(data)

    def images_of_one_shape(
        self, data: Mapping[Hashable, Any], reason: str
    ) -> dict[Hashable, torch.Tensor]:
        """The images `(C, *S)` by key; `reason` tells the user why their shapes must be equal."""
        images = {key: as_tensor(data[key]) for key in self.key_iterator(data)}
        shapes = {key: tuple(image.shape[1:]) for key, image in images.items()}
        first = next(iter(shapes), None)
        for key, shape in shapes.items():
            if shape != shapes[first]:
                raise ValueError(f"{key} is {shape} px, {first} is {shapes[first]} px; {reason}")
        return images


def no_draw() -> RuntimeError:
    """What a random transform raises that is to repeat its last draw, before the first."""
    return RuntimeError("randomize=False repeats a draw, and there was none yet")
