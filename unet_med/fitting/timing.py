"""How long held-out images take, and as many of them as there is time for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from unet_med.devices import HOST
from unet_med.planning.objects import LEAST

T = TypeVar("T")


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds that work takes; of a GPU the second time counts.

    What it does for the first time loads libraries and chooses kernels, for seconds.

    Args:
        work: what is timed; it waits for what it asks of a GPU.
        device: where it is done.
    """
    if device != HOST:
        work()
    began = time.monotonic()
    work()
    return time.monotonic() - began


def by_pixels(
    pixels: Sequence[int], seconds_of: Callable[[int], float], every: Sequence[int]
) -> list[float]:
    """How long images take, by their pixels: one of median size is timed.

    Args:
        pixels: of images that can be timed.
        seconds_of: times one of them, by its number.
        every: pixels of all images that are asked for.

    Returns:
        Seconds of each of `every`.

    >>> by_pixels([100, 400, 200], lambda k: [1.0, 4.0, 2.5][k], [200, 800])
    [2.5, 10.0]
    """
    middle = sorted(range(len(pixels)), key=pixels.__getitem__)[len(pixels) // 2]
    seconds = seconds_of(middle)
    return [seconds * count / pixels[middle] for count in every]


def within(seconds: Sequence[float], limit: float) -> list[int]:
    """Numbers of images, spread over all, that together take no longer than a limit.

    Args:
        seconds: that each takes.
        limit: s. An image is left out if three like it would exceed it.

    Returns:
        As many as there can be; none where these are too few to tell anything.
    """
    left = [k for k, each in enumerate(seconds) if LEAST * each <= limit]
    for number in range(len(left), LEAST - 1, -1):
        chosen = spread_evenly(left, number)
        if sum(seconds[k] for k in chosen) <= limit:
            return chosen
    return []


def spread_evenly(items: Sequence[T], count: int) -> list[T]:
    """So many items, spread over all."""
    if count >= len(items):
        return list(items)
    return [items[int((k + 0.5) * len(items) / count)] for k in range(count)]
