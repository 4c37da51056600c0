"""Pages of a stack are images, and slices of a volume are not: from the plan to the tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from unet_med.bundle import copy_bundle, write_plan
from unet_med.cli import main
from unet_med.data import load_image
from unet_med.data.checksum import sha256
from unet_med.planning import fingerprint, make_plan
from unet_med.planning.words import describe
from unet_med.report import PredictionRecord
from unet_med.report.page import _notes
from unet_med.report.table import read_scores

SLICES = {"ome": True, "metadata": {
    "axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}}  # fmt: skip


def pages() -> tuple[np.ndarray, np.ndarray]:
    """Four cells in three pages, some upon others: numbers go on, and begin anew on each."""
    found = np.zeros((3, 24, 20), np.uint8)
    found[0, 2:8, 2:8], found[1, 2:8, 2:8], found[1, 12:18, 2:8], found[2, 3:9, 3:9] = 1, 2, 3, 4
    anew = np.array([0, 1, 1, 2, 1], np.uint8)[found]
    return found, anew


def write(path: Path, array: np.ndarray, **written: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, photometric="minisblack", **written)
    return path


def write_record(folder: Path, images: dict[str, Any], dims: int = 2) -> None:
    record = {"settings": {"spatial_dims": dims}, "images": images}
    (folder / "record.json").write_text(json.dumps(record))


def rows(tmp_path: Path, *words: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows of cases by name, and what the table is about."""
    assert main([*map(str, words), "--output", str(tmp_path / "t.json")]) == 0
    content = json.loads((tmp_path / "t.json").read_text())
    return {row["case"]: row for row in content["rows"] if row["row"] == "case"}, content["about"]


@pytest.mark.parametrize("metrics", [None, "ctc", "ap"])
@pytest.mark.parametrize("recorded", [None, "apart"])
def test_pages_are_scored_as_images(
    tmp_path: Path, capsys: Any, metrics: str | None, recorded: str | None
) -> None:
    found, anew = pages()
    write(tmp_path / "r/a_instances.tif", found)
    write(tmp_path / "t/a.tif", anew, **(SLICES if recorded else {}))
    if recorded:
        write_record(tmp_path / "r", {"a": {"planes": recorded}})
    words = [*(["--metrics", metrics] if metrics else []), "--label-kind", "instances"]
    case = rows(tmp_path, "evaluate", tmp_path / "r", tmp_path / "t", *words)[0]["a"]
    scores = {"ctc": ("SEG", "DET"), "ap": ("AP50", "AP75")}.get(metrics or "", ("SEG", "AP50"))
    assert [case[name] for name in scores] == [1.0, 1.0]
    if metrics is None:
        assert (case["found"], case["true"], case["matched"]) == (4, 4, 4)
    assert "3 planes, each scored as an image" in capsys.readouterr().err


def test_a_volume_is_scored_as_one(tmp_path: Path, capsys: Any) -> None:
    """Joined by what is said, by the record, or by the numbers of the truth."""
    found, anew = pages()
    write(tmp_path / "r/a_instances.tif", found)
    write(tmp_path / "t/a.tif", anew)
    words = "evaluate", tmp_path / "r", tmp_path / "t", "--label-kind", "instances"
    case = rows(tmp_path, *words, "--planes", "joined")[0]["a"]
    assert (case["found"], case["true"]) == (4, 2)
    write_record(tmp_path / "r", {"a": {"planes": "joined"}})
    assert rows(tmp_path, *words)[0]["a"]["true"] == 2
    write(tmp_path / "t/a.tif", found)  # in which nothing goes through planes
    assert main([*map(str, words)]) == 2
    assert (
        "score with --planes apart or joined, or predict with --planes apart"
        in capsys.readouterr().err
    )
    assert rows(tmp_path, *words, "--planes", "apart")[0]["a"]["AP50"] == 1
    write_record(tmp_path / "r", {}, dims=3)  # of other images: the numbers say it
    assert rows(tmp_path, *words)[0]["a"]["AP50"] == 1
    write_record(tmp_path / "r", {"a": {}}, dims=3)
    column = np.where(found > 0, 7, 0).astype(np.uint8)
    column[:, 12:18, 2:8] = 9
    write(tmp_path / "t/a.tif", column)
    assert rows(tmp_path, *words)[0]["a"]["true"] == 2


