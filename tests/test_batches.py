"""Many cases in one folder, by many processes, twice: nothing lost, nothing done again."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from doors import predict
from image_files import write_noise
from PIL import Image

from tests.processes import finish, start, start_command
from unet_med.data import lock
from unet_med.data.cases import result_name
from unet_med.data.lock import locked


def nifti(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (36, 40, 3)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])), path)
    return path


def record_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return content


def failed_of(folder: Path) -> list[str]:
    content = json.loads((folder / "failed.json").read_text(encoding="utf-8"))
    return [Path(fault["image"]).name for fault in content["failed"]]


# --- one folder, several processes


def read_slowly() -> None:
    """Leave time between reading the record and writing it, in which the others write theirs."""
    from unet_med.report import prediction

    read = prediction.read_record

    def slow(folder: Path) -> dict[str, Any]:
        found = read(folder)
        time.sleep(0.5)
        return found

    prediction.read_record = slow


@pytest.mark.slow
@pytest.mark.long
def test_eight_processes_into_one_folder_leave_eight_records(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    processes = []
    for k in range(10):
        path = write_noise(tmp_path / f"in/image_{k}.tif", k)
        if k > 7:
            path.write_text("no image")
        (tmp_path / f"said_{k}").mkdir()
        words = ["predict", path, "--bundle", trained, "--output", tmp_path / "out"]
        words += ["--device", "cpu"]
        processes.append(start_command(words, tmp_path / f"said_{k}", prepare=read_slowly))
    assert [finish(process) for process in processes] == [0] * 8 + [2] * 2
    assert sorted(record_of(tmp_path / "out")["images"]) == [f"image_{k}" for k in range(8)]
    assert sorted(failed_of(tmp_path / "out")) == ["image_8.tif", "image_9.tif"]
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"record.json", "failed.json", *(f"image_{k}_mask.tif" for k in range(8))}


def count_up(path: Path, times: int) -> None:
    for _ in range(times):
        with locked(path):
            before = int(path.read_text()) if path.exists() else 0
            time.sleep(0.001)  # long enough for another to read the same
            path.write_text(str(before + 1))


@pytest.mark.slow
def test_what_is_done_under_a_lock_is_one_step(tmp_path: Path) -> None:
    path = tmp_path / "folder/count"
    processes = [start(count_up, path, 25) for _ in range(4)]
    assert [finish(process) for process in processes] == [0] * 4
    assert path.read_text() == "100"
    assert [p.name for p in path.parent.iterdir()] == ["count"]


def test_the_lock_of_a_machine_that_died_does_not_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_med.data.lock.SECONDS", 0.3)
    (tmp_path / ".a.json.lock").write_text("1\nanother-host\n")
    with locked(tmp_path / "a.json"):
        assert os.listdir(tmp_path) == [".a.json.lock"]
    assert os.listdir(tmp_path) == []


def test_a_stale_lock_is_removed_by_one_of_those_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the second one looked at before the first removed it is not what it finds later."""
    stale = tmp_path / ".a.json.lock"
    stale.write_text("1\nanother-host\n")
    seen = lock._identity(stale)
    assert seen is not None
    looked = lock._identity

    def slowly(path: Path) -> tuple[int, int] | None:
        """The first one looks; before it removes, a second one comes through all the way."""
        found = looked(path)
        monkeypatch.setattr(lock, "_identity", looked)
        lock._remove_stale(stale, seen)  # the second: it has to wait for the first
        assert stale.exists()
        return found

    monkeypatch.setattr(lock, "_identity", slowly)
    lock._remove_stale(stale, seen)
    assert not stale.exists()
    stale.write_text("2\nanother-host\n")  # of who was quickest
    os.utime(stale, ns=(1, 1))
    lock._remove_stale(stale, seen)  # of who has waited as long
    assert stale.exists()
    assert os.listdir(tmp_path) == [stale.name]


def test_what_died_while_it_removed_a_lock_does_not_last(tmp_path: Path) -> None:
    stale, guard = tmp_path / ".a.lock", tmp_path / ".a.lock.removed"
    stale.touch()
    guard.touch()
    seen = lock._identity(stale)
    assert seen is not None
    lock._remove_stale(stale, seen)
    assert stale.exists()
    os.utime(guard, (0, 0))
    for _ in range(2):
        lock._remove_stale(stale, seen)
    assert os.listdir(tmp_path) == []


