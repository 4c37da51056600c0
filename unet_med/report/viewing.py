"""How a volume is turned for a report: to the view of a radiologist, or to the network's planes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_med.data.grids import Turn, axes_of
from unet_med.data.orientation import turn_between

if TYPE_CHECKING:
    from unet_med.report.case_files import Reading


Array = NDArray[Any]
Entry = Mapping[str, Any]


def viewing_turn(entry: Entry, reading: Reading) -> Turn | None:
    """Turn of a volume to the view of a radiologist; None: it stays as it is.

    Right of the patient on the left, anterior up, slices from below: the axes run to L, P, S. Of a
    network of planes the view shows its planes: the third axis of its orientation, or of the
    file, stays the third.
    """
    if len(entry["shape"]) != 4 or not entry.get("affine"):
        return None
    oriented = reading.orientation if reading.by_plane else None
    if oriented is None and entry.get("unit") != "mm":
        return None
    word = "LPS" if oriented is None else "".join(map(_shown_end, oriented[:2])) + oriented[2]
    turn = turn_between(_axes_in(entry), entry["shape"][1:], word)
    return None if reading.by_plane and oriented is None and turn.order[2] != 2 else turn


def _shown_end(letter: str) -> str:
    """Where an axis ends that runs to the right or down on the screen."""
    return {"R": "L", "A": "P", "S": "I"}.get(letter, letter)


def runs_to_left(entry: Entry, turn: Turn) -> bool:
    """Whether the first axis of a turned volume runs to the left of the patient."""
    return _axes_in(entry)[turn.order[0]] == ("R" if turn.flips[0] else "L")


def _axes_in(entry: Entry) -> str:
    return axes_of(np.array(entry["affine"]))


def as_viewed(array: Array, turn: Turn | None) -> Array:
    """A plane or volume as `(X, Y, Z)`, turned for the viewer."""
    volume = array if array.ndim == 3 else array[..., None]
    return volume if turn is None else turn.of_array(volume)
