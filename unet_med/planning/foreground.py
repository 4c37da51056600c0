"""Intensities of the foreground, from which the scale of CT images is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.cases import Files
from unet_med.data.files import load_image
from unet_med.data.grey_values import SAMPLES
from unet_med.data.grids import Grid, turn_onto
from unet_med.data.label_reader import open_label
from unet_med.instances import IGNORED

LOW, HIGH = 0.5, 99.5  # percentiles, nnU-Net's
IMAGES = 50  # whose pixels are taken; by number, for what a network sees follows no clock
DIGITS = 6

Scale = dict[str, float]


def foreground_scales(
    pairs: Sequence[Mapping[str, Any]],
    choice: Mapping[str, Any],
    *,
    unknown: int | None = None,
) -> tuple[Scale, ...]:
    """Of each channel `low`, `high`, `mean` and `std` of the pixels that labels count as objects.

    `low` and `high` are the percentiles 0.5 and 99.5, as nnU-Net takes them; mean and standard
    deviation are those of all sampled pixels.

    Args:
        pairs: images and labels, `{"image": files, "label": file}`.
        choice: which image of files that hold several; see `AutoReader`.
        unknown: the labels' value of pixels that nobody annotated.
    """
    samples: list[np.ndarray] = []
    for pair in pairs:
        pixels = foreground_pixels(pair["image"], pair["label"], choice, unknown)
        if pixels.shape[1]:
            samples.append(pixels[:, :: -(-pixels.shape[1] // SAMPLES)].copy())
    channels = min((len(sample) for sample in samples), default=0)
    return tuple(_scale(np.concatenate([sample[c] for sample in samples])) for c in range(channels))


def foreground_pixels(
    image: Files, label: str, choice: Mapping[str, Any], unknown: int | None
) -> np.ndarray:
    """Finite pixels `(C, N)` within the objects of an image."""
    loaded = load_image(image, **choice)
    values = open_label(label, "values", unknown=unknown, **choice)
    own, theirs = Grid.of(values, f"label {Path(label).name}"), Grid.of_image(loaded, "its image")
    objects, pixels = turn_onto(own, theirs).of_array(values.array), loaded.numpy()
    inside = (objects > 0) & (objects != IGNORED)
    inside = inside if inside.any() else objects > 0  # a mask of 0 and 255
    found = pixels[:, inside.reshape(pixels.shape[1:])].astype(np.float64)
    return found[:, np.isfinite(found).all(axis=0)]


def _scale(pixels: np.ndarray) -> Scale:
    low, high = np.percentile(pixels, (LOW, HIGH))
    found = {"low": low, "high": high, "mean": pixels.mean(), "std": pixels.std()}
    return {name: float(f"{value:.{DIGITS}g}") for name, value in found.items()}
