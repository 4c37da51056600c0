"""Trainings that cannot go on, stopped with the reason: losses that explode, memory that ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from unet_med.data.dataset import EpochSampler
from unet_med.engines.batch import last_loss
from unet_med.handlers.checkpoints import Checkpoints
from unet_med.handlers.exceptions import on_exception
from unet_med.handlers.step_memory import step_bytes
from unet_med.inferers.tiling import tiling_of
from unet_med.memory import available_bytes, free_memory, is_out_of_memory

STATES = 2  # of each weight in the optimiser, as many as Adam has
# Address space that glibc takes for a byte of tensors with `KeepMemory`: 1.5 to 1.8 in networks of
# 8 to 512 features at 200 to 800 px, convolutions' own buffers included.
HEAP_FACTOR = 1.8
THREADS_BYTES = 64 << 20  # stacks and heaps of threads that the first step starts


class LossGuard:
    """Stop a training whose loss is NaN or infinite, or has exploded.

    The message names the iteration, the images of the batch and the last checkpoint. Stands
    before `Checkpoints`, so that what led there is not kept.

    Args:
        checkpoints: whose last checkpoint is named; may be None.
        limit: a loss above this multiple of the run's first one (of 1, where that is more)
            has exploded.

    Raises:
        FloatingPointError: within a run, as described.
    """

    def __init__(self, checkpoints: Checkpoints | None = None, limit: float = 1000.0) -> None:
        self.checkpoints = checkpoints
        self.limit = limit
        self.first: float | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, before `Checkpoints`."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._check)

    def _check(self, engine: Engine) -> None:
        loss = last_loss(engine)
        if self.first is None and math.isfinite(loss):
            self.first = loss
        highest = self.limit * max(self.first or 0.0, 1.0)
        if loss <= highest:  # NaN is not
            return
        known = self.checkpoints.kept if self.checkpoints else "no checkpoint is kept"
        rule = f"above {highest:g}" if math.isfinite(loss) else "not finite"
        raise FloatingPointError(
            f"the loss is {loss:g}, {rule}, at iteration {engine.state.iteration} (epoch "
            f"{engine.state.epoch}) on {', '.join(batch_names(engine)) or 'unnamed images'}; "
            f"{known}: look at these images and labels, or lower the learning rate"
        )


class OutOfMemory:
    """Say which tile fits where a training step runs out of memory.

    On a CPU the bytes of a step are counted (`step_bytes`) and compared with what was free when
    the training began: a process that ran out of memory is no place to measure in, since the
    heap keeps address space in pieces. On a GPU, and where a network cannot be counted, steps on
    empty tiles are tried. Stands behind the other handlers that listen to exceptions.

    Args:
        network: the network that is trained; one that says its geometry, as
            `unet_med.networks.UNet` does.
        loss: called with `(logits, target)`, target `(B, 2, *S)`.
        optimizer: its state, where it is still to come, needs room too.

    Raises:
        ValueError: instead of the allocation's own error.
    """

    def __init__(self, network: torch.nn.Module, loss: Any, optimizer: Any = None) -> None:
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.free_bytes: int | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._note_free)
        on_exception(engine, self._explain)

    def _note_free(self) -> None:
        on_cpu = all(weight.device.type == "cpu" for weight in self.network.parameters())
        self.free_bytes = available_bytes() if on_cpu else None

    def _explain(self, engine: Engine, error: BaseException) -> None:
        batch: Any = engine.state.batch
        if not is_out_of_memory(error) or not isinstance(batch, Mapping) or "image" not in batch:
            return
        shape = tuple(batch["image"].shape)  # (B, C, *S)
        engine.state.batch = engine.state.output = None
        self.network.zero_grad(set_to_none=True)
        free_memory(error)
        tiles = f"{shape[0]} tile{'s' if shape[0] > 1 else ''} of {list(shape[2:])} px"
        raise ValueError(
            f"out of memory in a training step on {tiles}: {self._advice(shape)}"
        ) from None

    def _advice(self, shape: Sequence[int]) -> str:
        others = "a smaller batch_size, fewer features, or another device"
        try:
            fitting = self.largest_tile(shape)
        except ValueError:  # the network does not say which sides it takes
            return f"take smaller tiles, {others}"
        if fitting is None:
            return f"not even the smallest tile fits; take {others}"
        return f"the largest tile that fits is {fitting} px (--tile-size {fitting}); or {others}"

    def largest_tile(self, shape: Sequence[int]) -> int | None:
        """Largest side below those of `shape` `(B, C, *S)` whose step fits, px; None if none."""
        empty = torch.empty((1, shape[1], *shape[2:]), device="meta")
        tiling = tiling_of(self.network, empty, margin=None, stride=None)
        sides = range(tiling.smallest, max(shape[2:]), tiling.stride)
        fits, fails = -1, len(sides)  # by position: bisect
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if self._fits((*shape[:2], *(min(side, sides[middle]) for side in shape[2:]))):
                fits = middle
            else:
                fails = middle
        return sides[fits] if fits >= 0 else None

    def _fits(self, shape: Sequence[int]) -> bool:
        try:
            if self.free_bytes is not None and (needed := self._counted(shape)):
                return needed <= self.free_bytes
            self._step(shape)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            free_memory(error)
            return False
        finally:
            self.network.zero_grad(set_to_none=True)
        return True

    def _counted(self, shape: Sequence[int]) -> int | None:
        """Bytes that the process needs for a step; None where it depends on values."""
        try:
            step = step_bytes(self.network, shape)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            return None
        states = sum(p.nbytes for p in self.network.parameters() if p.requires_grad)
        return int(HEAP_FACTOR * step) + STATES * states + THREADS_BYTES

    def _step(self, shape: Sequence[int]) -> None:
        weights = [p for p in self.network.parameters() if p.requires_grad]
        to_come = 0 if self.optimizer is None or self.optimizer.state else STATES
        reserve = [torch.empty_like(p) for p in weights for _ in range(to_come)]
        image = torch.zeros(tuple(shape), device=weights[0].device, dtype=weights[0].dtype)
        target = torch.zeros((shape[0], 2, *shape[2:]), device=image.device)  # class 0 ...
        target[:, 1] = 1.0  # ... of weight 1
        self.loss(self.network(image), target).backward()
        del reserve


def batch_names(engine: Engine) -> list[str]:
    """File names of the images of a trainer's last batch, planes included, as far as known."""
    loader: Any = engine.state.dataloader
    source = getattr(getattr(loader, "dataset", None), "source", None)
    batch: Any = engine.state.batch
    if source is None:
        meta = getattr(batch.get("image"), "meta", {}) if isinstance(batch, Mapping) else {}
        return [Path(str(name)).name for name in _listed(meta.get("filename_or_obj"))]
    size, length = loader.batch_size or 1, len(loader.dataset)
    epoch, step = divmod(engine.state.iteration - 1, engine.state.epoch_length or 1)
    own = range(length)
    if isinstance(loader.sampler, EpochSampler):  # one of several processes has a part of them
        own = loader.sampler.turns()
    return [
        _name(source(epoch * length + k % length)) for k in own[step * size : (step + 1) * size]
    ]


def _name(item: Mapping[str, Any]) -> str:
    image = item.get("image")
    if isinstance(image, Tensor):  # a data list of loaded images
        image = getattr(image, "meta", {}).get("filename_or_obj", "an image in memory")
    plane = f" (plane {item['slice']})" if item.get("slice") is not None else ""
    return f"{Path(str(image)).name}{plane}"


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
