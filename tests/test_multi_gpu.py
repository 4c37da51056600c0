"""Several processes train as one with all their batches: two of them, with gloo.

On the CPU, or together on one GPU, as gloo can.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from doors import monai_workflow
from processes import finish, start, start_module
from simulated_cuda import is_simulated

from unet_med.cli import main
from unet_med.data import EpochSampler, SyntheticCells, share_of
from unet_med.handlers import Reproducible, TrainingBudget, reproducible
from unet_med.handlers import budget as clock_of_budget
from unet_med.handlers.training_state import of_first
from unet_med.losses import BorderWeightedCrossEntropyLoss, SumLoss, WeightedCrossEntropyLoss

ROOT = Path(__file__).resolve().parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
LIMIT = 900  # s: torchrun and two more interpreters start, minutes on a machine under load
STEPS = 20  # one an epoch, so that the curve has a row a step


def forked(words: list[Any], folder: Path) -> str:
    """What two processes print that find about them what torchrun tells; they must end well.

    The port that they meet at is free when it is chosen; if another program takes it before they
    do, they meet at the next.
    """
    for attempt in range(3):
        place = folder / str(attempt)
        place.mkdir()
        codes, said = _at_a_port(words, place)
        if codes == [0, 0] or not re.search("EADDRINUSE|[Aa]ddress already in use", said):
            break
    assert codes == [0, 0], said
    return said


def _at_a_port(words: list[Any], folder: Path) -> tuple[list[int | None], str]:
    """Exit codes of the two, and what they print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def prepare(rank: int) -> None:
        os.chdir(ROOT)
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in told.items()})

    places = [folder / str(rank) for rank in (0, 1)]
    for place in places:
        place.mkdir()
    pair = [
        start_module("monai.bundle", words, place, partial(prepare, rank))
        for rank, place in enumerate(places)
    ]
    codes = [finish(pair[0])]
    if codes != [0]:
        pair[1].kill()  # it would wait for the first
    codes.append(finish(pair[1]))
    said = "".join((place / name).read_text() for place in places for name in ("stdout", "stderr"))
    return codes, said


def torchrun(words: list[str], folder: Path) -> str:
    """What two processes print; they must end well."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*TORCHRUN, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=LIMIT - 20,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two images to train on, three to validate: the processes cannot share those evenly."""
    cells = tmp_path_factory.mktemp("cells")
    SyntheticCells(5, (80, 72), num_cells=6).write(cells)
    return {
        "images": f"{cells}/images",
        "labels": f"{cells}/labels",
        "label_kind": "instances",
        "validation_fraction": 0.6,
        "features": [2, 4, 8],
        "network_def::dropout": 0.0,
        "tile_size": 84,
        "tiles_per_epoch": 2,
        "epochs": STEPS,
        "val_interval": 5,
        "learning_rate": 0.02,
        "w0": 0.0,
        "num_workers": 0,
        "device": "$torch.device('cpu')",
    }


def train_alone(**settings: Any) -> None:
    """One process with batches of two."""
    monai_workflow(ROOT, "train", batch_size=2, **settings).run()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]) -> Path:
    output = tmp_path_factory.mktemp("one")
    train_alone(output_dir=str(output), **settings)
    return output


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]) -> tuple[Path, str]:
    """Output and log of two processes with batches of one."""
    output = tmp_path_factory.mktemp("two")
    return output, forked(run_words(output, settings), tmp_path_factory.mktemp("said"))


def run_words(output: Path, settings: dict[str, Any]) -> list[str]:
    """What the how-to gives to `monai.bundle`, and settings."""
    words = ["run", "--config_file", "['configs/train.json','configs/multi_gpu_train.json']"]
    words += ["--meta_file", "configs/metadata.json", "--logging_file", "configs/logging.conf"]
    more = {"output_dir": str(output), "cache::max_bytes": 1}  # images in files, which they share
    for name, value in {**settings, **more}.items():
        words += [f"--{name}", str(value)]
    return words


ON_ONE_GPU = {
    "device": "$torch.device('cuda', 0)",
    "precision": "float32",
    "epochs": 6,
    "val_interval": 3,
    "learning_rate": 0.3,
}
SAVE = "$torch.save({'network': @network.module.state_dict(), 'held': %s}, '%s/' + str(@rank))"


