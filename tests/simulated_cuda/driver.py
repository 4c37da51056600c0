"""What `torch.cuda` asks the driver, answered without one."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from simulated_cuda import NAME

FREE, TOTAL = 139 << 30, 140 << 30  # bytes


class Event:
    """A mark in a stream in which nothing ever waits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def record(self, stream: Any = None) -> None: ...

    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True


def pretend() -> None:
    """Answer for one device, idle and with memory to spare."""
    states = {"is_available": True, "is_initialized": True, "device_count": 1, "current_device": 0}
    facts = {
        "mem_get_info": (FREE, TOTAL),
        "memory_reserved": 0,
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "get_device_name": NAME,
        "get_device_capability": (9, 0),
        "is_bf16_supported": True,
        "is_current_stream_capturing": False,
    }
    nothing = ("_lazy_init", "init", "set_device", "synchronize", "empty_cache")
    orders = (*nothing, "reset_peak_memory_stats", "manual_seed", "manual_seed_all")
    for name, answer in {**states, **facts, **dict.fromkeys(orders)}.items():
        setattr(torch.cuda, name, _always(answer))
    for name in ("manual_seed", "manual_seed_all"):  # it draws from the host's generator
        setattr(torch.cuda.random, name, _always(None))
    torch.cuda.get_rng_state_all = lambda: [torch.zeros(16, dtype=torch.uint8)]
    torch.cuda.set_rng_state_all = _always(None)
    torch.cuda.Event = Event  # type: ignore[misc, assignment]
    torch.UntypedStorage.cpu = _storage_on_host  # type: ignore[method-assign]


def _always(answer: Any) -> Any:
    return lambda *args, **kwargs: answer


_on_host = torch.UntypedStorage.cpu


def _storage_on_host(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """A copy on the host, as `torch.save` makes it."""
    if storage.device.type != "cuda":
        return _on_host(storage)
    if not storage.nbytes():
        return torch.UntypedStorage(0)
    there = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    return torch.frombuffer(bytearray(there), dtype=torch.uint8).untyped_storage()
