"""Connected components of one block, and where they touch those of the next."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.data.atomic import atomic_write
from unet_med.instances import (
    along_axes,
    as_integers,
    axes_apart,
    number_components,
)
from unet_med.instances.borders import shifted
from unet_med.planes import JOINED, Planes
from unet_med.volumes.blocks import Block

Integers = NDArray[Any]
Rules = tuple[int, tuple[int, ...], tuple[int, ...], tuple[bool, ...]]


@dataclass(frozen=True)
class Components:
    """What the other blocks must know of one block's components, numbered 1..N within it.

    Attributes:
        classes: class of each, `(N,)`.
        first: place of its first voxel in the whole volume, in C order, `(N,)`; of planes apart,
            plane after plane.
        size: its voxels in this block, `(N,)`.
        faces: labels of the block's outermost voxels, `reach + 2 * grow` thick along their axis
            and at least 1, for each axis and side: `"0-"`, `"0+"`, `"1-"`, ...; -k where a
            component of class k may reach.
        connectivity: as in `find_components`.
        grow: px along each axis.
        reach: px along each axis.
        apart: of each axis, whether nothing is joined across it.
    """

    classes: Integers
    first: Integers
    size: Integers
    faces: Mapping[str, Integers]
    connectivity: int
    grow: tuple[int, ...]
    reach: tuple[int, ...]
    apart: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.size)

    @property
    def rules(self) -> Rules:
        """How the components of all blocks must have been found."""
        return self.connectivity, self.grow, self.reach, self.apart

    def towards(self, step: Sequence[int], thickness: Sequence[int]) -> Integers:
        """Labels that lie at the neighbour in direction `step`: a face, an edge or a corner.

        Args:
            step: -1, 0 or 1 an axis, not all 0.
            thickness: px along each axis, used along those of the step; less where the block
                itself is thinner.
        """
        axis = next(k for k, s in enumerate(step) if s)
        face = self.faces[f"{axis}{'-' if step[axis] < 0 else '+'}"]
        return face[tuple(_end(s, px) for s, px in zip(step, thickness, strict=True))]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed `.npz`; half a file is never seen under its name."""
        arrays = {name: getattr(self, name) for name in ("classes", "first", "size")}
        rules = [self.connectivity, *self.grow, *self.reach, *self.apart]
        arrays |= {"rules": np.array(rules), **self.faces}
        with atomic_write(path) as beside, beside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Components:
        """Read what `save` wrote; each face is read only when it is asked for."""
        archive = np.load(path, allow_pickle=False)
        classes, first, size = (archive[name] for name in ("classes", "first", "size"))
        connectivity, *of_axes = archive["rules"].tolist()
        grow, reach, apart = map(tuple, np.reshape(of_axes, (3, -1)).tolist())
        return cls(
            classes, first, size, archive, connectivity, grow, reach, tuple(map(bool, apart))
        )


def find_components(
    classes: Any,
    block: Block,
    *,
    connectivity: int = 1,
    grow: int | Sequence[int] = 0,
    reach: int | Sequence[int] = 0,
    axes: Sequence[int] | None = None,
    planes: Planes = JOINED,
) -> Components:
    """Step 1 of 3, for each block by itself: its components and its outermost voxels.

    Args:
        classes: class of every voxel of the whole volume, `(*S)`, 0 is background, -k what a
            component of class k may take; an array, a memory map, a Zarr array: only the block
            is read.
        block: the block.
        connectivity: 1 joins voxels that share a face, the number of axes corners too.
        grow: px by which instances will grow into the background between them; as in
            `unet_med.transforms.InstancesFromLogits`.
        reach: px that components will take of the voxels below 0; likewise.
        axes: along which one number of `grow` or `reach` holds; None: all.
        planes: `"apart"`: across the other axes nothing is joined.

    Returns:
        The table that `unet_med.volumes.instances.merge_components` asks for.
    """
    values = as_integers(classes[block.slices])
    grows, walks = (along_axes(px, values.ndim, axes) for px in (grow, reach))
    apart = axes_apart(planes, values.ndim, axes)
    labels, kinds = number_components(values, connectivity, apart)
    first, size = _measure(labels, len(kinds))
    places = np.unravel_index(first, labels.shape)
    order = [*apart, *(axis for axis in range(values.ndim) if axis not in apart)]
    starts = [part.start for part in block.slices]
    return Components(
        classes=kinds,
        first=np.ravel_multi_index(
            tuple(places[axis] + starts[axis] for axis in order),
            [classes.shape[axis] for axis in order],
        ),
        size=size,
        faces=dict(_faces(with_takeable(labels, values), around(grows, walks))),
        connectivity=connectivity,
        grow=grows,
        reach=walks,
        apart=tuple(axis in apart for axis in range(values.ndim)),
    )


