"""Switches of MONAI and torch that a program has set for a training of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch
from monai.data import get_track_meta, set_track_meta

from unet_med.precision import without_autocast


@contextmanager
def as_if_alone(device: torch.device) -> Iterator[None]:
    """Within the context metadata are kept, and no autocast of the caller holds."""
    with ExitStack() as stack:
        stack.enter_context(_tracking)
        stack.enter_context(without_autocast("cpu"))
        stack.enter_context(without_autocast(device))
        yield


class _Tracking:
    """Metadata are kept until the last thread within is done: MONAI's switch is the process's."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._within = 0  # threads
        self._before = True

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._before = get_track_meta()
                set_track_meta(True)
            self._within += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                set_track_meta(self._before)


_tracking = _Tracking()
