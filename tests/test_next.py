"""Which image to annotate next, on candidates whose kinds can be seen."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from unet_med import Segmenter
from unet_med.bundle import copy_bundle
from unet_med.cli import main, options
from unet_med.data import SyntheticCells
from unet_med.data.checksum import sha256
from unet_med.segmentation.next_image import RULES, Candidate, choose_next, looks_like, unknown


def candidate(name: str, confidence: float | None, *looks: float) -> Candidate:
    return Candidate(name, confidence, np.array(looks))


def names(candidates: list[Candidate], count: int) -> list[str]:
    return [c.candidate.name for c in choose_next(candidates, count, rule="confidence")]


KINDS = [
    *(candidate(f"a{k}", 0.1 + 0.01 * k, 0.0 + 0.01 * k, 0.0) for k in range(5)),
    *(candidate(f"b{k}", 0.5 + 0.01 * k, 10.0 + 0.01 * k, 0.0) for k in range(3)),
    candidate("c", 0.9, 0.0, 10.0),
    candidate("empty", None, 5.0, 5.0),
]


def test_the_least_confident_of_each_kind() -> None:
    choices = choose_next(KINDS[::-1], 3, rule="confidence")
    assert [choice.candidate.name for choice in choices] == ["a0", "b0", "c"]
    assert [choice.reason for choice in choices] == [
        "confidence 0.100, the least confident of 5 images of its kind",
        "confidence 0.500, the least confident of 3 images of its kind",
        "confidence 0.900, the only image of its kind",
    ]
    assert names(KINDS, 1) == ["a0"]


def test_alike_images_are_filled_up_with_the_least_confident() -> None:
    same = [candidate(f"n{k}", 0.9 - 0.1 * k, 1.0, 2.0) for k in range(4)]
    assert names(same, 3) == ["n3", "n2", "n1"]
    with pytest.raises(ValueError, match="choose 1 image or more"):
        choose_next(same, 0)


def test_at_random_among_images_that_hold_something() -> None:
    """Each is drawn as often as any other, in any place, and none without anything in it."""
    found = [each.name for each in KINDS if each.confidence is not None]
    draws = [[c.candidate.name for c in choose_next(KINDS, 3, seed=seed)] for seed in range(900)]
    for place in range(3):
        times = np.unique([draw[place] for draw in draws], return_counts=True)
        assert times[0].tolist() == sorted(found)
        assert abs(times[1] - 100).max() < 45  # 4.8 deviations
    assert all(len(set(draw)) == 3 for draw in draws)
    assert draws[0] == [choice.candidate.name for choice in choose_next(KINDS, 3)]
    (choice,) = choose_next(KINDS[8:], 5)
    assert choice.reason == ("drawn at random from 1 in which something is found, confidence 0.900")
    with pytest.raises(ValueError, match="rule chance is neither random nor confidence"):
        choose_next(KINDS, 1, rule="chance")
    assert options.NEXT_RULES == RULES


@given(st.integers(0, 2**31), st.integers(1, 12))
def test_as_many_as_there_are(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    some = [
        candidate(str(k), None if rng.random() < 0.3 else float(rng.random()), *rng.random(3))
        for k in range(9)
    ]
    found = [each for each in some if each.confidence is not None]
    chosen = choose_next(some, count, rule="confidence")
    assert len({choice.candidate.name for choice in chosen}) == min(count, len(found))
    sure = [choice.candidate.confidence or 0.0 for choice in chosen]
    assert sure == sorted(sure)
    if found:
        assert sure[0] == min(each.confidence or 0.0 for each in found)


def test_looks_are_five_numbers_by_hand() -> None:
    image = np.repeat(np.arange(0.0, 101.0)[None, :, None], 3, axis=2)  # (1, 101, 3): 0 to 100
    median, contrast, outer, gradient, found = looks_like(image, image[0] > 24.5)
    assert (median, contrast) == (50.0, 90.0)
    assert outer == pytest.approx(46 / 101)  # below 23 and above 77
    assert gradient == pytest.approx(1 / np.arange(101).std(), rel=0.02)
    assert found == pytest.approx(76 / 101)
    assert np.isfinite(looks_like(np.zeros((1, 4, 4)), np.zeros((4, 4)))).all()


def test_what_is_replayed_is_known(tmp_path: Path) -> None:
    """The images of the bundle that a training started from, as `read_plan` has them."""
    for name in ("own", "old", "older", "new"):
        (tmp_path / name).write_text(name)
    hashes = {name: sha256([str(tmp_path / name)]) for name in ("own", "old", "older")}
    plan = {
        "data": {"cases": [{"image": {"sha256": hashes["own"]}}]},
        "replay": [{"sha256": {"image": hashes["old"]}}],
        "source": {"images": [hashes["older"]]},
    }
    folder = copy_bundle(tmp_path / "bundle")
    (folder / "configs/plan.json").write_text(json.dumps(plan))
    images = [str(tmp_path / name) for name in ("own", "old", "older", "new")]
    assert unknown(folder, images) == [str(tmp_path / "new")]


def test_an_earlier_bundle_says_what_it_lacks(trained: Path, cells: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(trained, tmp_path / "old"))
    config = json.loads((old / "configs/inference.json").read_text())
    del config["calibration"]
    (old / "configs/inference.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="made by an earlier version"):
        Segmenter(old, device="cpu").require_confidence()


def test_the_command_passes_over_what_is_known(
    trained: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SyntheticCells(4, (48, 40), num_cells=4, seed=3).write(tmp_path / "new")
    folder = tmp_path / "new/images"
    shutil.copy(cells / "images/cells_000.tif", folder / "known.tif")
    words = ["--bundle", str(trained), "--device", "cpu"]
    page = tmp_path / "next.html"
    assert main(["next", str(folder), *words, "--count", "2", "--report", str(page)]) == 0
    said = capsys.readouterr()
    assert "1 of 5 images are passed over: they are learned from already" in said.err
    lines = said.out.splitlines()[-3:]
    assert all(line.startswith(f"{folder}/cells_00") for line in lines[:2])
    assert all(": drawn at random from 4 in which" in line for line in lines[:2])
    assert lines[2] == f"pictures of them: {page}"
    text = page.read_text()
    assert text.count("chance to be wrong") == 2
    assert f"<h1>{trained.name} / to annotate next</h1>" in text
    assert "known" not in [line.split("/")[-1].split(".")[0] for line in lines]
    movie = tifffile.imread(folder / "cells_000.tif")
    metadata = {"axes": "TYX"}
    images = [str(tmp_path / f"p{number}/t1.ome.tif") for number in (1, 2)]
    for file in images:  # of one name, in folders of their own
        Path(file).parent.mkdir()
        tifffile.imwrite(file, np.stack([0 * movie, movie]), metadata=metadata)
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"no")
    words += ["--time", "1", "--report", str(page)]
    assert main(["next", *images, str(broken), *words]) == 3  # others are looked at all the same
    said = capsys.readouterr()
    lines = said.out.splitlines()[:-1]
    assert sorted(line.split(": ")[0] for line in lines) == images
    assert all(": drawn at random from 2 in which" in line for line in lines)
    assert all(f"p{number}_t1" in page.read_text() for number in (1, 2))
    assert re.search(rf"1 set aside:\n  {re.escape(str(broken))}: .*broken\.tif", said.err)
    assert main(["next", str(broken), *words]) == 2
    assert "error: " in capsys.readouterr().err
    assert main(["next", str(folder), *words, "--count", "0"]) == 2
    assert "count 0: choose 1 image or more" in capsys.readouterr().err
    assert main(["next", f"{cells}/images", *words]) == 2
    assert "are learned from already: give others" in capsys.readouterr().err


def test_channels_in_files_of_their_own_are_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `predict` takes them; what was annotated is known by all of its files."""
    for name in "abc":
        for channel in (0, 1):
            pixels = np.full((8, 8), ord(name) + channel, np.uint8)
            tifffile.imwrite(tmp_path / f"{name}_{channel:04}.tif", pixels)
    folder = copy_bundle(tmp_path / "bundle")
    known = {"image": {"sha256": sha256([str(tmp_path / f"a_000{k}.tif") for k in (0, 1)])}}
    (folder / "configs/plan.json").write_text(json.dumps({"data": {"cases": [known]}}))
    looked: list[Any] = []

    def look(segmenter: Any, name: str, image: Any) -> Candidate:
        looked.append((name, [Path(file).name for file in image]))
        return Candidate(name, {"b": 0.9, "c": 0.2}[name], np.arange(3.0))

    network = SimpleNamespace(in_channels=2, require_confidence=lambda: None)
    monkeypatch.setattr("unet_med.cli.next.Segmenter", lambda *_, **__: network)
    monkeypatch.setattr("unet_med.cli.next.look", look)
    monkeypatch.setattr("unet_med.bundle.find_trained", Path)
    words = ["next", str(tmp_path), "--bundle", str(folder), "--count", "1"]
    assert main(words) == 0
    assert looked == [(name, [f"{name}_0000.tif", f"{name}_0001.tif"]) for name in "bc"]
    assert ": drawn at random from 2 in which" in capsys.readouterr().out
    assert main([*words, "--rule", "confidence"]) == 0
    least = "confidence 0.200, the least confident of 2 images"
    assert capsys.readouterr().out == f"{tmp_path}/c_0000.tif: {least}\n"