def test_pages_are_measured_as_images(tmp_path: Path) -> None:
    found, _ = pages()
    write(tmp_path / "r/a_instances.tif", found)
    write(tmp_path / "r/a_mask.tif", (found > 0).astype(np.uint8))
    image = np.stack([np.full(found.shape[1:], grey, np.uint8) for grey in (10, 20, 30)])
    write(tmp_path / "i/a.tif", image)
    words = "measure", tmp_path / "r", "--images", tmp_path / "i"
    cases = rows(tmp_path, *words)[0]
    assert [*cases] == ["a-z000", "a-z001", "a-z002"]
    assert [row["objects"] for row in cases.values()] == [1, 2, 1]
    assert [row["area px"] for row in cases.values()] == [36, 72, 36]
    assert [row["mean intensity"] for row in cases.values()] == [10, 20, 30]
    assert [*rows(tmp_path, *words, "--objects")[0]] == [*cases]
    volume = rows(tmp_path, *words, "--planes", "joined")[0]
    assert volume["a"]["volume px"] == 144
    write_record(tmp_path / "r", {"a": {}}, dims=3)
    assert [*rows(tmp_path, *words)[0]] == ["a"]


@pytest.mark.parametrize(
    ("labels", "written", "planes", "recorded"),
    [
        (0, {}, "apart", "apart"),
        (1, {}, None, "apart"),  # begin anew on each page, which may be chance
        (1, SLICES, None, "joined"),
        (2, {}, "joined", "joined"),
    ],
)
def test_the_plan_and_the_record_say_it(
    tmp_path: Path, labels: int, written: dict[str, Any], planes: str | None, recorded: str
) -> None:
    """Of what numbers objects in the labels, else of the file; and that the image has taught."""
    found, anew = pages()
    column = np.where(found > 0, 7, 0).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 99, found.shape).astype(np.uint8)
    image = write(tmp_path / "a.tif", noise, **written)
    label = write(tmp_path / "label.tif", [found, anew, column][labels], **written)
    seen = fingerprint(image, label, seconds=0)
    plan = make_plan(seen, {"label_kind": "instances"})
    assert plan.value("planes") == planes
    assert f"planes    {plan.ids['planes'].reason}" in describe(plan)
    told = make_plan(seen, {"label_kind": "instances", "planes": "joined"})
    assert told.value("planes") == "joined"
    write(tmp_path / "x/a.tif", noise, **written), write(tmp_path / "x/b.tif", noise, **written)
    for name in "ab":
        write(tmp_path / f"y/{name}.tif", [found, anew, column][labels], **written)
    several = fingerprint(tmp_path / "x", tmp_path / "y", seconds=0)
    if planes is None and not written:  # nobody says it
        with pytest.raises(ValueError, match=r"--dims 3 if the stacks are volumes, or --dims 2 if"):
            make_plan(several, {"label_kind": "instances"})
    else:
        dims = make_plan(several, {"label_kind": "instances"}).value("spatial_dims")
        assert dims == (2 if planes == "apart" else 3)
    assert (
        make_plan(several, {"planes": "apart", "label_kind": "instances"}).value("spatial_dims")
        == 2
    )
    with pytest.raises(ValueError, match="--planes apart is for stacks"):
        make_plan(seen, {"label_kind": "instances", "planes": "apart", "spatial_dims": 3})
    copy_bundle(tmp_path / "b")
    write_plan(tmp_path / "b", plan.to_json())
    settings = {"spatial_dims": 2, "planes": planes}
    keeper = PredictionRecord(tmp_path, tmp_path / "b/models/model.pt", settings)
    entry = keeper._entry(load_image(image))
    assert (entry["planes"], entry["learned"]) == (recorded, True)
    other = load_image(write(tmp_path / "other.tif", noise[::-1], **written))
    assert "learned" not in keeper._entry(other)
    broken = tmp_path / "b/configs/plan.json"
    broken.write_text(broken.read_text(encoding="utf-8").replace('"cases"', '"sets"'))
    keeper = PredictionRecord(tmp_path, tmp_path / "b/models/model.pt", settings)
    assert "learned" not in keeper._entry(load_image(image))  # the plan of another version
    volume = PredictionRecord(tmp_path, None, {"spatial_dims": 3})
    assert not {"planes", "learned"} & set(volume._entry(load_image(image)))


