"""`unet-med evaluate`: which scores, of what, pooled how, written where."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from unet_med import metrics
from unet_med.cli import main
from unet_med.data import AutoReader, save_image
from unet_med.data.checksum import sha256
from unet_med.data.file_reader import Volume
from unet_med.instances import separate
from unet_med.report.meanings import MEANINGS, explained
from unet_med.report.table import read_scores
from unet_med.scoring import scores
from unet_med.scoring.clinical import Clinical

ISBI = {
    "pixel error": metrics.pixel_error,
    "Rand error": metrics.rand_error,
    "warping error": metrics.warping_error,
    "V_Rand": metrics.v_rand,
    "V_Info": metrics.v_info,
}


def write(folder: Path, **arrays: np.ndarray) -> Path:
    folder.mkdir()
    for name, array in arrays.items():
        axes = {"axes": "CYX"[-array.ndim :]}
        file = folder / f"{name}.tif"
        tifffile.imwrite(file, array, photometric="minisblack", ome=True, metadata=axes)
    return folder


def evaluate(*words: Any) -> int:
    return main(["evaluate", *(str(word) for word in words)])


def table_of(tmp_path: Path, *words: Any, code: int = 0) -> dict[Any, dict[str, float]]:
    """Scores by case, or by case and class; and those of all, by what they are, and class."""
    file = tmp_path / "t.json"
    folders = tmp_path / "results", tmp_path / "truth"
    assert evaluate(*folders, "--output", file, *words) == code
    return rows_of(file)


def rows_of(file: Path) -> dict[Any, dict[str, float]]:
    content = json.loads(file.read_text(encoding="utf-8"))
    rows = {}
    for row in content["rows"]:
        name = row["case"] or row["row"]
        key = (name, row["class"]) if row["class"] else name
        assert key not in rows
        rows[key] = {column: row[column] for column in content["columns"]}
    return rows


@pytest.fixture
def walls(rng) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Two slices of different sizes with walls, and what a blurred prediction says of them."""
    truth, found = {}, {}
    for name, size in (("a", (40, 30)), ("b", (36, 44))):
        relief = ndimage.gaussian_filter(rng.normal(size=size), 3)
        truth[name] = (np.abs(relief) > 0.02) * np.uint8(255)
        seen = np.abs(ndimage.gaussian_filter(relief + rng.normal(0, 0.01, size), 1)) / 0.08
        interior = np.clip(seen, 0, 1).astype(np.float32)
        found[f"{name}_probabilities"] = np.stack([1 - interior, interior])  # (C, Y, X)
    return truth, found


