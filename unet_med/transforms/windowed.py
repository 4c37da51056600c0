"""An image that is read window by window, as preprocessing makes it.

A transform that is local says so with a method `by_window`, which takes a `Windowed` image and
gives the transformed one; nothing is read until a window of the result is. What such a transform
must know of the whole image, it finds with `first_pass`; one that changes the grid brings results
back with `back_by_window`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Box = tuple[tuple[int, int], ...]  # (start, stop) px a spatial axis, inside the image
Found = Mapping[str, np.ndarray]  # what a first pass found, by name


@dataclass(frozen=True)
class Windowed:
    """An image of which windows can be had.

    Attributes:
        read: gives the pixels of a box, `(C, *sides)`.
        channels: how many; 0 where it is not known before a window is read.
        shape: sides, `(X, Y[, Z])`, px.
        affine: voxel to world, `(4, 4)`, float64.
        meta: name and unit, as a `MetaTensor` has them.
    """

    read: Callable[[Box], torch.Tensor]
    channels: int
    shape: tuple[int, ...]
    affine: torch.Tensor
    meta: Mapping[str, Any]
