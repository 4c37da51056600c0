"""Several machines share a folder of images; results are never taken for others'."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from doors import predict
from image_files import write_noise

from unet_med.workflows import UNetInferWorkflow


def masks(folder: Path) -> set[str]:
    return {path.name[0] for path in folder.glob("*_mask.*")}


def test_shards_are_all_images_each_once(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of images in memory and of one that goes block by block; what failed stays listed."""
    for number, name in enumerate("abcef"):
        write_noise(tmp_path / f"in/{name}.tif", number)
    (tmp_path / "in/c.tif").write_text("no image")
    options = ["--bundle", trained, "--output", tmp_path / "out"]
    first = predict(tmp_path / "in", *options, "--shard", "0/2")
    assert masks(tmp_path / "out") == {"a", "f"}
    second = predict(tmp_path / "in", *options, "--shard", "1/2")
    assert (first, second) == (3, 0)
    assert masks(tmp_path / "out") == set("abef")
    record = json.loads((tmp_path / "out/record.json").read_text(encoding="utf-8"))
    assert sorted(record["images"]) == list("abef")
    failed = json.loads((tmp_path / "out/failed.json").read_text(encoding="utf-8"))
    assert [Path(fault["image"]).name for fault in failed["failed"]] == ["c.tif"]
    assert (failed["images"], failed["segmented"]) == (5, 4)  # of both
    assert predict(tmp_path / "in", *options, "--shard", "7/8") == 0
    assert "no image is left for --shard 7/8" in capsys.readouterr().err
    assert predict(tmp_path / "in", *options, "--shard", "2/2") == 2
    assert "--shard '2/2' is not I/N" in capsys.readouterr().err


def test_an_image_of_the_same_name_does_not_replace_a_result(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (write_noise(tmp_path / f"{who}/T1w.tif", k) for k, who in enumerate("AB"))
    out = tmp_path / "out"
    assert predict(first, "--bundle", trained, "--output", out) == 0
    kept = (out / "T1w_mask.tif").read_bytes()
    assert predict(second, "--bundle", trained, "--output", out) == 2
    assert f"{out} holds the results of {first}, and those of {second}" in capsys.readouterr().err
    with pytest.raises(RuntimeError) as refused:  # MONAI's, around ours
        UNetInferWorkflow(trained, images=str(second), output_dir=str(out)).run()
    assert "would replace them: give another output folder" in str(refused.value.__cause__)
    assert (out / "T1w_mask.tif").read_bytes() == kept

    moved = tmp_path / "moved/T1w.tif"  # the same image elsewhere, and a new state of the same file
    shutil.copytree(first.parent, moved.parent)
    assert predict(moved, "--bundle", trained, "--output", out) == 0
    write_noise(moved, 5)
    assert predict(moved, "--bundle", trained, "--output", out) == 0
    (out / "T1w_mask.tif").unlink()  # nothing is left to be replaced
    assert predict(second, "--bundle", trained, "--output", out) == 0


def test_results_of_other_weights_are_known_too(trained: Path, tmp_path: Path) -> None:
    first, second = (write_noise(tmp_path / f"{who}/T1w.tif", k) for k, who in enumerate("AB"))
    out = tmp_path / "out"
    assert predict(first, "--bundle", trained, "--output", out) == 0
    other = write_noise(tmp_path / "other.tif", 2)
    assert predict(other, "--bundle", trained, "--output", out, "--tta", "flips") == 0
    record = json.loads((out / "record.json").read_text(encoding="utf-8"))
    assert list(record["images"]) == ["other"]
    assert record["earlier"]["T1w"]["file"] == str(first)
    assert predict(second, "--bundle", trained, "--output", out, "--tta", "flips") == 2


def test_instances_of_other_settings_are_not_taken_for_done(trained: Path, tmp_path: Path) -> None:
    """The masks of the second run do not vouch for the instances of the first."""
    write_noise(tmp_path / "images/a.tif", 0)
    out = tmp_path / "out"

    def run(*words: str) -> dict[str, list[str]]:
        words = ("--bundle", str(trained), "--output", str(out), *words)
        assert predict(tmp_path / "images", *words) == 0
        images = json.loads((out / "record.json").read_text(encoding="utf-8"))["images"]
        return {name: entry["outputs"] for name, entry in images.items()}

    assert run("--instances", "--tta", "none") == {"a": ["mask", "instances"]}
    assert run("--tta", "flips") == {"a": ["mask"]}
    assert sorted(path.name for path in out.glob("*.tif")) == ["a_mask.tif"]
    assert run("--tta", "flips", "--instances", "--resume") == {"a": ["mask", "instances"]}
    written = (out / "a_instances.tif").stat().st_mtime_ns
    assert run("--tta", "flips", "--instances", "--resume") == {"a": ["mask", "instances"]}
    assert (out / "a_instances.tif").stat().st_mtime_ns == written
