"""One row an image: image, truth, result, and where they differ."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_med.instances import IGNORED, as_integers
from unet_med.report.colours import (
    UNMATCHED,
    Colours,
    class_colours,
    instance_colours,
    matched_colours,
    rgb,
)
from unet_med.report.differences import DIFFERENCES, Kind, Labels, difference_map
from unet_med.report.saving import INK, save

T = TypeVar("T", NDArray[Any], "Tensor")

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor


def comparison_figure(
    images: Sequence[ArrayLike],
    truths: Sequence[ArrayLike],
    results: Sequence[ArrayLike],
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    scores: Sequence[Mapping[str, float]] | None = None,
    kind: Kind = "instances",
) -> Path:
    """One row an image: image, truth, result, and where they differ.

    Result instances wear the colour of the true one they match (IoU above 0.5),
    grey if there is none. Of a volume the middle slice is drawn.

    Args:
        images: arrays `(C, X, Y[, Z])`; three channels are colours, otherwise the first is shown.
        truths: label maps `(1, X, Y[, Z])`; negative is ignored, in classes 255 too.
        results: label maps `(1, X, Y[, Z])`.
        path: where the picture goes; the suffix is the format, `.png` for one.
        names: one a row.
        scores: one mapping a row, written under the result: `{"SEG": 0.91}`.
        kind: what the labels mean, `"instances"` or `"classes"` (a mask is a class).

    Returns:
        The path.

    Raises:
        ValueError: no image, rows of unequal number, or shapes that do not fit.
    """
    from matplotlib.figure import Figure

    rows = _rows(images, truths, results)
    heights = [image.shape[1] / image.shape[0] for image, *_ in rows]  # X across, Y down
    size = 12.8, 3.1 * sum(heights) + 0.28 * len(rows) + 0.8
    figure = Figure(size, layout="constrained")
    grid = figure.subplots(len(rows), 4, squeeze=False, height_ratios=heights)
    for line, (image, truth, result) in enumerate(rows):
        _draw_row(grid[line], image, truth, result, kind)
        if names is not None:
            grid[line, 0].set_ylabel(names[line], color=INK, fontsize=11)
        if scores is not None:
            text = "    ".join(f"{name} {value:.3f}" for name, value in scores[line].items())
            grid[line, 2].set_xlabel(text, color=INK, fontsize=11)
    for axes, title in zip(grid[0], ("image", "truth", "result", "differences"), strict=True):
        axes.set_title(title, color=INK, fontsize=14)
    _legend(figure, kind)
    return save(figure, path)


def _rows(
    images: Sequence[ArrayLike], truths: Sequence[ArrayLike], results: Sequence[ArrayLike]
) -> list[tuple[NDArray[Any], Labels, Labels]]:
    """Planes to draw, a triple a row: image `(X, Y[, 3])`, truth and result `(X, Y)`."""
    if not 0 < len(images) == len(truths) == len(results):
        raise ValueError(
            f"{len(images)} images, {len(truths)} truths and {len(results)} results; "
            "give at least 1 image, and one truth and one result for each"
        )
    rows = []
    for number, triple in enumerate(zip(images, truths, results, strict=True)):
        image, truth, result = (_plane(array) for array in triple)
        if not image.shape[1:] == truth.shape[1:] == result.shape[1:]:
            raise ValueError(
                f"row {number}: image {np.shape(triple[0])}, truth {np.shape(triple[1])}, result "
                f"{np.shape(triple[2])}; all are (C, X, Y[, Z]) with the same spatial size"
            )
        colours = np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]
        rows.append((colours, as_integers(truth[0]), as_integers(result[0])))
    return rows


def _plane(array: ArrayLike) -> NDArray[Any]:
    """A `(C, X, Y)` image itself, the middle slice of a `(C, X, Y, Z)` volume."""
    values = np.asarray(array)
    if values.ndim not in (3, 4):
        raise ValueError(f"an array of shape {values.shape}; pictures need (C, X, Y[, Z])")
    return middle_plane(values)


def middle_plane(image: T) -> T:
    """A view of what is drawn of `(C, X, Y[, Z])`, an array or a tensor: `(C, X, Y)`."""
    return image if image.ndim == 3 else image[..., image.shape[-1] // 2]


def _draw_row(
    panels: Sequence[Axes], image: NDArray[Any], truth: Labels, result: Labels, kind: Kind
) -> None:
    """Fill the four panels of one row."""
    grey = _stretched(image)
    if kind == "instances":
        colours = instance_colours(truth)
        matched = matched_colours(truth, result, colours)
    else:
        classes = max(truth.max(initial=0), result.max(initial=0)) + 1
        colours = matched = class_colours(classes)
        truth = np.where(truth == IGNORED, 0, truth)
    kinds = rgb([colour or "#000000" for colour in DIFFERENCES.values()])
    codes = difference_map(truth, result, kind)
    strong = np.isin(codes, [2, 3, 4, 5, 6])[..., None]  # errors; what is correct stays pale
    pictures = (
        grey,
        _overlay(grey, truth, colours),
        _overlay(grey, result, matched),
        _blend(0.45 * grey, kinds[codes], np.where(strong, 0.95, 0.4) * (codes > 0)[..., None]),
    )
    for axes, picture in zip(panels, pictures, strict=True):
        axes.imshow(np.swapaxes(picture, 0, 1), interpolation="nearest")  # (Y, X, 3)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)


def _stretched(image: NDArray[Any]) -> Colours:
    """Grey values between the 0.5th and 99.5th percentile as 0..1, `(X, Y, 3)`."""
    values = image.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    values = np.nan_to_num(np.clip(values, low, high) - low) / max(high - low, 1e-12)  # NaN: black
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=-1)


def _overlay(grey: Colours, labels: Labels, colours: Colours) -> Colours:
    """Labels over the image: translucent inside, opaque along the contour, `(X, Y, 3)`."""
    from skimage.segmentation import find_boundaries

    shown = np.maximum(labels, 0)
    contour = find_boundaries(shown, mode="inner", background=0)
    alpha = np.where(contour, 1.0, 0.42) * (shown > 0)
    return _blend(grey, colours[shown], alpha[..., None])


def _blend(below: Colours, above: Colours, alpha: Colours) -> Colours:
    return below * (1 - alpha) + above * alpha


def _legend(figure: Figure, kind: Kind) -> None:
    from matplotlib.patches import Patch

    leave_out = "wrong class" if kind == "instances" else "border"
    items = {n: c for n, c in DIFFERENCES.items() if c and leave_out not in n}
    if kind == "instances":
        items["no true cell matches (IoU ≤ 0.5)"] = UNMATCHED
    handles = [Patch(color=colour, label=name) for name, colour in items.items()]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=11,
        labelcolor=INK,
    )
