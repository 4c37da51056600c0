"""`--shard I/N`: the part of a job that one of N machines does."""

from __future__ import annotations

import re
from collections.abc import Iterable

from unet_med.data.cases import Files, files_of


def shard_of(text: str | None) -> tuple[int, int] | None:
    """`I/N` as numbers.

    Raises:
        ValueError: it is no such pair.

    >>> shard_of("3/16")
    (3, 16)
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not int(found[1]) < int(found[2]):
        raise ValueError(f"--shard {text!r} is not I/N with I from 0 to N - 1, such as 0/16")
    return int(found[1]), int(found[2])


def images_of(shard: tuple[int, int], images: Iterable[Files]) -> list[Files]:
    """Every N-th image from the I-th, by name, so that all machines count alike.

    >>> images_of((1, 2), ["d", "a", "c", "b"])
    ['b', 'd']
    """
    first, step = shard
    return sorted(images, key=lambda image: [str(file) for file in files_of(image)])[first::step]
