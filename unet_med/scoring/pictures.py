"""Images in the place of results: a picture has as many values as a label has objects."""

from __future__ import annotations

from typing import Any

import numpy as np

from unet_med import data
from unet_med.data.file_reader import Volume
from unet_med.data.label_reader import open_label
from unet_med.data.labels import MAX_CLASSES

LOOK_PX = 1024  # along each axis, in the middle: as much as it takes, of however large a file

Array = np.ndarray[Any, Any]


def open_result(path: str, kind: str) -> Volume:
    """A result as `open_label` opens it; an image in its place is refused.

    Raises:
        ValueError: it cannot be read, or looks like a picture.
    """
    opened = open_label(path, kind)
    _refuse_picture(opened.array, path)
    return opened


def _refuse_picture(label: Array, path: str) -> None:
    """Refuse an image that was read as a result.

    Of more values than classes have, it is looked at in the middle, of a volume in one plane.

    Args:
        label: whole numbers, `(X, Y[, Z])`.
        path: its file, as the message names it: a result and its truth may have one name.

    Raises:
        ValueError: it looks like a picture.
    """
    plane = label[..., label.shape[2] // 2] if label.ndim == 3 else label
    seen = plane[tuple(_middle(side) for side in plane.shape)]
    if len(np.unique(seen)) > MAX_CLASSES:
        data.check_labels([data.summarize_label(seen, blobs=False)], [path])


def _middle(side: int) -> slice:
    """At most `LOOK_PX` pixels of an axis.

    >>> _middle(9), _middle(2024)
    (slice(0, 9, None), slice(500, 1524, None))
    """
    first = max(0, (side - LOOK_PX) // 2)
    return slice(first, min(side, first + LOOK_PX))
