"""Make every random number of a training a function of seed, epoch and iteration."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd

from unet_med import devices
from unet_med.handlers.training_state import go_to, rank

_EPOCH = (1,)  # keeps the seeds of epochs apart from those of iterations


class Reproducible:
    """Make an epoch depend on its number alone, on any number of workers and after a resume.

    When an epoch begins, the generators of torch, NumPy and Python and all random transforms
    of the data set are reseeded from (seed, epoch): a shuffling loader draws its order from
    them, and the seeds of its workers. Before every iteration the generators are reseeded
    from (seed, iteration), for dropout. If several processes train together, each has its own
    seeds, from (seed, iteration, rank). A `SeededDataset` reseeds its transforms for each tile,
    and its sampler is told the epoch and, after a resume, how far the epoch had come.

    Args:
        seed: of everything.
        sampler: with `set_epoch`, as `unet_med.data.EpochSampler`; may be None.
    """

    def __init__(self, seed: int = 0, sampler: Any = None) -> None:
        self.seed = seed
        self.sampler = sampler

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_STARTED, self._start_iteration)

    def _start_epoch(self, engine: Engine) -> None:
        epoch, loader = engine.state.epoch - 1, engine.state.dataloader
        seed = _derived(self.seed, epoch, spawn_key=_EPOCH)
        seed_generators(seed)
        set_rnd(getattr(loader, "dataset", None), seed)
        if self.sampler is not None:
            go_to(self.sampler, epoch, engine)

    def _start_iteration(self, engine: Engine) -> None:
        # a last 0 changes nothing: one process draws what the first of several draws
        seed_generators(_derived(self.seed, engine.state.iteration, rank()))


def seed_generators(seed: int) -> None:
    """Seed the global generators of torch (CPU and GPUs), NumPy and Python with one number."""
    torch.default_generator.manual_seed(seed)  # as `torch.manual_seed`, which takes 0.6 ms
    devices.seed_generators(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that other packages draw from
    random.seed(seed)


def _derived(*numbers: int, spawn_key: tuple[int, ...] = ()) -> int:
    """A seed of 32 bits that differs for different numbers."""
    return int(np.random.SeedSequence(numbers, spawn_key=spawn_key).generate_state(1)[0])
