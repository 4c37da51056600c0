"""Write the network to use, and a checkpoint from which a training continues exactly."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from unet_med.data.atomic import as_json
from unet_med.data.dataset import EpochSampler
from unet_med.handlers.training_state import (
    go_to,
    load_whole,
    random_state,
    save_atomically,
    set_random_state,
)
from unet_med.networks.wrapping import unwrapped

FORMAT = 1

State = dict[str, Any]


class Checkpoints:
    """Keep the network, and everything that a later run needs to continue exactly.

    `model.pt` holds a state dictionary, as bundles do: of the last network, at
    the lowest learning rate; or, given an evaluator, of the one with the best
    key metric. (Trained with border weights, the network with the best Dice
    merges cells: see `docs/explanation/departures.md`.)

    `resume/checkpoint.pt` holds network, optimiser, gradient scaler, epoch, iteration, the states
    of `parts`, and those of the random generators of torch, CUDA, NumPy and Python. The position of
    an `EpochSampler` follows from the iteration, the draws of transforms and workers from it and a
    seed (`SeededDataset`, `Reproducible`). The file is written under another name and renamed; the
    previous one stays as `checkpoint_previous.pt`. Both load with `weights_only=True`. They have a
    folder of their own because others, MONAI Label among them, take every `models/*.pt` for a
    model.

    If several processes train together, the first writes, and all read. Names are those of the
    network inside DistributedDataParallel and the like (`unet_med.networks.unwrapped`).

    Attach it behind all handlers whose state it keeps. In the middle of an epoch it writes
    only where the loader's sampler can start there: an `unet_med.data.EpochSampler`.

    Args:
        folder: where the files are kept; made when the training starts.
        network: the network that is trained.
        optimizer: its optimiser.
        evaluator: whose key metric decides; None: the last network counts.
        parts: other objects with `state_dict` and `load_state_dict`: budget, scheduler, record.
        settings: plain values that a resumed run must share; a difference is refused. One that the
            checkpoint does not know is not compared.
        minutes: time between two checkpoints; 0 writes one after every iteration. The end of
            the training writes one in any case.
        resume: continue from `resume/checkpoint.pt`, where there is one; from the previous one,
            and say so, where that is not whole.
        best: file name of the network to use.
        last: name of the last state, a path in `folder`.
        final: file name of the network at the end of the run, whatever the metric says; None: it
            is not kept. Federated clients ask for it.

    Raises:
        ValueError: when a run starts with `resume`: the checkpoint is of another network or of
            other settings (the message names the difference), or none is whole.
        FloatingPointError: the weights hold NaN or infinity; what was saved before stays.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        evaluator: Any = None,
        parts: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        minutes: float = 1.0,
        resume: bool = False,
        best: str = "model.pt",
        last: str = "resume/checkpoint.pt",
        final: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.network: torch.nn.Module = unwrapped(network)
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.parts = dict(parts or {})
        own = {"optimizer": type(optimizer).__name__, "parts": sorted(self.parts)}
        self.settings = as_json({**(settings or {}), **own})
        self.minutes = minutes
        self.resume = resume
        self.best = self.folder / best
        self.last = self.folder / last
        self.final = None if final is None else self.folder / final
        self.previous = self.last.with_stem(f"{self.last.stem}_previous")
        self.saved_iteration: int | None = None
        self._saved_at = 0.0  # on the monotonic clock, s
        self._random: State | None = None  # of a run that goes on within an epoch

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, behind the handlers whose state is kept."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._restore_random)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save_within_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save_if_due)
        engine.add_event_handler(Events.COMPLETED, self._save_last)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._save_if_best)

    def within_epoch(self, engine: Engine) -> bool:
        """Whether a run can go on exactly after this iteration, before the epoch's end."""
        sampler = getattr(engine.state.dataloader, "sampler", None)
        length = engine.state.epoch_length
        return isinstance(sampler, EpochSampler) and engine.state.iteration % (length or 1) != 0

    def due(self) -> bool:
        """Whether the time between two checkpoints is over."""
        return time.monotonic() - self._saved_at >= 60 * self.minutes

    def save(self, engine: Engine) -> None:
        """Write the state after the last iteration, and the network where no metric decides."""
        _check_finite(self.network, engine, self.kept)
        save_atomically(self._state(engine), self.last, previous=self.previous)
        self.saved_iteration = engine.state.iteration
        self._saved_at = time.monotonic()
        if self.evaluator is None:
            save_atomically(_weights(self.network), self.best)

    def _start(self, engine: Engine) -> None:
        self.last.parent.mkdir(parents=True, exist_ok=True)
        self._saved_at = time.monotonic()
        state = self._newest() if self.resume else None
        if state is not None:
            self._check(state, engine)
            self._load(state, engine)

    def _save_within_epoch(self, engine: Engine) -> None:
        if self.within_epoch(engine):
            self._save_if_due(engine)

    def _save_if_due(self, engine: Engine) -> None:
        if self.due():
            self.save(engine)

    def _save_last(self, engine: Engine) -> None:
        self.save(engine)
        if self.evaluator is not None and self.evaluator.state.best_metric_epoch == -1:
            # a budget may end before the first validation: the network still counts
            save_atomically(_weights(self.network), self.best)
        if self.final is not None:
            save_atomically(_weights(self.network), self.final)

    def _save_if_best(self, evaluator: Any) -> None:
        state = evaluator.state
        # MONAI keeps the very number that it found best. The epoch alone does not tell: one that
        # ended early and was validated is finished by a resumed run, and validated again.
        if state.key_metric_name and state.best_metric is state.metrics[state.key_metric_name]:
            save_atomically(_weights(self.network), self.best)

    def _state(self, engine: Engine) -> State:
        scaler = getattr(engine, "scaler", None)
        evaluator = self.evaluator.state if self.evaluator is not None else None
        return {
            "format": FORMAT,
            "settings": self._settings(engine),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "random": random_state(),
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "best_metric": float(evaluator.best_metric) if evaluator else -1.0,
            "best_metric_epoch": int(evaluator.best_metric_epoch) if evaluator else -1,
        }

    def _settings(self, engine: Engine) -> State:
        return {**self.settings, "iterations an epoch": engine.state.epoch_length}

    def _known(self, saved: State, engine: Engine) -> State:
        """Those settings that a checkpoint has; one of an earlier version lacks what is new."""
        return {name: own for name, own in self._settings(engine).items() if name in saved}

    @property
    def kept(self) -> str:
        """Name the last checkpoint, for messages."""
        if self.saved_iteration is None:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is {self.last} (iteration {self.saved_iteration})"

    def _newest(self) -> State | None:
        """The newest whole checkpoint; None where there never was one."""
        if (old := self.folder / self.last.name) != self.last and old.is_file():
            raise ValueError(
                f"{old} is where earlier versions kept what to resume from: move it to "
                f"{self.last.parent}, or start again in another folder"
            )
        problems = []
        for path in (self.last, self.previous):
            try:
                state = load_whole(path)
            except FileNotFoundError:
                problems.append(f"{path} is missing")
            except ValueError as error:
                problems.append(str(error))
            else:
                if problems:
                    logging.getLogger(__name__).warning("%s; resuming %s", problems[0], path)
                return dict(state)
        if all(problem.endswith("is missing") for problem in problems):
            return None
        raise ValueError(f"{' and '.join(problems)}: start again in another folder")

    def _check(self, state: State, engine: Engine) -> None:
        """Refuse a checkpoint that this run cannot continue."""
        if state.get("format") != FORMAT:
            raise ValueError(
                f"{self.last} has format {state.get('format')}, this version reads {FORMAT}: "
                "finish that training with the version that began it"
            )
        differences = [
            *_differing(state["settings"], self._known(state["settings"], engine)),
            *_differing(_shapes(state["network"]), _shapes(self.network.state_dict())),
        ]
        if differences:
            more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
            raise ValueError(
                f"{self.last} is of another training: {'; '.join(differences[:3])}{more}; resume "
                "with the same settings, or start in another folder"
            )

    def _load(self, state: State, engine: Engine) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        _lay_like_parameters(self.optimizer)
        if state["scaler"]:
            engine.scaler.load_state_dict(state["scaler"])  # type: ignore[attr-defined]
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        if self.evaluator is not None:
            self.evaluator.state.best_metric = state["best_metric"]
            self.evaluator.state.best_metric_epoch = state["best_metric_epoch"]
        length = engine.state.epoch_length or 1
        engine.state.iteration = self.saved_iteration = state["iteration"]
        engine.state.epoch = state["iteration"] // length  # ignite adds the one that it begins
        sampler = getattr(engine.state.dataloader, "sampler", None)
        if isinstance(sampler, EpochSampler):
            go_to(sampler, engine.state.epoch, engine)
        set_random_state(state["random"])
        self._random = state["random"] if state["iteration"] % length else None

    def _restore_random(self, engine: Engine) -> None:
        """Restore the generators, which the begin of the epoch has reseeded."""
        if self._random is not None:
            set_random_state(self._random)
            self._random = None


