"""Which device a network runs on: the one place that knows what devices are called.

A CPU is always there, and files are read on it. Of the others the first is taken that torch sees
and that has all operations of a U-Net.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unet_med import cgroups
from unet_med.errors import is_out_of_memory

KINDS = ("cuda", "mps", "xpu", "cpu")  # NVIDIA and AMD, Apple, Intel; the first is taken
HOST = torch.device("cpu")
_BFLOAT16 = ("avx512_bf16", "amx_bf16")  # instructions of CPUs, in torch's words

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """A device, and why it was taken.

    Attributes:
        device: to run on.
        reason: half a sentence.
        second_best: another was there or asked for, and lacks an operation.
    """

    device: torch.device
    reason: str
    second_best: bool = False


def choose_device(name: str | None = None) -> torch.device:
    """The device to run on; a line of the log says which, and why.

    What torch computes on the CPU, on it or beside it, gets no more threads than `cores`.

    Args:
        name: what the user asked for, such as `cuda:1`; None: the best that is there.

    Raises:
        ValueError: no device is called so, or there is none of this kind.
    """
    choice = choose(name)
    level = logging.WARNING if choice.second_best else logging.INFO
    _log.log(level, "device    %s: %s", choice.device, choice.reason)
    limit_threads()
    return choice.device


def choose(name: str | None = None) -> Choice:
    """As `choose_device`, and nothing is said."""
    if name is not None:
        device = _asked(name)
        return _unless_missing(device, "as asked")
    for kind in KINDS[:-1]:
        if _is_there(kind):
            return _unless_missing(torch.device(kind), f"torch sees {describe(kind)}")
    return Choice(HOST, "torch sees no other device")


def device_of_rank() -> torch.device:
    """Of several processes that train together, each its own GPU; a CPU where there is none.

    A Mac has one GPU, which cannot be one of several.
    """
    kind = choose().device.type
    if kind not in ("cuda", "xpu"):
        return HOST
    return torch.device(kind, int(os.environ["LOCAL_RANK"]))


def loader_workers(device: torch.device | str, ranks: int = 1) -> int:
    """Processes that load tiles for a device: the cores that this process may use, 16 at most.

    Args:
        device: of the training; a CPU has its cores to compute, and a Mac would start each
            process anew.
        ranks: processes that train together on this machine, and share its cores.
    """
    if not pins_memory(device):
        return 0
    return max(1, min(16, cores() // ranks))


def cores() -> int:
    """Cores that this process may use, as SLURM, containers and `taskset` limit it."""
    own = getattr(os, "sched_getaffinity", None)
    seen = len(own(0)) if own else os.cpu_count() or 1
    return math.ceil(min(seen, cgroups.cores()))


def limit_threads() -> None:
    """Let torch compute with no more threads than this process may use cores.

    torch counts the cores of the machine. In a container that is held to two of them by quota,
    more threads use the quota up by waiting for each other. `OMP_NUM_THREADS` is the user's word.
    """
    threads, most = torch.get_num_threads(), cores()
    if threads > most and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(most)
        _log.info("threads   %d, not %d: the cores that this process may use", most, threads)


def pins_memory(device: torch.device | str) -> bool:
    """Whether batches are copied there faster from memory that cannot be paged out."""
    return torch.device(device).type in ("cuda", "xpu")


def count(kind: str) -> int:
    """Devices of a kind that torch sees."""
    if kind in ("cuda", "xpu"):
        return int(getattr(torch, kind).device_count())
    return int(kind == HOST.type or _is_there(kind))


def describe(device: torch.device | str) -> str:
    """`cpu`, or the name of a GPU as well: `cuda (NVIDIA H200)`."""
    chosen = torch.device(device)
    if chosen.type in ("cuda", "xpu") and count(chosen.type):  # a job may end elsewhere
        return f"{chosen} ({getattr(torch, chosen.type).get_device_name(chosen)})"
    return str(chosen)


def seen() -> list[str]:
    """A line for each GPU that torch sees: name and memory."""
    lines = []
    for kind in ("cuda", "xpu"):
        for k in range(count(kind)):
            gpu = getattr(torch, kind).get_device_properties(k)
            lines.append(f"{f'{kind}:{k}':<9} {gpu.name}, {gpu.total_memory / 1e9:.1f} GB")
    if _is_there("mps"):
        lines.append(f"{'mps':<9} {torch.mps.recommended_max_memory() / 1e9:.1f} GB for torch")
    return lines


def built_for() -> str:
    """What kinds of GPU this build of torch knows, in words."""
    if torch.version.cuda:
        return f"torch is built for CUDA {torch.version.cuda}"
    return "torch is built for Apple's GPUs" if torch.backends.mps.is_built() else "CPU only"


def weighs_batches(device: torch.device) -> bool:
    """Whether weights are computed there, for a whole batch.

    A CPU has a faster way of its own, and GPUs of Apple and many of Intel no float64.
    """
    return device.type == "cuda"


def make_current(device: torch.device | str) -> None:
    """Let torch mean this GPU where it asks for none by its number.

    It pins memory so, and would take half a gigabyte of the first GPU, which may be another's. A
    device without a number is the current one already.
    """
    device = torch.device(device)
    if device.type in ("cuda", "xpu") and device.index is not None:
        getattr(torch, device.type).set_device(device)


def rounds(device: torch.device | str) -> bool:
    """Whether products may be rounded there: to TF32 or bfloat16, as NVIDIA's GPUs do."""
    return torch.device(device).type == "cuda"