@pytest.fixture
def cells(tmp_path: Path, rng) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Three frames of cells that are found in part; the last has none, and one is found there."""
    truth, found = [], []
    for height in (0.08, 0.06, 9.0):
        relief = ndimage.gaussian_filter(rng.normal(size=(40, 44)), 2)
        truth.append(ndimage.label(relief > height)[0].astype(np.uint16))
        found.append(ndimage.label(relief > min(height, 0.2) + 0.03)[0].astype(np.uint16))
    write(tmp_path / "truth", **{f"f{i}": frame for i, frame in enumerate(truth)})
    write(tmp_path / "results", **{f"f{i}_instances": frame for i, frame in enumerate(found)})
    return found, truth


def test_isbi_is_the_default_for_masks(tmp_path: Path, walls) -> None:
    truth, found = walls
    write(tmp_path / "truth", **truth)
    write(tmp_path / "results", **found)
    table = table_of(tmp_path)
    for name, label in truth.items():
        seen = found[f"{name}_probabilities"][1]
        both, either = ((seen > 0.5) & (label > 0)).sum(), ((seen > 0.5) | (label > 0)).sum()
        expected = {"Dice": 2 * both / (both + either), "IoU": both / either}
        assert table[name] == expected | {k: f(seen, label) for k, f in ISBI.items()}
    assert table == table_of(tmp_path, "--metrics", "isbi")
    for column, mean in table["mean"].items():
        ends = sorted([table["a"][column], table["b"][column]])
        assert mean == pytest.approx(np.mean(ends))
        if column in ("V_Rand", "V_Info"):  # at one threshold for both, hence never above the mean
            assert table["pooled"][column] <= np.mean(ends)


def test_probabilities_of_one_channel_are_no_numbers_of_objects(tmp_path: Path, walls, capsys):
    truth, found = walls
    write(tmp_path / "truth", **truth)
    write(tmp_path / "results", **{name: both[1] for name, both in found.items()})
    table = table_of(tmp_path)
    for name, label in truth.items():
        seen = found[f"{name}_probabilities"][1]
        assert {k: table[name][k] for k in ISBI} == {k: f(seen, label) for k, f in ISBI.items()}
    for name, both in found.items():  # as 8 bits
        tifffile.imwrite(tmp_path / f"results/{name}.tif", (255 * both[1]).astype(np.uint8))
    assert evaluate(tmp_path / "results", tmp_path / "truth") == 2
    assert "divide 8-bit maps by 255" in capsys.readouterr().err


def test_the_foreground_of_several_classes_is_all_of_them(tmp_path: Path, walls, capsys) -> None:
    truth, found = walls
    write(tmp_path / "truth", **truth)
    three = {n: np.stack([b, f / 4, 3 * f / 4]) for n, (b, f) in found.items()}
    write(tmp_path / "results", **three)
    assert evaluate(tmp_path / "results", tmp_path / "truth") == 2
    said = "a_probabilities.tif holds 2 channels besides the background, and the truths look like"
    assert said in capsys.readouterr().err
    table = table_of(tmp_path, "--label-kind", "mask")
    for name, label in truth.items():
        expected = metrics.v_rand(1 - three[f"{name}_probabilities"][0], label)
        assert table[name]["V_Rand"] == pytest.approx(expected)


def test_isbi_scores_the_planes_that_the_network_saw(tmp_path: Path, walls) -> None:
    truth, found = walls
    name = next(iter(truth))
    label, scores = truth[name], found[f"{name}_probabilities"][1]  # (Y, X)
    results = tmp_path / "results"
    affine = np.eye(4)
    for folder, plane in (("truth", label), ("results", scores)):
        upright = np.moveaxis(np.stack([plane.T] * 2), 0, 1)  # R, A, S: the plane lies along R, S
        kind = "_probabilities" if folder == "results" else ""
        pixels = np.stack([1 - upright, upright]) if kind else upright[None]
        save_image(tmp_path / folder / f"{name}{kind}.nii.gz", pixels, affine, "mm")
    settings = {"orientation": "RSA", "spatial_dims": 2}
    (results / "record.json").write_text(json.dumps({"settings": settings}))
    table = table_of(tmp_path, "--label-kind", "mask", "--metrics", "isbi")
    for column, score in ISBI.items():
        assert table[name][column] == pytest.approx(score(scores, label))
    pair = [f"../results/{name}_probabilities.nii.gz", f"../truth/{name}.nii.gz"]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/p.csv").write_text("result,truth\n" + ",".join(pair))
    words = ["--pairs", tmp_path / "lists/p.csv", "--label-kind", "mask", "--metrics", "isbi"]
    assert evaluate(*words, "--output", tmp_path / "p.json") == 0
    assert rows_of(tmp_path / "p.json") == table


def test_isbi_parts_instances_that_touch(tmp_path: Path) -> None:
    truth = np.zeros((12, 20), np.uint16)
    truth[1:11, 1:10], truth[1:11, 10:19] = 7, 9
    write(tmp_path / "truth", a=truth)
    write(tmp_path / "results", a=truth)
    words = ("--label-kind", "instances", "--metrics", "isbi")
    perfect = {"Dice": 1, "IoU": 1}
    perfect |= {"pixel error": 0, "Rand error": 0, "warping error": 0, "V_Rand": 1, "V_Info": 1}
    assert table_of(tmp_path, *words)["pooled"] == pytest.approx(perfect)
    tifffile.imwrite(tmp_path / "results" / "a.tif", (truth > 0) * np.uint8(1))
    merged = table_of(tmp_path, *words)["pooled"]
    assert merged["V_Rand"] == metrics.v_rand(truth > 0, separate(truth) > 0) < 0.9
    assert merged["warping error"] > 0


def test_an_empty_truth_in_which_nothing_is_found_is_no_error(tmp_path: Path, walls) -> None:
    first = (walls[0]["a"] > 0).astype(np.uint8)
    images = {"full": first, "empty": np.zeros_like(first)}
    write(tmp_path / "truth", **images)
    write(tmp_path / "results", **{f"{name}_mask": label for name, label in images.items()})
    for file in ("truth/stack.tif", "results/stack_mask.tif"):
        planes = np.stack([first, 0 * first])
        tifffile.imwrite(tmp_path / file, planes, ome=True, metadata={"axes": "ZYX"})
    table = table_of(tmp_path, "--label-kind", "mask")
    assert set(table["empty"].values()) == {None}
    perfect = {name: 0.0 if "error" in name else 1.0 for name in table["full"]}
    for row in ("full", "stack", "pooled", "mean"):
        assert table[row] == pytest.approx(perfect)
    wrong = np.zeros_like(first)
    wrong[3:6, 3:6] = 1
    tifffile.imwrite(tmp_path / "results/empty_mask.tif", wrong)
    table = table_of(tmp_path, "--label-kind", "mask")
    assert (table["empty"]["Dice"], table["empty"]["V_Rand"]) == (0, 0)
    assert table["pooled"]["Dice"] < 1


@pytest.mark.parametrize(("name", "touching"), [("a_mask", True), ("other", False)])
def test_a_mask_is_not_one_instance(tmp_path: Path, capsys, name: str, touching: bool) -> None:
    """Its name says so, or that its only value lies in several pieces."""
    label = np.zeros((12, 20), np.uint16)
    label[1:11, 1:10], label[1:11, 10 + (not touching) : 19] = 1, 2
    truth = write(tmp_path / "t", a=label) / "a.tif"
    mask = write(tmp_path / "r", **{name: (label > 0).astype(np.uint8)}) / f"{name}.tif"
    words = ("--label-kind", "instances")
    assert evaluate(mask, truth, *words) == 2
    base = name.removesuffix("_mask")
    assert f"{name}.tif is a mask, in which all objects are one: give {base}_instances" in (
        capsys.readouterr().err
    )
    assert evaluate(mask, truth, "--label-kind", "mask") == 0
    tifffile.imwrite(truth, (label == 1).astype(np.uint8))  # one object is no mask of many
    assert evaluate(mask, truth, *words) == 0


def test_a_mask_beside_missing_instances_is_named(tmp_path: Path, cells, capsys) -> None:
    found, _ = cells
    (tmp_path / "results/f0_instances.tif").unlink()
    tifffile.imwrite(tmp_path / "results/f0_mask.tif", (found[0] > 0).astype(np.uint8))
    table_of(tmp_path, "--label-kind", "instances", code=3)
    said = "expected a file named f0_instances; f0_mask.tif is no such file: predict with --inst"
    assert said in capsys.readouterr().err


def test_results_come_first(tmp_path: Path, cells, capsys) -> None:
    (tmp_path / "results/record.json").write_text("{}")
    words = (tmp_path / "truth", tmp_path / "results", "--label-kind", "instances")
    assert evaluate(*words) == 2
    assert "looks like a folder of results, for it holds record.json" in capsys.readouterr().err
    (tmp_path / "truth/record.json").write_text("{}")  # two predictions may be compared
    assert evaluate(tmp_path / "results", *words[:1], "--label-kind", "instances") == 0
    for folder in ("truth", "results"):
        (tmp_path / folder / "record.json").unlink()
    capsys.readouterr()
    assert evaluate(*words) == 2
    said = "f0.tif is called as the truth of f0_instances is: RESULTS come first, then TRUTH"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["instances", "mask"])
def test_images_in_the_place_of_results(tmp_path: Path, cells, rng, capsys, kind: str) -> None:
    for file in [*(tmp_path / "results").iterdir()]:
        file.unlink()
    for name in ("f0", "f1", "f2"):
        picture = rng.integers(1, 60_000, (40, 44)).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"results/{name}.tif", picture)
    folders = tmp_path / "results", tmp_path / "truth"
    assert evaluate(*folders, "--label-kind", kind) == 2
    said = f"label {tmp_path / 'results' / 'f0.tif'} looks like a picture"
    assert said in capsys.readouterr().err


def test_a_result_is_no_truth(tmp_path: Path, cells, capsys) -> None:
    results = tmp_path / "results"
    words = ("--label-kind", "instances")
    assert evaluate(results, results, *words) == 2
    said = capsys.readouterr().err
    assert "f0_instances.tif is result and truth at once, so it would be without a fault" in said
    digests = {f"f{k}_instances.tif": sha256(results / f"f{k}_instances.tif") for k in range(2)}
    shutil.copytree(results, tmp_path / "others")
    for folder in ("results", "others"):
        record = {"images": {"f0": {"digests": digests}}}
        (tmp_path / folder / "record.json").write_text(json.dumps(record))
    assert evaluate(results, tmp_path / "others", *words) == 0  # of two networks, perhaps
    said = capsys.readouterr().out
    assert "2 truth(s) are what a prediction wrote, unchanged, such as f0_instances.tif" in said


def test_ctc_and_ap_are_pooled_over_frames(tmp_path: Path, cells) -> None:
    found, truth = cells
    kind = ("--label-kind", "instances")
    seg, det = metrics.seg(found, truth), metrics.det(found, truth)
    table = table_of(tmp_path, *kind, "--metrics", "ctc")
    assert table["pooled"] == pytest.approx(
        {"SEG": seg, "DET": det, "(SEG+DET)/2": (seg + det) / 2}
    )
    assert table["f2"] == {"SEG": None, "DET": None, "(SEG+DET)/2": None}
    precision = [metrics.average_precision(found, truth, t / 100) for t in range(50, 100, 5)]
    expected = {"AP50": precision[0], "AP75": precision[5], "AP50:95": np.mean(precision)}
    table = table_of(tmp_path, *kind, "--metrics", "ap")
    assert table["pooled"] == pytest.approx(expected)
    assert table["f2"] == {"AP50": 0, "AP75": 0, "AP50:95": 0}
    counts = {"found": 0, "true": 0, "matched": 0}
    table = table_of(tmp_path, *kind)
    assert list(table["pooled"]) == [*("SEG", "DET", "AP50"), *counts, "precision", "recall", "F1"]
    for name, result, label in zip(("f0", "f1", "f2"), found, truth, strict=True):
        own = matched_by_hand(result, label)
        assert {column: table[name][column] for column in counts} == own
        counts = {column: counts[column] + own[column] for column in counts}
    assert counts["matched"] > 0
    expected = {"SEG": seg, "DET": det, "AP50": precision[0], **counts}
    expected["precision"] = counts["matched"] / counts["found"]
    expected["recall"] = counts["matched"] / counts["true"]
    expected["F1"] = 2 / (1 / expected["precision"] + 1 / expected["recall"])
    assert table["pooled"] == pytest.approx(expected)
    assert (table["f2"]["precision"], table["f2"]["recall"], table["f2"]["F1"]) == (0, None, 0)


def matched_by_hand(result: np.ndarray, truth: np.ndarray) -> dict[str, int]:
    """Above an IoU of one half no object has two partners."""
    found, true = (np.unique(label[label > 0]) for label in (result, truth))
    pairs = [(result == f, truth == t) for f in found for t in true]
    matched = sum(bool(2 * (f & t).sum() > (f | t).sum()) for f, t in pairs)
    assert not any(2 * (f & t).sum() == (f | t).sum() for f, t in pairs)
    return {"found": len(found), "true": len(true), "matched": matched}


def test_csv(tmp_path: Path, cells, capsys: pytest.CaptureFixture[str]) -> None:
    table = table_of(tmp_path, "--label-kind", "instances")
    words = ("--label-kind", "instances", "--output", tmp_path / "t.csv")
    assert evaluate(tmp_path / "results", tmp_path / "truth", *words) == 0
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["row", "case", "class", *table["f0"], "note"]
    assert [row[0] for row in rows[1:]] == ["case"] * 3 + ["mean", "pooled"]
    assert [row[1] for row in rows[1:]] == ["f0", "f1", "f2", "", ""]
    for kind, name, _, *values, _ in rows[1:]:
        assert [float(v) if v else None for v in values] == list(table[name or kind].values())
    said, told = capsys.readouterr()
    said = said[said.rindex("labels are") :]
    words = [line.split()[0] for line in said.splitlines()]
    assert words == ["labels", "SEG", "f0", "f1", "f2", "pooled", "mean", "too"]  # as in the file
    assert "SEG: mean IoU of true objects with what covers over half of them, else 0; 1 is" in told
    assert next(line.split()[1:] for line in said.splitlines() if line.startswith("f2")) == [
        *("-", "-", "0.0000"),  # where nothing is, something was found
        *(str(table["f2"]["found"]), "0", "0"),
        *("0.0000", "-", "0.0000"),
    ]
    content = (tmp_path / "t.csv").read_text(encoding="utf-8")
    (tmp_path / "t.csv").write_text(f"\ufeff{content}", encoding="utf-8")  # as spreadsheets begin
    assert read_scores(tmp_path / "t.csv").of("case")[0].scores == table["f0"]


def test_no_more_is_charged_than_all(tmp_path: Path, cells, capsys) -> None:
    """A DET of 0 is a score, and no count."""
    squares = np.kron(np.arange(14 * 15).reshape(14, 15), np.ones((3, 3), int))[:40, :44]
    for name in ("f0", "f1", "f2"):
        tifffile.imwrite(tmp_path / f"results/{name}_instances.tif", squares.astype(np.uint16))
    table = table_of(tmp_path, "--label-kind", "instances")
    assert isinstance(table["pooled"]["DET"], float)
    [line] = [line.split() for line in capsys.readouterr().out.splitlines() if "pooled" in line]
    assert line[2] == "0.0000"


def test_an_interval_takes_six_images_or_groups(
    tmp_path: Path, rng, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of fewer it would be the worst and the best of them. Patients are drawn, not their images."""
    truth = np.zeros((20, 20), np.uint8)
    truth[4:16, 4:16] = 1
    names = [f"p{k // 2}_{k}" for k in range(12)]
    found = {name: np.roll(truth, k // 2, 0) for k, name in enumerate(names)}
    write(tmp_path / "truth", **dict.fromkeys(names, truth))
    write(tmp_path / "results", **{f"{name}_mask": label for name, label in found.items()})
    kind = ("--label-kind", "classes")
    alone = table_of(tmp_path, *kind)
    assert "bootstrap over the 12 images, 1000 draws" in capsys.readouterr().out
    patients = table_of(tmp_path, *kind, "--group", r"(p\d+)_")
    assert "bootstrap over the 6 groups of 12 images, 1000 draws" in capsys.readouterr().out
    dice = [patients[name, "1"]["Dice"] for name in names]
    drawn = np.random.default_rng(0).integers(6, size=(1000, 6))
    means = np.reshape(dice, (6, 2)).mean(axis=1)[drawn].mean(axis=1)
    for end, share in ((" 2.5 %", 0.025), (" 97.5 %", 0.975)):
        assert patients[f"mean{end}", "1"]["Dice"] == pytest.approx(np.quantile(means, share))
    width = {
        kind: table["mean 97.5 %", "1"]["Dice"] - table["mean 2.5 %", "1"]["Dice"]
        for kind, table in (("alone", alone), ("patients", patients))
    }
    assert width["patients"] > 1.2 * width["alone"]
    items = [
        {"image": f"{name}.tif", "label": f"truth/{name}.tif", "who": name[:2]} for name in names
    ]
    (tmp_path / "list.json").write_text(json.dumps(items))
    words = (tmp_path / "results", tmp_path / "list.json", *kind, "--group", "who")
    assert evaluate(*words, "--output", tmp_path / "l.json") == 0
    assert rows_of(tmp_path / "l.json") == patients
    for name in names[-2:]:
        (tmp_path / f"truth/{name}.tif").unlink()
    fewer = table_of(tmp_path, *kind, "--group", r"(p\d+)_")
    assert not any("%" in str(key) for key in fewer)
    assert "too few images for an interval: it takes 6" in capsys.readouterr().out
    assert evaluate(tmp_path / "results", tmp_path / "truth", *kind, "--group", "x") == 2
    assert "--group x is no key of" in capsys.readouterr().err


def test_folders_above_the_data_are_no_groups(tmp_path: Path) -> None:
    """As in training: not the year, in a folder above all, but the patient."""
    label = np.zeros((9, 9), np.uint8)
    label[2:6, 2:7] = 1
    place, pairs = tmp_path / "2024", []
    for k in range(8):
        folder = place / f"p{k // 2}/ct{'ab'[k % 2]}"
        folder.mkdir(parents=True)
        for name in ("label", "found"):
            tifffile.imwrite(folder / f"{name}.tif", label)
        files = {
            part: str(folder / f"{name}.tif")
            for part, name in (("truth", "label"), ("result", "found"))
        }
        pairs.append({"case": str(k), **files})
    (tmp_path / "lists").mkdir()
    file = tmp_path / "lists/pairs.json"
    file.write_text(json.dumps(pairs))
    words = ["--label-kind", "mask", "--group", r"(\d+)", "--output", tmp_path / "t.json"]
    assert evaluate("--pairs", file, *words) == 0
    assert json.loads((tmp_path / "t.json").read_text())["about"]["units"] == 4


@pytest.mark.parametrize("way", ["path", "hash", "none"])
def test_results_with_folders_in_their_names(tmp_path: Path, capsys, way: str) -> None:
    """`predict --name "{parent}_{stem}"` of two images of one name; the record says which is which.

    They may have moved since.
    """
    label = np.zeros((9, 9), np.uint8)
    label[2:6, 2:7] = 1
    items, record = [], {}
    (tmp_path / "results").mkdir()
    for k, who in enumerate(("p01", "p02")):
        (tmp_path / who).mkdir()
        for name, pixels in (("t1", label + k), ("label", np.roll(label, k, 0))):
            tifffile.imwrite(tmp_path / who / f"{name}.tif", pixels)
        image = tmp_path / who / "t1.tif"
        items.append({"image": f"{who}/t1.tif", "label": f"{who}/label.tif"})
        old = {"file": f"/gone/{who}/t1.tif", "sha256": sha256(image)}
        record[f"{who}_t1"] = old if way == "hash" else {**old, "file": str(image)}
        tifffile.imwrite(tmp_path / f"results/{who}_t1_mask.tif", np.roll(label, 2 * k, 0))
    (tmp_path / "list.json").write_text(json.dumps({"test": items}))
    content = {} if way == "none" else {"images": record}
    (tmp_path / "results/record.json").write_text(json.dumps(content))
    words = [tmp_path / "list.json", "--label-kind", "mask", "--output", tmp_path / "t.json"]
    measured = ["measure", tmp_path / "results", "--images", tmp_path / "list.json"]
    measured = [*map(str, measured), "--output", str(tmp_path / "m.json")]
    if way == "none":
        assert evaluate(tmp_path / "results", *words) == 2
        said = capsys.readouterr().err
        assert re.search("two images of 'test' in list.json of one name: .*p01.*p02.*--pairs", said)
        assert main(measured) == 2
        assert "two images of one name" in capsys.readouterr().err
        return
    assert evaluate(tmp_path / "results", *words) == 0
    dice = {name: row["Dice"] for name, row in rows_of(tmp_path / "t.json").items()}
    assert (dice["p01_t1"], dice["p02_t1"]) == (1, pytest.approx(0.75))
    assert main(measured) == 0
    grey = {
        row["case"]: row["lowest intensity"]
        for row in json.loads((tmp_path / "m.json").read_text())["rows"]
    }
    assert grey == {"p01_t1": 1, "p02_t1": 1}


def test_two_results_of_one_name_are_refused(tmp_path: Path, capsys) -> None:
    label = np.eye(12, dtype=np.uint8)
    write(tmp_path / "truth", a=label)
    write(tmp_path / "results", a_mask=label)
    np.save(tmp_path / "results/a_mask.npy", label)
    assert evaluate(tmp_path / "results", tmp_path / "truth", "--label-kind", "mask") == 2
    assert re.search(
        r"two results of one name: .*a_mask\.npy and .*a_mask\.tif; leave one",
        (capsys.readouterr().err),
    )


def test_one_result_is_not_scored_against_the_truths_of_others(tmp_path: Path, capsys) -> None:
    label = np.eye(12, dtype=np.uint8)
    write(tmp_path / "truth", a=label, b=label, c=label)
    result = write(tmp_path / "results", b_mask=label) / "b_mask.tif"
    words = ["--label-kind", "mask", "--metrics", "isbi", "--output", tmp_path / "t.json"]
    assert evaluate(result, tmp_path / "truth", *words) == 3
    said = capsys.readouterr().err
    assert "missing: a: no result for a in" in said
    assert "missing: c: no result for c in" in said
    rows = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))["rows"]
    assert [row["case"] for row in rows if row["row"] == "case"] == ["b"]
    assert evaluate(result.rename(tmp_path / "x.tif"), tmp_path / "truth", *words) == 2
    assert evaluate(tmp_path / "x.tif", tmp_path / "truth/b.tif", *words) == 0


