"""Classify pixels and borders of a result: right, missed, false, merged or split."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_med.instances import IGNORED, as_integers, in_a_table, regrow, ridge

Kind = Literal["instances", "classes"]
Labels = NDArray[Any]

DIFFERENCES = {
    "background": None,
    "correct": "#1f9e77",
    "missed": "#ffb000",
    "false": "#5ab4ff",
    "merged border": "#ff2d6f",
    "split border": "#fff36b",
    "wrong class": "#c77dff",
}
"""What `difference_map` tells apart, by code; colours that the colour-blind can tell apart too."""


def difference_map(
    truth: ArrayLike, result: ArrayLike, kind: Kind = "instances"
) -> NDArray[np.uint8]:
    """Class of each pixel, right or wrong, as position in `DIFFERENCES`.

    A *merged border* runs between two true instances that lie mostly in one
    instance of the result; a *split border* between two instances of the result
    that lie mostly in one true instance.

    Args:
        truth: label map `(*S)`; ignored pixels come back as background.
        result: label map `(*S)`.
        kind: `"instances"` or `"classes"`.

    Returns:
        Codes, `(*S)`.

    >>> difference_map([[0, 1, 1]], [[1, 1, 0]]).tolist()
    [[3, 1, 2]]
    """
    t, r = as_integers(truth), as_integers(result)
    code = {name: position for position, name in enumerate(DIFFERENCES)}
    found = np.zeros(t.shape, np.uint8)
    found[(t > 0) & (r > 0)] = code["correct"]
    found[(t > 0) & (r <= 0)] = code["missed"]
    found[(t <= 0) & (r > 0)] = code["false"]
    if kind == "classes":
        found[(t > 0) & (r > 0) & (t != r)] = code["wrong class"]
        found[t == IGNORED] = 0
    else:
        either = found > 0
        t, r = in_a_table(t), in_a_table(r)
        found[_joined(t, r) & either] = code["merged border"]
        found[_joined(r, t) & either] = code["split border"]
    found[t < 0] = 0
    return found


def overlaps(a: Labels, b: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers `(2, n)` of the instances that overlap, and how many pixels they share `(n)`."""
    both = (a > 0) & (b > 0)
    return np.unique(np.stack([a[both], b[both]]).astype(np.int64), axis=1, return_counts=True)


def _joined(one: Labels, other: Labels) -> NDArray[np.bool_]:
    """Borders between instances of `one` that lie mostly in one instance of `other`, `(*S)`."""
    pairs, shared = overlaps(one, other)
    inside = 2 * shared > np.bincount(np.maximum(one, 0).ravel())[pairs[0]]
    host = np.arange(int(one.max(initial=0)) + 1) + int(other.max(initial=0))  # alone
    host[0] = 0
    host[pairs[0, inside]] = pairs[1, inside]
    grown = np.maximum(regrow(one, 2), 0)
    hosts = host[grown]
    return ridge(grown) & ~ridge(hosts)  # a border that renaming makes vanish
