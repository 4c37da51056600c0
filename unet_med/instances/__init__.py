"""Masks to instances, and the background border between touching instances.

An instance map holds 0 for background, 1..N for the instances and -1 for
pixels to ignore (`UNKNOWN`); maps of classes have 255 there (`IGNORED`). Every
function takes an array of shape `(*S)` or, channel first, `(1, *S)` and returns
the same shape.
"""

from __future__ import annotations

from unet_med.instances.axes import along_axes, axes_apart
from unet_med.instances.borders import neighbour_pairs, regrow, ridge, separate
from unet_med.instances.components import (
    instances_from_mask,
    label_components,
    number_components,
)
from unet_med.instances.numbers import IGNORED, UNKNOWN, as_int32, as_integers, in_a_table
from unet_med.instances.parts import LEVEL, parted
from unet_med.instances.seeds import instances_from_classes, spread

__all__ = [
    "IGNORED",
    "LEVEL",
    "UNKNOWN",
    "along_axes",
    "as_int32",
    "as_integers",
    "axes_apart",
    "in_a_table",
    "instances_from_classes",
    "instances_from_mask",
    "label_components",
    "neighbour_pairs",
    "number_components",
    "parted",
    "regrow",
    "ridge",
    "separate",
    "spread",
]