def test_class_that_an_image_lacks(tmp_path: Path) -> None:
    write(tmp_path / "truth", a=np.uint8([[0, 1, 1, 2]]), b=np.uint8([[0, 1, 1, 255]]))
    write(tmp_path / "results", a=np.uint8([[0, 1, 2, 2]]), b=np.uint8([[0, 1, 1, 2]]))
    table = table_of(tmp_path, "--label-kind", "classes")
    dice = {key: row["Dice"] for key, row in table.items()}
    assert (dice["a", "1"], dice["a", "2"]) == pytest.approx((2 / 3, 2 / 3))
    assert (dice["b", "1"], dice["b", "2"], dice["b"]) == (1, None, 1)
    pooled = dice["pooled", "1"], dice["pooled", "2"], dice["pooled"]
    assert pooled == pytest.approx((6 / 7, 2 / 3, (6 / 7 + 2 / 3) / 2))
    means = dice["mean", "1"], dice["mean", "2"], dice["mean"]
    assert means == pytest.approx((5 / 6, 2 / 3, 3 / 4))


def test_a_class_of_255_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in maps of greys, of which the brightest class was passed over."""
    greys = np.kron([[0, 128, 128, 255], [0, 0, 255, 255]], np.ones((8, 8))).astype(np.uint8)
    write(tmp_path / "truth", a=greys, b=greys)
    write(tmp_path / "results", a=greys % 255, b=greys % 255)
    words = [tmp_path / "results", tmp_path / "truth", "--label-kind", "classes"]
    assert evaluate(*words) == 2
    assert "label a.tif holds 255 beside 128, as greys" in capsys.readouterr().err
    assert evaluate(*words, "--unknown", "255") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--metrics", "ctc", "--label-kind", "mask"),
            "ctc does not fit labels that are mask: use isbi",
        ),
        (("--metrics", "isbi", "--label-kind", "classes"), "isbi does not fit .* leave it out, or"),
        (("--tolerance", "2"), "--tolerance has no effect on the scores of isbi: leave it out"),
        (("--class-names", "a"), "--class-names has no effect on the scores of isbi"),
        (("--metrics", "clinical", "--tolerance", "-1"), "--tolerance -1.0: give a distance"),
        (("--long", "t.xls"), r"--long t\.xls ends in '\.xls': name a \.json or \.csv file"),
        (("--output", "t.txt"), r"t\.txt ends in '\.txt': name a \.json or \.csv file"),
        (("--long", f"{__file__}/t.csv"), r"--long .*test_evaluate\.py is a file; choose another"),
    ],
)
def test_refuses(tmp_path: Path, capsys, words, message) -> None:
    label = np.eye(6, dtype=np.uint8)
    folders = write(tmp_path / "results", a=label), write(tmp_path / "truth", a=label)
    assert evaluate(*folders, *words) == 2
    assert re.search(message, capsys.readouterr().err)


# --- truths as they come


def all_of(tmp_path: Path, *words: Any) -> dict[str, float]:
    return table_of(tmp_path, *words)["pooled"]


def volume(rng, objects: int) -> np.ndarray:
    """64 voxels a side, in cubes of 16 with numbers up to `objects`."""
    return np.kron(rng.integers(0, objects, (4, 4, 4)), np.ones((16, 16, 16), int))


def test_large_numbers_score_as_small_ones(tmp_path: Path, rng) -> None:
    truth = volume(rng, 40)
    found = np.roll(truth, 3, axis=0)
    for folder in ("results", "truth", "small"):
        (tmp_path / folder).mkdir()
    rename = np.append(0, 2**40 - rng.permutation(2**20)[:39] * 2**19)
    np.save(tmp_path / "truth/v.npy", rename[truth])
    np.save(tmp_path / "small/v.npy", truth)
    np.save(tmp_path / "results/v_instances.npy", found)
    started = time.perf_counter()
    scores = all_of(tmp_path)
    assert time.perf_counter() - started < 20
    assert scores["SEG"] == metrics.seg(found, truth)
    assert scores["DET"] == metrics.det(found, truth)


def test_large_numbers_are_no_classes(tmp_path: Path, rng, capsys) -> None:
    for folder in ("results", "truth"):
        (tmp_path / folder).mkdir()
    many = np.kron(np.arange(512).reshape(8, 8, 8), np.ones((8, 8, 8), int))
    np.save(tmp_path / "truth/v.npy", 2**40 - many)
    np.save(tmp_path / "results/v_mask.npy", volume(rng, 4))
    words = (tmp_path / "results", tmp_path / "truth", "--label-kind", "classes")
    assert evaluate(*words) == 2
    assert "more than 256 values, too many to be classes: use --label-kind instances" in (
        capsys.readouterr().err
    )


def test_dice_has_a_row_for_each_value(tmp_path: Path) -> None:
    truth = np.array([[0, 1, 1, 40_000_000]], np.uint32)
    write(tmp_path / "truth", a=truth)
    write(tmp_path / "results", a=np.array([[0, 1, 4, 4]], np.uint32))
    table = table_of(tmp_path, "--label-kind", "classes")
    dice = {label: table["a", label]["Dice"] for label in ("1", "4", "40000000")}
    assert dice == pytest.approx({"1": 2 / 3, "4": 0, "40000000": 0})
    assert table["a"]["Dice"] == pytest.approx(2 / 9)


def test_a_truth_named_mask_finds_the_instances(tmp_path: Path, cells) -> None:
    found, truth = cells
    for k, frame in enumerate(truth):
        (tmp_path / f"truth/f{k}.tif").rename(tmp_path / f"truth/f{k}_mask.tif")
        tifffile.imwrite(tmp_path / f"results/f{k}_mask.tif", (frame > 0).astype(np.uint8))
    scores = all_of(tmp_path, "--label-kind", "instances")
    assert scores["SEG"] == metrics.seg(found, truth)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (
            np.eye(36, 12, dtype=np.uint8).reshape(3, 12, 12),
            r"label a\.tif has 3 channels, a label has one",
        ),
        (np.full((12, 12), 0.4, np.float32), r"label a\.tif holds the value 0\.4: labels are"),
        (np.arange(144, dtype=np.uint8).reshape(12, 12), r"label a\.tif looks like a picture"),
    ],
)
def test_refuses_truths_that_train_refuses(tmp_path: Path, capsys, truth, message) -> None:
    write(tmp_path / "truth", a=truth)
    write(tmp_path / "results", a=np.eye(12, dtype=np.uint8))
    assert evaluate(tmp_path / "results", tmp_path / "truth", "--label-kind", "instances") == 2
    assert re.search(message, capsys.readouterr().err)


def test_scaled_classes_are_rounded(tmp_path: Path) -> None:
    write(tmp_path / "truth", a=np.array([[0, 0.99997, 2.0003]], np.float32))
    write(tmp_path / "results", a=np.array([[0, 1, 2]], np.uint8))
    assert all_of(tmp_path, "--label-kind", "classes")["Dice"] == 1


def test_a_movie_is_scored_as_it_was_read(tmp_path: Path, capsys) -> None:
    movie = np.random.default_rng(0).integers(0, 2, (3, 8, 9)).astype(np.uint8)
    (tmp_path / "truth").mkdir()
    tifffile.imwrite(tmp_path / "truth/m.tif", movie, imagej=True, metadata={"axes": "TYX"})
    one = write(tmp_path / "one", m_mask=movie[2])
    all_planes = tmp_path / "all"
    all_planes.mkdir()
    tifffile.imwrite(all_planes / "m_mask.tif", movie, photometric="minisblack")
    for results, words in ((one, ["--time", 2]), (all_planes, ["--axes", "ZYX"])):
        assert evaluate(results, tmp_path / "truth", "--label-kind", "mask", *words) == 0
        assert re.search(r"^m +1\.0000", capsys.readouterr().out, re.MULTILINE)
    assert evaluate(one, tmp_path / "truth", "--label-kind", "mask", "--time", 1) == 0
    assert not re.search(r"^m +1\.0000", capsys.readouterr().out, re.MULTILINE)
    assert evaluate(one, tmp_path / "truth") == 2
    assert "take one of T with --time 0" in capsys.readouterr().err
    (one / "record.json").write_text(json.dumps({"settings": {"choice": {"time": 2}}}))
    assert evaluate(one, tmp_path / "truth", "--label-kind", "mask") == 0  # as it was segmented
    assert re.search(r"^m +1\.0000 +1\.0000 +0\.0000", capsys.readouterr().out, re.MULTILINE)


def test_truths_with_an_ending_find_the_results_of_their_kind(tmp_path: Path, cells) -> None:
    expected = table_of(tmp_path, "--label-kind", "instances")
    assert expected["pooled"]["AP50"] > 0
    for file in list((tmp_path / "truth").iterdir()):
        file.rename(file.with_name(f"{file.stem}_mask.tif"))
    for i, frame in enumerate(cells[0]):  # of the name that a truth now has
        tifffile.imwrite(tmp_path / "results" / f"f{i}_mask.tif", np.zeros_like(frame))
    assert table_of(tmp_path, "--label-kind", "instances") == expected


@pytest.mark.parametrize(("kind", "times"), [("instances", 3), ("classes", 4), ("mask", 4)])
def test_files_are_opened_as_seldom_as_can_be(
    tmp_path: Path, cells, kind: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A truth to see what it holds, and each file to score it; a header where truths lack sizes."""
    for file in list((tmp_path / "results").iterdir()):
        shutil.copy(file, file.with_name(file.name.replace("instances", "mask")))
    opened: list[str] = []
    usual = AutoReader.open

    def counted(reader: AutoReader, path: Path, **options: Any) -> Volume:
        opened.append(path.name)
        return usual(reader, path, **options)

    monkeypatch.setattr(AutoReader, "open", counted)
    assert len(table_of(tmp_path, "--label-kind", kind)) > 3
    assert len(opened) == 3 * times


