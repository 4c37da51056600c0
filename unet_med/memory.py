"""Main memory and GPU memory: measure what is free, recognise a lack, make room."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CGROUP_FILES = (  # (limit, use); version 2, version 1
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)

# What torch, CUDA's libraries, C++ and oneDNN say where an allocation fails.
_SIGNS = (
    *("out of memory", "can't allocate memory", "not enough memory"),
    *("bad_alloc", "could not create a "),
    *("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"),
    *("DEVICE_ALLOCATION_FAILED", "unable to find an engine"),  # of cuDNN, for want of workspace
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory did not suffice."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def free_memory(error: BaseException) -> None:
    """Drop the tensors that the frames of a caught exception hold, and give spare blocks back."""
    import torch

    traceback.clear_frames(error.__traceback__)
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)  # glibc keeps what was freed, the more so after `KeepMemory`
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """Memory that tensors on a device can still take."""
    if device.type != "cuda":
        return available_bytes()
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    # what torch holds and does not use is free, too
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def available_bytes() -> int:
    """Memory that this process can still take: of the machine, its container, its own limit."""
    return max(0, min([_free_on_machine(), *_free_in_container(), *_free_in_process()]))


def _free_on_machine() -> int:
    """Free and reclaimable memory on Linux; elsewhere all memory of the machine."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_in_container(root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """What a container's limit leaves, which /proc/meminfo does not know."""
    for limit, use in _CGROUP_FILES:
        try:
            most, used = (int((root / name).read_text(encoding="utf-8")) for name in (limit, use))
            lines = (root / limit).with_name("memory.stat").read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError):  # no such limit, or "max"
            continue
        stat = dict(line.split() for line in lines if line)
        cached = sum(int(stat.get(name, 0)) for name in ("active_file", "inactive_file"))
        yield most - used + cached  # the cache of files is given up when needed


def _free_in_process() -> Iterator[int]:
    """What `ulimit -v` leaves."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        used = (
            int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
            * resource.getpagesize()
        )
    except (ImportError, OSError):
        return
    if limit != resource.RLIM_INFINITY:
        yield limit - used
