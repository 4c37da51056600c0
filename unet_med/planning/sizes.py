"""Sizes in pixels: the pixels that images are brought to, and the tiles of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_med import bundle
from unet_med.data.pixel_size import MICROMETRES, as_list, in_words
from unet_med.geometry import per_axis, up_to
from unet_med.planning.fingerprints import MEDIAN, FileFacts, Fingerprint, Instances
from unet_med.planning.object_width import object_widths
from unet_med.planning.plan import Decision, Decisions

IN_PLANE = {"valid": 388, "same": 192}  # output of a 2-D tile at most, px; 388: the paper's
IN_SPACE = 64  # of a 3-D one
OBJECTS = 5  # median objects side by side, in a tile that is smaller than IN_PLANE
LEAST = 128  # px, of such a tile: see decision 0035


def largest_shape(found: Fingerprint, dims: int, ids: Mapping[str, Any]) -> tuple[int, ...]:
    """Sides of the largest image as the network sees it, `(X, Y[, Z])`, px; ids as of `zoom`."""
    sides = [
        np.multiply(case.image.shape, zoom(case.image, ids, len(case.image.shape)))[:dims]
        for case in found.cases
    ]
    return tuple(max(map(round, axis)) for axis in zip(*sides, strict=True))


def tile_size(found: Fingerprint, ids: Mapping[str, Any], device: str = "cpu") -> Decision:
    """Input side per axis whose output covers the images, within what one step can take."""
    dims = ids["spatial_dims"]
    train = bundle.find_bundle() / "configs" / "train.json"
    parser, network = bundle.network_of(bundle.merge_config(train, [], ids))
    padding = "valid" if getattr(network, "padding", "same") == "valid" else "same"
    limit, load = IN_PLANE[padding] if dims == 2 else IN_SPACE, "as much as a step should take"
    if dims == 2 and padding == "same" and device == "cpu" and (side := _of_objects(found, ids)):
        limit, load = side, f"holds {OBJECTS} objects or more side by side: small tiles, more steps"
    shape = largest_shape(found, dims, ids)
    if dims == 2:  # square, so that quarter turns keep the size of a batch
        shape = (max(shape),) * 2
    sides = [min(side, limit) for side in shape]
    covers = "covers the largest image" if max(shape) <= limit else load
    if dims == 3 and ids.get("spacing") is not None:
        sides = in_proportion(shape, ids["spacing"], limit)
        if sides != list(shape):
            covers = f"as long along all axes as the images allow, {limit}^3 px"
    if hasattr(network, "input_size_for"):
        return Decision(list(network.input_size_for(sides)), covers)
    stride = parser.get_parsed_content("stride") or 1  # a foreign network's config says it
    steps = per_axis("stride", stride, len(sides))
    return Decision([up_to(*pair) for pair in zip(steps, sides, strict=True)], covers)


def _of_objects(found: Fingerprint, ids: Mapping[str, Any]) -> int | None:
    """Side of a tile that holds a few objects, px; None: there are none, or they are wide."""
    if ids["label_kind"] != "instances" or (width := median_width(found, ids)) is None:
        return None
    side = max(LEAST, round(OBJECTS * width))
    return side if side < IN_PLANE["same"] else None


def decide_turns(ids: Mapping[str, Any]) -> Decisions:
    """No quarter turns in test-time averaging where the tiles of the training have unequal sides.

    A tile turned by a quarter would not fit into its batch, so `train.json` turns none there.

    Args:
        ids: all ids, those of the recipe among them; of volumes no tile is turned by a quarter.
    """
    sides = ids["tile_size"]
    if ids["spatial_dims"] != 2 or isinstance(sides, str) or len(set(as_list(sides))) == 1:
        return {}  # an expression of a file is the file's own affair
    if ids.get("tta") != "rotations":
        return {}
    why = f"tiles of {in_words(sides)} px, turned by a quarter, fit into no batch"
    return {"tta": Decision("flips", f"the training has no quarter turns: {why}")}


def in_proportion(shape: Sequence[int], spacing: Sequence[float], limit: int) -> list[int]:
    """Sides of equal length, cut to an image, of as many voxels as a cube of `limit` px a side.

    What a short axis leaves goes to the others.

    >>> in_proportion((512, 512, 100), (1, 1, 5), 64), in_proportion((512, 512, 8), (1, 1, 5), 64)
    ([109, 109, 21], [181, 181, 8])
    """
    sides, left = list(shape), float(limit ** len(shape))
    lengths = np.multiply(shape, spacing)
    open = sorted(range(len(shape)), key=lambda axis: lengths[axis])
    while open:
        length = (left * np.prod([spacing[axis] for axis in open])) ** (1 / len(open))
        if lengths[open[0]] > length:  # so are all others
            for axis in open:
                sides[axis] = max(1, int(length / spacing[axis] + 1e-6))
            break
        left /= shape[open.pop(0)]
    return sides


def median_size(
    objects: Instances,
    first: FileFacts,
    dims: int,
    pixels: Mapping[str, Any],
    rank: int = MEDIAN,
) -> float:
    """Median object in the pixels that the network sees, px: an area, or a volume.

    Args:
        objects: how large they are.
        first: the first image, of whose pixels `objects` tells.
        dims: axes of the network.
        pixels: ids as of `zoom`.
        rank: of another object than the median, by position in `PERCENTILES`.
    """
    own = (objects.plane_px if dims == 2 else objects.volume_px)[rank]
    if pixels.get("element_size") is not None:  # the images may differ in pixel size
        whole = (objects.plane_area if dims == 2 else objects.volume)[rank]
        own = whole / float(np.prod(first.pixel_size[:dims]))
    return own * float(np.prod(zoom(first, pixels, len(first.shape))[:dims]))


def median_width(found: Fingerprint, pixels: Mapping[str, Any]) -> float | None:
    """How wide the median object is in a plane, in pixels of the network; None: there is none.

    Args:
        found: what the files say.
        pixels: ids as of `zoom`.
    """
    first = found.cases[0].image
    own = None if pixels.get("element_size") is None else first.pixel_size
    widths = object_widths(found, 2, own)
    if widths is None:
        return None
    return widths[MEDIAN][0] * math.sqrt(np.prod(zoom(first, pixels, len(first.shape))[:2]))


def zoom(image: FileFacts, ids: Mapping[str, Any], axes: int) -> np.ndarray[Any, Any]:
    """Working pixels that one pixel of an image becomes along each axis.

    Args:
        image: the image.
        ids: `element_size`, `element_unit` and `scale`, where they are decided.
        axes: of the image.
    """
    if ids.get("element_size") is None:
        scales = as_list(1.0 if ids.get("scale") is None else ids["scale"])
        scales *= axes if len(scales) == 1 else 1
        return np.array([*scales, 1.0][:axes])  # a 2-D network leaves the planes' distance
    sizes = as_list(ids["element_size"])
    sizes *= axes if len(sizes) == 1 else 1
    own = np.multiply(image.pixel_size, in_unit(image, ids.get("element_unit")))
    return np.divide(own, [*sizes, *own[len(sizes) :]])


def in_unit(image: FileFacts, unit: str | None) -> float:
    """How many of a unit are one of an image's own."""
    return MICROMETRES[image.unit] / MICROMETRES[unit] if unit else 1.0
