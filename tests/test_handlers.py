"""Handlers, on a MONAI trainer small enough to follow by hand."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import MeanSquaredError, from_engine
from monai.transforms import Compose
from torch.optim.swa_utils import AveragedModel

from unet_med.data import EpochSampler, SeededDataset
from unet_med.engines import PrepareBatchWeighted
from unet_med.handlers import (
    Checkpoints,
    LossGuard,
    ProgressBar,
    Reproducible,
    TrainingBudget,
    Validation,
    WholeImageEvaluator,
    guards,
    keep_memory,
    save_atomically,
)
from unet_med.handlers.exceptions import on_exception
from unet_med.handlers.guards import _names
from unet_med.handlers.training_state import random_state, set_random_state
from unet_med.networks import load_weights, unet, unwrapped


class Parts:
    """A linear network with dropout that learns 3 x, its trainer and its evaluator."""

    def __init__(
        self,
        epochs: int = 3,
        minutes: float | None = None,
        *,
        interval: int = 2,
        timed: bool = False,
        **checkpoints: Any,
    ) -> None:
        torch.manual_seed(0)
        x = torch.linspace(-1, 1, 8).reshape(8, 1)
        items = [{"image": v, "label": 3 * v} for v in x]
        self.network = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Dropout(0.5))
        self.network.append(torch.nn.Linear(4, 1))
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        self.budget = TrainingBudget(self.optimizer, minutes)
        self.losses: list[float] = []
        loader = DataLoader(items, batch_size=2)  # type: ignore[arg-type]
        prepare = PrepareBatchWeighted()
        error = MeanSquaredError(output_transform=from_engine(["pred", "label"]))
        self.evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=loader,
            network=self.network,
            prepare_batch=prepare,
            key_val_metric={"mse": error},
            metric_cmp_fn=lambda new, old: new < old,
        )
        budget = self.budget if timed else None
        validation = Validation(interval, self.evaluator, budget=budget)
        handlers: list[Any] = [Reproducible(0), self.budget, validation]
        if checkpoints:
            options = {"evaluator": self.evaluator, "parts": {"budget": self.budget}, **checkpoints}
            folder = options.pop("folder")
            handlers.append(Checkpoints(folder, self.network, self.optimizer, **options))
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=loader,
            network=self.network,
            optimizer=self.optimizer,
            loss_function=torch.nn.MSELoss(),
            prepare_batch=prepare,
            train_handlers=handlers,
        )
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._record)

    def _record(self, engine: Any) -> None:
        self.losses.append(float(engine.state.output[0]["loss"]))

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.network.parameters()])


def test_a_batch_that_is_a_tuple_is_refused_in_words() -> None:
    """As torch's own data sets give them."""
    with pytest.raises(TypeError, match="a batch is a tuple, and its image, label and weight are"):
        PrepareBatchWeighted()((torch.zeros(1, 1, 4), torch.zeros(1, 1, 4)), "cpu")  # type: ignore[arg-type]


def test_target_packs_label_and_weight() -> None:
    batch = {
        "image": torch.zeros(2, 1, 4, 4),
        "label": torch.ones(2, 1, 4, 4, dtype=torch.int64),
        "weight": torch.full((2, 1, 4, 4), 0.5),
    }
    image, target = PrepareBatchWeighted()(batch, "cpu")
    assert target is not None
    assert image.shape == (2, 1, 4, 4)
    assert target.shape == (2, 2, 4, 4)
    assert torch.equal(target[:, 0], torch.ones(2, 4, 4))
    assert torch.equal(target[:, 1], torch.full((2, 4, 4), 0.5))


def test_target_without_weight_or_label() -> None:
    label = torch.ones(1, 1, 2, dtype=torch.int64)
    _, target = PrepareBatchWeighted()({"image": torch.zeros(1, 1, 2), "label": label}, "cpu")
    assert target is not None
    assert target.dtype == torch.int64
    assert PrepareBatchWeighted()({"image": label}, "cpu")[1] is None


