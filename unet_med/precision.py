"""In which precision networks compute: a choice, and what it means on a device.

A GPU has three: float32; TF32, float32 whose products are rounded to 10 bits of mantissa; and
bfloat16, with 7 bits, in which weights, sums over a batch and averages stay float32. Tiles equal
one pass to rounding, and rounding is what differs (`docs/explanation/departures.md`). A CPU
predicts in float32; some can train in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from unet_med.devices import (
    has_bfloat16,
    rounding_settings,
    rounding_switches,
    rounds,
    set_rounding,
)
from unet_med.turns import turn_with

__all__ = [
    "PRECISIONS",
    "autocast",
    "chosen_precision",
    "repeatable",
    "rounding",
    "without_autocast",
]

PRECISIONS = ("auto", "mixed", "float32", "tf32", "bf16")


def chosen_precision(precision: str, device: torch.device | str, *, training: bool = False) -> str:
    """What a choice of precision means on a device.

    Args:
        precision: ``"float32"``, ``"tf32"``, ``"bf16"``, or ``"auto"``: on a GPU bfloat16 in
            training, if it has it, and float32 in prediction. ``"mixed"`` is the same, and
            bfloat16 in training on a CPU that has instructions for it.
        device: where the network runs. On a CPU all other choices mean float32.
        training: whether the network is trained there.

    Returns:
        ``"float32"``, ``"tf32"`` or ``"bf16"``.

    Raises:
        ValueError: the choice is unknown.

    >>> chosen_precision("auto", "cpu", training=True)
    'float32'
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    if precision == "mixed" or (precision == "auto" and rounds(device)):
        return "bf16" if training and has_bfloat16(device) else "float32"
    return precision if rounds(device) and precision != "auto" else "float32"


@contextmanager
def rounding(precision: str, device: torch.device | str) -> Iterator[None]:
    """Within the context, a GPU may round float32 to TF32, or may not; gradients included.

    Args:
        precision: of `chosen_precision`.
        device: a CPU never rounds, and its settings stay as they are.
    """
    if not rounds(device):
        yield
        return
    before = rounding_settings()
    try:
        set_rounding(rounding_switches(precision == "tf32"))
        yield
    finally:
        set_rounding(before)


@contextmanager
def repeatable(device: torch.device | str) -> Iterator[None]:
    """Within the context a GPU convolves to the same bits each time, as `set_determinism` has it.

    Otherwise cuDNN may take kernels that add up in any order, or others each time. Its settings are
    those of the process, so threads that predict take turns, and with those of `rounding` inside.
    A training in another thread takes none: give it a process of its own.

    Args:
        device: a CPU always does, and settings stay as they are.
    """
    if not rounds(device):
        yield
        return
    cudnn = torch.backends.cudnn
    with turn_with(cudnn):
        before = cudnn.deterministic, cudnn.benchmark
        try:
            cudnn.deterministic, cudnn.benchmark = True, False
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = before


def autocast(precision: str, device: torch.device | str) -> AbstractContextManager[None]:
    """PyTorch's autocast to bfloat16 where that is the precision.

    Args:
        precision: of `chosen_precision`; any but ``"bf16"`` changes nothing.
        device: where the network runs.
    """
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def without_autocast(device: torch.device | str) -> AbstractContextManager[None]:
    """Within the context nothing is rounded to 16 bits, even where the caller is in an autocast.

    Places of pixels need more: in bfloat16 those beyond 256 px would be off by one and more.
    """
    kind = torch.device(device).type
    held = kind != "meta" and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if held else nullcontext()
