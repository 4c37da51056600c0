"""Trainings that are killed, stopped, and resumed: real processes, signals and files.

`UNET_MED_KILLS=10` kills each training ten times; three times is the default.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.engines.utils import IterationEvents
from processes import finish, start

from unet_med import bundle
from unet_med.cli import main

KILLS = int(os.environ.get("UNET_MED_KILLS", "3"))
SETTINGS: dict[str, Any] = {
    "label_kind": "instances",
    "features": [2, 4],
    "tile_size": 32,
    "batch_size": 2,
    "tiles_per_epoch": 14,
    "epochs": 4,
    "val_interval": 2,
    "checkpoint_minutes": 0,
    "network_def::dropout": 0.5,
    "device": "cpu",
}
STEPS = 28  # iterations of all epochs
Log = dict[int, str]  # iteration: its loss, to the bit


def lay(folder: Path, cells: Path, **settings: Any) -> Path:
    """A bundle, ready to be trained."""
    bundle.copy_bundle(folder)
    paths = {"images": f"{cells}/images", "labels": f"{cells}/labels"}
    modern = bundle.override_file("modern")
    assert modern is not None
    bundle.write_settings(folder, [modern], {**SETTINGS, **paths, **settings})
    return folder


def train(folder: Path, **settings: Any) -> None:
    """Train in this process, and note each loss in `log` before any handler sees it."""
    workflow = bundle.load_workflow(folder, "train", {"num_workers": 0, **settings})
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(engine: Any) -> None:
        loss = float(engine.state.output["loss"].detach())
        os.write(log, f"{engine.state.iteration} {loss.hex()}\n".encode())

    trainer = workflow.parser.get_parsed_content("train::trainer")
    trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, note)
    workflow.run()


def lines(folder: Path) -> list[str]:
    path = folder / "log"
    return path.read_text().splitlines() if path.exists() else []


def losses(folder: Path) -> Log:
    """Losses by iteration; one that was computed twice must be equal both times."""
    log: Log = {}
    for line in lines(folder):
        iteration, loss = line.split()
        assert log.setdefault(int(iteration), loss) == loss, f"iteration {iteration}"
    return log


def table(folder: Path) -> list[list[str]]:
    """The learning curve without its minutes."""
    rows = (folder / "models/learning_curve.csv").read_text().splitlines()
    return [[cell for k, cell in enumerate(row.split(",")) if k != 1] for row in rows]


def weights(folder: Path, name: str = "model.pt") -> Any:
    return torch.load(folder / "models" / name, weights_only=True)


def assert_same(one: Path, other: Path) -> None:
    assert losses(one) == losses(other)
    assert table(one) == table(other)
    pair = weights(one), weights(other)
    assert pair[0].keys() == pair[1].keys()
    assert all(torch.equal(pair[0][name], pair[1][name]) for name in pair[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cells: Path) -> Path:
    """A training that nothing interrupts."""
    folder = lay(tmp_path_factory.mktemp("whole") / "out", cells)
    assert finish(start(train, folder)) == 0
    assert sorted(losses(folder)) == list(range(1, STEPS + 1))
    return folder


def wait_for_line(folder: Path, count: int, process: BaseProcess) -> bool:
    """Whether the log grows beyond `count` lines before the process ends."""
    while len(lines(folder)) <= count:
        if not process.is_alive():
            return False
        time.sleep(0.002)
    return True


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_killed_at_random_moments(workers: int, whole: Path, cells: Path, tmp_path: Path) -> None:
    folder = lay(tmp_path / "out", cells)
    chance = random.Random(workers)
    kills = 0
    while kills < KILLS:
        process = start(train, folder, resume=kills > 0, num_workers=workers)
        more = chance.randrange(STEPS // (KILLS + 2))  # few enough for the next kill to find some
        assert wait_for_line(folder, len(lines(folder)) + more, process)
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        assert finish(process) == -signal.SIGKILL, "the training ended before it was killed"
        kills += 1
    assert finish(start(train, folder, resume=True, num_workers=workers)) == 0
    assert_same(folder, whole)
    files = {p.name for p in (folder / "models").iterdir()}
    assert not [name for name in files if name.startswith(".")], "half-written files stay"


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.long), 2])
def test_same_seed_same_training(workers: int, whole: Path, cells: Path, tmp_path: Path) -> None:
    folder = lay(tmp_path / "out", cells)
    assert finish(start(train, folder, num_workers=workers)) == 0
    assert_same(folder, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_keep_the_iteration(
    number: signal.Signals, code: int, whole: Path, cells: Path, tmp_path: Path
) -> None:
    folder = lay(tmp_path / "out", cells, checkpoint_minutes=1000)

    def run() -> None:
        try:
            train(folder, num_workers=2)
        except KeyboardInterrupt as stop:
            (folder / "said").write_text(stop.args[0])
            os._exit(stop.args[1])

    process = start(run)
    assert wait_for_line(folder, 3, process)
    assert process.pid is not None
    os.kill(process.pid, number)
    assert finish(process) == code
    done = len(losses(folder))
    assert weights(folder, "resume/checkpoint.pt")["iteration"] == done < 28
    said = (folder / "said").read_text()
    assert f"stopped after iteration {done} " in said
    assert said.endswith("/checkpoint.pt holds: --resume goes on")
    assert finish(start(train, folder, resume=True)) == 0
    assert_same(folder, whole)


@pytest.fixture
def begun(whole: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the whole training, to be spoilt."""
    shutil.copytree(whole, tmp_path / "out")
    (tmp_path / "out/log").unlink()
    return tmp_path / "out"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    names = content[largest.header_offset + 26 :][:4]  # lengths of name and extra field
    start = largest.header_offset + 30 + sum(struct.unpack("<HH", names))
    content[start + largest.file_size // 2] ^= 1  # not in the padding between the parts
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [cut, flip_a_bit, Path.unlink])
def test_the_previous_checkpoint_steps_in(
    spoil: Callable[[Path], None], begun: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(begun / "models/resume/checkpoint.pt")
    before = weights(begun, "resume/checkpoint_previous.pt")["iteration"]
    train(begun, resume=True)
    assert "checkpoint.pt is" in caplog.text
    assert "resuming" in caplog.text
    assert "checkpoint_previous.pt" in caplog.text
    assert sorted(losses(begun)) == list(range(before + 1, 29))
    assert weights(begun, "resume/checkpoint.pt")["iteration"] == 28
    assert table(begun) == table(whole)


def test_no_whole_checkpoint_is_refused(begun: Path) -> None:
    cut(begun / "models/resume/checkpoint.pt")
    cut(begun / "models/resume/checkpoint_previous.pt")
    with pytest.raises(RuntimeError) as caught:
        train(begun, resume=True)
    assert "another folder" in cause(caught.value)


def cause(error: BaseException) -> str:
    """MONAI wraps what a component raises."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"tiles_per_epoch": 16}, "iterations an epoch is 7 there and 8 here"),
        ({"scale": 0.5}, "scale is None there and 0.5 here"),
        ({"fold": "0/3"}, "image_names is "),
        ({"mirror_axes": [1]}, "mirror_axes is None there and [1] here"),
        ({"features": [2, 6]}, "features is [2, 4] there and [2, 6] here"),
        ({"network_def::act": "prelu"}, "is missing there and"),
        (
            {"optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()"}},
            "optimizer is Adam there and SGD here",
        ),
    ],
)
def test_another_training_is_refused(
    settings: dict[str, Any], difference: str, begun: Path
) -> None:
    before = (begun / "models/resume/checkpoint.pt").read_bytes()
    with pytest.raises(RuntimeError) as caught:
        train(begun, resume=True, **settings)
    assert difference in cause(caught.value)
    assert (begun / "models/resume/checkpoint.pt").read_bytes() == before


def test_checkpoint_holds_every_state(whole: Path) -> None:
    state = weights(whole, "resume/checkpoint.pt")
    assert set(state["random"]) == {"torch", "cuda", "numpy", "python"}
    assert {"network", "optimizer", "scaler", "epoch", "iteration"} <= set(state)
    assert set(state["parts"]) == {"budget", "record"}
    assert (state["epoch"], state["iteration"]) == (4, 28)


def test_a_longer_budget_goes_on_from_the_command(
    whole: Path, begun: Path, cells: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--images", f"{cells}/images", "--labels", f"{cells}/labels", "--resume"]
    words += ["--output", str(begun), "--device", "cpu"]
    assert main([*words, "--seed", "5"]) == 2
    assert "--seed 5 does not continue" in capsys.readouterr().err
    assert main([*words, "--epochs", "5"]) == 0
    assert json.loads((begun / "configs/train.json").read_text())["epochs"] == 5
    assert len(table(begun)) == 1 + 5
    assert table(begun)[:4] == table(whole)[:4]
