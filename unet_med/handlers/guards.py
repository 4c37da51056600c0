"""Stop a training that cannot go on, with the reason: a loss that explodes, too little memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from unet_med.data.dataset import EpochSampler
from unet_med.data.entries import LINES
from unet_med.engines.batch import last_loss, read_losses, read_now
from unet_med.errors import is_out_of_memory, user_error
from unet_med.handlers.checkpoints import Checkpoints
from unet_med.handlers.exceptions import on_exception
from unet_med.inferers.tile_size import half_sides
from unet_med.inferers.tiling import tiling_of
from unet_med.memory import free_memory


class LossGuard:
    """Stop a training whose loss is NaN or infinite, or has exploded.

    The message names the iteration, the images of the batch and the last checkpoint. Attach it
    before `Checkpoints`, so that no checkpoint keeps the spoilt weights. On a GPU losses are read
    every 32 steps, before a checkpoint, and at the end of an epoch or a run, before a validation
    that could only say that the scores of a spoilt network are NaN.

    Args:
        checkpoints: whose last checkpoint is named; may be None.
        limit: a loss has exploded if it is above this multiple of the run's first loss, or of 1 if
            that is larger.

    Raises:
        FloatingPointError: within a run, as described.
    """

    def __init__(self, checkpoints: Checkpoints | None = None, limit: float = 1000.0) -> None:
        self.checkpoints = checkpoints
        self.limit = limit
        self.first: float | None = None
        self._unread: dict[int, Tensor] = {}  # by iteration

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, before `Checkpoints`."""
        engine.add_event_handler(Events.STARTED, lambda _: self._unread.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._look)
        engine.add_event_handler(Events.EPOCH_COMPLETED | Events.COMPLETED, self._read)

    def _look(self, engine: Engine) -> None:
        self._unread[engine.state.iteration] = last_loss(engine)
        at_end = engine.state.iteration % (engine.state.epoch_length or math.inf) == 0
        due = self.checkpoints is not None and self.checkpoints.due()
        if at_end or engine.should_terminate or due or read_now(engine):
            self._read(engine)

    def _read(self, engine: Engine) -> None:
        unread, self._unread = self._unread, {}
        values = read_losses(list(unread.values()))
        for iteration, loss in zip(unread, values, strict=True):
            self._check(engine, iteration, loss)

    def _check(self, engine: Engine, iteration: int, loss: float) -> None:
        if self.first is None and math.isfinite(loss):
            self.first = loss
        highest = self.limit * max(self.first or 0.0, 1.0)
        if loss <= highest:  # NaN is not
            return
        known = self.checkpoints.kept if self.checkpoints else "no checkpoint is kept"
        rule = f"above {highest:g}" if math.isfinite(loss) else "not finite"
        names = ", ".join(_names(engine, iteration)) or "unnamed images"
        epoch = (iteration - 1) // (engine.state.epoch_length or iteration) + 1
        raise FloatingPointError(
            f"the loss is {loss:g}, {rule}, at iteration {iteration} (epoch {epoch}) on {names}; "
            f"{known}: look at these images and labels, or lower the learning rate"
        )


class OutOfMemory:
    """End a training that runs out of memory with one sentence and a way out.

    Of a training step the sentence names the tiles that did not fit and a side of tiles with half
    their pixels; a validation has images, which no smaller tile makes smaller. Attach it behind the
    other handlers that listen to exceptions.

    Args:
        network: the network that is trained.

    Raises:
        ValueError: within a run, in place of the allocation's own error.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._is_in_step = False

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._note, True)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note, False)
        on_exception(engine, self._explain)

    def _note(self, engine: Engine, is_in_step: bool) -> None:
        self._is_in_step = is_in_step

    def _explain(self, engine: Engine, error: BaseException) -> None:
        if not is_out_of_memory(error):
            return
        if not self._is_in_step:
            self._explain_rest(error)
            return
        image = _tiles_of(engine.state.batch)
        if image is None:
            return
        engine.state.batch = engine.state.output = None
        self.network.zero_grad(set_to_none=True)
        free_memory(error)
        raise ValueError(out_of_memory_advice(self.network, image)) from None

    def _explain_rest(self, error: BaseException) -> None:
        """Of an image that is read or validated; what names its file says more than this."""
        if user_error(error) is not None:
            return
        free_memory(error)
        raise ValueError(
            "out of memory where images are loaded or validated, not in a training step: hold out "
            "smaller images (--split), or take another device"
        ) from None


def out_of_memory_advice(network: nn.Module, image: Tensor) -> str:
    """Say what did not fit in a training step, and what to try."""
    count, shape = image.shape[0], list(image.shape[2:])
    others = "a smaller batch_size, fewer features, or another device"
    if image.is_meta:  # the GPU has the images of all tiles
        others = f"images that stay in main memory (cache::device null), {others}"
    try:
        sides = half_sides(shape, tiling_of(network, image, margin=None, stride=None))
        fix = f"the network takes no smaller tile; take {others}"
        if sides is not None:
            words = list(map(str, sides[:1] if len(set(sides)) == 1 else sides))
            asked = f"--tile-size {' '.join(words)}"
            fix = f"take tiles of {' x '.join(words)} px ({asked}), {others}"
    except ValueError:  # the network does not say which sides it takes
        fix = f"take smaller tiles, {others}"
    return (
        f"out of memory in a training step on {count} tile{'s' if count > 1 else ''} of {shape} "
        f"px: {fix}"
    )


def _tiles_of(batch: Any) -> Tensor | None:
    """The images of a batch `(B, C, *S)`; of one whose images are on a GPU only the shape."""
    if not isinstance(batch, Mapping) or not {"image", LINES} & batch.keys():
        return None
    if LINES not in batch:
        return batch["image"]
    lines = batch[LINES]
    return torch.empty(len(lines[0]), 1, *(line.shape[1] for line in lines), device="meta")


def _names(engine: Engine, iteration: int) -> list[str]:
    """File names of the images of a trainer's batch, planes included, as far as known."""
    loader: Any = engine.state.dataloader
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, EpochSampler) and hasattr(loader.dataset, "source"):
        epoch, step = divmod(iteration - 1, engine.state.epoch_length or 1)
        size = loader.batch_size or 1
        positions = sampler.positions(epoch, slice(step * size, (step + 1) * size))
        return [_name(loader.dataset.source(position)) for position in positions]
    if iteration != engine.state.iteration:
        return []
    batch: Any = engine.state.batch
    meta = getattr(batch.get("image"), "meta", {}) if isinstance(batch, Mapping) else {}
    return [Path(str(name)).name for name in _listed(meta.get("filename_or_obj"))]


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
