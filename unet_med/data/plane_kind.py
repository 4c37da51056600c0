"""Whether the planes of a stack are images of their own, or lie in one volume.

What somebody says holds; then what the numbers of annotated objects say; then the image's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unet_med.data.faces import count_values
from unet_med.data.pixel_size import states_size
from unet_med.planes import APART, JOINED, Planes

PLANES = "planes"  # entry of an image's metadata, and of what a record says of it


def planes_stated(meta: Mapping[str, Any]) -> Planes:
    """What an image's file says: planes whose distance it states lie in one volume.

    Args:
        meta: as our readers give it, with `planes`; of other readers `original_affine` says that
            a file stated an affine.
    """
    if PLANES in meta:
        return APART if meta[PLANES] == APART else JOINED
    return APART if not states_size(meta) or "z" in meta.get("unknown_axes", "") else JOINED


def planes_numbered(label: np.ndarray) -> Planes | None:
    """What the numbers of annotated objects say.

    Pixels that lie upon each other in neighbouring planes carry one number where objects go
    through planes. In planes that each count from 1 on without a gap they may do so by chance.

    Args:
        label: numbers of objects, `(X, Y, Z)`; 0 and below are none.

    Returns:
        None: no two objects lie upon each other, or it may be chance.

    >>> planes_numbered(np.array([[[1, 2, 3]]])), planes_numbered(np.array([[[7, 7, 7]]]))
    ('apart', 'joined')
    """
    if label.ndim != 3:
        return None
    pairs = same = 0
    anew = True
    before = np.zeros(label.shape[:2], label.dtype)
    for each in np.moveaxis(label, 2, 0):
        plane = np.ascontiguousarray(each)
        both = (before > 0) & (plane > 0)
        pairs += int(np.count_nonzero(both))
        same += int(np.count_nonzero(both & (before == plane)))
        anew = anew and _from_one(plane)
        before = plane
    if not pairs or (anew and 2 * same > pairs):
        return None
    return JOINED if 2 * same > pairs else APART


def _from_one(plane: np.ndarray) -> bool:
    """Whether the numbers of a plane count from 1 on without a gap; so do none."""
    numbers = count_values(plane)[0]
    return not (numbers > 0).any() or int(numbers[-1]) == int((numbers > 0).sum())
