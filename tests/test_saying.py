"""Results on stdout, the rest on stderr, all of it in the log; lines of progress, not bars."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ignite.engine import Engine
from PIL import Image

from tests.processes import finish, start_command
from unet_med.cli import main, predict
from unet_med.cli.saying import logged
from unet_med.handlers import progress

ROOT = Path(__file__).parents[1]
STAMP = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) "


def said_by(words: list[Any], folder: Path) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr of a command without a terminal."""
    folder.mkdir()
    code = finish(start_command(words, folder))
    out, err = ((folder / name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    return code, out, err


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)


def train(cells: Path, output: Path) -> list[Any]:
    words = ["train", "--images", f"{cells}/images", "--labels", f"{cells}/labels"]
    small = ["--features", 2, 4, "--epochs", 1, "--tile-size", 24, "--device", "cpu"]
    return [*words, *small, "--output", output]


@pytest.mark.usefixtures("every_step")
def test_a_training_without_a_terminal(cells: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs/train.txt"
    words = [*train(cells, tmp_path / "out"), "--log-file", log]
    code, out, err = said_by(words, tmp_path / "said")
    assert (code, out) == (0, f"trained bundle in {tmp_path / 'out'}\n")
    assert "split     1 of 3 images held out" in err
    last = f"  unet-med predict IMAGE --bundle {tmp_path / 'out'} --output RESULTS --instances"
    assert err.splitlines()[-1] == last  # whose labels are objects
    assert "it/s" not in err
    assert "|" not in re.sub(r"^.*monai\.bundle.*$", "", err, flags=re.MULTILINE)
    steps = re.findall(r"^step (\d+), epoch 1, loss \d\.\d{3}, \d+% done, .*left.*$", err, re.M)
    assert list(map(int, steps)) == list(range(1, len(steps) + 1))
    assert len(steps) > 2
    lines = log.read_text(encoding="utf-8").splitlines()
    text = "\n".join(lines)
    assert re.match(f"{STAMP}unet-med [0-9.a-z]+: train --images", lines[0])
    assert len(re.findall(f"{STAMP}step ", text, re.M)) == len(steps)
    assert re.search(f"{STAMP}trained bundle in", text, re.M)


@pytest.mark.usefixtures("every_step")
def test_quiet_says_results_and_what_failed(trained: Path, cells: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.tif").write_text("no image")
    words = ["predict", cells / "images", "--bundle", trained, "--device", "cpu", "--output"]
    code, out, err = said_by([*words, tmp_path / "loud"], tmp_path / "1")
    assert (code, out) == (0, f"3 image(s) segmented, results in {tmp_path / 'loud'}\n")
    assert re.findall(r"^(\d) of 3 images done, .* left$", err, re.M) == ["1", "2", "3"]
    assert err.splitlines()[-2] == "the same with MONAI:"  # last, for it is long
    log = tmp_path / "log.txt"
    quiet = [tmp_path / "quiet", "--quiet", "--log-file", log]
    code, out, err = said_by([*words, *quiet], tmp_path / "2")
    assert (code, out) == (0, f"3 image(s) segmented, results in {tmp_path / 'quiet'}\n")
    [doubt] = err.splitlines()  # a network of a few steps
    assert doubt.startswith("the network takes most of what it found for wrong")
    text = log.read_text(encoding="utf-8")
    assert len(re.findall(r"INFO \d of 3 images done", text)) == 3
    assert "the same with MONAI" in text
    words[1:2] = [cells / "images", tmp_path / "bad.tif"]
    code, out, err = said_by([*words, *quiet], tmp_path / "3")
    assert (code, out) == (3, f"3 of 4 images segmented, results in {tmp_path / 'quiet'}\n")
    assert err.splitlines()[0] == doubt
    assert err.splitlines()[1].startswith("1 set aside (listed in ")
    assert len(err.splitlines()) == 3
    assert len(log.read_text(encoding="utf-8").splitlines()) > len(text.splitlines())  # appended


@pytest.mark.parametrize("where", ["terminal", "quiet", "file"])
def test_what_looks_at_many_images_shows_bars(
    where: str, cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """On a terminal, unless nobody wants them."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: where != "file")
    images, labels = str(cells / "images"), str(cells / "labels")
    copied = str(shutil.copytree(cells / "labels", tmp_path / "results"))
    lines = {
        ("init", str(tmp_path / "b"), "--images", images, "--labels", labels): [
            "looking at files", "looking at labels", "looking at pixels"
        ],
        ("evaluate", copied, labels): ["looking at labels", "scoring"],
        ("measure", labels): ["measuring"],
    }  # fmt: skip
    for words, bars in lines.items():
        quiet = ["--quiet"] if where == "quiet" and words[0] != "init" else []
        if where == "quiet" and not quiet:
            continue
        assert main([*words, *quiet]) == 0
        said = capsys.readouterr().err
        found = [bar for bar in bars if re.search(rf"{bar}: 100%.* 3/3 ", said)]
        assert found == (bars if where == "terminal" else [])
        assert ("%" in said) == (where == "terminal")


FRESH = """
import runpy, sys, unet_med
assert "torch" not in sys.modules
unet_med.Segmenter
assert "torch" in sys.modules
assert "Segmenter" in dir(unet_med)
import unet_med.data, unet_med.data.files
from monai.data import image_writer
from monai.transforms.io.array import SUPPORTED_READERS
assert not any("unet" in name for name in SUPPORTED_READERS)
assert not image_writer.SUPPORTED_WRITERS
assert "SimpleITK" not in sys.modules
runpy.run_module("unet_med", run_name="__main__", alter_sys=True)
"""


def test_a_fresh_process_imports_late_and_has_results_alone_on_stdout(
    trained: Path, cells: Path, tmp_path: Path
) -> None:
    """Both in one: to import all anew takes seconds."""
    words = [sys.executable, "-c", FRESH, "predict", f"{cells}/images", "--bundle", trained]
    words += ["--output", tmp_path / "out", "--device", "cpu"]
    done = subprocess.run(
        list(map(str, words)), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"3 image(s) segmented, results in {tmp_path / 'out'}\n"
    assert "Logging file" not in done.stderr


def test_what_ends_a_run_is_said_by_the_command_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ignite says it as well, in a line or two of its own, which the log keeps."""

    def fail(engine: Engine, batch: int) -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"), logged(log_file=str(tmp_path / "log")):
        Engine(fail).run([0])
    assert capsys.readouterr().err == ""
    assert "run is terminating due to exception: no such thing" in (tmp_path / "log").read_text()


def test_a_reader_who_leaves_is_no_error(tmp_path: Path) -> None:
    """As `| head` does: files are written before, and nothing is said."""
    (tmp_path / "r").mkdir()
    Image.fromarray(np.arange(150, dtype=np.uint8).repeat(3)[None].repeat(9, 0)).save(
        tmp_path / "r/a_instances.png"
    )
    words = ["measure", tmp_path / "r", "--objects", "--output", tmp_path / "o.csv"]
    read, write = os.pipe()
    os.close(read)
    code = finish(start_command(words, tmp_path, lambda: os.dup2(write, 1)))
    os.close(write)
    assert (code, (tmp_path / "stderr").read_text()) == (141, "")
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 150  # a head, and 149 objects


def test_an_error_is_in_the_log(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.txt"
    words = ["predict", f"{tmp_path}/none.tif", "--bundle", str(trained), "--output", "x"]
    assert main([*words, "--log-file", str(log), "--quiet"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"unet-med: error: {tmp_path}/none.tif does not exist\n"
    assert re.search(f"{STAMP}.*none.tif does not exist$", log.read_text(), re.M)
    assert "Traceback" not in log.read_text()
    assert main([*words, "--log-file", str(trained)]) == 2  # a folder
    assert logging.getLogger("unet_med").level == logging.NOTSET
    assert not [h for h in logging.getLogger().handlers if "Terminal" in type(h).__name__]


def test_the_line_for_monai_is_short_for_many_images(tmp_path: Path) -> None:
    for count, which in ((10, ""), (11, ", the first of 11 images")):
        images = [f"/data/{k}.tif" for k in range(count)]
        said = predict._with_monai(tmp_path, {"images": images})
        assert said.startswith(f"the same with MONAI{which}:\n")
        assert said.count(".tif") == (1 if which else count)
