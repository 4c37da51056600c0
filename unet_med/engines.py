"""Handlers and batch preparation that let MONAI's engines train the paper from a config."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Mapping
from math import cos, pi
from pathlib import Path
from typing import Any, cast

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.engines import PrepareBatch
from monai.handlers import ValidationHandler
from tqdm import tqdm

from unet_med.data.writing import written_beside


class PrepareBatchWeighted(PrepareBatch):
    """Batch for `SupervisedTrainer`: image, and label with its weight map packed into one target.

    MONAI calls `loss(prediction, target)` with exactly two arguments, so the
    weights travel as a second channel: target `(B, 2, *S)`, or `(B, 1, *S)`
    where a batch has no weights (validation without them).

    Args:
        image_key: entry of the image `(B, C, *S)`.
        label_key: entry of the label `(B, 1, *S)`; may be absent at prediction.
        weight_key: entry of the weight map `(B, 1, *S)`; may be absent.
    """

    def __init__(
        self, image_key: str = "image", label_key: str = "label", weight_key: str = "weight"
    ) -> None:
        self.image_key = image_key
        self.label_key = label_key
        self.weight_key = weight_key

    def __call__(
        self,
        batchdata: Mapping[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return `(image, target)` on the device."""
        image = batchdata[self.image_key].to(device=device, non_blocking=non_blocking, **kwargs)
        keys = [key for key in (self.label_key, self.weight_key) if key in batchdata]
        if self.label_key not in keys:
            return image, None
        parts = [batchdata[key].to(device=device, non_blocking=non_blocking) for key in keys]
        if len(parts) == 1:
            return image, parts[0]
        return image, torch.cat([part.to(torch.float32) for part in parts], dim=1)  # (B, 2, *S)


class Reproducible:
    """Make an epoch depend on its number alone, so that a resumed run needs nothing else.

    Reseeds torch (dropout) before every iteration from (seed, iteration), and
    tells the sampler which epoch begins. Of several processes that train together
    each has its own seed, from (seed, iteration, rank).

    Args:
        seed: of torch's random numbers.
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
        if self.sampler is not None:
            self.sampler.set_epoch(engine.state.epoch - 1)

    def _start_iteration(self, engine: Engine) -> None:
        entropy = (self.seed, engine.state.iteration, rank())  # a last 0 changes nothing
        state = np.random.SeedSequence(entropy).generate_state(1)
        torch.manual_seed(int(state[0]))


class KeepMemory:
    """Keep freed memory for the next step, where the C library is glibc (Linux).

    A training step on a CPU frees and takes the same hundreds of megabytes again. glibc gives
    large blocks back to the system at once, and fresh pages must be cleared: without that a step
    takes up to a fifth less time on two cores. It lasts as long as the process.
    """

    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._keep)

    def _keep(self, engine: Engine) -> None:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
        if mallopt is not None:
            mallopt(self.M_MMAP_MAX, 0)  # no block of its own for large tensors ...
            mallopt(self.M_TRIM_THRESHOLD, 2**31 - 1)  # ... and the heap is not cut back


class TrainingBudget:
    """Learning rate over a budget of epochs or minutes, whichever ends first.

    The rate rises linearly during `warmup`, then follows half a cosine to
    `final` times its value; what an optimiser's parameter groups hold when the
    training starts is the peak. With `minutes` the run ends when they are over,
    validation included, and the rate has come down by then. Processes that train
    together go by the clock of the first: all must end at the same step.

    Args:
        optimizer: whose rates are set, each iteration.
        minutes: wall-clock budget, None for no limit.
        warmup: share of the budget, 0 to 1.
        final: last learning rate as a share of the peak; 1.0 keeps the rate
            constant after the warm-up.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        minutes: float | None = None,
        *,
        warmup: float = 0.02,
        final: float = 0.01,
    ) -> None:
        self.optimizer = optimizer
        self.minutes = minutes
        self.warmup = warmup
        self.final = final
        self.elapsed_minutes = 0.0
        self._peaks = [group["lr"] for group in optimizer.param_groups]
        self._tick = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rate)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop_in_time)

    def fraction(self, engine: Engine) -> float:
        """Share of the budget that is used, 0 to 1."""
        state = engine.state
        total = (state.max_epochs or 1) * (state.epoch_length or 1)
        fraction = max(state.iteration - 1, 0) / total
        if self.minutes:
            fraction = max(fraction, self.elapsed_minutes / self.minutes)
        return min(fraction, 1.0)

    def rate(self, fraction: float) -> float:
        """Learning rate at a share of the budget, as a multiple of the peak."""
        if fraction < self.warmup:
            return (fraction + 1e-3) / (self.warmup + 1e-3)
        progress = (fraction - self.warmup) / max(1 - self.warmup, 1e-9)
        return self.final + (1 - self.final) * (1 + cos(pi * progress)) / 2

    def _start(self, engine: Engine) -> None:
        self._tick = time.monotonic()

    def _set_rate(self, engine: Engine) -> None:
        factor = self.rate(self.fraction(engine))
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

    def _stop_in_time(self, engine: Engine) -> None:
        now = time.monotonic()
        self.elapsed_minutes += (now - self._tick) / 60
        self._tick = now
        if self.minutes:
            self.elapsed_minutes = cast(float, idist.broadcast(self.elapsed_minutes))
        if self.minutes and self.elapsed_minutes >= self.minutes:
            engine.terminate()

    def state_dict(self) -> dict[str, float]:
        """What a resumed run must know: the minutes already spent."""
        return {"elapsed_minutes": self.elapsed_minutes}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue a budget that was begun."""
        self.elapsed_minutes = float(state["elapsed_minutes"])


class Validation(ValidationHandler):
    """MONAI's validation every few epochs, and once more where the training ends.

    A budget of minutes ends in the middle of an epoch, with the learning rate
    at its lowest: that last network is often the best one.

    Args:
        interval: epochs between validations.
        validator: the evaluator to run.
    """

    def __init__(self, interval: int, validator: Any) -> None:
        super().__init__(interval, validator)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        super().attach(engine)
        engine.add_event_handler(Events.COMPLETED, self._validate_last)

    def _validate_last(self, engine: Engine) -> None:
        if self.validator is not None and self.validator.state.epoch != engine.state.epoch:
            self.validator.run(engine.state.epoch)


class Checkpoints:
    """Keep the network, and everything that a later run needs to continue.

    `model.pt` holds a state dictionary, as bundles do: of the last network, at
    the lowest learning rate; or, given an evaluator, of the one with the best
    key metric. (Trained with border weights, the network with the best Dice
    merges cells: see `docs/explanation/departures.md`.) `checkpoint.pt` holds
    network, optimiser, budget and position. Both are written beside and renamed,
    and load with `weights_only=True`. Of several processes that train together the
    first writes, without the prefix of DistributedDataParallel, and all read.

    Args:
        folder: where both are kept; made when the training starts.
        network: the network that is trained.
        optimizer: its optimiser.
        evaluator: whose key metric decides; None: the last network counts.
        budget: `TrainingBudget`, if any.
        resume: continue from `checkpoint.pt`, where there is one.
        best: file name of the network to use.
        last: file name of the last state.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        evaluator: Any = None,
        budget: TrainingBudget | None = None,
        resume: bool = False,
        best: str = "model.pt",
        last: str = "checkpoint.pt",
    ) -> None:
        self.folder = Path(folder)
        parallel = isinstance(network, torch.nn.parallel.DistributedDataParallel)
        self.network = cast(torch.nn.Module, network.module) if parallel else network
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.budget = budget
        self.resume = resume
        self.best = self.folder / best
        self.last = self.folder / last

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, after the handler that validates."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save_last)
        engine.add_event_handler(Events.COMPLETED, self._save_if_unvalidated)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._save_if_best)

    def _start(self, engine: Engine) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.resume and self.last.exists():
            self._load(engine)

    def _load(self, engine: Engine) -> None:
        state = torch.load(self.last, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["iteration"]
        if self.budget is not None and state["budget"]:
            self.budget.load_state_dict(state["budget"])
        if self.evaluator is not None:
            self.evaluator.state.best_metric = state["best_metric"]
            self.evaluator.state.best_metric_epoch = state["best_metric_epoch"]

    def _save_last(self, engine: Engine) -> None:
        evaluator = self.evaluator.state if self.evaluator is not None else None
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "budget": self.budget.state_dict() if self.budget is not None else {},
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "best_metric": float(evaluator.best_metric) if evaluator else -1.0,
            "best_metric_epoch": int(evaluator.best_metric_epoch) if evaluator else -1,
        }
        save_atomically(state, self.last)
        if self.evaluator is None:
            save_atomically(self.network.state_dict(), self.best)

    def _save_if_best(self, evaluator: Any) -> None:
        if evaluator.state.best_metric_epoch == evaluator.state.epoch:
            save_atomically(self.network.state_dict(), self.best)

    def _save_if_unvalidated(self, engine: Engine) -> None:
        """A budget may end before the first validation: the network still counts."""
        if self.evaluator is None or self.evaluator.state.best_metric_epoch == -1:
            save_atomically(self.network.state_dict(), self.best)