def _lay_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Bring an optimiser's maps into the memory format that its parameters have here.

    One step walks through both in the order of their memory.
    """
    for parameter, maps in optimizer.state.items():
        for name, value in maps.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                maps[name] = torch.empty_like(parameter).copy_(value)


def _weights(network: torch.nn.Module) -> State:
    """State dictionary whose tensors lie in the order of their axes, which safetensors ask for."""
    state: State = network.state_dict()
    for name, value in state.items():
        state[name] = value.contiguous()
    return state


def _shapes(network: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in network.items()}


def _differing(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the settings that differ, with both values."""
    return [
        f"{name} is {saved.get(name, 'missing')} there and {now.get(name, 'missing')} here"
        for name in {**saved, **now}
        if saved.get(name) != now.get(name)
    ]


def _check_finite(network: torch.nn.Module, engine: Engine, kept: str) -> None:
    """Refuse to write weights that hold NaN or infinity."""
    state = network.state_dict()
    flags = torch.stack([torch.isfinite(weight).all() for weight in state.values()])
    for name, finite in zip(state, flags.tolist(), strict=True):  # one wait for a GPU, not many
        if not finite:
            raise FloatingPointError(
                f"{name} holds NaN or infinity after iteration {engine.state.iteration} (epoch "
                f"{engine.state.epoch}); {kept}: lower the learning rate"
            )
