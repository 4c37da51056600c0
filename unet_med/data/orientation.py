"""Which way the axes of a file run in the body, and the turn that brings them into one order.

An orientation is one word of three letters, as nibabel and MONAI's `Orientationd` have it: where
the axes end. In `RAS` X runs to the right, Y to the front (anterior), Z to the head (superior).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unet_med.data.grids import ENDS, Grid, Turn, axes_of, no_turn


def axis_of(letter: str) -> int:
    """Axis of the world, 0 to 2, on which a letter lies.

    >>> [axis_of(letter) for letter in "RPS"]
    [0, 1, 2]
    """
    return next(axis for axis, ends in enumerate(ENDS) if letter in ends)


def require_orientation(word: str) -> str:
    """An orientation as it is, if it is one.

    Raises:
        ValueError: letters other than one of each pair.
    """
    letters = [letter for letter in word if letter in "".join(ENDS)]
    if len(word) != 3 or sorted(map(axis_of, letters)) != [0, 1, 2]:
        raise ValueError(
            f"orientation {word!r} is not one letter of each of L and R, P and A, I and S: such as "
            "RAS, whose axes run to the right, the front and the head; or null"
        )
    return word


def affine_along(word: str, sizes: Sequence[float]) -> np.ndarray:
    """Voxel to world, 4x4, of axes that run as a word says, the first voxel at the origin.

    Args:
        word: the orientation of X, Y and Z.
        sizes: of a voxel along `(X, Y[, Z])`; a plane is 1 thick.

    Raises:
        ValueError: the word is none.

    >>> np.diag(affine_along("LAS", (0.5, 0.25))).tolist()
    [-0.5, 0.25, 1.0, 1.0]
    """
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    pairs = zip(require_orientation(word), (*sizes, 1.0), strict=False)
    for axis, (letter, size) in enumerate(pairs):
        world = axis_of(letter)
        affine[world, axis] = size if letter == ENDS[world][1] else -size
    return affine


def flat_axis(shape: Sequence[int]) -> int | None:
    """The axis that a plane does not have, or has one voxel of; None: it is a volume.

    >>> flat_axis((5, 6)), flat_axis((1, 5, 6)), flat_axis((5, 6, 7))
    (2, 0, None)
    """
    single = [axis for axis, side in enumerate((*shape, 1)[:3]) if side == 1]
    return single[0] if len(single) == 1 else 2 if len(shape) == 2 else None


def outcome(own: str, shape: Sequence[int], word: str) -> str:
    """The orientation that an image gets: a plane stays one, whatever the word.

    Its flat axis comes last, and the other two follow the word without that.

    Args:
        own: orientation of the image.
        shape: `(X, Y[, Z])`, px.
        word: the orientation that is wanted.

    >>> outcome("LPS", (5, 6, 7), "RAS"), outcome("PSL", (5, 6), "RAS")
    ('RAS', 'ASL')
    """
    if (flat := flat_axis(shape)) is None:
        return word
    return "".join(each for each in word if axis_of(each) != axis_of(own[flat])) + own[flat]


def turn_between(own: str, shape: Sequence[int], word: str) -> Turn:
    """The turn from one orientation to another, as far as `outcome` goes; arguments as there."""
    letters, world = outcome(own, shape, word), [axis_of(letter) for letter in own]
    order = tuple(world.index(axis_of(letter)) for letter in letters)
    flips = tuple(own[old] != letter for old, letter in zip(order, letters, strict=True))
    return Turn(order, flips, len(shape))


def turn_towards(grid: Grid, word: str | None) -> Turn:
    """The turn that brings an image into an orientation; none where its file states no place."""
    if word is None or not grid.oriented:
        return no_turn(len(grid.shape))
    return turn_between(axes_of(grid.affine), grid.shape, word)
