"""Connected components of masks and of maps of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from unet_med.instances.numbers import Integers, as_integers


def label_components(mask: ArrayLike, connectivity: int = 1, apart: Sequence[int] = ()) -> Integers:
    """Connected components of the non-zero pixels, numbered 1..N.

    Args:
        mask: `(*S)` or `(1, *S)`; zero is background.
        connectivity: 1 joins pixels that share a face (4 neighbours in 2-D, 6
            in 3-D); the number of dimensions joins corners too (8, 26).
        apart: axes across which nothing is joined, such as that of a stack of images; numbers go
            on from plane to plane.

    Returns:
        Instance map, int32, the shape of `mask`.

    Raises:
        ValueError: connectivity is not between 1 and the number of dimensions.

    >>> label_components([[1, 0, 1]]).tolist()
    [[1, 0, 2]]
    >>> label_components([[1, 1], [1, 0]], apart=[0]).tolist()
    [[1, 1], [2, 0]]
    """
    values = np.asarray(mask)
    if not 1 <= connectivity <= values.ndim:
        raise ValueError(
            f"connectivity {connectivity} in {values.ndim} dimensions; "
            f"1 joins faces, {values.ndim} corners too"
        )
    structure = ndimage.generate_binary_structure(values.ndim, connectivity)
    first = range(len(apart))
    for axis in first:
        np.moveaxis(structure, axis, 0)[::2] = False
    labels, _ = ndimage.label(np.moveaxis(values != 0, apart, first), structure)
    return cast(Integers, np.moveaxis(labels, first, apart))


def instances_from_mask(mask: ArrayLike, min_size: int = 0, *, connectivity: int = 1) -> Integers:
    """Connected components of at least `min_size` pixels, numbered 1..N without gaps.

    Args:
        mask: `(*S)` or `(1, *S)`; zero is background.
        min_size: smallest component kept, px; the 2015 release drops 500 px and less.
        connectivity: as in `label_components`.

    Returns:
        Instance map, int32, the shape of `mask`.
    """
    labels = label_components(mask, connectivity)
    kept = np.bincount(labels.ravel()) >= min_size
    kept[:1] = False  # background
    numbers = np.cumsum(kept, dtype=np.int32) * kept
    return cast(Integers, numbers[labels])


def number_components(
    classes: ArrayLike, connectivity: int = 1, apart: Sequence[int] = ()
) -> tuple[Integers, Integers]:
    """Connected components of every class, numbered class after class.

    Args:
        classes: class of every pixel, `(*S)`; what is not above 0 is no component.
        connectivity: as in `label_components`.
        apart: likewise.

    Returns:
        Labels `(*S)` int32, and the class of each, `(N,)`. The same input gives the same numbers.
    """
    values = as_integers(classes)
    labels = np.zeros(values.shape, np.int32)
    counts = [0]
    present = np.flatnonzero(np.bincount(values[values > 0].astype(np.int64))).tolist()
    for kind in present:
        found = label_components(values == kind, connectivity, apart)
        counts.append(int(found.max(initial=0)))
        np.add(found, sum(counts[:-1]), out=labels, where=found > 0)
    return labels, np.repeat(np.array(present, np.int64), np.array(counts[1:], np.int64))
