"""Count kernels, waits of the host and copies between host and device, by the line that asks."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from simulated_cuda import is_simulated

# What cannot answer before the device has come to it: a number, or a size that data decide.
WAITING = {
    *("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "unique_dim"),
    *("equal", "bincount", "repeat_interleave"),
}
# What starts no kernel.
VIEWS = {
    *("view", "as_strided", "slice", "select", "expand", "permute", "transpose", "t", "unsqueeze"),
    *(
        "squeeze",
        "squeeze_",
        "unsqueeze_",
        "detach",
        "alias",
        "unbind",
        "split",
        "narrow",
        "unfold",
    ),
    *("split_with_sizes", "movedim", "unfold", "view_as", "lift_fresh", "set_", "_unsafe_view"),
    *("_reshape_alias", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    *("is_same_size", "_has_compatible_shallow_copy_type", "is_pinned"),
}


counted = pytest.mark.skipif(
    torch.cuda.is_available() and not is_simulated(), reason="a real GPU is not counted"
)


class Counts(TorchDispatchMode):
    """What happens on the device within the context.

    Attributes:
        kernels: by operation.
        waits: of the host, by operation and line.
        to_device: copies by line; only those that block, and not those of one number.
        to_host: copies by line, those that block.
        behind: copies in either direction that do not block, by line.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.to_device: Counter[str] = Counter()
        self.to_host: Counter[str] = Counter()
        self.behind: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.name().split("::")[-1].split(".")[0]
        given = [*_tensors(args), *_tensors((kwargs or {}).values())]
        if _waits(name, given):
            self.waits[f"{name} {_line()}"] += 1
        if name in ("_to_copy", "copy_"):
            source, target = (args[0], result) if name == "_to_copy" else (args[1], args[0])
            later = (kwargs or {}).get("non_blocking", False) or (name == "copy_" and args[2:])
            self._copy(source, target, bool(later and (later is True or later[0])))
        if name not in VIEWS and any(t.is_cuda for t in (*given, *_tensors([result]))):
            self.kernels[name] += 1
        return result

    def _copy(self, source: torch.Tensor, target: torch.Tensor, later: bool) -> None:
        if source.is_cuda == target.is_cuda:
            return
        counter = self.to_host if source.is_cuda else self.to_device
        (self.behind if later else counter)[_line()] += 1


def _waits(name: str, given: list[torch.Tensor]) -> bool:
    """Whether the host needs an answer of the device; a mask as an index is counted first."""
    masked = name in ("index", "index_put_") and any(t.dtype == torch.bool for t in given[1:])
    return (name in WAITING or masked) and any(t.is_cuda for t in given)


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _line() -> str:
    """The two innermost lines of this package or of MONAI, innermost first."""
    frames = reversed(traceback.extract_stack())
    named = (f for f in frames if "/unet_med/" in f.filename or "/monai/" in f.filename)
    innermost = islice(named, 2)
    lines = [f"{frame.filename.split('/')[-1]}:{frame.lineno}" for frame in innermost]
    return " < ".join(lines) or "elsewhere"
