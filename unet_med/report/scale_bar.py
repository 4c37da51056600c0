"""A bar of a round length, by which a picture says how large things are."""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARE = 0.3  # of the width, at most


class PixelSize(NamedTuple):
    """How large a pixel of a plane is: along X, along Y, and the unit of both."""

    x: float
    y: float
    unit: str

    @classmethod
    def of(cls, image: Any) -> PixelSize | None:
        """That of an image `(C, X, Y[, Z])` which states it, as `load_image` reads it; or None."""
        from unet_med.data.pixel_size import states_size

        meta = getattr(image, "meta", {})
        unit = meta.get("spatial_unit")
        if unit is None or not states_size(meta):
            return None
        x, y = np.linalg.norm(np.asarray(image.affine)[:-1, :2], axis=0).tolist()
        return cls(x, y, in_print(unit))


def in_print(unit: str) -> str:
    """A unit as people write it.

    >>> in_print("um"), in_print("mm")
    ('µm', 'mm')
    """
    return {"um": "µm"}.get(unit, unit)


def bar_length(width: float) -> float:
    """A round length: 1, 2 or 5 times a power of ten, at most three tenths of a width.

    Args:
        width: of a picture, in any unit.

    Raises:
        ValueError: the width is not positive.

    >>> bar_length(256.0), bar_length(90.0), bar_length(0.04)
    (50.0, 20.0, 0.01)
    """
    if not 0 < width < float("inf"):
        raise ValueError(f"a picture {width} wide has no bar: its width is positive")
    power = 10.0 ** floor(log10(SHARE * width))
    return max(step * power for step in (1, 2, 5) if step * power <= SHARE * width)


def draw_bar(axes: Axes, pixel: PixelSize) -> None:
    """Draw the bar and its length into a plane that `imshow` shows, X across."""
    from matplotlib.patheffects import withStroke

    left, right = axes.get_xlim()
    width, bottom = right - left, 0.94 * axes.get_ylim()[0]
    length = bar_length(width * pixel.x)
    start, end = left + 0.05 * width, left + 0.05 * width + length / pixel.x
    over = [withStroke(linewidth=1.5, foreground="black")]  # seen on bright images as well
    axes.plot(
        [start, end], [bottom] * 2, color="white", linewidth=2.5, solid_capstyle="butt",
        path_effects=[withStroke(linewidth=4, foreground="black")],
    )  # fmt: skip
    axes.annotate(
        f"{length:g} {pixel.unit}", (start, bottom), (0, 3), va="bottom",
        textcoords="offset points", color="white", fontsize=10, path_effects=over,
    )  # fmt: skip