@pytest.mark.gpu
@pytest.mark.timeout(LIMIT)
def test_two_processes_on_one_gpu(settings: dict[str, Any], tmp_path: Path) -> None:
    """Each holds the images there and cuts its own tiles; the weights are those of one process."""
    held = "@train::dataset.on_device.pixels.is_cuda"
    own = {**settings, **ON_ONE_GPU, "backend": "gloo", "output_dir": str(tmp_path / "two")}
    own["run"] = ["$@train::trainer.run()", SAVE % (held, tmp_path)]
    (tmp_path / "own.json").write_text(json.dumps(own), encoding="utf-8")
    names = ["configs/train.json", "configs/multi_gpu_train.json", f"{tmp_path}/own.json"]
    files = {"meta_file": "configs/metadata.json", "logging_file": "configs/logging.conf"}
    words = ["run_bundle", json.dumps({"config_file": names, **files})]
    torchrun(["-m", *["simulated_cuda"] * is_simulated(), *words], ROOT)
    states = [
        torch.load(tmp_path / str(rank), map_location="cpu", weights_only=True) for rank in (0, 1)
    ]
    assert [state["held"] for state in states] == [True, True]
    train_alone(output_dir=str(tmp_path / "one"), **{**settings, **ON_ONE_GPU})
    alone = torch.load(tmp_path / "one/resume/checkpoint.pt", weights_only=True)["network"]
    # cuDNN may have one kernel for a batch of two and another for one. Gradients a part in 10,000
    # longer move these weights by 1.4e-5, their sum in place of their mean by 0.12.
    atol = 1e-5 if is_simulated() else 3e-4
    for key, value in alone.items():
        ours, theirs = (state["network"][key] for state in states)
        assert torch.equal(ours, theirs), key
        torch.testing.assert_close(ours, value, rtol=0, atol=atol)
    losses = [curve(tmp_path / name)["loss"] for name in ("two", "one")]
    np.testing.assert_allclose(*losses, rtol=0, atol=atol)
    assert abs(losses[1][0] - losses[1][-1]) > 0.01  # the weights did move


def curve(folder: Path) -> dict[str, list[float]]:
    with (folder / "learning_curve.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


def test_loss_curve_is_that_of_one_process(one: Path, two: tuple[Path, str]) -> None:
    ours, expected = curve(two[0])["loss"], curve(one)["loss"]
    assert len(ours) == len(expected) == STEPS
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
    assert min(expected) < expected[0] - 0.01  # there was something to learn


@pytest.mark.long
@pytest.mark.timeout(LIMIT)
def test_torchrun_trains_the_same(
    two: tuple[Path, str], settings: dict[str, Any], tmp_path: Path
) -> None:
    words = ["-m", "monai.bundle", *run_words(tmp_path, settings)]
    said = torchrun(words, ROOT)
    ours, expected = curve(tmp_path)["loss"], curve(two[0])["loss"]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
    assert said.count("SupervisedTrainer - INFO - Engine run finished") == 1


def test_both_shared_one_cache_which_is_gone(two: tuple[Path, str]) -> None:
    assert "they are kept in" in two[1]
    assert not (two[0] / "image_cache").exists()


def test_every_image_is_validated_once(one: Path, two: tuple[Path, str]) -> None:
    """The mean over three images that two processes shared; a pixel or two may flip."""
    ours, expected = curve(two[0])["val_mean_dice"], curve(one)["val_mean_dice"]
    assert len(ours) == 4
    assert max(expected) > 0.01
    np.testing.assert_allclose(ours, expected, rtol=0, atol=5e-4)


def test_one_checkpoint_that_one_process_can_load(one: Path, two: tuple[Path, str]) -> None:
    assert {path.suffix for path in two[0].iterdir()} == {path.suffix for path in one.iterdir()}
    assert len(list(two[0].iterdir())) == len(list(one.iterdir()))
    for name in ("model.pt", "resume/checkpoint.pt"):
        ours, expected = (torch.load(f / name, weights_only=True) for f in (two[0], one))
        ours, expected = (state.get("network", state) for state in (ours, expected))
        assert ours.keys() == expected.keys()  # no prefix "module."
        for key, value in ours.items():
            torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-4)


