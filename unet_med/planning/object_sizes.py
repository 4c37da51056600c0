"""How large the objects of labels are, in percentiles, whatever annotation left beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_med import data
from unet_med.data.labels import MOST_CLASSES, LabelSummary, instance_faces
from unet_med.planning.fingerprints import MEDIAN, PERCENTILES, SMALL, FileFacts, Instances
from unet_med.planning.object_width import MEDIAN_SECTION, depths, is_compact, plane_widths
from unet_med.planning.sizes import in_unit

DROPPED = 10.0  # times smaller than the median object: results leave that out
FAINT = 0.02  # of all that is annotated: no more than that specks cover, however many
FEW = 10  # px: smaller objects are specks, among others ten times as large
THIN = 10.0  # times less wide than a typical object: a speck, whatever its pixels


@dataclass(frozen=True)
class _Objects:
    """Sizes of objects or of their sections, px; as many faces; and the image of each."""

    sizes: np.ndarray
    faces: np.ndarray
    image: np.ndarray

    @classmethod
    def of(cls, looks: Sequence[LabelSummary], dims: int, *, whole: bool = False) -> _Objects:
        sizes = [data.instance_sizes(look, dims, whole=whole) for look in looks]
        faces = [instance_faces(look, dims, whole=whole) for look in looks]
        image = np.repeat(np.arange(len(looks)), [len(own) for own in sizes])
        return cls(np.concatenate(sizes), np.concatenate(faces), image)

    def without_specks(self, dims: int) -> _Objects:
        kept = ~are_specks(self.sizes, dims)
        return _Objects(self.sizes[kept], self.faces[kept], self.image[kept])


def measure_objects(looks: Sequence[LabelSummary], images: Sequence[FileFacts]) -> Instances | None:
    """Sizes of all positive values of labels, each taken for an object; None: there are none.

    Args:
        looks: at each label.
        images: its image, in the same orientation.
    """
    every = _Objects.of(looks, 3)
    if not every.sizes.size:
        return None
    sides = np.array([_sides(image, images[0].unit) for image in images])  # (images, 3)
    stacks = any(image.plane_count > 1 for image in images)
    planes = _known(looks, 2) or _Objects.of(looks, 2)
    known = _known(looks, 3)
    found = known or _as_balls(planes, images)
    planes, volumes = planes.without_specks(2), found.without_specks(3 if stacks else 2)
    area = planes.sizes * sides[planes.image, :2].prod(axis=1)
    volume = volumes.sizes * sides[volumes.image].prod(axis=1)
    width = plane_widths(planes.sizes, planes.faces)
    side = np.sqrt(area / planes.sizes)
    depth = depths(volumes.sizes, volumes.faces)
    whole = _narrowest(looks, np.sqrt(sides[:, :2].prod(axis=1)))
    deep = stacks and known is not None  # else no object is seen from plane to plane
    return Instances(
        count=len(every.sizes),
        touching=sum(look.touching for look in looks) / len(every.sizes),
        plane_px=_spread(planes.sizes),
        plane_area=_spread(area),
        volume_px=_spread(volumes.sizes),
        volume=_spread(volume),
        width_px=_spread(width, planes.sizes),
        width=_spread(width * side, area),
        depth_px=_spread(depth, volumes.sizes) if deep else None,
        depth=_spread(depth * sides[volumes.image, 2], volume) if deep else None,
        whole_px=whole and whole[0],
        whole=whole and whole[1],
        specks=len(found.sizes) - len(volumes.sizes),
    )


def _narrowest(looks: Sequence[LabelSummary], sides: np.ndarray) -> tuple[float, float] | None:
    """`whole_px` and `whole` of `Instances`; sides are those of a pixel in the plane, an image."""
    every = _Objects.of(looks, 2)
    width = plane_widths(every.sizes, every.faces)
    value = np.concatenate([look.plane_values for look in looks])
    classes = np.unique(value)
    held = [value == each for each in classes] if len(classes) <= MOST_CLASSES else []
    if not held or not all(is_compact(width[own], every.sizes[own]) for own in held):
        return None
    length = width * sides[every.image]
    low = [[np.percentile(w[own], PERCENTILES[SMALL]) for own in held] for w in (width, length)]
    return float(min(low[0])), float(min(low[1]))


def are_specks(sizes: np.ndarray, dims: int) -> np.ndarray:
    """Which objects are too small to be any: what a slip of a pen or a threshold leaves.

    They are a tenth as wide as a typical object, or have a few pixels where that has ten times as
    many. Typical is the median of all but the smallest ones, which together cover next to nothing.

    Args:
        sizes: of objects, px.
        dims: axes along which they extend.

    >>> are_specks(np.array([300, 280, 320, 25, 3, 1]), 2).tolist()
    [False, False, False, False, True, True]
    """
    ordered = np.sort(sizes)
    cover = np.cumsum(ordered)
    typical = float(np.median(ordered[cover > FAINT * cover[-1]]))
    small: np.ndarray = sizes < max(typical / THIN**dims, min(FEW, typical / DROPPED))
    return small


def _sides(image: FileFacts, unit: str) -> tuple[float, ...]:
    """Of a pixel, along all three axes, in a unit; along Z 1 where there is none."""
    return (*np.multiply(image.pixel_size, in_unit(image, unit)).tolist(), 1.0)[:3]


def _known(looks: Sequence[LabelSummary], dims: int) -> _Objects | None:
    """Objects that no unknown pixel cuts off; None: less than half of them are so."""
    known = _Objects.of(looks, dims, whole=True)
    every = _Objects.of(looks, dims)
    return known if 2 * len(known.sizes) >= len(every.sizes) else None


def _as_balls(planes: _Objects, images: Sequence[FileFacts]) -> _Objects:
    """Voxels of balls of such sections, px: where a few planes are annotated, that is known."""
    pixel = np.array([(*image.pixel_size, 1.0)[:3] for image in images])[planes.image]
    deep = np.array([image.plane_count > 1 for image in images])[planes.image]
    radius = np.sqrt(planes.sizes * pixel[:, :2].prod(axis=1) / MEDIAN_SECTION / np.pi)
    balls = 4 / 3 * np.pi * radius**3 / pixel.prod(axis=1)
    return _Objects(np.where(deep, balls, planes.sizes), planes.faces, planes.image)


def _spread(values: np.ndarray, sizes: np.ndarray | None = None) -> tuple[float, ...]:
    """Percentiles; below the median of those alone that results keep.

    Args:
        values: of each object.
        sizes: of each object; None: the values are.
    """
    sizes = values if sizes is None else sizes
    kept = values[sizes >= np.median(sizes) / DROPPED]
    every, low = (np.percentile(each, PERCENTILES) for each in (values, kept))
    lower = np.minimum(low, every[MEDIAN])
    return tuple(np.where(np.arange(len(every)) < MEDIAN, lower, every).tolist())
