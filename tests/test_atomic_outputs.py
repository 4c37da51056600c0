"""Files appear whole or not at all: full disks, read-only folders, taken names, signals, kills."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from processes import finish, start, start_command

from unet_med.cli import main
from unet_med.data.atomic import atomic_write, read_json, write_json

KB = 1 << 10


def hidden(target: Path) -> Path:
    """The folder in which this machine writes a file."""
    host = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    return target.with_name(f".{target.name}.{host}.part")


def training(cells: Path, output: Path, *more: Any) -> list[Any]:
    words = ["train", "--images", cells / "images", "--labels", cells / "labels"]
    words += ["--features", 2, 4, "--epochs", 1, "--device", "cpu", "--tile-size", 32]
    return [*words, "--output", output, *more]


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def sentence(folder: Path) -> str:
    """The one sentence that a command left on stderr, and no traceback."""
    said = (folder / "stderr").read_text()
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if "unet-med: " in line]
    return line[line.index("unet-med: ") :]  # behind a bar


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory; only root can."""
    folder = tmp_path / "mounted"

    def mount(options: str) -> Path:
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
            folder.rmdir()
            pytest.skip(
                "nothing can be mounted here, which needs root; a limit on file sizes stands in"
            )
        return folder

    yield mount
    if folder.is_dir():
        subprocess.run(["umount", str(folder)], check=True)


# --- full disks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("kilobytes", "name"), [(10, "inference.json"), (40, "checkpoint.pt")])
def test_a_file_too_large_for_the_disk(
    cells: Path, tmp_path: Path, kilobytes: int, name: str
) -> None:
    """A limit of each file stands in for a full disk where nothing can be mounted."""

    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * KB, kilobytes * KB))

    output = tmp_path / "out"
    process = start_command(training(cells, output), tmp_path, small_files_only)
    assert finish(process) == 2
    assert f"{name} cannot be written: File too large" in sentence(tmp_path)
    assert not output.exists()


def test_prediction_on_a_full_disk(
    trained: Path, cells: Path, tmp_path: Path, mounted: Callable[[str], Path]
) -> None:
    folder = mounted("size=600k")
    noise = np.random.default_rng(0).normal(size=(200, 210)).astype(np.float32)
    (tmp_path / "images").mkdir()
    for name in "abcdef":
        tifffile.imwrite(tmp_path / f"images/{name}.tif", noise)
    words = ["predict", tmp_path / "images", "--bundle", trained, "--output", folder]
    words += ["--tta", "none", "--probabilities"]  # 340 kB an image
    assert finish(start_command(words, tmp_path)) == 2
    said = sentence(tmp_path)
    assert "cannot be written: No space left on device" in said
    written = files(folder)
    assert 2 < len(written) < 12
    for name in written:  # no hidden file, and each is whole
        assert not name.startswith(".")
        if name == "record.json":
            assert json.loads((folder / name).read_text(encoding="utf-8"))
        else:
            assert tifffile.imread(folder / name).shape[-2:] == noise.shape


def test_training_on_a_full_disk_keeps_the_last_checkpoint(
    cells: Path, tmp_path: Path, mounted: Callable[[str], Path]
) -> None:
    import torch

    folder = mounted("size=600k")
    output = folder / "out"
    assert finish(start_command(training(cells, output), tmp_path)) == 0
    before = torch.load(output / "models/resume/checkpoint.pt", weights_only=True)["iteration"]
    free = os.statvfs(folder)
    (folder / "ballast").write_bytes(bytes(free.f_bavail * free.f_bsize - 8 * KB))
    more = training(cells, output, "--resume", "--epochs", 3)
    assert finish(start_command(more, tmp_path)) == 2
    assert "cannot be written: No space left on device" in sentence(tmp_path)
    assert (
        torch.load(output / "models/resume/checkpoint.pt", weights_only=True)["iteration"] == before
    )
    assert not [name for name in files(output) if "/." in name]
    (folder / "ballast").unlink()
    assert finish(start_command(more, tmp_path)) == 0


# --- folders that cannot be written -------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "predict"])
def test_read_only_folder(
    command: str, trained: Path, cells: Path, tmp_path: Path, mounted: Callable[[str], Path]
) -> None:
    output = mounted("ro") / "out"
    predict = ["predict", cells / "images", "--bundle", trained, "--output", output]
    words = predict if command == "predict" else training(cells, output)
    assert finish(start_command(words, tmp_path)) == 2
    assert f"{output.parent} is read-only" in sentence(tmp_path)


