"""One row an image: image, truth, result, and where they differ."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_med.instances import IGNORED, as_integers, in_a_table
from unet_med.report.colours import (
    UNMATCHED,
    Colours,
    class_colours,
    contours,
    instance_colours,
    matched_colours,
    palette,
    stretched,
)
from unet_med.report.differences import DIFFERENCES, Kind, Labels, difference_map
from unet_med.report.saving import INK, save
from unet_med.report.scale_bar import PixelSize, draw_bar

# Inches and dots of each: few inches make the text large where a page or napari's form shows the
# picture at a quarter of its dots.
WIDTH, DPI = 8.0, 208
LINE = 0.2  # inches: of text
NAME, SCORES, KINDS = 20, 2, 4  # letters, scores and entries of the legend beside one another

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
    pixel_sizes: Sequence[tuple[float, float, str] | None] | None = None,
) -> Path:
    """One row an image: image, truth, result, and where they differ.

    Result instances wear the colour of the true one they match (IoU above 0.5),
    grey if there is none. Of a volume the middle slice is drawn. Where the pixel size is known
    a bar says how long things are, and pixels have their true proportions.

    Args:
        images: arrays `(C, X, Y[, Z])`; three channels are colours, otherwise the first is shown.
        truths: label maps `(1, X, Y[, Z])`; negative is ignored, in classes 255 too.
        results: label maps `(1, X, Y[, Z])`.
        path: where the picture goes; the suffix is the format, `.png` for one.
        names: one a row.
        scores: one mapping a row, written under the result: `{"SEG": 0.91}`.
        kind: what the labels mean, `"instances"` or `"classes"` (a mask is a class).
        pixel_sizes: one a row, along X and Y and the unit of both, such as `(0.5, 0.5, "µm")`;
            None: it is not known. Left out: as the images state it, which `load_image` read.

    Returns:
        The path.

    Raises:
        ValueError: no image, rows of unequal number, or shapes that do not fit.
    """
    from matplotlib.figure import Figure

    rows = _rows(images, truths, results)
    known = [*map(PixelSize.of, images)] if pixel_sizes is None else pixel_sizes
    pixels = [PixelSize(*(size or (1.0, 1.0, "px"))) for size in known]
    heights = [  # X across, Y down
        image.shape[1] * pixel.y / (image.shape[0] * pixel.x)
        for (image, *_), pixel in zip(rows, pixels, strict=True)
    ]
    lines = [-(-len(each) // SCORES) for each in scores or []]  # under each row
    text = LINE * (4 + (kind == "instances") + sum(lines) + 0.3 * len(rows))
    figure = Figure((WIDTH, 0.235 * WIDTH * sum(heights) + text), layout="constrained")
    grid = figure.subplots(len(rows), 4, squeeze=False, height_ratios=heights)
    for line, (row, pixel) in enumerate(zip(rows, pixels, strict=True)):
        _draw_row(grid[line], *row, kind, pixel.y / pixel.x)
        if known[line] is not None:
            draw_bar(grid[line, 0], pixel)
        if names is not None:
            grid[line, 0].set_ylabel(fill(names[line], NAME), color=INK, fontsize=10)
        if scores is not None:
            grid[line, 2].set_xlabel(_in_words(scores[line]), color=INK, fontsize=10)
    for axes, title in zip(grid[0], ("image", "truth", "result", "differences"), strict=True):
        axes.set_title(title, color=INK, fontsize=13)
    _legend(figure, kind)
    return save(figure, path, DPI)


def _in_words(scores: Mapping[str, float]) -> str:
    """Scores with their names, few a line."""
    words = [f"{name} {value:.3f}" for name, value in scores.items()]
    return "\n".join("   ".join(words[k : k + SCORES]) for k in range(0, len(words), SCORES))


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
    panels: Sequence[Axes],
    image: NDArray[Any],
    truth: Labels,
    result: Labels,
    kind: Kind,
    aspect: float,
) -> None:
    """Fill the four panels of one row; `aspect` is the height of a pixel over its width."""
    grey = stretched(image)
    if kind == "instances":
        truth, result = in_a_table(truth), in_a_table(result)
        colours = instance_colours(truth)
        matched = matched_colours(truth, result, colours)
    else:
        classes = max(truth.max(initial=0), result.max(initial=0)) + 1
        colours = matched = class_colours(classes)
        truth = np.where(truth == IGNORED, 0, truth)
    codes = difference_map(truth, result, kind)
    strong = np.isin(codes, [2, 3, 4, 5, 6])[..., None]  # errors; what is correct stays pale
    pictures = (
        grey,
        _overlay(grey, truth, colours),
        _overlay(grey, result, matched),
        _blend(
            0.45 * grey,
            palette(DIFFERENCES)[codes],
            np.where(strong, 0.95, 0.4) * (codes > 0)[..., None],
        ),
    )
    for axes, picture in zip(panels, pictures, strict=True):
        shown = np.swapaxes(picture, 0, 1)  # (Y, X, 3)
        # Neither left out nor doubled where a pixel is not a whole number of dots.
        axes.imshow(shown, interpolation="antialiased", aspect=aspect)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)


def _overlay(grey: Colours, labels: Labels, colours: Colours) -> Colours:
    """Labels over the image: translucent inside, opaque along the contour, `(X, Y, 3)`."""
    shown = np.maximum(labels, 0)
    alpha = np.where(contours(shown), 1.0, 0.42) * (shown > 0)
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
        ncols=min(len(handles), KINDS),
        frameon=False,
        fontsize=10,
        labelcolor=INK,
    )
