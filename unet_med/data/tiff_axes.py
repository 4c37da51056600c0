"""Axes of a TIFF by tifffile's letters, brought into MONAI's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def arrange(
    array: np.ndarray, axes: str, select: Mapping[str, int] | None = None
) -> tuple[np.ndarray, bool]:
    """Bring tifffile's axes into MONAI's order, without a copy.

    Args:
        array: data of one series.
        axes: its axes by tifffile's letters.
        select: index to take along an axis.

    Returns:
        `(X, Y[, Z])` or `(C, X, Y[, Z])`, and whether there are channels.

    Raises:
        ValueError: an axis that is neither channel nor space is left, or an index is out
            of range; the message says what to select.

    >>> arrange(np.zeros((5, 3, 7, 9)), "ZCYX")[0].shape
    (3, 9, 7, 5)
    """
    shape = array.shape
    for wanted, index in (select or {}).items():
        letter = "S" if wanted == "C" and "C" not in axes else wanted  # RGB
        size = array.shape[axes.index(letter)] if axes.count(letter) == 1 else 1 - (letter in axes)
        if not 0 <= index < size:  # an axis that is not listed has length 1
            raise ValueError(f"index {index} along {wanted!r} is not in axes {axes} {shape}")
        if letter in axes:
            array = np.moveaxis(array, axes.index(letter), 0)[index]
            axes = axes.replace(letter, "")
    if "C" not in axes:
        axes = axes.replace("S", "C")  # samples of a pixel: RGB
    if "Z" not in axes and sum(map(axes.count, "IQ")) == 1:
        axes = axes.replace("I", "Z").replace("Q", "Z")  # pages in a row
    order = [letter for letter in "CXYZ" if letter in axes]
    if sorted(axes) != sorted(order) or not {"X", "Y"} <= set(axes):
        raise ValueError(f"its axes {axes} {shape} are not channels, z, y and x; {_choice(axes)}")
    return array.transpose([axes.index(letter) for letter in order]), "C" in axes


def checked(axes: str | None) -> str | None:
    """Names of axes as a user wrote them, in capitals.

    Raises:
        ValueError: a letter twice, no x or y, or one that is not of C, S, T, Z, Y, X.

    >>> checked("cyx")
    'CYX'
    """
    if axes is None:
        return None
    letters = axes.upper()
    if len(set(letters)) != len(letters) or not {"Y", "X"} <= set(letters) <= set("CSTZYX"):
        raise ValueError(f"--axes {axes} is not Y, X and some of C, Z and T, each once")
    return letters


def named(axes: str, shape: Sequence[int], by_user: str | None) -> str:
    """Axes of a series, or what the user calls them.

    Raises:
        ValueError: another number of axes.

    >>> named("IYX", (2, 9, 9), "CYX")
    'CYX'
    """
    if by_user is None:
        return axes
    if len(by_user) != len(shape):
        raise ValueError(
            f"--axes {by_user} names {len(by_user)} axes, and it has {len(shape)}: {axes} "
            f"{tuple(shape)}"
        )
    return by_user


def selection(time: int | None, channel: int | None) -> dict[str, int]:
    """Index to take along an axis, of what was chosen."""
    named = {"T": time, "C": channel}
    return {axis: index for axis, index in named.items() if index is not None}


def choose_series(found: Sequence[str], series: int | None) -> int:
    """Number of the image to read; among several the user must choose.

    Args:
        found: what images a file holds, as a message lists them.
        series: what was chosen.

    Raises:
        ValueError: nothing was chosen among several, or what is not there.
    """
    if series is None and len(found) > 1:
        listed = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
        raise ValueError(f"it holds {len(found)} images ({listed}); choose one with --series 0")
    number = series or 0
    if not 0 <= number < len(found):
        raise ValueError(f"series {number} is not among its {len(found)} images")
    return number


def without_channels(axes: str) -> str:
    """Axes of a label, of an image with these."""
    return "".join(letter for letter in axes if letter not in "CS")


def _choice(axes: str) -> str:
    """Advice how to choose along the first axis that is neither channel nor space."""
    extra = next((letter for letter in axes if letter not in "CZYX"), "X")
    if extra == "X" or axes.count(extra) > 1:
        return "save it with named axes"
    extra = "C" if extra == "S" else extra  # its samples are the channels then
    option = {"T": "--time 0", "C": "--channel 0"}.get(extra)
    if option is None:
        return f"save one of {extra} in a file of its own"
    planes = axes.replace("T", "Z") if extra == "T" and "Z" not in axes else None
    also = f", or all as planes with --axes {planes}, to train with --dims 2 too" if planes else ""
    return f"take one of {extra} with {option}{also}"