def rounding_switches(tf32: bool) -> list[tuple[Any, str, Any]]:
    """What lets GPUs that `rounds` means round, or forbids it: owner, attribute and its value.

    They stand in the order in which to set them. torch keeps two for each kind of product, and an
    `fp32_precision` that says nothing is that of `torch.backends`, whatever `allow_tf32` says.
    """
    cudnn: Any = torch.backends.cudnn  # torch's own types lack `conv`
    matmul = torch.backends.cuda.matmul
    older = [(owner, "allow_tf32", tf32) for owner in (cudnn, matmul)]
    kinds = (cudnn.conv, cudnn.rnn, matmul)
    return [*older, *((kind, "fp32_precision", "tf32" if tf32 else "ieee") for kind in kinds)]


def rounding_settings() -> list[tuple[Any, str, Any]]:
    """Owner, attribute and value of the `rounding_switches`, to set them back.

    A program that set `fp32_precision` leaves an `allow_tf32` that contradicts it, which torch
    refuses to read: then the newer one alone holds.
    """
    settings = []
    with _unadvised():
        for owner, name, _ in rounding_switches(False):
            with suppress(RuntimeError):
                settings.append((owner, name, getattr(owner, name)))
    return settings


def set_rounding(settings: Iterable[tuple[Any, str, Any]]) -> None:
    """Set `rounding_switches`: owner, attribute and value, in their order."""
    with _unadvised():
        for owner, name, value in settings:
            setattr(owner, name, value)


