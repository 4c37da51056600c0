"""The learning curve: losses and validation scores over a training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unet_med.report.saving import INK, save

SIZE, DPI = (6.0, 3.7), 162  # inches, and dots of each: large text, for napari's narrow form
BUDGET = ("epoch", "minutes")  # of a row of history, beside what was measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curve_figure(
    history: Sequence[Mapping[str, float]],
    path: str | os.PathLike[str],
    *,
    x: Literal["epoch", "minutes"] = "epoch",
) -> Path:
    """Losses to the left, validation scores to the right, the best epoch marked.

    Args:
        history: one mapping an epoch: `epoch` (and `minutes`), losses (names that hold
            "loss"), and scores, higher better (all other names); what was not measured
            in an epoch is left out of its mapping. The first score decides the best epoch.
        path: where the picture goes; the suffix is the format.
        x: what to draw against.

    Returns:
        The path.

    Raises:
        ValueError: there is no epoch yet, or one does not say its `x`.
    """
    from matplotlib.figure import Figure

    if not history or any(x not in row for row in history):
        raise ValueError(f"{len(history)} epochs of history; give at least 1, each with {x!r}")
    losses, scores = losses_and_scores(history)
    figure = Figure(SIZE, layout="constrained")
    left: Axes = figure.subplots()
    _curves(left, history, x, losses, ("#8a8a8a", "#3a3a3a"))
    left.set(xlabel=x, ylabel="loss")
    axes = [left]
    if scores:
        right = left.twinx()
        _curves(right, history, x, scores, ("#1f9e77", "#3fa7ff", "#d55e00"))
        right.set(ylabel="validation score", ylim=(0, 1.03) if right.dataLim.y1 <= 1 else None)
        _mark_best(right, history, x, scores[0])
        axes.append(right)
    _tidy(figure, axes)
    return save(figure, path, DPI)


def losses_and_scores(history: Sequence[Mapping[str, float]]) -> tuple[list[str], list[str]]:
    """Names of what a history measured: they have no scale in common.

    >>> losses_and_scores([{"epoch": 1, "loss": 0.7}, {"epoch": 2, "loss": 0.6, "val_seg": 0.2}])
    (['loss'], ['val_seg'])
    """
    names = dict.fromkeys(name for row in history for name in row if name not in BUDGET)
    losses = [name for name in names if "loss" in name]
    return losses, [name for name in names if name not in losses]


def _curves(
    axes: Axes,
    history: Sequence[Mapping[str, float]],
    x: str,
    names: Sequence[str],
    colours: Sequence[str],
) -> None:
    """One line a name, over the epochs that have it."""
    for position, name in enumerate(names):
        rows = [row for row in history if name in row]
        axes.plot(
            [row[x] for row in rows],
            [row[name] for row in rows],
            color=colours[position % len(colours)],
            label=name.replace("_", " "),
            linewidth=1.8,
            marker="o" if len(rows) < 40 else "",
            markersize=3.5,
        )


def _mark_best(axes: Axes, history: Sequence[Mapping[str, float]], x: str, score: str) -> None:
    """A ring on the best epoch (the earliest of equals); its value goes to the legend."""
    best = max((row for row in history if score in row), key=lambda row: row[score])
    where = f"epoch {best['epoch']:g}" if "epoch" in best else f"minute {best[x]:.1f}"
    label = f"best: {best[score]:.3f}, {where}"
    axes.plot(best[x], best[score], "o", ms=11, mfc="none", mec="#ff2d6f", mew=2, label=label)


def _tidy(figure: Figure, panels: Sequence[Axes]) -> None:
    """Quiet axes, one legend above for both."""
    handles, labels = [], []
    for axes in panels:
        axes.spines["top"].set_visible(False)
        axes.tick_params(colors=INK, labelsize=10)
        axes.xaxis.label.set(color=INK, fontsize=11)
        axes.yaxis.label.set(color=INK, fontsize=11)
        more = axes.get_legend_handles_labels()
        handles += more[0]
        labels += more[1]
    panels[0].grid(axis="y", color="#e6e6e6", linewidth=0.8)
    figure.legend(
        handles, labels, loc="outside upper center", ncols=3, frameon=False, labelcolor=INK
    )
