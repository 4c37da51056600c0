"""Channels that add nothing: equal colours of a grey picture, and an alpha that is opaque."""

from __future__ import annotations

from typing import Any, TypeVar

Pixels = TypeVar("Pixels", bound=Any)  # an array or a tensor

OPAQUE = (255, 65535)  # of 8 and of 16 bits
KINDS = (1, 3)  # channels of grey, and of colours


def in_fewer_channels(image: Pixels, count: int) -> Pixels | None:
    """The first channels of an image, if the others add nothing; None: they do.

    Args:
        image: `(C, *S)`.
        count: channels that are wanted: 1 of a grey picture that was saved as RGB, RGBA or grey
            with alpha, 3 of one in colours that was saved as RGBA.

    >>> import numpy as np
    >>> grey = np.array([[[7, 9]], [[7, 9]], [[7, 9]], [[255, 255]]])
    >>> in_fewer_channels(grey, 1).tolist()
    [[[7, 9]]]
    """
    channels = len(image)
    if not may_be_fewer(channels, count):
        return None
    has_alpha = channels in (2, 4)
    if has_alpha and not any(bool((image[-1] == opaque).all()) for opaque in OPAQUE):
        return None
    return image[:count] if _are_equal(image, image[count : channels - has_alpha]) else None


def but_for_alpha(image: Pixels, count: int) -> bool:
    """Whether nothing but an alpha that is not opaque keeps an image from fewer channels.

    Args:
        image: `(C, *S)`, of which `in_fewer_channels` says None.
        count: channels that are wanted.
    """
    has_alpha = may_be_fewer(len(image), count) and len(image) in (2, 4)
    return has_alpha and _are_equal(image, image[count:-1])


def _are_equal(image: Pixels, others: Pixels) -> bool:
    return bool((others == image[:1]).all())


def may_be_fewer(channels: int, count: int) -> bool:
    """Whether so many channels may be those of a picture of `count`."""
    return count in KINDS and count < channels <= 4


def channels_needed(image: Any) -> int:
    """How many channels of an image add something.

    Args:
        image: `(C, *S)`, an array or a tensor.
    """
    fewer = (count for count in KINDS if in_fewer_channels(image, count) is not None)
    return next(fewer, len(image))
