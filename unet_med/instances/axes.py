"""How far objects reach along each axis of an image, and which axes hold them apart."""

from __future__ import annotations

from collections.abc import Sequence

from unet_med.planes import APART, Planes


def along_axes(
    px: int | Sequence[int], dims: int, axes: Sequence[int] | None = None
) -> tuple[int, ...]:
    """How many px objects grow, or walk, along each axis of an image.

    Args:
        px: along the network's axes, or one number for each axis of the image.
        dims: axes of the image.
        axes: those of the network; None: all. A stack's planes were separated one by one, so that
            one number is none along the stack.

    Raises:
        ValueError: there are not as many numbers as axes, or one is below 0.

    >>> along_axes(2, 3, (0, 1)), along_axes([2, 2, 1], 3)
    ((2, 2, 0), (2, 2, 1))
    """
    if isinstance(px, Sequence):
        found = tuple(int(each) for each in px)
    else:
        found = tuple(int(px) if axes is None or axis in axes else 0 for axis in range(dims))
    if len(found) != dims or min(found, default=0) < 0:
        raise ValueError(f"{px} px for {dims} axes: give one number, or one an axis, from 0")
    return found


def axes_apart(planes: Planes, dims: int, axes: Sequence[int] | None = None) -> tuple[int, ...]:
    """Axes of an image across which nothing is joined.

    Args:
        planes: whether those of a stack are images of their own.
        dims: axes of the image.
        axes: those of the network; None: all.

    >>> axes_apart("apart", 3, (0, 1)), axes_apart("joined", 3, (0, 1)), axes_apart("apart", 3)
    ((2,), (), ())
    """
    if planes != APART or axes is None:
        return ()
    return tuple(axis for axis in range(dims) if axis not in axes)