def test_of_several_labels_of_an_image_one_is_the_truth(tmp_path: Path, cells, capsys) -> None:
    """As in a folder of results that somebody corrected; each is of another kind."""
    write(tmp_path / "masks", **{f"f{k}": np.uint8(label > 0) for k, label in enumerate(cells[1])})
    for k, found in enumerate(cells[0]):
        for kind, array in (
            ("mask", np.uint8(found > 0)),
            ("probabilities", np.float32(found > 0)),
        ):
            tifffile.imwrite(tmp_path / f"results/f{k}_{kind}.tif", array)
    objects = table_of(tmp_path, "--label-kind", "instances")
    assert evaluate(tmp_path / "results", tmp_path / "masks", "--output", tmp_path / "m.json") == 0
    for k in range(3):
        truth = tmp_path / f"truth/f{k}.tif"
        truth.rename(truth.with_name(f"f{k}_instances.tif"))
        shutil.copy(tmp_path / f"masks/f{k}.tif", truth.with_name(f"f{k}_mask.tif"))
        shutil.copy(tmp_path / f"results/f{k}_probabilities.tif", truth.parent)
    capsys.readouterr()
    assert table_of(tmp_path) == objects
    said = "truth: f0_instances, f1_instances, f2_instances, of several labels each; --label-kind"
    assert said in capsys.readouterr().out
    assert table_of(tmp_path, "--label-kind", "mask") == rows_of(tmp_path / "m.json")
    assert table_of(tmp_path, "--metrics", "clinical") != objects
    shutil.copy(tmp_path / "masks/f1.tif", tmp_path / "truth/f1_cp_masks.tif")
    assert table_of(tmp_path, "--metrics", "ctc").keys() == objects.keys()
    assert evaluate(tmp_path / "results", tmp_path / "truth", "--label-kind", "mask") == 2
    assert "holds 3 labels of f1: f1_cp_masks, f1_instances, f1_mask; leave one" in (
        capsys.readouterr().err
    )