def test_a_table_of_two_networks_says_so(tmp_path: Path, capsys: Any) -> None:
    """Of the network that the record names is one result of three."""
    for name in "abc":
        write(tmp_path / f"r/{name}_instances.tif", pages()[0][0])
        write(tmp_path / f"t/{name}.tif", pages()[0][0])
    left = {name: {"file": f"{name}.tif", "sha256": "0"} for name in "ab"}
    record = {"settings": {"spatial_dims": 2}, "images": {"c": {}}, "earlier": left}
    (tmp_path / "r/record.json").write_text(json.dumps(record))
    said = "2 of these results were left by other weights or settings than the record names"
    words = "evaluate", tmp_path / "r", tmp_path / "t", "--label-kind", "instances"
    for command in (words, ("measure", tmp_path / "r"), ("measure", tmp_path / "r", "--objects")):
        assert rows(tmp_path, *command)[1]["earlier"] == 2
        assert said in capsys.readouterr().out
    rows(tmp_path, *words)
    assert any(said in note for note in _notes({}, read_scores(tmp_path / "t.json")))
    capsys.readouterr()
    digests = {"digests": {f"{name}_instances.tif": "0" for name in "abc"}}
    write_record(tmp_path / "r", {name: digests for name in "abc"})
    assert "earlier" not in rows(tmp_path, *words)[1]
    assert "were left by" not in capsys.readouterr().out
    own = {"a_instances.tif": sha256(tmp_path / "r/a_instances.tif")}
    write_record(tmp_path / "r", {"a": {"digests": own}, "b": digests, "c": {}})
    said = "1 of these results changed after the prediction: if somebody corrected them"
    for command in (words, ("measure", tmp_path / "r")):
        assert rows(tmp_path, *command)[1]["changed"] == 1
        assert said in capsys.readouterr().out
    rows(tmp_path, *words)
    assert any(said in note for note in _notes({}, read_scores(tmp_path / "t.json")))


def test_scores_of_images_that_taught_say_so(tmp_path: Path, capsys: Any) -> None:
    found, _ = pages()
    for k, name in enumerate("ab"):
        write(tmp_path / f"r/{name}_instances.tif", found[k])
        write(tmp_path / f"t/{name}.tif", found[k])
    write_record(tmp_path / "r", {"a": {"learned": True}, "b": {}})
    words = "evaluate", tmp_path / "r", tmp_path / "t", "--label-kind", "instances"
    assert rows(tmp_path, *words)[1]["learned"] == 1
    said = "1 of 2 images taught this network: the score flatters."
    assert said in capsys.readouterr().out
    assert any(said in note for note in _notes({}, read_scores(tmp_path / "t.json")))
    write_record(tmp_path / "r", {"a": {"chose": True}, "b": {}})
    about = rows(tmp_path, *words)[1]
    assert ("learned" in about, about["chose"]) == (False, 1)
    said = "1 of 2 images were held out of the training, and chose how this network makes objects"
    assert said in (printed := capsys.readouterr().out)
    assert "flatters" not in printed
    assert any(said in note for note in _notes({}, read_scores(tmp_path / "t.json")))
    assert rows(tmp_path, "measure", tmp_path / "r")[1]["chose"] == 1
    assert said not in capsys.readouterr().out  # sizes are no better for it
