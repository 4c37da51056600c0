"""Sizes in pixels: the pixels that images are brought to, and the tiles of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_med import bundle
from unet_med.planning.fingerprints import FileFacts, Fingerprint
from unet_med.planning.plan import Decision

IN_PLANE = {"valid": 388, "same": 192}  # output of a 2-D tile at most, px; 388: the paper's
IN_SPACE = 64  # of a 3-D one


def decide_pixel_size(
    found: Fingerprint, asked: Sequence[float] | float | None
) -> dict[str, Decision]:
    """`element_size`, and the unit that it is in.

    Raises:
        ValueError: an image does not say its pixel size, and is to be brought to another.
    """
    if asked is None:
        reason = "images keep their own pixels"
        return {"element_size": Decision(None, reason), "element_unit": Decision(None, reason)}
    sizes = as_list(asked)
    for case in found.cases:
        if case.image.pixel_size_source == "assumed":
            words = " x ".join(f"{size:g}" for size in sizes)
            raise ValueError(
                f"{case.image.name} does not say its pixel size, so it cannot be brought to "
                f"--element-size {words}: give it with --pixel-size, or save the file with it (in "
                "Fiji: Image > Properties)"
            )
    unit = found.cases[0].image.unit
    return {
        "element_size": Decision(asked, "as asked"),
        "element_unit": Decision(unit, "the unit of the images"),
    }


def largest_shape(found: Fingerprint, dims: int, asked: Any) -> tuple[int, ...]:
    """Sides of the largest image as the network sees it, `(X, Y[, Z])`, px."""
    sides = [
        np.multiply(case.image.shape, _zoom(case.image, asked, len(case.image.shape)))[:dims]
        for case in found.cases
    ]
    return tuple(max(map(round, axis)) for axis in zip(*sides, strict=True))


def tile_size(found: Fingerprint, ids: Mapping[str, Any]) -> Decision:
    """Input side per axis whose output covers the images, within what one step can take.

    Args:
        found: what the files say.
        ids: what has been decided, by id.
    """
    dims = ids["spatial_dims"]
    train = bundle.find_bundle() / "configs" / "train.json"
    parser, network = bundle.network_of(bundle.merge_config(train, [], ids))
    padding = "valid" if getattr(network, "padding", "same") == "valid" else "same"
    limit = IN_PLANE[padding] if dims == 2 else IN_SPACE
    shape = largest_shape(found, dims, ids["element_size"])
    if dims == 2:  # square, so that quarter turns keep the size of a batch
        shape = (max(shape),) * 2
    sides = [min(side, limit) for side in shape]
    covers = "covers the largest image" if max(shape) <= limit else f"{limit} px out, a step's load"
    if hasattr(network, "input_size_for"):
        return Decision([network.input_size_for(side) for side in sides], covers)
    stride = parser.get_parsed_content("stride") or 1  # a foreign network's config says it
    return Decision([-(-side // stride) * stride for side in sides], covers)


def _zoom(image: FileFacts, asked: Any, axes: int) -> np.ndarray[Any, Any]:
    """Pixels of the asked size that one pixel of the image becomes along each axis."""
    if asked is None:
        return np.ones(axes)
    sizes = as_list(asked)
    sizes = sizes if len(sizes) > 1 else sizes * len(image.pixel_size)
    kept = image.pixel_size[len(sizes) :]  # a 2-D network leaves the planes' distance
    return np.divide(image.pixel_size, [*sizes, *kept])


def as_list(sizes: Sequence[float] | float) -> list[float]:
    """One size, or one an axis, as a list."""
    return [float(sizes)] if isinstance(sizes, int | float) else [float(size) for size in sizes]
