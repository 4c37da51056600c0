"""How many bytes a data list will take, told from the part of it that is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unet_med.data.cases import files_named


class Forecast:
    """Bytes of all items of a data list, if the rest takes as many a byte of its files.

    Args:
        items: a data list; items that share files, as planes of a stack do, share their size.
        loaded: entries that may name folders as well.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]], loaded: Collection[str] = ()) -> None:
        files = [
            tuple(path for k, v in item.items() for path in files_named(v, folders=k in loaded))
            for item in items
        ]
        shared = Counter(files)
        size = lru_cache(maxsize=None)(_size_of)
        self._weights = [
            max(1.0, sum(map(size, named)) / shared[named] if named else bytes_of(item))
            for named, item in zip(files, items, strict=True)
        ]
        self._known: dict[int, int] = {}

    def add(self, index: int, count: int) -> None:
        """An item takes so many bytes."""
        self._known[index] = count

    @property
    def total(self) -> int:
        """Bytes of all items; 0 while none is known."""
        seen = sum(self._weights[index] for index in self._known)
        return round(sum(self._known.values()) / seen * sum(self._weights)) if seen else 0

    @property
    def rest(self) -> int:
        """Bytes of the items that are not known yet."""
        return self.total - sum(self._known.values())


def bytes_of(item: Mapping[str, Any]) -> int:
    """Bytes of the tensors and arrays of an item."""
    kinds = torch.Tensor, np.ndarray
    return sum(int(value.nbytes) for value in item.values() if isinstance(value, kinds))


def _size_of(path: Path) -> int:
    """Bytes of a file, or of those in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
