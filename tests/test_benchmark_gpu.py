"""What `make gpu` does around its stages; on a GPU, real or simulated, it shows the rest itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as runner
from benchmarks.gpu import fast
from benchmarks.gpu.notes import RESULTS, Notes, kernels, kernels_now, start_clean


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "one")


def facts(folder: Path) -> list[dict[str, object]]:
    lines = (folder / RESULTS).read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "at"} for line in lines]


def test_a_run_starts_clean_and_says_so(tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    (data / "isbi2012").mkdir(parents=True)
    (data / "isbi2012" / "0.png").touch()
    assert start_clean(run) == f"starting clean in {run}: nothing was there"
    (run / "pipeline" / "modern").mkdir(parents=True)
    (run / "pipeline" / "modern" / "plan.json").touch()
    (run / "isbi2012").mkdir()
    (run / "isbi2012" / "data").symlink_to(data)  # as earlier states left it
    (run / "dsb2018").symlink_to(data)
    for name in (RESULTS, "tests.txt"):
        (run / name).touch()
    assert start_clean(run) == f"starting clean in {run}: what an earlier run left there is gone"
    assert list(run.iterdir()) == []
    assert (data / "isbi2012" / "0.png").is_file()


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(FileExistsError, match="is no folder of a run: give --output a new or"):
        start_clean(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_every_stage_has_the_kernels_of_a_training(
    a_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pipeline(notes: Notes) -> None:
        notes.note("pipeline", **kernels_now())
        torch.backends.cudnn.benchmark = True  # as a training sets what it likes
        with kernels(deterministic=False):
            notes.note("fastest", **kernels_now())
        raise ZeroDivisionError

    def prediction(notes: Notes) -> None:
        notes.note("prediction", **kernels_now())

    before = kernels_now()
    monkeypatch.setattr(runner, "STAGES", ((pipeline, 1), (prediction, 1)))
    words = ["--tiny", "--output", str(tmp_path)]
    assert [runner.main(words) for _ in range(2)] == [1, 1]
    assert "what an earlier run left there is gone" in capsys.readouterr().out
    chosen = {fact["stage"]: fact for fact in facts(tmp_path) if "deterministic" in fact}
    ours = {"deterministic": True, "benchmark": False}
    for stage in ("machine", "pipeline", "prediction"):
        assert ours.items() <= chosen[stage].items()
    assert chosen["fastest"] == {"stage": "fastest", "deterministic": False, "benchmark": True}
    assert [f["stage"] for f in facts(tmp_path)].count("machine") == 1  # of the second run
    assert kernels_now() == before


def test_a_rate_is_that_of_steps_whose_end_was_waited_for() -> None:
    done = [(32, 1.0), (64, 2.0), (96, 4.0), (128, 5.0), (160, 7.0)]
    assert fast._rate(done, batch=2) == 2 * (160 - 64) / (7.0 - 2.0)
    assert fast._rate(done[:1], batch=2) == fast._rate([], batch=2) == "too few steps"


@pytest.mark.gpu
def test_predictions_are_compared_in_each_precision(tmp_path: Path) -> None:
    fast.prediction(Notes(tmp_path, tmp_path, tiny=True, limit=9))
    found = [(fact["precision"], fact["way"]) for fact in facts(tmp_path)]
    ways = ("ours", "ours, tiles", "MONAI, 0.5 gaussian")
    assert found == [(precision, way) for precision in ("float32", "bf16") for way in ways]


def test_what_a_program_says_is_there_however_it_ends(tmp_path: Path) -> None:
    notes = Notes(tmp_path, tmp_path, tiny=True, limit=9)
    program = "import os, sys; print(os.environ['WORD'], flush=True); sys.exit(int(sys.argv[1]))"
    words = [sys.executable, "-c", program]
    assert notes.command("good", [*words, "0"], seconds=60, WORD="well") == "well\n"
    with pytest.raises(RuntimeError, match="bad ended with 3: ill"):
        notes.command("bad", [*words, "3"], seconds=60, WORD="ill")
    assert (tmp_path / "bad.txt").read_text() == "ill\n"


def test_the_page_is_written_of_a_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{runner.BEGIN}\nold\n{runner.END}\nafter\n")
    monkeypatch.setattr(runner.write, "__defaults__", (page,))
    notes = Notes(tmp_path, tmp_path, tiny=False, limit=9)
    notes.note("step", ms=1.5, deterministic=True)
    notes.note("step", ms=2.5, deterministic=False)
    assert runner.main(["--page", "--output", str(tmp_path)]) == 0
    rows = ("stage | ms | deterministic", "step | 1.5 | True", "step | 2.5 | False")
    head, *rest = (f"| {row} |\n" for row in rows)
    table = "".join([head, "|---|---|---|\n", *rest])
    expected = f"before\n{runner.BEGIN}\n\n{table}\n{runner.END}\nafter\n"
    assert page.read_text() == expected
