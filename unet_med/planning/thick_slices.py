"""Volumes whose voxels are longer along one axis: what is pooled, and in what lengths count.

Microscope stacks and clinical series have slices 2 to 10 times as thick as their pixels. Pooled
alike along all axes, a few thick slices are gone before the network has looked far in the plane.
nnU-Net (Isensee et al. 2021, supplementary note 2) halves the finest axes first, and joins slices
by convolutions only once they are about as thick as the pixels of the level are wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_med.data.pixel_size import in_words
from unet_med.geometry import alike
from unet_med.planning.fingerprints import MEDIAN, Fingerprint
from unet_med.planning.object_width import object_widths
from unet_med.planning.plan import Decision, Decisions
from unet_med.planning.sizes import in_unit, largest_shape, zoom
from unet_med.planning.working_size import ALIKE, ANISOTROPIC

APART = 2.0  # times the finest axis: from there on an axis waits
FEWEST = 4  # slices that pooling leaves
ROOM = 48  # px a side, from which a level more pays: decision 0017

Levels = list[Any]


def decide_spacing(found: Fingerprint, ids: Mapping[str, Any]) -> Decision:
    """`spacing`: lengths of the working voxel's sides, the finest 1; None: alike, or unknown.

    Args:
        found: what the files say, as the network sees them.
        ids: what has been decided, by id.
    """
    if ids["spatial_dims"] == 2:
        return Decision(None, "planes: lengths count in pixels")
    images = [case.image for case in found.cases]
    if any(not image.states_size for image in images):
        return _spacing_of_objects(found, ids)
    sizes = [
        np.divide(image.pixel_size, zoom(image, ids, 3)) * in_unit(image, images[0].unit)
        for image in images
    ]
    size = np.median(sizes, axis=0)
    if size.max() <= ALIKE * size.min():
        return Decision(None, "voxels are as long along all axes")
    relative = [float(f"{side:.4g}") for side in size / size.min()]
    voxel = f"voxels of {in_words(size.tolist())} {images[0].unit}"
    return Decision(relative, f"{voxel}: lengths count in the shortest of their sides")


def _spacing_of_objects(found: Fingerprint, ids: Mapping[str, Any]) -> Decision:
    """`spacing` by the shape of the median object, of which a flat one has as few planes to pool.

    Its planes lie further apart than pixels, or it is flat itself: a plane counts for as much.
    """
    unsaid = "not all files say their voxel size"
    widths = None
    if ids["label_kind"] == "instances" and ids["preset"] == "modern":
        widths = object_widths(found, 3, None)
    if widths is not None:
        wide, _, deep = np.multiply(widths[MEDIAN], zoom(found.cases[0].image, ids, 3)).tolist()
        if wide >= APART * deep:
            why = f"{unsaid}, but the median object is {wide:.3g} px wide and {deep:.3g} deep"
            return Decision([1.0, 1.0, float(f"{wide / deep:.2g}")], why)
    return Decision(None, f"{unsaid}: lengths count in voxels")


def decide_levels(
    found: Fingerprint, ids: Mapping[str, Any], spacing: Sequence[float] | None
) -> Decisions:
    """`pool` and `kernel_size` of a network that its preset leaves open.

    Args:
        found: as in `decide_spacing`.
        ids: likewise, with `preset` and `features`.
        spacing: of `decide_spacing`, or what was asked for.
    """
    preset = ids["preset"]
    if preset != "modern":
        return _both(None, None, f"as {preset} has it")
    planes = ids["spatial_dims"] == 2
    if planes or spacing is None or max(spacing) < APART * min(spacing):
        return _both(None, None, "no axis is twice as coarse as another: all are pooled alike")
    from unet_med.networks import presets  # brings torch

    depth = len(ids["features"] or presets()[preset]["features"]) - 1
    pool, kernels = halve_the_finest(spacing, largest_shape(found, 3, ids), depth)
    times = max(spacing) / min(spacing)
    return _both(
        pool,
        kernels,
        f"one axis is {times:.3g} times as coarse: the finest are halved until all are about alike",
    )


def decide_depth(found: Fingerprint, ids: Mapping[str, Any], pool: Any) -> Decisions:
    """`features` with a level more, where all axes are pooled alike and are long enough for it.

    Args:
        found: as in `decide_spacing`.
        ids: likewise, with the `features` of a CPU; None: those of the preset.
        pool: of `decide_levels`.
    """
    features = ids["features"]
    if ids["preset"] != "modern" or ids["spatial_dims"] == 2 or pool is not None:
        return {}
    if features is None or min(largest_shape(found, 3, ids)) < ROOM:
        return {}
    why = "few enough for a CPU, and a level more: all sides have room for it"
    return {"features": Decision([*features, 2 * features[-1]], why)}


def halve_the_finest(
    spacing: Sequence[float], shape: Sequence[int], depth: int
) -> tuple[Levels, Levels]:
    """Factors of the poolings and widths of the convolutions, level by level.

    An axis is pooled, and convolved, where its voxels are less than twice as long as the finest's
    at that level; the lowest level convolves along all. A coarse axis of few slices is not pooled
    below `FEWEST`, and from then on no other waits for it.

    >>> halve_the_finest((1, 1, 5), (96, 96, 20), 3)
    ([[2, 2, 1], [2, 2, 1], 2], [[3, 3, 1], [3, 3, 1], 3, 3])
    """
    size, sides = np.array(spacing, float), np.array(shape)
    coarse = size >= APART * size.min()
    joined = np.zeros(len(size), bool)
    pools, kernels = [], []
    for _ in range(depth):
        poolable = ~(coarse & (sides < 2 * FEWEST))  # the finest axis, at least, stays so
        near = size < APART * size[poolable].min()
        joined |= near
        factors = np.where(near & poolable, 2, 1)
        pools.append(_one_or_each(factors))
        kernels.append(_one_or_each(np.where(joined, 3, 1)))
        size, sides = size * factors, -(-sides // factors)
    return pools, [*kernels, 3]


def decide_rotation(spacing: Sequence[float] | None, ids: Mapping[str, Any]) -> Decisions:
    """Random rotations of a volume: about its coarsest axis, so that no slice leaves its plane.

    nnU-Net turns other axes too where none is three times as coarse as another; here they stay.
    """
    if spacing is None or ids.get("spatial_dims") != 3:
        return {}
    thick = int(np.argmax(spacing))
    within = np.delete(spacing, thick)
    if within.max() > ANISOTROPIC * within.min():
        return {"augment::rotate::_disabled_": Decision(True, "no two axes have like voxels")}
    if thick == 2:
        return {}  # the recipe's own, about z
    names = [f"augment::rotate::range_{letter}" for letter in "xyz"]
    angle = max(float(ids.get(name, 0.0)) for name in names)
    reason = f"about the coarsest axis, {'xyz'[thick]}: slices stay in their planes"
    return {
        name: Decision(angle if axis == thick else 0.0, reason) for axis, name in enumerate(names)
    }


def _one_or_each(values: np.ndarray[Any, Any]) -> int | list[int]:
    one = alike(values.tolist())
    return list(one) if isinstance(one, tuple) else one


def _both(pool: Any, kernels: Any, reason: str) -> Decisions:
    return {"pool": Decision(pool, reason), "kernel_size": Decision(kernels, reason)}
