"""Save and load the state of a training as tensors and plain values.

Everything here loads with `torch.load(weights_only=True)`: a checkpoint is data, not a program.
"""

from __future__ import annotations

import os
import random
import zipfile
from collections.abc import Mapping
from copy import copy
from typing import Any, cast

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine
from torch import Tensor

from unet_med.data.dataset import EpochSampler
from unet_med.data.tensor_file import write_tensors
from unet_med.devices import random_states, set_random_states, wait


def rank() -> int:
    """Number of this process among those that train together; 0 if it is the only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def of_first(*numbers: float) -> list[float]:
    """The numbers of the first of all processes that train together; to the bit, as float64.

    ignite sends plain numbers as float32: a clock of ten hours would move in steps of 4 ms.
    """
    sent = cast(Tensor, idist.broadcast(torch.tensor(numbers, dtype=torch.float64)))
    return list(sent.tolist())


def go_to(sampler: Any, epoch: int, engine: Engine) -> None:
    """Let a sampler go on in an epoch, counted from 0, behind the batches that a trainer had of it.

    Args:
        sampler: with `set_epoch`; only an `EpochSampler` begins in the middle of an epoch.
        epoch: counted from 0.
        engine: the trainer.
    """
    done = engine.state.iteration - epoch * (engine.state.epoch_length or 0)  # batches
    if done > 0 and isinstance(sampler, EpochSampler):
        batch = getattr(engine.state.dataloader, "batch_size", None) or 1
        sampler.set_epoch(epoch, done * batch)
    else:
        sampler.set_epoch(epoch)


def random_state() -> dict[str, Any]:
    """States of the global generators of torch, CUDA, NumPy and Python."""
    legacy: Any = np.random  # the generator that other packages draw from
    _, words, position, has_gauss, gauss = legacy.get_state()
    version, python_words, python_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": random_states(),  # of GPUs of any kind
        "numpy": {
            "words": torch.from_numpy(np.asarray(words).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "gauss": float(gauss),
        },
        "python": {
            "version": version,
            "words": torch.tensor(python_words),
            "gauss": python_gauss,
        },
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set the global generators to the states that `random_state` returned."""
    torch.set_rng_state(state["torch"])
    set_random_states(state["cuda"])
    numpy, python = state["numpy"], state["python"]
    words = numpy["words"].numpy().astype(np.uint32)
    legacy: Any = np.random
    legacy.set_state(("MT19937", words, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))


def save_atomically(
    state: Any, path: str | os.PathLike[str], *, previous: str | os.PathLike[str] | None = None
) -> None:
    """Save tensors and plain values; `path` never holds a half-written file.

    Tensors of a GPU are saved as the CPU's, so that the file opens where there is no GPU. If
    several processes train together, only the first writes.

    Args:
        state: what `torch.save` takes.
        path: where the file goes, once it is whole and on the disk.
        previous: new name of the file that `path` held before.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    if rank() == 0:
        write_tensors(on_cpu(state), path, previous=previous)


def on_cpu(state: Any) -> Any:
    """A state with all its tensors on the CPU; the host waits once for each GPU they were on."""
    left: set[torch.device] = set()
    moved = _moved(state, left)
    wait(left)  # the copies are under way
    return moved


def _moved(state: Any, left: set[torch.device]) -> Any:
    """The state on the CPU, once the devices that are added to `left` have copied it."""
    if isinstance(state, torch.Tensor):
        if state.device.type == "cpu":
            return state
        left.add(state.device)
        return state.detach().to("cpu", non_blocking=True)
    if isinstance(state, dict):
        moved = copy(state)  # with the versions that PyTorch notes in a state dictionary
        moved.update({name: _moved(value, left) for name, value in state.items()})
        return moved
    if type(state) in (list, tuple):
        return type(state)(_moved(value, left) for value in state)
    return state


def load_whole(path: str | os.PathLike[str]) -> Any:
    """Load what `save_atomically` wrote, on the CPU, after its checksums are verified.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is cut short, damaged, or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
        reason = f"its part {damaged} fails its checksum"
    except FileNotFoundError:
        raise
    except Exception as error:  # torch and zipfile raise a dozen kinds
        reason = " ".join(str(error).split())[:120] or type(error).__name__
    raise ValueError(f"{path} is cut short or damaged ({reason})")