def test_rate_warms_up_and_decays() -> None:
    network = torch.nn.Linear(1, 1)
    budget = TrainingBudget(torch.optim.SGD(network.parameters(), lr=0.2), warmup=0.1, final=0.01)
    assert budget.rate(0.0) == pytest.approx(0.0099, rel=0.01)
    assert budget.rate(0.1) == pytest.approx(1.0)
    assert budget.rate(0.55) == pytest.approx((1 + 0.01) / 2)
    assert budget.rate(1.0) == pytest.approx(0.01)


def test_rate_reaches_the_optimizer() -> None:
    parts = Parts(epochs=4)
    parts.trainer.run()
    last = parts.budget.rate(15 / 16)  # the rate of the last of 16 iterations
    assert parts.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * last)


def test_a_run_after_the_end_is_a_round_with_its_own_schedule(tmp_path: Path) -> None:
    """As MONAI's federated client does it: more epochs, and run again."""
    parts = Parts(epochs=2, folder=tmp_path)
    rounds: list[list[float]] = []
    rate = parts.optimizer.param_groups[0]
    parts.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: rounds[-1].append(rate["lr"])
    )
    for _ in range(3):
        rounds.append([])
        parts.trainer.state.max_epochs = parts.trainer.state.epoch + 2
        parts.trainer.run()
    assert [len(rates) for rates in rounds] == [8, 8, 8]
    assert rounds[0] == rounds[1] == rounds[2]
    assert max(rounds[0]) > 10 * rounds[0][-1]

    again = Parts(epochs=6, folder=tmp_path, resume=True)  # the last round, cut off and resumed
    again.trainer.run()
    assert again.budget.state_dict()["first"] == 16


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that handlers see, s: a test moves it."""
    time = [0.0]
    for module in ("budget", "progress"):
        clock = SimpleNamespace(monotonic=lambda: time[0])
        monkeypatch.setattr(f"unet_med.handlers.{module}.time", clock)
    return time


def test_minutes_end_the_run(now: list[float]) -> None:
    parts = Parts(epochs=10_000_000, minutes=0.02)

    def step(engine: Engine) -> None:
        now[0] += 0.07  # s, of 1.2

    parts.trainer.add_event_handler(Events.ITERATION_STARTED, step)
    parts.trainer.run()
    assert parts.trainer.state.iteration == 18
    assert parts.budget.elapsed_minutes == pytest.approx(18 * 0.07 / 60)
    assert parts.optimizer.param_groups[0]["lr"] < 0.1 * 0.05


def test_validation_also_at_the_end() -> None:
    parts = Parts(epochs=5)
    epochs: list[int] = []
    parts.evaluator.add_event_handler(Events.COMPLETED, lambda e: epochs.append(e.state.epoch))
    parts.trainer.run()
    assert epochs == [2, 4, 5]


def test_best_network_is_kept(tmp_path: Path) -> None:
    parts = Parts(epochs=6, folder=tmp_path)
    scores: dict[float, torch.Tensor] = {}

    def keep(engine: Any) -> None:
        scores[float(engine.state.metrics["mse"])] = parts.weights()

    parts.evaluator.add_event_handler(Events.COMPLETED, keep)
    parts.trainer.run()
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    saved = torch.cat([value.flatten() for value in state.values()])
    assert torch.equal(saved, scores[min(scores)])
    assert sorted(p.name for p in tmp_path.glob("**/*.pt")) == ["checkpoint.pt", "model.pt"]
    assert (tmp_path / "resume/checkpoint.pt").is_file()  # MONAI Label takes models/*.pt for models


def test_an_epoch_that_is_validated_again_replaces_no_better_weights(tmp_path: Path) -> None:
    """Minutes ended in it, its network was the best, and a resumed run has finished it."""
    Parts(epochs=2, folder=tmp_path).trainer.run()
    best = torch.load(tmp_path / "model.pt", weights_only=True)
    again = Parts(epochs=2, folder=tmp_path, resume=True)
    again.trainer.run()
    assert again.evaluator.state.best_metric_epoch == 2
    with torch.no_grad():
        again.network[0].weight += 100
    again.evaluator.run(2)
    assert again.evaluator.state.metrics["mse"] > again.evaluator.state.best_metric
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.testing.assert_close(saved, best, rtol=0, atol=0)


def test_time_left_of_a_resumed_run_is_that_of_what_it_has_to_do(
    now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine of ten minutes were used; 6 s after the start nine tenths of the last are left."""
    parts = Parts(minutes=10.0)
    bar = ProgressBar(parts.budget)
    monkeypatch.setattr(bar, "_facts", lambda engine: {})
    lines: list[str] = []

    def step(engine: Engine, batch: Any) -> None:
        now[0] += 6

    engine = Engine(step)
    bar.attach(engine)
    state = {"elapsed_minutes": 9.0}
    engine.add_event_handler(Events.STARTED, lambda: parts.budget.load_state_dict(state))
    parts.budget.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: lines.append(bar._line(e)))
    engine.run(range(1000), 1)
    assert lines[0].endswith("91% done, 54 s left")
    assert lines[-1].endswith("100% done, 0 s left")