# --- again


def test_what_is_done_is_skipped(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k, name in enumerate("abcd"):
        write_noise(tmp_path / f"in/{name}.tif", k)
    words = ["--bundle", trained, "--output", tmp_path / "out", "--resume"]
    assert predict(tmp_path / "in", *words, "--shard", "0/2") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*_mask.tif")}
    assert len(before) == 2
    write_noise(tmp_path / "in/a.tif", 9)  # another image now
    assert predict(tmp_path / "in", *words) == 0
    assert "1 of 4 images skipped" in capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*_mask.tif")}
    assert len(after) == 4
    kept = [path.name for path, when in before.items() if after[path] == when]
    assert kept == ["c_mask.tif"]
    assert predict(tmp_path / "in", *words) == 0
    said = capsys.readouterr()
    assert "4 of 4 images skipped" in said.err
    assert said.out == f"no image was left to do, results in {tmp_path}/out\n"
    (tmp_path / "out/b_mask.tif").unlink()
    assert predict(tmp_path / "in", *words) == 0
    assert "3 of 4 images skipped" in capsys.readouterr().err
    assert predict(tmp_path / "in", *words, "--probabilities") == 0  # which nobody has made yet
    assert "images skipped" not in capsys.readouterr().err
    assert predict(tmp_path / "in", *words, "--tta", "flips") == 0  # other settings
    assert "images skipped" not in capsys.readouterr().err
    assert sorted(record_of(tmp_path / "out")["images"]) == list("abcd")


# --- a case that fails


@pytest.mark.parametrize("others", [0, 2])
def test_a_failed_case_leaves_no_old_mask(others: int, trained: Path, tmp_path: Path) -> None:
    paths = [
        write_noise(tmp_path / f"in/{name}.tif", k) for k, name in enumerate("abc"[: others + 1])
    ]
    out = tmp_path / "out"
    words = ["--bundle", trained, "--output", out]
    assert predict(tmp_path / "in", *words, "--instances", "--probabilities") == 0
    write_noise(out / "a_mask_of_mine.tif", 1)
    paths[0].write_text("no image any more")
    assert predict(tmp_path / "in", *words) == (3 if others else 2)
    assert sorted(path.name for path in out.glob("a_*")) == ["a_mask_of_mine.tif"]
    assert sorted(record_of(out)["images"]) == list("bc")[:others]
    assert failed_of(out) == ["a.tif"]
    write_noise(paths[0], 0)
    assert predict(paths[0], *words) == 0
    assert not (out / "failed.json").exists()
    assert (out / "a_mask.tif").is_file()


# --- names


def test_sessions_of_one_file_name(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [nifti(tmp_path / f"sub-{k}/anat/t1.nii.gz", k) for k in (1, 2)]
    words = ["--bundle", trained, "--output", tmp_path / "out"]
    assert predict(*paths, *words) == 2
    assert "two images are named t1" in (said := capsys.readouterr().err)
    assert "--name {parent}_{stem}" in said
    assert predict(*paths, *words, "--name", "{parent}_{stem}") == 2
    assert "two images are named anat_t1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert predict(*paths, *words, "--name", "{parent2}_{stem}", "--instances") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"sub-{k}_t1_{what}.nii.gz" for k in (1, 2) for what in ("mask", "instances")),
        "record.json",
    }
    assert sorted(record_of(tmp_path / "out")["images"]) == ["sub-1_t1", "sub-2_t1"]
    again = [*words, "--name", "{parent2}_{stem}", "--resume"]
    assert predict(*paths, *again) == 0
    assert "2 of 2 images skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{patient}", r"\{patient\} is none of \{stem\}, \{parent\}, \{parent2\}, \{parent3\}"),
        ("{stem.x}", r"\{stem.x\} is none of"),
        ("{stem", "--name '{stem'"),
        ("{parent}/{stem}", "which is no name of a file"),
        ("{parent3}", "makes '' of a.tif, which is no name"),
    ],
)
def test_templates_that_make_no_name(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        result_name("/a.tif", template)


def test_one_mask_in_a_file(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = nifti(tmp_path / "in/t1.nii.gz", 1)
    assert predict(path, "--bundle", trained, "--output", tmp_path / "out") == 0
    expected = np.asanyarray(nibabel.load(tmp_path / "out/t1_mask.nii.gz").dataobj)
    for name in ("sub-1.nii.gz", "sub-{2}.nii"):
        file = tmp_path / "masks" / name
        assert predict(path, "--bundle", trained, "--output", file) == 0
        np.testing.assert_array_equal(np.asanyarray(nibabel.load(file).dataobj), expected)
    left = {p.name for p in (tmp_path / "masks").iterdir()}
    assert left == {"sub-1.nii.gz", "sub-{2}.nii", "record.json"}
    assert sorted(record_of(tmp_path / "masks")["images"]) == ["sub-1", "sub-{2}"]
    assert predict(path, "--bundle", trained, "--output", file, "--resume") == 0
    assert "1 of 1 images skipped" in capsys.readouterr().err
    path.write_text("no image")
    assert predict(path, "--bundle", trained, "--output", file) == 2
    assert not file.exists()
    assert list(record_of(tmp_path / "masks")["images"]) == ["sub-1"]
    assert failed_of(tmp_path / "masks") == ["t1.nii.gz"]
    theirs = nifti(tmp_path / "masks/label.nii.gz", 2)
    label = theirs.read_bytes()
    for words, message in (
        ([path, path, "--output", file], "two images are named t1"),
        ([path, "--output", file, "--name", "x"], "--name has no effect where"),
        ([path, "--output", tmp_path / "x.jpg"], "results are written as .nii.gz"),
        ([path, "--output", path], "is the image itself"),
        (
            [nifti(tmp_path / "b.nii.gz", 1), "--output", theirs],
            "holds label.nii.gz, which no pred",
        ),
    ):
        assert predict(*words, "--bundle", trained) == 2
        assert message in capsys.readouterr().err
    assert theirs.read_bytes() == label


def test_the_mask_of_a_picture_as_png(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, words = write_noise(tmp_path / "a.tif", 0), ["--bundle", trained, "--output"]
    layers = ("--instances", "--probabilities")
    assert predict(path, *words, tmp_path / "masks/m.png", *layers) == 0
    assert predict(path, *words, tmp_path / "out", *layers) == 0
    for name, expected in (("m", "a_mask"), ("m_instances", "a_instances")):
        with Image.open(tmp_path / f"masks/{name}.png") as picture:
            found = np.asarray(picture)
        np.testing.assert_array_equal(found, tifffile.imread(tmp_path / f"out/{expected}.tif"))
    found = tifffile.imread(tmp_path / "masks/m_probabilities.tif")  # no picture holds fractions
    np.testing.assert_array_equal(found, tifffile.imread(tmp_path / "out/a_probabilities.tif"))
    assert len([*(tmp_path / "masks").iterdir()]) == 4
    assert predict(path, *words, tmp_path / "masks/m.png", *layers, "--resume") == 0
    assert "1 of 1 images skipped" in capsys.readouterr().err
    assert predict(path, *words, tmp_path / "masks/m.png", "--tta", "flips") == 0
    assert {p.name for p in (tmp_path / "masks").iterdir()} == {"m.png", "record.json"}
    assert predict(nifti(tmp_path / "v.nii.gz", 1), *words, tmp_path / "masks/v.png") == 2
    assert "a PNG holds one plane of one channel" in capsys.readouterr().err
    assert not (tmp_path / "masks/v.png").exists()


def test_a_bundle_of_an_earlier_version_says_what_it_lacks(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = shutil.copytree(trained, tmp_path / "old")
    config = json.loads((old / "configs/inference.json").read_text(encoding="utf-8"))
    config["dataset"]["data"] = "@data"
    for id in ("skip_done", "todo", "result_name", "result_file"):
        del config[id]
    for part in (config["record"], config["finish"]["save"]):
        del part["name"], part["file"]
    (old / "configs/inference.json").write_text(json.dumps(config), encoding="utf-8")
    path = write_noise(tmp_path / "a.tif", 0)
    words = [path, "--bundle", old, "--output", tmp_path / "out"]
    for option, id in ((["--resume"], "skip_done"), (["--name", "x_{stem}"], "result_name")):
        assert predict(*words, *option) == 2
        assert f"earlier version, without `{id}` in" in capsys.readouterr().err
    assert predict(*words) == 0