def around(grow: Sequence[int], reach: Sequence[int]) -> list[int]:
    """How far from a voxel lies what decides its object, along each axis, px."""
    return [2 * px + walk for px, walk in zip(grow, reach, strict=True)]


def require_thickness(block: Sequence[int], shape: Sequence[int], needed: Sequence[int]) -> None:
    """Refuse blocks into which something would grow from beyond their next neighbours.

    Args:
        block: sides of a block, px; the last along an axis may have less.
        shape: of the volume, px.
        needed: what `around` returned.

    Raises:
        ValueError: names the axis and both numbers.
    """
    for axis, (side, length, least) in enumerate(zip(block, shape, needed, strict=True)):
        if side < min(length, least):
            raise ValueError(
                f"blocks of {side} px along axis {axis}, and instances grow within {least} px: use "
                "larger blocks, or grow and reach less"
            )


def with_takeable(labels: Integers, classes: Integers) -> Integers:
    """Labels, and below 0 the classes of what they may take."""
    return np.where(classes < 0, classes, labels) if classes.dtype.kind == "i" else labels


def contacts(here: Components, there: Components, step: Sequence[int]) -> Integers:
    """Components of two blocks that are one: pairs of their numbers, `(K, 2)`.

    Args:
        here: components of a block.
        there: components of the block that lies one further along `step`.
        step: -1, 0 or 1 an axis, not all 0.
    """
    reach = here.connectivity - np.count_nonzero(step)
    fixed = np.not_equal(step, 0) | here.apart
    thin = [1] * len(step)
    a, b = here.towards(step, thin), there.towards([-s for s in step], thin)  # (*S), 1 along step
    found = [np.empty(0, np.int64)]
    for offset in product(*[(0,) if each else (-1, 0, 1) for each in fixed]):
        if np.count_nonzero(offset) <= reach:
            behind = tuple(-o for o in offset)
            found.append(_overlaps(a[shifted(offset)], b[shifted(behind)], len(there) + 1))
    pairs = np.stack(np.divmod(np.unique(np.concatenate(found)), len(there) + 1), axis=1)
    same = here.classes[pairs[:, 0] - 1] == there.classes[pairs[:, 1] - 1]
    return pairs[same]


def _overlaps(a: Integers, b: Integers, base: int) -> Integers:
    """`a * base + b` where labels lie over one another; runs of one pair count once."""
    both = (a > 0) & (b > 0)
    keys = a[both].astype(np.int64) * base + b[both]
    fresh = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=fresh[1:])
    return keys[fresh]


def _measure(labels: Integers, count: int) -> tuple[Integers, Integers]:
    """First voxel (index into the flat block) and size of each label 1..count, both `(N,)`."""
    flat = labels.ravel()
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1  # of runs of one label
    starts = np.concatenate([np.zeros(min(flat.size, 1), np.int64), starts])
    lengths = np.diff(starts, append=flat.size)
    of = flat[starts]
    first = np.full(count + 1, flat.size, np.int64)
    np.minimum.at(first, of, starts)
    size = np.zeros(count + 1, np.int64)
    np.add.at(size, of, lengths)
    return first[1:], size[1:]


def _faces(labels: Integers, thickness: Sequence[int]) -> Iterator[tuple[str, Integers]]:
    for axis, px in enumerate(thickness):
        for side, step in (("-", -1), ("+", 1)):
            part = _end(step, max(1, px))
            yield f"{axis}{side}", labels[(slice(None),) * axis + (part,)].copy()


def _end(step: int, px: int) -> slice:
    """The first or last px of a side, which a step of -1 or 1 leaves by; 0: all of it."""
    return {-1: slice(None, px), 0: slice(None), 1: slice(-px, None)}[step]
