"""Numbers of NumPy and torch as Python's own, which JSON, TorchScript and messages take."""

from __future__ import annotations

from operator import index
from typing import Any


def plain(value: Any) -> Any:
    """A number or an array of NumPy or torch as Python's numbers; all else as it is.

    >>> import numpy as np
    >>> plain(np.float64(0.5)), plain(np.arange(2)), plain((1, 2))
    (0.5, [0, 1], (1, 2))
    """
    return value.tolist() if hasattr(value, "tolist") else value


def whole(name: str, number: Any) -> int:
    """A whole number as Python's integer.

    Raises:
        TypeError: it is another, or none; the message has the name.
    """
    if type(number) is int:
        return number
    try:
        return index(number)  # of NumPy and torch too
    except TypeError:
        raise TypeError(f"{name} {number!r} is no whole number") from None
