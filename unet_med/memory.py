"""Main memory and GPU memory: measure what is free, make room or go elsewhere."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from unet_med import cgroups
from unet_med.errors import is_out_of_memory

if TYPE_CHECKING:
    import torch

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

_CGROUPS = {  # by controller: place below /sys/fs/cgroup, limit, use
    "": (".", "memory.max", "memory.current"),  # version 2
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),  # version 1
}

# Of an image in one piece: as read, standardised, logits, votes, probabilities, labels.
BYTES_A_PIXEL = 48
# What was measured counts this long, s: it takes a millisecond of the kernel's files, which is a
# quarter of what it takes to score a small image. No large image is read in so short a time.
_HOLDS = 0.2


def free_memory(error: BaseException | None) -> None:
    """Drop the tensors that the frames of a caught exception hold, and give spare blocks back."""
    from unet_med.devices import empty_caches

    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)  # glibc keeps what was freed, the more so after `KeepMemory`
    empty_caches()
    _measured.cache_clear()


def where_it_fits(make: Callable[[torch.device], _T], device: torch.device, instead: str) -> _T:
    """What is made on a device, or in main memory where that of a GPU does not suffice.

    The one place where that is decided, and said.

    Args:
        make: makes it on the device that it is given; what it leaves behind must not matter to a
            second call.
        device: where it is wanted.
        instead: what happens in main memory, as a warning says it.

    Raises:
        Exception: whatever `make` raises, but for the GPU's want of memory.
    """
    from unet_med.devices import HOST

    try:
        return make(device)
    except Exception as error:
        if device.type == HOST.type or not is_out_of_memory(error):
            raise
        free_memory(error)
    _log.warning("out of memory on %s: %s", device, instead)
    return make(HOST)


def free_bytes(device: torch.device | str) -> int:
    """Memory that tensors on a device can still take."""
    from unet_med import devices

    free = devices.free_bytes(device)
    return available_bytes() if free is None else free


def holds_whole(pixels: int) -> bool:
    """Whether half of the free memory suffices to segment or draw an image in one piece.

    Args:
        pixels: of the image, of all channels.
    """
    return pixels * BYTES_A_PIXEL <= available_bytes() / 2


def available_bytes() -> int:
    """Memory that this process can still take: of the machine, its container, its own limit."""
    return _measured(int(time.monotonic() / _HOLDS))


@lru_cache(maxsize=1)
def _measured(moment: int) -> int:
    """`available_bytes` at a moment, numbered; in it, once."""
    return max(0, min([_free_on_machine(), *_free_in_container(), *_free_in_process()]))


def _free_on_machine() -> int:
    """Free and reclaimable memory; on a Mac all memory of the machine."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return _memory()


if sys.platform == "win32":

    def _memory() -> int:
        """Free memory, of `GlobalMemoryStatusEx`: a structure of two and seven numbers."""
        kinds = [("length", ctypes.c_uint32), ("load", ctypes.c_uint32)]
        names = ("all", "free", "all_paged", "free_paged", "virtual", "free_virtual", "extended")
        fields = [*kinds, *((name, ctypes.c_uint64) for name in names)]
        status = type("Status", (ctypes.Structure,), {"_fields_": fields})()
        status.length = ctypes.sizeof(status)
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.free)

else:

    def _memory() -> int:
        """All memory of the machine."""
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_in_container(root: Path = cgroups.ROOT, own: Path = cgroups.OWN) -> Iterator[int]:
    """What limits of a container, a job of SLURM or a unit of systemd leave.

    /proc/meminfo does not know them.

    Args:
        root: where groups are mounted.
        own: names the groups of this process.
    """
    for controller, (place, limit, use) in _CGROUPS.items():
        for folder in cgroups.folders(controller, place, root, own):
            try:
                most, used = (int((folder / name).read_text("utf-8")) for name in (limit, use))
                lines = (folder / "memory.stat").read_text("utf-8").splitlines()
            except (OSError, ValueError):  # no such limit, or "max"
                continue
            stat = dict(line.split() for line in lines if line)
            # of version 1 the numbers of a group with those inside it are called `total_`
            kinds = (stat.get(f"total_{name}", stat.get(name, 0)) for name in _CACHED)
            yield most - used + sum(map(int, kinds))  # the cache of files is given up when needed


_CACHED = ("active_file", "inactive_file")


def _free_in_process() -> Iterator[int]:
    """What `ulimit -v` leaves."""
    if sys.platform == "win32":
        return
    import resource

    try:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        used = (
            int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
            * resource.getpagesize()
        )
    except OSError:
        return
    if limit != resource.RLIM_INFINITY:
        yield limit - used