@contextmanager
def _unadvised() -> Iterator[None]:
    """Without the warning of torch before 2.13 where `allow_tf32` is touched.

    It wants the newer switches, which are set as well; the older ones stay in step with them for
    whoever reads them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please use the new API settings", UserWarning)
        yield


def has_bfloat16(device: torch.device | str) -> bool:
    """Whether a GPU that `rounds`, or a CPU, multiplies in bfloat16 in hardware."""
    kind = torch.device(device).type
    if kind == "cuda":  # torch's own `is_bf16_supported` asks the current one
        return bool(torch.version.hip) or torch.cuda.get_device_capability(device) >= (8, 0)
    if kind != HOST.type or not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.13
        return False
    return any(torch.cpu.get_capabilities().get(name) for name in _BFLOAT16)


def widest_float(device: torch.device | str) -> torch.dtype:
    """float64, or float32 on GPUs of Apple and many of Intel, which have nothing wider."""
    device = torch.device(device)
    if device.type == "xpu":
        wide = torch.xpu.get_device_properties(device).has_fp64
    else:
        wide = device.type != "mps"
    return torch.float64 if wide else torch.float32


def seed_generators(seed: int) -> None:
    """Seed the random generators of the GPUs in use."""
    for kind in _in_use():
        of = getattr(torch, kind)
        of.manual_seed(seed) if kind == "mps" else of.manual_seed_all(seed)


def wait(devices: Iterable[torch.device]) -> None:
    """Wait until these GPUs, which need not be the current one, have done what they were told."""
    for device in devices:
        of = getattr(torch, device.type)
        of.synchronize() if device.type == "mps" else of.synchronize(device)


def free_bytes(device: torch.device | str) -> int | None:
    """Memory of a GPU that tensors can still take; None of what is no GPU."""
    device = torch.device(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    if device.type not in KINDS[:-1]:
        return None
    of = getattr(torch, device.type)
    free, _ = of.mem_get_info(device)
    # what torch holds and does not use is free, too
    return int(free + of.memory_reserved(device) - of.memory_allocated(device))


def empty_caches() -> None:
    """Give memory back that torch holds on GPUs and does not use."""
    for kind in _in_use():
        getattr(torch, kind).empty_cache()


def random_states() -> list[Tensor]:
    """States of the random generators of the GPUs in use."""
    for kind in _in_use():
        of = getattr(torch, kind)
        return [of.get_rng_state()] if kind == "mps" else list(of.get_rng_state_all())
    return []


def set_random_states(states: list[Tensor]) -> None:
    """Set what `random_states` returned, where there are as many GPUs."""
    for kind in KINDS[:-1]:
        if states and _is_there(kind) and len(states) == count(kind):
            of = getattr(torch, kind)
            of.set_rng_state(*states) if kind == "mps" else of.set_rng_state_all(states)
            return


def _in_use() -> list[str]:
    """Kinds of GPU that torch has begun to use in this process."""
    begun = [kind for kind in ("cuda", "xpu") if getattr(torch, kind).is_initialized()]
    return begun + ["mps"] * _is_there("mps")


def _is_there(kind: str) -> bool:
    tests: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "xpu": torch.xpu.is_available,
    }
    return tests[kind]()


def _asked(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in KINDS:
        raise ValueError(f"unknown device {name!r}: {', '.join(KINDS)}, or cuda:N") from None
    if (device.index or 0) >= (there := count(device.type)):
        raise ValueError(
            f"device {name}: {there} {device.type.upper()} devices here; use --device cpu"
        )
    return device


def _unless_missing(device: torch.device, reason: str) -> Choice:
    """The device, or the CPU where it lacks an operation."""
    lack = _missing(device.type)
    if lack is None:
        return Choice(device, reason)
    why = f"{reason}, but torch lacks an operation of a U-Net on {device} ({lack})"
    return Choice(HOST, why, second_best=True)


@functools.cache
def _missing(kind: str) -> str | None:
    """What a kind of device says where it lacks an operation; of CUDA and CPUs nothing is asked."""
    if kind in ("cuda", HOST.type):
        return None
    try:
        for spatial_dims in (2, 3):
            _exercise(torch.device(kind), spatial_dims)
    except RuntimeError as error:  # a NotImplementedError is one
        if is_out_of_memory(error):  # another program has it now: nothing is said of operations
            return None
        return str(error).strip().split("\n")[0][:200]
    return None


def _exercise(device: torch.device, spatial_dims: int) -> None:
    """One step of what U-Nets are made of, forward and backward."""
    conv, up, pool = {
        2: (F.conv2d, F.conv_transpose2d, F.max_pool2d),
        3: (F.conv3d, F.conv_transpose3d, F.max_pool3d),
    }[spatial_dims]
    kernel = torch.ones(1, 1, *[2] * spatial_dims, device=device, requires_grad=True)
    image = torch.ones(1, 1, *[5] * spatial_dims, device=device)
    skip = F.batch_norm(conv(image, kernel), None, None, training=True).relu()  # sides of 4 px
    below = pool(skip, 2)
    mode = {2: "bilinear", 3: "trilinear"}[spatial_dims]
    larger = F.interpolate(below, scale_factor=2, mode=mode) + up(below, kernel, stride=2)
    logits = torch.cat([larger, skip], dim=1)  # (1, 2, 4, 4[, 4])
    target = torch.zeros(1, *[4] * spatial_dims, dtype=torch.long, device=device)
    F.cross_entropy(logits, target).backward()
    logits.softmax(dim=1).argmax(dim=1).cpu()
