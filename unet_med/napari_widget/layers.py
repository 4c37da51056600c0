"""Images that were read from files as layers of napari."""

from __future__ import annotations

from typing import Any

import numpy as np

from unet_med.data.grids import Grid, axes_of
from unet_med.data.pixel_size import states_size
from unet_med.napari_widget.segmenting import ORIENTATION, Array, LayerData


def image_layers(image: Any, name: str, **metadata: Any) -> list[LayerData]:
    """Layers of an image: its channels, or its colours.

    Args:
        image: `(C, X, Y[, Z])`, as `unet_med.data.load_image` gives it.
        name: of the layer; several are numbered.
        metadata: of each layer; where the file states it, its orientation besides.
    """
    word = orientation_in(image)
    meta = {"metadata": metadata | ({ORIENTATION: word} if word else {}), **place_of(image)}
    pixels = image.numpy().swapaxes(1, -1)  # (C, [Z,] Y, X)
    if _is_colour(pixels):
        colours = np.moveaxis(pixels, 0, -1).astype(np.uint8)
        return [(colours, {"name": name, "rgb": True, **meta}, "image")]
    names = [name] if len(pixels) == 1 else [f"{name} {k}" for k in range(len(pixels))]
    return [
        (plane, {"name": each, **meta}, "image") for each, plane in zip(names, pixels, strict=True)
    ]


def place_of(image: Any) -> dict[str, Any]:
    """Scale and units of a file for a layer; empty where the file does not say its pixel size."""
    if not states_size(image.meta):
        return {}
    sizes = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)[
        : image.ndim - 1
    ]  # (X, Y[, Z])
    return {
        "scale": tuple(sizes[::-1].tolist()),
        "units": (image.meta["spatial_unit"],) * len(sizes),
    }


def orientation_in(image: Any) -> str | None:
    """Where X, Y and Z of an image end in the body, such as `"LPS"`; None: it does not say."""
    grid = Grid.of_image(image, "image")
    return axes_of(grid.affine) if grid.oriented else None


def _is_colour(pixels: Array) -> bool:
    """Whether channels `(C, Y, X)` are colours of 8 bits."""
    whole = len(pixels) == 3 and (pixels == pixels.round()).all()
    return bool(whole and pixels.min() >= 0 and 1 < pixels.max() <= 255)
