"""Where each of the few values of a label lies: its connected pieces, its place, its neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unet_med.data.faces import TABLE
from unet_med.instances import IGNORED
from unet_med.planes import APART, Planes


@dataclass(frozen=True)
class Blobs:
    """The positive values of one label image, 255 aside.

    Attributes:
        largest: of each value, the share of its pixels in its largest connected piece; where
            planes number their objects anew, in the largest piece of each plane.
        flat: the image is a plane, no volume.
        places: of each value, its size in pixels (logarithm) and its centre, as a share of the
            image along each axis.
        neighbours: pairs of values that lie beside each other.
        enclosed: pairs of which the first lies beside the second and nothing else.
    """

    largest: Mapping[float, float]
    flat: bool
    places: Mapping[float, tuple[float, ...]]
    neighbours: frozenset[tuple[int, ...]]
    enclosed: frozenset[tuple[int, ...]] = frozenset()


def blobs_of(label: np.ndarray, held: np.ndarray, numbered: Planes | None) -> Blobs:
    """Values of a label, looked at one by one, of those that it holds.

    Args:
        label: of any shape.
        held: its values.
        numbered: what its numbers say of its planes; see `plane_kind.planes_numbered`.
    """
    from scipy import ndimage

    label = label.squeeze()
    apart = numbered == APART and label.ndim == 3
    full = np.ones((3,) * label.ndim)
    places, neighbours, enclosed, largest = {}, set(), set(), {}
    values = [v for v in held.tolist() if v > 0 and v != IGNORED]
    boxes = _boxes(label, values)
    for value in values:
        box = boxes[value]
        box = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        own = label[box] == value
        parts = list(np.moveaxis(own, 2, 0)) if apart else [own]
        pieces = [piece_sizes(part) for part in parts]
        count = sum(int(part.sum()) for part in pieces)
        largest[value] = sum(int(part.max(initial=0)) for part in pieces) / count
        centre = (
            (part.start + _mean_place(own, axis)) / label.shape[axis]
            for axis, part in enumerate(box)
        )
        places[value] = (float(np.log(count)), *map(float, centre))
        beside = np.unique(label[box][ndimage.binary_dilation(own, full)]).tolist()
        neighbours |= {(value, other) for other in beside if other > value}
        others = [other for other in beside if other != value]
        enclosed |= {(value, others[0])} if len(others) == 1 and others[0] in boxes else set()
    flat = label.ndim == 2
    return Blobs(largest, flat, places, frozenset(neighbours), frozenset(enclosed))


def _boxes(label: np.ndarray, values: Sequence[int]) -> dict[int, tuple[slice, ...]]:
    """Where each positive value lies; small integers all at once."""
    from scipy import ndimage

    if label.dtype.kind in "iu" and max(values, default=0) < TABLE:
        every = ndimage.find_objects(label, max(values, default=1))
        return {value: every[value - 1] for value in values}
    return {v: ndimage.find_objects((label == v).view(np.int8))[0] for v in values}


def piece_sizes(own: np.ndarray) -> np.ndarray:
    """Pixels of each connected piece of what is True; corners connect."""
    from scipy import ndimage

    pieces, count = ndimage.label(own, np.ones((3,) * own.ndim))
    parts = pieces if pieces.ndim == 3 else pieces[None]  # it copies what it counts, as 64 bits
    found = sum(np.bincount(part.ravel(), minlength=count + 1) for part in parts)
    return np.asarray(found)[1:]


def _mean_place(own: np.ndarray, axis: int) -> float:
    """Mean of the places along an axis of what is True."""
    others = tuple(each for each in range(own.ndim) if each != axis)
    counts = own.sum(axis=others)
    return float(counts @ np.arange(len(counts)) / counts.sum())
