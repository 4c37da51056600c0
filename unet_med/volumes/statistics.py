"""What a first pass found about a whole volume, on disk."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.atomic import atomic_write
from unet_med.segmentation.volume import Found


def save_statistics(path: Path, statistics: Found) -> None:
    """Write statistics as `.npz`, in one step."""
    content = io.BytesIO()
    arrays: dict[str, Any] = dict(statistics)
    np.savez(content, **arrays)
    with atomic_write(path) as part:
        part.write_bytes(content.getvalue())


def load_statistics(path: Path) -> Found:
    """Read what `save_statistics` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def digest_of(statistics: Found) -> str:
    """Hash of the numbers, whatever the file says besides."""
    digest = hashlib.sha256()
    for name in sorted(statistics):
        digest.update(name.encode() + np.ascontiguousarray(statistics[name]).tobytes())
    return digest.hexdigest()