def test_a_state_at_its_old_place_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(ValueError, match=r"checkpoint.pt is where earlier .* move it to .*resume"):
        Parts(folder=tmp_path, resume=True).trainer.run()


def test_last_network_is_kept_without_an_evaluator(tmp_path: Path) -> None:
    parts = Parts(epochs=3, folder=tmp_path, evaluator=None)
    parts.trainer.run()
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    saved = torch.cat([value.flatten() for value in state.values()])
    assert torch.equal(saved, parts.weights())


def test_resumed_run_equals_uninterrupted_one(tmp_path: Path) -> None:
    whole = Parts(epochs=6, folder=tmp_path / "whole")
    whole.trainer.run()

    first = Parts(epochs=6, folder=tmp_path / "parts")
    first.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: e.terminate() if e.state.epoch == 3 else None
    )
    first.trainer.run()
    second = Parts(epochs=6, folder=tmp_path / "parts", resume=True)
    second.trainer.run()
    assert first.losses + second.losses == whole.losses
    assert torch.equal(second.weights(), whole.weights())


class Positions(torch.utils.data.Dataset[int]):
    """As many positions as an epoch has tiles."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, position: int) -> int:
        return position


@pytest.mark.parametrize(
    "stop", [Events.ITERATION_COMPLETED(once=2), Events.EPOCH_COMPLETED(once=1)]
)
def test_a_resumed_run_goes_on_with_the_tiles_that_follow(stop: Any, tmp_path: Path) -> None:
    """In a loop without `Reproducible` it took the tiles of the first epoch again."""
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters())
    seen: list[int] = []
    for resume in (False, True):
        trainer = Engine(lambda _, batch: seen.extend(batch.tolist()))
        Checkpoints(tmp_path, network, optimizer, minutes=0, resume=resume).attach(trainer)
        if not resume:
            trainer.add_event_handler(stop, trainer.terminate)
        loader = DataLoader(Positions(), sampler=EpochSampler(Positions()), batch_size=2)
        trainer.run(loader, max_epochs=3)
    assert seen == list(range(18))


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_atomically({"a": torch.ones(2)}, path)
    with pytest.raises(Exception, match=r"pickle|local object"):  # as the Python has it
        save_atomically({"a": lambda: None}, path)
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


FAULTS = """
import ctypes, resource, runpy, sys
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of 4 kB, which are counted
import torch
from ignite.engine import Engine
KeepMemory = runpy.run_path(sys.argv[1])["KeepMemory"]  # without its package, which imports MONAI

def step(engine, batch):
    torch.ones(10_000_000).add(1)  # 2 x 40 MB, taken and freed

