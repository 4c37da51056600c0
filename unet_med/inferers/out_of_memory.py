"""Out of memory, on a GPU or in main memory: how it shows, and how to make room again."""

from __future__ import annotations

import ctypes
import gc
import sys
import traceback

import torch

# What torch, C++ and oneDNN say where an allocation fails on a CPU.
_SIGNS = ("can't allocate memory", "bad_alloc", "out of memory", "could not create a ")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def free_memory(error: BaseException) -> None:
    """Drop the tensors that the frames of a caught exception hold, and give spare blocks back."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)  # glibc keeps what was freed, the more so after `KeepMemory`
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
