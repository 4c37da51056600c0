"""How a volume is turned for a report: to the view of a radiologist, or to the network's planes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from unet_med.report.case_files import Reading


Array = NDArray[Any]
Entry = Mapping[str, Any]


def viewing_turn(entry: Entry, reading: Reading | None = None) -> Array | None:
    """Turn of a volume to the view of a radiologist; None: it stays as it is.

    Right of the patient on the left, anterior up, slices from below: the axes run to L, P, S. Of a
    network of planes the view shows its planes: the third axis of its orientation, or of the
    file, stays the third.
    """
    if len(entry["shape"]) != 4 or not entry.get("affine"):
        return None
    by_plane = reading is not None and reading.by_plane
    oriented = reading.orientation if reading and by_plane else None
    if oriented is None and entry.get("unit") != "mm":
        return None
    from nibabel import orientations

    word = "LPS" if oriented is None else "".join(map(_shown_end, oriented[:2])) + oriented[2]
    now = orientations.io_orientation(np.array(entry["affine"]))
    turn: Array = orientations.ornt_transform(now, orientations.axcodes2ornt(word))
    return None if by_plane and oriented is None and turn[2, 0] != 2 else turn


def _shown_end(letter: str) -> str:
    """Where an axis ends that runs to the right or down on the screen."""
    return {"R": "L", "A": "P", "S": "I"}.get(letter, letter)


def ends_of(entry: Entry, turn: Array) -> str:
    """Where the axes of a volume end after a turn, such as `LPS`."""
    from nibabel import orientations

    now = orientations.io_orientation(np.array(entry["affine"]))
    order = np.argsort(turn[:, 0])  # of the old axis that each new one was
    world = np.array([[now[k, 0], now[k, 1] * turn[k, 1]] for k in order])
    return "".join(orientations.ornt2axcodes(world))


def as_viewed(array: Array, turn: Array | None) -> Array:
    """A plane or volume as `(X, Y, Z)`, turned for the viewer."""
    volume = array if array.ndim == 3 else array[..., None]
    if turn is None:
        return volume
    from nibabel.orientations import apply_orientation

    turned: Array = apply_orientation(volume, turn)
    return turned