@pytest.mark.parametrize("command", ["train", "predict"])
def test_name_taken_by_a_file(
    command: str, trained: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "taken"
    output.write_text("precious")
    predict = ["predict", cells / "images", "--bundle", trained, "--output", output]
    words = predict if command == "predict" else training(cells, output)
    assert main([str(word) for word in words]) == 2
    assert f"{output} is a file" in capsys.readouterr().err
    assert output.read_text() == "precious"


def test_name_taken_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt/inside").mkdir(parents=True)
    with pytest.raises(OSError, match=r"a\.txt cannot be written"):
        write(tmp_path / "a.txt", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


# --- signals and kills --------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_prediction_that_is_stopped(
    number: signal.Signals, code: int, trained: Path, cells: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    (tmp_path / "images").mkdir()
    for k in range(200):
        shutil.copy(cells / "images/cells_000.tif", tmp_path / f"images/{k:03d}.tif")
    words = ["predict", tmp_path / "images", "--bundle", trained, "--output", output]
    process = start_command([*words, "--probabilities"], tmp_path)
    while not output.exists() or len(list(output.glob("[!.]*"))) < 6:
        assert process.is_alive()
        time.sleep(0.002)
    os.kill(process.pid, number)
    assert finish(process) == code
    assert sentence(tmp_path) == "unet-med: stopped"
    record = json.loads((output / "record.json").read_text(encoding="utf-8"))
    written = [name for name in files(output) if name != "record.json"]
    assert len(written) < 400
    assert {f"{name}_mask.tif" for name in record["images"]} <= set(written)
    for name in written:
        assert not name.startswith(".")
        assert tifffile.imread(output / name).shape[-2:] == (64, 72)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_a_library_swallows_comes_again(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a finaliser does, and a callback from C; what cleans up on the way out is let alone."""
    swallowed, cleaned_up = [], []

    def command(_: object) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as stop:
            swallowed.append(stop)
        try:
            time.sleep(20)
        finally:
            time.sleep(0.3)
            cleaned_up.append(True)

    monkeypatch.setattr("unet_med.cli.doctor.run", command)
    monkeypatch.setattr("unet_med.cli.REPEAT_SECONDS", 0.05)
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    assert main(["doctor"]) == code
    assert len(swallowed) == len(cleaned_up) == 1
    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def write(path: Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text)


def test_nothing_half_written_is_visible(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def stop_half_way() -> None:
        with atomic_write(target) as part:
            part.write_text("half")
            assert target.read_text() == "old"
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop_half_way()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with atomic_write(target) as part:
        part.write_text("new")
    assert target.read_text() == "new"


def test_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"unit": "µm"}, indent=1)
    assert path.read_text("utf-8") == '{\n "unit": "\\u00b5m"\n}\n'
    write_json(path, ["µm"], ensure_ascii=False)
    assert path.read_text("utf-8") == '["µm"]\n'
    path.write_text("[")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} is no JSON: Expecting value"):
        read_json(path)


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def die() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert finish(start(die)) == -signal.SIGKILL
    assert [p.name for p in tmp_path.iterdir()] == [hidden(path).name]
    write(path, "whole")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "whole"


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_write(path) as part:
        part.write_text("first")
        process = multiprocessing.get_context("fork").Process(target=write, args=(path, "second"))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_another_writer_removes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, removed = os.mkdir, []

    def beaten(path: Any, *mode: int) -> None:
        """Another process makes the folder first, and is through before we look at it."""
        if removed or path != hidden(tmp_path / "a.txt"):
            return mkdir(path, *mode)
        removed.append(path)
        mkdir(path)
        try:
            mkdir(path, *mode)
        finally:
            os.rmdir(path)

    monkeypatch.setattr(os, "mkdir", beaten)
    write(tmp_path / "a.txt", "whole")
    assert removed
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_in_the_way_of_the_hidden_folder(tmp_path: Path) -> None:
    hidden(tmp_path / "a.txt").write_text("of somebody else")
    write(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert hidden(tmp_path / "a.txt").read_text() == "of somebody else"


def test_a_folder_that_somebody_else_left_is_not_in_the_way(
    as_nobody: tuple[Path, Callable[[], AbstractContextManager[None]]],
) -> None:
    """Of another user, whose job was killed; where many may write."""
    folder, nobody = as_nobody
    path = folder / "a.txt"
    folder.chmod(0o777)
    hidden(path).mkdir(mode=0o755)
    with nobody():
        write(path, "whole")
    assert path.read_text() == "whole"
    assert set(folder.iterdir()) == {hidden(path), path}


def test_two_machines_that_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that says yes to both, as across machines, lets neither take the other's folder."""
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    path = tmp_path / "a.txt"
    monkeypatch.setattr("platform.node", lambda: "node1")
    with atomic_write(path) as part:
        part.write_text("first")
        monkeypatch.setattr("platform.node", lambda: "node2")
        write(path, "second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_errors_of_other_files_keep_their_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(tmp_path / "a"):
        (tmp_path / "elsewhere").read_text()
    said = pytest.raises(OSError, match=r"a cannot be written: No space")
    with said as caught, atomic_write(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")
