"""The picture of a learning curve: score against the number of images, and how it goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_med.report.more_images import LearningCurve
from unet_med.report.saving import INK, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE, BAND, DOTS = "#1f9e77", "#cfe9e0", "#8a8a8a"
POINTS = 40  # of a line


def score_by_images_figure(curve: LearningCurve, path: str | os.PathLike[str]) -> Path:
    """The score of each fold and of all of them, and the law; intervals where there are some.

    Beyond the images that were learned from the law is dashed; a line marks the images at hand.

    Args:
        curve: what was measured, and how it goes on.
        path: where the picture goes; the suffix is the format.

    Returns:
        The path.
    """
    from matplotlib.figure import Figure

    figure = Figure((7.5, 4.4), layout="constrained")
    axes: Axes = figure.subplots()
    _law(axes, curve)
    _measured(axes, curve)
    axes.axvline(curve.total, color=INK, linewidth=0.8, linestyle=":")
    text = f" {curve.total} {curve.unit} at hand"
    axes.text(curve.total, 0.02, text, color=INK, fontsize=9, transform=axes.get_xaxis_transform())
    axes.set(xlabel=f"{curve.unit} to learn from", ylabel=curve.score, xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.tick_params(colors=INK, labelsize=10)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=11)
    figure.legend(loc="outside upper center", ncols=5, frameon=False, labelcolor=INK)
    return save(figure, path)


def _law(axes: Axes, curve: LearningCurve) -> None:
    if curve.band:
        at, low, high = (np.array([point[k] for point in curve.band]) for k in range(3))
        axes.fill_between(at, low, high, color=BAND, linewidth=0, label="95 %")
    first, last = curve.sizes[0].images, curve.sizes[-1].images
    end = curve.total + curve.gains[-1].more
    for start, stop, line, label in (
        (first, last, "-", "power law"),
        (last, end, "--", "carried on"),
    ):
        n = np.linspace(start, stop, POINTS)
        axes.plot(n, curve.score_of(curve.law(n)), line, color=LINE, label=label)


def _measured(axes: Axes, curve: LearningCurve) -> None:
    networks = [network for size in curve.sizes for network in size.networks]
    known = [(n["images"], n["score"]) for n in networks if n["score"] is not None]
    axes.plot(*zip(*known, strict=True), "o", ms=4, color=DOTS, label="a fold")
    for size in curve.sizes:
        if size.low is not None and size.high is not None:
            axes.plot([size.images] * 2, [size.low, size.high], color=INK, linewidth=1.2)
    points = [(size.images, size.score) for size in curve.sizes]
    axes.plot(*zip(*points, strict=True), "s", ms=6, color=INK, label="all folds")
