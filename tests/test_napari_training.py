"""A training in a process of its own: progress, stop, continue, and what it says when it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import pytest
from processes import finish, start_command

from unet_med import bundle
from unet_med.data import load_image
from unet_med.napari_widget import Session, Training, segment_array
from unet_med.report.training import read_history

FAILED = "failed (unet-med: error: no such axis): the bundle"
TINY = ("--features", "2", "4", "8", "--device", "cpu")


def add_cells(session: Session, cells: Path, *numbers: int) -> None:
    for number in numbers:
        image, labels = (
            load_image(cells / part / f"cells_{number:03}.tif").numpy()
            for part in ("images", "labels")
        )
        session.add(f"cells {number}", image, labels[0].astype(np.int32))


def wait_until(fact: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 200
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Ended:
    """A process that has ended."""

    def __init__(self, code: int) -> None:
        self.poll = self.wait = lambda: code


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would have been run."""
    commands: list[list[str]] = []

    def note(command: list[str], **_: Any) -> Ended:
        commands.append(command)
        return Ended(0)

    monkeypatch.setattr(subprocess, "Popen", note)
    return commands


@pytest.fixture
def forking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m unet_med` is forked, and need not import torch again."""

    def popen(command: list[str], *, stdout: IO[str], **_: Any) -> SimpleNamespace:
        def prepare() -> None:
            for own in (1, 2):
                os.dup2(stdout.fileno(), own)

        assert command[:3] == [sys.executable, "-m", "unet_med"]
        process = start_command(command[3:], tmp_path, prepare)
        return SimpleNamespace(
            poll=lambda: process.exitcode, wait=lambda: finish(process), terminate=process.terminate
        )

    own = SimpleNamespace(Popen=popen, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr("unet_med.napari_widget.training.subprocess", own)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process at once")
@pytest.mark.usefixtures("forking")
def test_train_stop_predict_and_continue(cells: Path, tmp_path: Path) -> None:
    session = Session.open(tmp_path / "session")
    add_cells(session, cells, 0, 1)
    training = Training(session, 10, options=TINY)
    assert training.progress().history == []
    with pytest.raises(ValueError, match="a training is running"):
        Training(session, 10)
    wait_until(lambda: training.progress().pictures[1:] or not training.is_running)
    training.stop()
    assert training.finish() == "stopped: the bundle has what was learned by then"
    first = training.progress()
    assert first.history == read_history(session.bundle / "models/learning_curve.csv")
    assert {file.name for file in first.pictures} == {"learning_curve.png", "preview.png"}
    assert 0 < first.fraction < 1
    assert session.output() == "instances"
    image = load_image(cells / "images/cells_002.tif").numpy()
    assert segment_array(image, session.bundle, "mask").shape == image.shape[1:]

    began = bundle.find_weights(session.bundle).read_bytes()
    add_cells(session, cells, 2)
    second = Training(session, 0.02, go_on=True, options=("--device", "cpu"))
    assert second.finish() == "trained", second.progress().said
    assert second.progress().fraction == 1
    plan = bundle.read_plan(session.bundle)
    assert len(plan["data"]["cases"]) == 3
    assert plan["source"]["seen"] == 2
    assert (session.bundle / "models/start/pretrained.pt").read_bytes() == began
    assert bundle.find_weights(session.folder / "bundle_previous").read_bytes() == began
    assert str(tmp_path) not in (session.bundle / "configs/train.json").read_text("utf-8")


def test_the_command_is_the_command_lines(
    cells: Path, tmp_path: Path, processes: list[list[str]]
) -> None:
    session = Session.open(tmp_path)
    with pytest.raises(ValueError, match="has no annotated images: add a pair first"):
        Training(session, 1)
    add_cells(session, cells, 0)
    with pytest.raises(ValueError, match="no trained bundle to go on from: train first"):
        Training(session, 1, go_on=True)
    Training(session, 0.5, options=("--seed", "1"))
    (session.bundle / "models").mkdir(parents=True)
    (session.bundle / "models/model.pt").touch()
    Training(session, 2, go_on=True)
    first, second = (" ".join(words[3:]) for words in processes)
    data = f"--images {session.images} --labels {session.labels} --output {session.training}"
    assert first == f"train {data} --minutes 0.5 --seed 1"
    assert second == f"train {data} --from {session.bundle} --minutes 2"


@pytest.mark.parametrize(
    ("code", "weights", "end"),
    [
        (0, True, "trained"),
        (143, True, "stopped: the bundle has what was learned by then"),
        (-15, False, "stopped: the bundle is as it was"),
        (2, False, f"{FAILED} is as it was"),
        (-9, True, f"{FAILED} has what was learned by then"),
    ],
)  # fmt: skip
def test_the_end_is_said(
    cells: Path, tmp_path: Path, processes: Any, code: int, weights: bool, end: str
) -> None:
    session = Session.open(tmp_path)
    add_cells(session, cells, 0)
    training = Training(session, 4)
    training._process = Ended(code)  # type: ignore[assignment]
    models = session.training / "models"
    models.mkdir(parents=True)
    if weights:
        (models / "model.pt").touch()
    said = "step 9, epoch 2, loss 0.500, 35% done, 2 min left\n\nunet-med: error: no such axis\n"
    (tmp_path / "training.log").write_text(said, encoding="utf-8")
    (models / "learning_curve.csv").write_text("epoch,minutes,loss\n1,1.0,0.7\n", encoding="utf-8")
    progress = training.progress()
    assert progress.fraction == (0.35 if code else 1)  # the table's row is older
    assert progress.history == [{"epoch": 1, "minutes": 1, "loss": 0.7}]
    assert progress.said == "unet-med: error: no such axis"
    assert training.finish() == end
    assert session.is_trained == weights


def test_what_was_decided_and_what_is_asked_is_said(
    cells: Path, tmp_path: Path, processes: list[list[str]]
) -> None:
    session = Session.open(tmp_path)
    add_cells(session, cells, 0)
    training = Training(session, 4, options=("--label-kind", "classes"))
    assert processes[-1][-2:] == ["--label-kind", "classes"]
    assert training.progress().planned == ""
    plan = session.training / "configs/plan.json"
    plan.parent.mkdir(parents=True)
    plan.write_text('{"ids"')  # it is being written
    assert training.progress().planned == ""
    entries = {"label_kind": ("instances", "as asked"), "split_file": ("x", "2 of 9 held out")}
    ids = {id: {"value": value, "reason": why} for id, (value, why) in entries.items()}
    plan.write_text(json.dumps({"ids": ids}))
    assert training.progress().planned == "labels are instances: as asked; 2 of 9 held out"
    training._process = Ended(2)  # type: ignore[assignment]
    asked = "the labels hold 1, 2: say --label-kind classes or --label-kind instances"
    (tmp_path / "training.log").write_text(f"unet-med: error: {asked}\n", encoding="utf-8")
    assert training.finish() == (
        f"failed (unet-med: error: {asked}; here, say what *labels are*): the bundle is as it was"
    )
    training._process = Ended(2)  # type: ignore[assignment]
    (tmp_path / "training.log").write_text("error: say --dims 3 if ...\n", encoding="utf-8")
    assert "(error: say --dims 3 if ...; here, give volumes their pixel size" in training.finish()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_stop_signals_once(cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session.open(tmp_path)
    add_cells(session, cells, 0)
    training = Training(session, 4)
    signals: list[int] = []
    process = training._process
    send = process.send_signal
    monkeypatch.setattr(process, "terminate", lambda: signals.append(1))
    training.stop()
    training.stop()
    assert signals == [1]
    send(9)
    assert training.finish() == "stopped: the bundle is as it was"
    training.stop()
    assert signals == [1]