trainer = Engine(step)
for attach in (lambda trainer: None, KeepMemory().attach):
    attach(trainer)
    trainer.run([0] * 3)  # until every block has found its place
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    trainer.run([0] * 6)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_kept_memory_is_not_cleared_again() -> None:
    words = [sys.executable, "-c", FAULTS, keep_memory.__file__]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    given_back, kept = map(int, said.split())  # page faults
    pages = 6 * 2 * 40_000_000 // 4096
    assert kept < pages / 5
    assert given_back > pages / 2


def test_everything_random_starts_anew_with_an_epoch_and_an_iteration() -> None:
    def draws(engine: Any) -> None:
        seen[engine.state.iteration] = (torch.rand(1).item(), np.random.rand(), random.random())  # noqa: NPY002

    runs: list[dict[int, Any]] = []
    for state in (0, 1):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002
        random.seed(state)
        seen: dict[int, Any] = {}
        parts = Parts(epochs=2)
        parts.trainer.add_event_handler(Events.ITERATION_STARTED, draws)
        parts.trainer.run()
        runs.append(seen)
    assert runs[0] == runs[1]
    assert len(set(runs[0].values())) == 8


def test_generators_are_kept_and_restored() -> None:
    def draw() -> tuple[float, ...]:
        numpy = np.random.normal()  # noqa: NPY002 - it keeps a second number for the next call
        return torch.rand(1).item(), numpy, random.random(), random.gauss(0, 1)

    draw()
    state = random_state()
    expected = draw(), draw()
    set_random_state(state)
    assert (draw(), draw()) == expected


class Diverging(Parts):
    """A trainer whose loss, at iteration 6, is what the test says."""

    def __init__(self, value: float, folder: Path) -> None:
        super().__init__(epochs=3)
        self.checkpoints = Checkpoints(folder, self.network, self.optimizer, minutes=0)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=6), self._spoil, value)
        for handler in (LossGuard(self.checkpoints, limit=100), self.checkpoints):
            handler.attach(self.trainer)

    terminates = False

    def _spoil(self, engine: Any, value: float) -> None:
        engine.state.output[0]["loss"] = torch.tensor(value)
        if self.terminates:
            engine.terminate()


@pytest.mark.parametrize(
    ("value", "rule"),
    [(float("nan"), "the loss is nan, not finite"), (float("inf"), "inf, not finite"),
     (5e3, "the loss is 5000, above")],
)  # fmt: skip
def test_diverging_training_stops_with_the_reason(value: float, rule: str, tmp_path: Path) -> None:
    parts = Diverging(value, tmp_path)
    with pytest.raises(FloatingPointError, match=rule) as caught:
        parts.trainer.run()
    said = str(caught.value)
    assert "at iteration 6 (epoch 2)" in said
    assert f"last good checkpoint is {tmp_path / 'resume/checkpoint.pt'} (iteration 4)" in said
    assert torch.load(tmp_path / "resume/checkpoint.pt", weights_only=True)["iteration"] == 4


@pytest.mark.parametrize("terminated", [False, True])
def test_a_spoilt_network_is_stopped_before_it_is_validated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminated: bool
) -> None:
    """Losses of a GPU are read now and then; a validation may refuse scores that are NaN."""
    monkeypatch.setattr(guards, "read_now", lambda engine: False)
    parts = Diverging(float("nan"), tmp_path)
    parts.checkpoints.minutes, parts.terminates = 1, terminated
    validated: list[int] = []
    parts.evaluator.add_event_handler(Events.STARTED, lambda e: validated.append(e.state.epoch))
    with pytest.raises(FloatingPointError, match=r"the loss is nan.* at iteration 6 \(epoch 2\)"):
        parts.trainer.run()
    assert validated == []


