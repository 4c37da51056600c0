"""Whether progress bars are shown: on a terminal, unless nobody wants them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Bar = Callable[..., Iterator[Any]]  # `with_bar`, or one that knows whether it is wanted

BARS = logging.getLogger("unet_med.bars")  # level ERROR: no bars; see `unet-med --quiet`


def no_bar(wanted: bool = True) -> bool | None:
    """`disable` of a tqdm bar: True hides it, None hides it where there is no terminal.

    >>> no_bar(), no_bar(False)
    (None, True)
    """
    return None if wanted and BARS.isEnabledFor(logging.WARNING) else True


def with_bar(items: Sequence[T], text: str, *, wanted: bool = True) -> Iterator[T]:
    """The items, behind a bar that counts those that are done; their unit is an image."""
    from tqdm import tqdm  # which no command waits for that shows none

    with tqdm(items, text, unit="image", disable=no_bar(wanted)) as bar:
        yield from bar
