"""The first pass over a source: what a network must know of the whole before any block."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from unet_med.data.atomic import atomic_write
from unet_med.volumes.blocks import Block
from unet_med.volumes.model import Model, Statistics
from unet_med.volumes.sources import Source

__all__ = ["fingerprint", "load_statistics", "save_statistics", "whole_statistics"]


def whole_statistics(
    model: Model, source: Source, windows: Sequence[Block], *, progress: bool = False
) -> Statistics:
    """Statistics of a whole source, read window by window.

    Mean and deviation take one reading. Batch normalisation that looks at the image takes one
    pass of the network over it besides, in this process.

    Args:
        model: what wants them.
        source: the image.
        windows: that together are the source.
        progress: whether to show bars.
    """
    found: dict[str, np.ndarray] = {}
    by_plane = model.by_plane(source)
    if model.standardize:
        bar = tqdm(windows, desc="mean and deviation", unit="block", disable=not progress)
        found["mean"], found["std"] = mean_and_deviation(source, bar, by_plane=by_plane)
    if model.layers:
        planes = [slice(z, z + 1) for z in range(source.shape[0])] if by_plane else [None]
        bar = tqdm(planes, desc="batch statistics", unit="image", disable=not progress)
        rows = [model.look(source, plane, found) for plane in bar]
        found |= {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return found


def mean_and_deviation(
    source: Source, windows: Iterable[Block], *, by_plane: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, in float64.

    Planes are merged as Chan, Golub and LeVeque (1983) do, without cancellation.

    Args:
        source: the image.
        windows: that together are the source.
        by_plane: of each plane of a volume; else of the whole.

    Returns:
        Both `(planes, C)`, one row for the whole; a deviation of 0 becomes 1.

    Raises:
        ValueError: the image holds NaN or infinite pixels.
    """
    rows = source.shape[0] if by_plane else 1
    count = np.zeros((rows, 1))
    mean, squares = np.zeros((2, rows, source.channels))
    for window in windows:
        pixels = _read(source, window)  # (C, [Z,] Y, X)
        planes = pixels.reshape(source.channels, -1, *pixels.shape[-2:]).swapaxes(0, 1)
        for depth, plane in enumerate(planes):
            row = window.slices[0].start + depth if by_plane else 0
            flat = plane.reshape(source.channels, -1).astype(np.float64)  # one plane at a time
            if not np.isfinite(flat).all():
                raise ValueError(f"{source.path} holds NaN or infinite pixels in {window.slices}")
            here, n = flat.mean(-1), flat.shape[-1]  # (C,)
            total, step = count[row] + n, here - mean[row]
            spread = ((flat - here[:, None]) ** 2).sum(-1)
            squares[row] += spread + step**2 * count[row] * n / total
            mean[row] += step * n / total
            count[row] = total
    deviation = np.sqrt(squares / count)
    return mean, np.where(deviation > 0, deviation, 1.0)


def _read(source: Source, window: Block) -> np.ndarray:
    try:
        return source.read(window.slices)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{source.path} cannot be read at {window.slices} ({reason}), and "
            f"mean and deviation need every pixel: repair it first"
        ) from error


def save_statistics(path: Path, statistics: Statistics) -> None:
    """Write statistics as `.npz`, in one step."""
    content = io.BytesIO()
    arrays: dict[str, Any] = dict(statistics)
    np.savez(content, **arrays)
    with atomic_write(path) as part:
        part.write_bytes(content.getvalue())


def load_statistics(path: Path) -> Statistics:
    """Read what `save_statistics` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def fingerprint(statistics: Statistics) -> str:
    """Hash of the numbers, whatever the file says besides."""
    digest = hashlib.sha256()
    for name in sorted(statistics):
        digest.update(name.encode() + np.ascontiguousarray(statistics[name]).tobytes())
    return digest.hexdigest()