def test_a_score_that_is_no_number_is_not_the_best(tmp_path: Path) -> None:
    """Of a validation whose images hold no object; the next one with a number is the best."""

    class Given:
        values = iter([math.nan, 0.2, math.nan, 0.1, 0.3])

        def attach(self, engine: Engine, name: str) -> None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._give, name)

        def _give(self, engine: Any, name: str) -> None:
            engine.state.metrics[name] = next(self.values)

    parts = Parts()
    evaluator = WholeImageEvaluator(
        device=torch.device("cpu"),
        val_data_loader=parts.evaluator.data_loader,
        network=parts.network,
        prepare_batch=PrepareBatchWeighted(),
        key_val_metric={"score": Given()},
    )
    kept = Checkpoints(tmp_path, parts.network, parts.optimizer, evaluator=evaluator)
    kept.attach(parts.trainer)
    written = []
    for epoch in range(1, 6):
        kept.best.unlink(missing_ok=True)
        evaluator.run(epoch)
        written += [epoch] * kept.best.exists()
    assert written == [1, 2, 5]
    assert (evaluator.state.best_metric, evaluator.state.best_metric_epoch) == (0.3, 5)


def test_a_large_loss_from_the_start_is_no_explosion(tmp_path: Path) -> None:
    parts = Diverging(90.0, tmp_path)
    parts.trainer.run()
    assert parts.trainer.state.iteration == 12


@pytest.mark.parametrize(
    "wrap",
    [
        torch.nn.DataParallel,
        AveragedModel,
        partial(torch.compile, backend="eager"),
        lambda network: torch.nn.DataParallel(torch.compile(network, backend="eager")),
    ],
)
def test_a_wrapped_network_is_kept_by_its_own_names(wrap: Any, tmp_path: Path) -> None:
    network, other = unet(features=(2, 4)), unet(features=(2, 4))
    wrapped = wrap(network)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    trainer = Engine(lambda *_: None)
    Checkpoints(tmp_path, wrapped, optimizer).attach(trainer)
    trainer.run([0], 1)
    load_weights(other, tmp_path / "model.pt")
    for name, value in unwrapped(wrapped).state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    parts = Parts(epochs=3)
    Checkpoints(tmp_path, parts.network, parts.optimizer, minutes=0).attach(parts.trainer)

    def spoil(engine: Any) -> None:
        next(parts.network.parameters()).data[0] = torch.nan

    parts.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=6), spoil)
    with pytest.raises(FloatingPointError, match=r"0\.weight holds NaN .*iteration 8") as caught:
        parts.trainer.run()
    assert "(iteration 4)" in str(caught.value)
    for name in ("resume/checkpoint.pt", "model.pt"):
        state = torch.load(tmp_path / name, weights_only=True)
        network = state.get("network", state)
        assert all(bool(torch.isfinite(weight).all()) for weight in network.values())


def test_names_of_a_batch() -> None:
    items = [{"image": f"folder/{name}.tif", "slice": k} for k, name in enumerate("abc")]
    dataset = SeededDataset(items, Compose([]), cache=False, tiles_per_epoch=4)
    loader = DataLoader(dataset, sampler=EpochSampler(dataset), batch_size=2)
    engine = Engine(lambda engine, batch: None)
    seen: list[str] = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: seen.extend(_names(e, e.state.iteration))
    )
    Reproducible(0, loader.sampler).attach(engine)
    engine.run(loader, max_epochs=3)
    expected = [dataset.source(k) for k in range(12)]
    assert seen == [f"{Path(i['image']).name} (plane {i['slice']})" for i in expected]
    assert sorted(seen[:3]) == ["a.tif (plane 0)", "b.tif (plane 1)", "c.tif (plane 2)"]


def test_exceptions_are_not_swallowed() -> None:
    engine = Engine(lambda engine, batch: 1 / 0)
    seen: list[str] = []
    for name in "ab":
        on_exception(engine, lambda e, error, name=name: seen.append(name))
    with pytest.raises(ZeroDivisionError):
        engine.run([0])
    assert seen[:2] == ["a", "b"]