def test_one_process_continues_what_two_began(
    two: tuple[Path, str], settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(two[0], tmp_path / "continued")
    longer = {**settings, "epochs": STEPS + 2, "resume": True}
    train_alone(output_dir=str(folder), **longer)
    losses = curve(folder)["loss"]
    assert losses[:STEPS] == curve(two[0])["loss"]
    assert len(losses) == STEPS + 2


def test_one_log(two: tuple[Path, str]) -> None:
    assert two[1].count("SupervisedTrainer - INFO - Engine run finished") == 1
    assert 1 <= two[1].count("Got new best metric of val_mean_dice") <= 4
    assert two[1].count("they are kept in") == 1


def check_loss_and_clock(rank: int, folder: Path) -> None:
    """One of two processes: its share of a batch gives the loss and gradient of the whole."""
    os.environ["LOCAL_RANK"] = str(rank)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    torch.manual_seed(0)
    logits = torch.randn(5, 3, 6, 6, dtype=torch.float64)
    label = torch.randint(0, 3, (5, 1, 6, 6)).double()
    target = torch.cat([label, 5 * torch.rand(5, 1, 6, 6).double() ** 3], dim=1)
    own = slice(0, 2) if rank == 0 else slice(2, 5)  # uneven batches

    def check(loss: Any, whole: Any, logits: torch.Tensor, target: torch.Tensor) -> None:
        x = logits.clone().requires_grad_()
        expected = whole(x, target)
        expected.backward()
        part = logits[own].clone().requires_grad_()
        value = loss(part, target[own])
        value.backward()
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
        # DDP takes the average of the gradients
        torch.testing.assert_close(part.grad / 2, x.grad[own], rtol=1e-12, atol=1e-15)

    for reduction in ("mean", "sum"):
        rules: dict[str, Any] = {"reduction": reduction, "ignore_index": 1}
        loss = SumLoss([WeightedCrossEntropyLoss(**rules)])  # as in modern3d.json
        whole = WeightedCrossEntropyLoss(**rules, distributed=False)
        check(loss, whole, logits, target)
        nothing = target.clone()
        nothing[:2, 1] = 0  # the first process has only pixels that weigh nothing
        check(loss, whole, logits, nothing)
        if rank == 0:  # a validation, in which the other process has no image left
            assert loss(logits, target) == whole(logits, target)
    instances = torch.zeros(5, 1, 6, 6, dtype=torch.int64)
    instances[..., :2], instances[1:, :, :3, 4:] = 1, 2
    border = BorderWeightedCrossEntropyLoss(distributed=True)
    alone = BorderWeightedCrossEntropyLoss(distributed=False)
    check(border, alone, logits[:, :2], instances)

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    budget = TrainingBudget(optimizer, minutes=60.0)
    budget.elapsed_minutes, budget._tick = 10.0 * (rank + 1), time.monotonic()
    budget._stop_in_time(SimpleNamespace(terminate=None))
    assert 10.0 <= budget.elapsed_minutes < 11.0, budget.elapsed_minutes  # the first one's clock

    now, looks = [0.0], []
    patch = pytest.MonkeyPatch()  # of this process, which ends here
    patch.setattr(clock_of_budget, "time", SimpleNamespace(monotonic=lambda: now[0]))
    patch.setattr(clock_of_budget, "of_first", lambda *mine: looks.append(mine) or of_first(*mine))
    budget.minutes, budget.elapsed_minutes, budget._tick = 1000.0, 600.0, 0.0
    for _ in range(500):
        now[0] += 0.02 * (1 + rank)  # s; the second one's clock goes wrong
        budget._stop_in_time(SimpleNamespace(terminate=None))
    assert 60 * (budget.elapsed_minutes - 600) == pytest.approx(10.0, abs=1.1)
    assert len(looks) < 20, len(looks)  # once a second
    if rank == 0:  # who writes the checkpoint
        assert budget.state_dict()["elapsed_minutes"] == pytest.approx(600 + 10 / 60, abs=1e-9)
    dist.destroy_process_group()


def test_loss_and_clock_of_two_processes(tmp_path: Path) -> None:
    pair = [start(check_loss_and_clock, rank, tmp_path) for rank in (0, 1)]
    assert [finish(process) for process in pair] == [0, 0]


@pytest.mark.parametrize(("length", "ranks"), [(8, 2), (7, 2), (3, 4), (10, 3)])
def test_processes_take_turns(length: int, ranks: int) -> None:
    samplers = [EpochSampler(range(length), num_replicas=ranks, rank=r) for r in range(ranks)]
    for sampler in samplers:
        sampler.set_epoch(2)
    turns = [list(sampler) for sampler in samplers]
    assert {len(turn) for turn in turns} == {len(sampler) for sampler in samplers}
    together = [position for step in zip(*turns, strict=True) for position in step]
    assert together[:length] == list(range(2 * length, 3 * length))
    assert len(together) - length < ranks
    assert set(together[length:]) <= set(together[:length])


def test_a_rank_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 2 of 2 processes: ranks count from 0 to 1"):
        EpochSampler(range(4), num_replicas=2, rank=2)


def test_shares_are_all_items_once() -> None:
    items = [{"image": str(k)} for k in range(5)]
    shares = [share_of(items, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 1]
    assert sorted(item["image"] for share in shares for item in share) == list("01234")
    assert share_of(items, 5, 6) == items  # fewer than processes: all, for all


def test_each_process_has_its_own_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_number(rank: int) -> float:
        monkeypatch.setattr(reproducible, "rank", lambda: rank)
        Reproducible(5)._start_iteration(SimpleNamespace(state=SimpleNamespace(iteration=3)))
        return float(torch.rand(1))

    alone = np.random.SeedSequence((5, 3)).generate_state(1)  # a single process needs no rank
    torch.manual_seed(int(alone[0]))
    expected = float(torch.rand(1))
    assert first_number(0) == expected
    assert first_number(1) != expected


def test_the_command_says_that_it_is_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "--images", "images", "--output", str(tmp_path / "out")]) == 2
    assert "2 processes, and `unet-med train` is one: make a bundle" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_map_has_nothing_to_sum() -> None:
    with pytest.raises(ValueError, match="reduction 'none' has nothing to sum over processes"):
        WeightedCrossEntropyLoss("none", distributed=True)


def test_distributed_loss_of_one_process_is_the_loss() -> None:
    logits, target = torch.randn(2, 2, 4, 4), torch.ones(2, 1, 4, 4)
    expected = WeightedCrossEntropyLoss()(logits, target)
    assert torch.equal(WeightedCrossEntropyLoss(distributed=True)(logits, target), expected)
