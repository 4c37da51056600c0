"""How much of a training's time goes into validations, by a clock that the tests move on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.transforms import Compose
from test_handlers import Parts

from unet_med.data import SeededDataset

BATCHES = 4  # of an epoch, and of a validation


class Timed(Parts):
    """A training whose every step takes `step` seconds, and every validated batch `cost`."""

    def __init__(
        self, patch: pytest.MonkeyPatch, epochs: int, *, step: float, cost: float, **more: Any
    ) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        for module in ("budget", "validation"):
            patch.setattr(f"unet_med.handlers.{module}.time", clock)
        super().__init__(epochs, **{"timed": True, **more})
        self.seen: dict[int, int] = {}  # batches of the validation after an epoch
        self.trainer.add_event_handler(Events.ITERATION_STARTED, self._pass, step)
        self.evaluator.add_event_handler(Events.ITERATION_STARTED, self._pass, cost)
        self.evaluator.add_event_handler(Events.COMPLETED, self._note)

    def _pass(self, seconds: float) -> None:
        self.now += seconds

    def _note(self, engine: Any) -> None:
        self.seen[engine.state.epoch] = engine.state.iteration

    def run(self) -> float:
        """Seconds of the whole training."""
        began = self.now
        self.trainer.run()
        return self.now - began


def test_validations_take_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 40 s an epoch, 21 s a validation, in every second epoch where a tenth allows it."""
    parts = Timed(monkeypatch, 20, step=10, cost=5.25)
    assert parts.run() == 20 * 40 + 4 * 21
    assert parts.seen == dict.fromkeys((2, 10, 16, 20), BATCHES)  # 42 of 463 s, 63 of 745, 84


def test_of_short_trainings_none_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Timed(monkeypatch, 10, step=0.1, cost=0.25)  # 4 s of training, 5 s of validations
    parts.run()
    assert list(parts.seen) == [2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    ("cost", "interval", "validated", "seconds"),
    [
        (5.0, 2, [4, 4, 4], 600),  # 20 s each, of which the last is reserved
        (100.0, 2, [1, 1], 600),  # 400 s each: one image alone takes more than 30 s
        (12.0, 2, [3, 3], 600),  # 48 s each: three images take more than 30 s
        (5.0, 1000, [4], 590),  # none before the end: 30 s were kept for it
        (12.0, 1000, [3], 606),
    ],
)
def test_minutes_are_those_of_the_whole_training(
    cost: float, interval: int, validated: list[int], seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    parts = Timed(monkeypatch, 10_000, minutes=10.0, step=10, cost=cost, interval=interval)
    assert parts.run() == pytest.approx(seconds, abs=10)  # the step that is under way
    assert list(parts.seen.values()) == validated
    assert parts.optimizer.param_groups[0]["lr"] < 0.1 * 0.02


def test_none_comes_right_before_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 569 s of 600 another of 20 s would leave no time for the last one."""
    parts = Timed(monkeypatch, 10_000, minutes=10.0, step=9.8, cost=5, interval=7)
    assert parts.run() == pytest.approx(600, abs=10)
    assert list(parts.seen) == [7, 15]


def test_a_validator_keeps_no_image() -> None:
    parts, kept = Parts(2), []
    parts.evaluator.add_event_handler(
        Events.COMPLETED, lambda engine: kept.append(len(engine.state.output))
    )
    parts.trainer.run()
    assert kept == [2]  # it had a batch
    assert parts.evaluator.state.batch is parts.evaluator.state.output is None
    assert parts.evaluator.state.metrics["mse"] > 0


def test_what_is_left_out_changes_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    often = Parts(8, interval=1)
    often.trainer.run()
    rarely = Timed(monkeypatch, 8, step=10, cost=1000, interval=1)
    rarely.run()
    assert list(rarely.seen) == [1, 8]
    assert rarely.losses == often.losses
    assert torch.equal(rarely.weights(), often.weights())


def test_a_resumed_training_goes_on_with_its_account(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """400 s for a validation of all images, of which an hour allows 180 s, so two of them."""

    def begin(epochs: int, minutes: float = 60.0, **more: Any) -> Timed:
        rules: dict[str, Any] = {"step": 10, "cost": 100, "folder": tmp_path, **more}
        return Timed(monkeypatch, epochs, minutes=minutes, **rules)

    first = begin(4)
    first.run()
    assert first.seen == {2: 2, 4: 2}
    again = begin(8, resume=True)
    again.run()
    assert again.seen == {8: 2}
    account = {"spent": 600.0, "price": 200.0, "batches": 2, "minutes": 60.0}
    assert again.budget.state_dict()["accounts"] == {"validation": account}
    assert again.budget.reserved_minutes == pytest.approx(200 / 60)
    longer = begin(10, minutes=600.0, resume=True)  # which allows 1800 s: all of them
    longer.run()
    assert longer.seen == {10: BATCHES}
    assert longer.budget.reserved_minutes == pytest.approx(400 / 60)


def test_all_processes_do_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says no, to one that has the time and is by itself."""
    monkeypatch.setattr("unet_med.handlers.validation.of_first", lambda *mine: [0.0] * len(mine))
    parts = Timed(monkeypatch, 5, step=10, cost=0.01)
    parts.run()
    assert list(parts.seen) == [5]


@pytest.mark.parametrize("first", [2, 0])
def test_all_processes_look_at_as_many_images_as_the_first(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one has time for one batch; the first has time for two, or for all."""

    def of_first(*mine: float) -> list[float]:
        return [200.0, float(first)] if len(mine) == 2 else list(mine)

    monkeypatch.setattr("unet_med.handlers.validation.of_first", of_first)
    parts = Timed(monkeypatch, 4, minutes=10.0, step=10, cost=100)
    parts.run()
    assert parts.seen == {2: 1, 4: first or BATCHES}
    known = parts.budget.state_dict()["accounts"]["validation"]
    assert (known["price"], known["batches"]) == (200.0, first or None)


def test_the_images_of_a_shortened_validation_are_of_all_stacks() -> None:
    """The data set shuffles them, once for all validations; planes lie in the list by stacks."""
    items = [{"image": stack, "slice": k} for stack in range(8) for k in range(50)]
    dataset = SeededDataset(items, Compose([]), cache=False)
    seen = [dataset[k] for k in range(len(dataset))]
    assert sorted(map(str, seen)) == sorted(map(str, items))
    assert {item["image"] for item in seen[:40]} == {*range(8)}


def test_who_runs_the_evaluator_by_hand_gets_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Timed(monkeypatch, 4, minutes=10.0, step=10, cost=100)
    parts.run()
    assert parts.seen == {2: 1, 4: 1}
    parts.evaluator.run(7)
    assert parts.seen[7] == BATCHES