def test_results_of_cases_of_one_channel_and_in_another_unicode_form(tmp_path: Path, rng) -> None:
    first, second = rng.integers(0, 2, (2, 12, 14)).astype(np.uint8)
    write(tmp_path / "truth", **{"X_1": first, "\u00fc": second})
    write(tmp_path / "results", **{"X_1_0000_mask": first, "u\u0308_mask": second})
    assert table_of(tmp_path, "--label-kind", "classes")["pooled", "1"]["Dice"] == 1.0


def test_the_truth_may_be_a_data_list(tmp_path: Path, rng, capsys) -> None:
    images, labels = rng.integers(0, 9, (3, 12, 14)), rng.integers(0, 2, (3, 12, 14))
    write(tmp_path / "i", **{f"a{k}": image.astype(np.uint8) for k, image in enumerate(images)})
    write(tmp_path / "l", **{f"b{k}": label.astype(np.uint8) for k, label in enumerate(labels)})
    write(tmp_path / "r", a0_mask=labels[0].astype(np.uint8), a1_mask=labels[1].astype(np.uint8))
    items = [{"image": f"i/a{k}.tif", "label": f"l/b{k}.tif"} for k in range(3)]
    listing = {"training": items[:2], "test": items[2:]}
    (tmp_path / "list.json").write_text(json.dumps(listing))
    words = ["--label-kind", "classes", "--output", tmp_path / "t.json"]
    assert evaluate(tmp_path / "r", tmp_path / "list.json", *words) == 0
    assert "truth: the labels of 'training' of list.json" in capsys.readouterr().out
    table = rows_of(tmp_path / "t.json")
    assert table["a0", "1"]["Dice"] == table["a1", "1"]["Dice"] == 1.0
    (tmp_path / "list.json").write_text(json.dumps({"test": ["i/a0.tif"]}))
    assert evaluate(tmp_path / "r", tmp_path / "list.json") == 2
    assert "list.json names no labels" in capsys.readouterr().err


def test_the_docs_say_what_each_score_is() -> None:
    page = Path(__file__).parents[1] / "docs/how-to/score-results.md"
    lines = [f"| `{name}` | {text} |" for name, text in explained([*MEANINGS])]
    assert len(lines) == len(MEANINGS)
    assert "\n".join(lines) in page.read_text(encoding="utf-8")
    columns = [*scores.ISBI, *scores.CTC, *scores.AP, *Clinical("mm", 3).columns]
    columns += [*scores.INSTANCES, *Clinical("px", 2, tolerance=2).columns]
    assert [name for name, _ in explained(columns)] == columns
