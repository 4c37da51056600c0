"""Switches of MONAI and torch that a program has set for a training of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from monai.data import get_track_meta, set_track_meta

from unet_med.precision import without_autocast


@contextmanager
def as_if_alone(device: torch.device) -> Iterator[None]:
    """Within the context metadata are kept, and no autocast of the caller holds.

    Args:
        device: where the network runs.
    """
    kept = get_track_meta()
    with ExitStack() as stack:
        stack.callback(set_track_meta, kept)
        set_track_meta(True)
        stack.enter_context(without_autocast("cpu"))
        stack.enter_context(without_autocast(device))
        yield