class ProgressBar:
    """One bar for the whole training: budget used, loss, last validation score.

    Args:
        budget: the `TrainingBudget` whose share is shown.
        evaluator: whose last key metric is shown, if any.
    """

    def __init__(self, budget: TrainingBudget, evaluator: Any = None) -> None:
        self.budget = budget
        self.evaluator = evaluator
        self._bar: tqdm[Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED | Events.EXCEPTION_RAISED, self._close)

    def _open(self, engine: Engine) -> None:
        layout = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(total=100, desc="training", bar_format=layout, disable=rank() > 0)

    def _step(self, engine: Engine) -> None:
        if self._bar is None:
            return
        self._bar.n = round(100 * self.budget.fraction(engine), 1)
        shown = {"epoch": engine.state.epoch, "loss": f"{last_loss(engine):.3f}"}
        if self.evaluator is not None and self.evaluator.state.metrics:
            name = self.evaluator.state.key_metric_name
            shown[name] = f"{float(self.evaluator.state.metrics[name]):.4f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(0)

    def _close(self, engine: Engine, error: BaseException | None = None) -> None:
        if self._bar is not None:
            self._bar.close()
        if error is not None:
            raise error


def rank() -> int:
    """Which of the processes that train together this is; 0 if it is the only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def save_atomically(state: Any, path: Path) -> None:
    """Save tensors and plain values so that a half-written file is never seen under `path`.

    Of several processes that train together only the first writes.
    """
    if rank() > 0:
        return
    with written_beside(path) as beside:
        torch.save(state, beside)


def last_loss(engine: Engine) -> float:
    """Loss of a trainer's last iteration; MONAI decollates its output into a list."""
    output: Any = engine.state.output
    first = output[0] if isinstance(output, list) else output
    return float(first["loss"])
