"""Seeds that fall apart where foreground is surer: objects that one threshold joins.

A map of classes may say how sure a seed is of being foreground: `LEVEL` more for each level that it
reaches. Components of one level lie in those of the level below, so they are a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_med.instances.components import number_components
from unet_med.instances.numbers import Integers, as_integers

LEVEL = 256
"""What a seed's class has more for each level that it reaches; classes lie below."""

Table = NDArray[Any]


def parted(
    classes: ArrayLike, min_part: int, connectivity: int = 1, apart: Sequence[int] = ()
) -> Integers:
    """Seeds without levels: each is whole, or the large parts that it falls into.

    Level after level a seed that holds two or more components of at least `min_part` px falls
    into these, and each of them may fall apart further up. What else it held is mask, which its
    parts may take. So a dim object that no higher level parts stays whole.

    Args:
        classes: `(*S)`; 0 is background, -k the mask of objects of class k, `k + n * LEVEL` a seed
            of class k that reaches n levels.
        min_part: smallest part, px.
        connectivity: of components, as in `label_components`.
        apart: axes across which nothing is joined.

    Returns:
        `(*S)`: 0, -k and k, as `instances_from_classes` takes them.

    >>> parted([257, 257, 1, 257, -1], 1).tolist()
    [1, 1, -1, 1, -1]
    >>> parted([257, 257, 1, 257, -1], 2).tolist()
    [1, 1, 1, 1, -1]
    """
    values = as_integers(classes)
    labels = [
        number_components(at_level(values, level), connectivity, apart)[0]
        for level in range(level_count(values))
    ]
    parents = [parents_of(*pair) for pair in pairwise([np.zeros_like(values), *labels])]
    large = [np.bincount(found.ravel()) >= min_part for found in labels]
    return with_seeds(values, labels, whole_components(parents, large))


def level_count(values: Integers) -> int:
    """Levels of a map of classes, the seeds themselves among them; 0 without a seed."""
    most = int(values.max(initial=0))
    return most // LEVEL + 1 if most > 0 else 0


def at_level(values: Integers, level: int) -> Integers:
    """Classes of the pixels that reach a level, 0 elsewhere."""
    return np.where(values > level * LEVEL, values % LEVEL, 0)


def parents_of(below: Integers, labels: Integers) -> Table:
    """Component of the level below in which each lies, `(N + 1,)`; 0 is background."""
    found = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    there = labels > 0
    found[labels[there]] = below[there]  # all pixels of a component say the same
    return found


def whole_components(parents: Sequence[Table], large: Sequence[Table]) -> list[Table]:
    """Which components are seeds: those that fall into no parts, and are parts of one that does.

    Args:
        parents: of each level the component of the level below that each lies in, `(N + 1,)`;
            of the lowest level nobody asks.
        large: whether each is large enough to be a part, `(N + 1,)`.

    Returns:
        Of each level, whether each is a seed, `(N + 1,)`.
    """
    starts = np.cumsum([0, *map(len, large)])
    seeds = np.zeros(starts[-1], bool)
    held = np.zeros(0, np.int64)  # seed that each component of a level lies in; 0: none
    for level, (parent, wide) in enumerate(zip(parents, large, strict=True)):
        own = starts[level] + np.arange(len(wide))
        held = held[parent] if level else own
        held[:1], wide[:1] = 0, False
        falls = np.bincount(held[wide], minlength=len(seeds)) > 1
        falls[:1] = False
        if level == 0:
            seeds[own[1:]] = True
            continue
        parts = wide & falls[held]
        seeds[falls] = False
        seeds[own[parts]] = True
        held = np.where(falls[held], own * parts, held)
    return [seeds[start:stop] for start, stop in pairwise(starts)]


def with_seeds(values: Integers, labels: Sequence[Integers], seeds: Sequence[Table]) -> Integers:
    """The map whose seeds are the chosen components; what other seeds held is mask.

    Args:
        values: the map with levels, `(*S)`.
        labels: components of each level, `(*S)`.
        seeds: what `whole_components` returned.
    """
    chosen = np.zeros(values.shape, bool)
    for found, kept in zip(labels, seeds, strict=True):
        chosen |= kept[found]
    kinds = (values % LEVEL).astype(np.int32)  # signed, whatever the map is
    return np.where(values > 0, np.where(chosen, kinds, -kinds), values)
