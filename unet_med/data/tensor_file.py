"""Files of tensors and plain values, PyTorch's format: whole, or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import torch

from unet_med.data.atomic import atomic_write


def write_tensors(
    value: Any, path: str | os.PathLike[str], *, previous: str | os.PathLike[str] | None = None
) -> None:
    """Write tensors and plain values; `path` never holds a half-written file.

    Args:
        value: what `torch.save` takes.
        path: where the file goes, once it is whole and on the disk.
        previous: new name of the file that `path` held before.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    target = Path(path)
    with atomic_write(target) as beside:
        with beside.open("wb") as file:
            _save(value, file)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and target.exists():
            os.replace(target, previous)


def _save(value: Any, file: IO[bytes]) -> None:
    """`torch.save`, which hides the system's reason where a disk is full."""
    try:
        torch.save(value, file)
    except RuntimeError as error:
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None
