"""`unet-med evaluate --metrics clinical`: units, rows, names, pairs, cases that fail."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile

from unet_med import metrics
from unet_med.cli import main
from unet_med.data.class_names import listed_names, told_names
from unet_med.metrics.bootstrap import bootstrap_interval, mean_interval
from unet_med.metrics.surface import Surfaces
from unet_med.report.table import ScoreRow, read_scores
from unet_med.scoring.clinical import Clinical
from unet_med.scoring.scores import Column
from unet_med.scoring.tables import Classes, score_table

SIZES = (0.8, 1.5, 3.0)
Key = tuple[str, str, str]


def nifti(path: Path, array: np.ndarray, unit: str = "mm", sizes: Any = SIZES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array.astype(np.uint8), np.diag([*sizes, 1.0]))
    image.header.set_xyzt_units({"mm": "mm", "um": "micron"}[unit])
    nib.save(image, path)
    return path


def organs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Result and truth `(X, Y, Z)` of two boxes, 1 and 2, moved against each other."""
    rng = np.random.default_rng(seed)
    truth, found = np.zeros((2, 20, 18, 7), np.uint8)
    for value, start in ((1, 2), (2, 11)):
        side = rng.integers(4, 7, 3) - (0, 0, 2)
        step = rng.integers(0, 2, 3)
        at = np.array([start, 3, 1])
        truth[tuple(map(slice, at, at + side))] = value
        found[tuple(map(slice, at + step, at + step + side))] = value
    return found, truth


@pytest.fixture
def cohort(tmp_path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Three cases; one is called `all`, one lacks the second organ in both files.

    So few boxes may be objects as well as organs: the record of the results decides.
    """
    cases = {name: organs(seed) for seed, name in enumerate(("all", "b", "c"))}
    for label in cases["c"]:
        label[label == 2] = 0
    for name, (found, truth) in cases.items():
        nifti(tmp_path / f"results/{name}_mask.nii.gz", found)
        nifti(tmp_path / f"truth/{name}.nii.gz", truth)
    record = {"settings": {"label_kind": "classes"}}
    (tmp_path / "results/record.json").write_text(json.dumps(record), encoding="utf-8")
    return cases


def evaluate(*words: Any) -> int:
    return main(["evaluate", *map(str, words)])


def rows(file: Path) -> dict[Key, dict[str, Any]]:
    table = json.loads(file.read_text(encoding="utf-8"))
    found = {(row["row"], row["case"], row["class"]): row for row in table["rows"]}
    assert len(found) == len(table["rows"])
    return found


def mean_of_known(values: np.ndarray) -> float:
    return np.nan if np.isnan(values).all() else float(np.nanmean(values))


def expected(found: np.ndarray, true: np.ndarray, tolerance: float = 1) -> dict[str, float]:
    ml = math.prod(SIZES) / 1000
    return {
        "Dice": metrics.dice(found, true),
        "HD95 mm": metrics.hd95(found, true, SIZES),
        "ASSD mm": metrics.assd(found, true, SIZES),
        f"NSD {tolerance:g} mm": metrics.nsd(found, true, SIZES, tolerance=tolerance),
        "volume ml": found.sum() * ml,
        "true volume ml": true.sum() * ml,
        "relative volume error": found.sum() / true.sum() - 1,
    }


def test_a_row_a_case_and_class(tmp_path: Path, cohort: Any) -> None:
    words = ["--output", tmp_path / "s.json", "--long", tmp_path / "l.csv", "--tolerance", 2]
    assert evaluate(tmp_path / "results", tmp_path / "truth", *words) == 0
    table = rows(tmp_path / "s.json")
    columns = list(expected(*(np.ones((2, 2, 2)),) * 2, tolerance=2))
    of_cases: dict[str, list[dict[str, Any]]] = {"1": [], "2": []}
    for name, (found, truth) in cohort.items():
        for label in "12":
            row = {c: table["case", name, label][c] for c in columns}
            if (name, label) == ("c", "2"):
                assert row == {c: 0.0 if "ml" in c else None for c in columns}
            else:
                own = expected(found == int(label), truth == int(label), 2)
                assert row == pytest.approx(own, abs=1e-6)
            of_cases[label].append(row)
        means = table["case mean", name, ""]
        both = [d["Dice"] for d in (of_cases["1"][-1], of_cases["2"][-1]) if d["Dice"] is not None]
        assert means["Dice"] == pytest.approx(np.mean(both))
        assert means["volume ml"] is None
    for label, scores in of_cases.items():
        for column in columns:
            values = [np.nan if row[column] is None else row[column] for row in scores]
            assert table["mean", "", label][column] == pytest.approx(np.nanmean(values))
        pairs = [(f == int(label), t == int(label)) for f, t in cohort.values()]
        flat = [np.concatenate([p[i].ravel() for p in pairs]) for i in (0, 1)]
        assert table["pooled", "", label]["Dice"] == pytest.approx(metrics.dice(*flat))
        assert table["pooled", "", label]["HD95 mm"] is None
    with (tmp_path / "l.csv").open(newline="") as file:
        long = list(csv.DictReader(file))
    assert list(long[0]) == ["case", "class", "metric", "value"]
    assert len(long) == 3 * 2 * len(columns)
    for line in long:
        value = table["case", line["case"], line["class"]][line["metric"]]
        assert (float(line["value"]) if line["value"] else None) == value


@pytest.mark.parametrize("values", [(1, 2, 3, 4), (1, 2, 3, 70_000)])
def test_a_class_counts_in_its_box_as_in_the_whole_image(values: tuple[int, ...]) -> None:
    """One object at an edge, one of a single slice, one moved, and one that was not found."""
    truth = np.zeros((2, 24, 20, 9), np.int32)
    found = truth[0]
    truth[:, :4, :5, :3] = values[0]
    truth[:, 8:13, 2:9, 4] = values[1]
    truth[1, 15:20, 3:9, 2:6] = found[16:22, 5:9, 2:6] = values[2]
    truth[1, 6:8, 14:18, 7:] = values[3]
    rules = Clinical("mm", 3)
    counted = rules.count(found, truth[1], SIZES)
    assert list(counted) == list(values)
    for value, rows in counted.items():
        masks = found == value, truth[1] == value
        whole = Surfaces.between(*masks, SIZES)
        both, one, other = (int(m.sum()) for m in (masks[0] & masks[1], *masks))
        assert rows["Dice"].tolist() == [[both, one, other]]
        names = ("HD95 mm", "ASSD mm", "NSD 1 mm")
        expected = (whole.hd95(), whole.assd(), whole.nsd(1.0))
        np.testing.assert_allclose([rows[n][0, 0] for n in names], expected, rtol=1e-12)


def test_printed(tmp_path: Path, cohort: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        evaluate(
            tmp_path / "results", tmp_path / "truth", "--class-names", "liver", "2=left kidney"
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("class")
    first = next(line for line in lines if line.startswith("c "))
    assert first.endswith("  liver")
    assert len(first) == len(lines[1]) or lines[1].index("class") == first.index("liver")
    assert [line.split()[0] for line in lines if "mean of classes" in line] == [
        "all", "b", "c", "mean", "pooled",
    ]  # fmt: skip
    assert lines[-1].startswith("too few images for an interval")


def test_a_missing_and_a_broken_result_are_rows(
    tmp_path: Path, cohort: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are scored; the table is there; exit status 3."""
    for name in "de":
        nifti(tmp_path / f"truth/{name}.nii.gz", organs(7)[1])
    nifti(tmp_path / "results/e_mask.nii.gz", organs(7)[0], sizes=(0.8, 1.5, 2.0))
    whole = tmp_path / "results/b_mask.nii.gz"
    whole.write_bytes(whole.read_bytes()[:100])
    words = ["--output", tmp_path / "s.csv", "--long", tmp_path / "l.json"]
    assert evaluate(tmp_path / "results", tmp_path / "truth", *words) == 3
    said = capsys.readouterr()
    table = read_scores(tmp_path / "s.csv")
    left = {row.case: row for row in table.left}
    assert {case: row.row for case, row in left.items()} == {
        "b": "failed", "d": "missing", "e": "failed",
    }  # fmt: skip
    assert "b_mask.nii.gz" in left["b"].note
    assert "no result for d in" in left["d"].note
    assert "does not lie on the grid of its truth e.nii.gz: voxel size" in left["e"].note
    for case, row in left.items():
        assert f"unet-med: {row.row}: {case}: {row.note}" in said.err
        assert re.search(rf"^{case} +{row.row}: ", said.out, re.MULTILINE)
    assert {row.case for row in table.of("case")} == {"all", "c"}
    assert "as many groups of them; 3 of 5 not scored" in said.out
    long = json.loads((tmp_path / "l.json").read_text())
    assert {"case": "d", "class": "", "metric": "missing", "value": 1} in long
    (tmp_path / "results/record.json").unlink()
    assert main(["report", str(tmp_path / "results"), "--truth", str(tmp_path / "truth")]) == 2


def test_results_without_a_truth_are_said(tmp_path: Path, cohort: Any, capsys: Any) -> None:
    """A truth that was forgotten, or lies elsewhere, left a score of the others alone."""
    for name in ("c", "all"):
        nifti(tmp_path / f"results/{name}_instances.nii.gz", cohort[name][0])
    assert evaluate(tmp_path / "results", tmp_path / "truth") == 0
    assert "no truth" not in capsys.readouterr().out
    (tmp_path / "truth/c.nii.gz").unlink()
    (tmp_path / "truth/all.nii.gz").rename(tmp_path / "truth/d.nii.gz")
    assert evaluate(tmp_path / "results", tmp_path / "truth") == 3
    said = capsys.readouterr()
    assert "2 result(s) have no truth, and no score, such as all\n" in said.out
    (tmp_path / "results/b_mask.nii.gz").write_bytes(b"no image")  # whose truth is there
    (tmp_path / "truth/d.nii.gz").rename(tmp_path / "truth/all.nii.gz")
    assert evaluate(tmp_path / "results", tmp_path / "truth") == 3
    assert "1 result(s) have no truth, and no score, such as c\n" in capsys.readouterr().out
    assert evaluate(tmp_path / "results/all_mask.nii.gz", tmp_path / "truth/all.nii.gz") == 0
    assert "no truth" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--label-kind", "classes"]], ids=["record", "told"])
def test_a_damaged_truth_is_a_row(
    tmp_path: Path, cohort: Any, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = tmp_path / "results", tmp_path / "truth"
    assert evaluate(*folders, *words, "--output", tmp_path / "whole.json") == 0
    for name in ("all", "b"):
        file = tmp_path / f"truth/{name}.nii.gz"
        file.write_bytes(file.read_bytes()[:100])
    assert evaluate(*folders, *words, "--output", tmp_path / "s.json") == 3
    whole, table = rows(tmp_path / "whole.json"), rows(tmp_path / "s.json")
    for name in ("all", "b"):
        assert "cannot read" in table["failed", name, ""]["note"]
    assert table["case", "c", "1"] == whole["case", "c", "1"]
    capsys.readouterr()
    file = tmp_path / "truth/c.nii.gz"
    file.write_bytes(file.read_bytes()[:100])
    assert evaluate(*folders, *words) == 2
    assert "truth/all.nii.gz as NIfTI" in capsys.readouterr().err


def test_nothing_to_score_is_an_error(tmp_path: Path, cohort: Any, capsys: Any) -> None:
    for file in (tmp_path / "results").iterdir():
        file.rename(file.with_name(f"x{file.name}"))
    words = ["--label-kind", "classes", "--output", tmp_path / "s.csv"]
    assert evaluate(tmp_path / "results", tmp_path / "truth", *words) == 2
    assert "no result for all in" in capsys.readouterr().err
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize("words", [[], ["--class-names", "liver", "spleen"]])
def test_names_say_that_values_are_classes(
    tmp_path: Path, cohort: Any, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results/record.json").unlink()
    found = evaluate(tmp_path / "results", tmp_path / "truth", *words)
    assert found == (0 if words else 2)
    assert ("say --label-kind classes or" in capsys.readouterr().err) == (not words)


def test_the_record_says_what_truths_of_one_class_are(tmp_path: Path, capsys: Any) -> None:
    """The result takes half of the liver for spleen, which no truth holds."""
    truth = np.zeros((12, 10, 6), np.uint8)
    truth[2:10, 2:8, 1:5] = 1
    found = truth.copy()
    found[6:10] *= 2
    for unit, size in (("mm", SIZES), ("um", (1, 1, 1))):
        nifti(tmp_path / f"{unit}/r/a_mask.nii.gz", found, unit, size)
        nifti(tmp_path / f"{unit}/t/a.nii.gz", truth, unit, size)
        folders = tmp_path / unit / "r", tmp_path / unit / "t", "--output", tmp_path / "s.json"
        assert evaluate(*folders) == 2
        said = capsys.readouterr().err
        assert "a_mask.nii.gz holds 2 values above 0, and the truths look like masks: say" in said
        assert evaluate(*folders, "--label-kind", "mask") == 0
        if unit == "mm":  # of others, two values that touch have a border
            assert {row["Dice"] for row in rows(tmp_path / "s.json").values()} == {1}
        for k, words in enumerate(([], ["--class-names", "liver", "spleen"])):
            record = {"settings": {"label_kind": "classes", "class_names": ["liver", "spleen"]}}
            content = "{}" if k else json.dumps(record)
            (tmp_path / unit / "r/record.json").write_text(content, encoding="utf-8")
            assert evaluate(*folders, *words) == 0
            table = rows(tmp_path / "s.json")
            assert table["case", "a", "liver"]["Dice"] == pytest.approx(2 / 3)
            assert table["case", "a", "spleen"]["Dice"] == 0


def test_numbers_of_many_objects_are_no_classes_of_the_results(tmp_path: Path, capsys: Any) -> None:
    """The record of the results says classes, and the truths hold a number for each object."""
    truth = np.kron(np.arange(36).reshape(6, 6), np.ones((5, 5), int))
    nifti(tmp_path / "r/a_mask.nii.gz", truth > 0)
    nifti(tmp_path / "t/a.nii.gz", truth)
    record = {"settings": {"label_kind": "classes"}}
    (tmp_path / "r/record.json").write_text(json.dumps(record), encoding="utf-8")
    assert evaluate(tmp_path / "r", tmp_path / "t") == 2
    assert "hold 35 values besides 0, and the results are classes, as" in capsys.readouterr().err


def test_one_side_empty(tmp_path: Path) -> None:
    found, truth = organs(0)
    nifti(tmp_path / "r/a_mask.nii.gz", np.where(found == 2, 0, found))
    nifti(tmp_path / "t/a.nii.gz", truth)
    assert (
        evaluate(
            tmp_path / "r",
            tmp_path / "t",
            "--label-kind",
            "classes",
            "--output",
            tmp_path / "s.json",
        )
        == 0
    )
    row = rows(tmp_path / "s.json")["case", "a", "2"]
    diagonal = np.linalg.norm(np.multiply(SIZES, truth.shape))
    assert row["HD95 mm"] == row["ASSD mm"] == pytest.approx(diagonal, rel=1e-6)
    assert (row["Dice"], row["NSD 1 mm"], row["volume ml"]) == (0, 0, 0)
    assert row["relative volume error"] == -1


@pytest.mark.parametrize(("unit", "column"), [("mm", "HD95 mm"), ("um", "IoU")])
def test_masks_are_clinical_where_files_state_millimetres(
    tmp_path: Path, unit: str, column: str
) -> None:
    found, truth = (label > 0 for label in organs(1))
    nifti(tmp_path / "r/a_mask.nii.gz", found, unit)
    nifti(tmp_path / "t/a.nii.gz", truth, unit)
    output = ["--output", tmp_path / "s.json"]
    assert evaluate(tmp_path / "r", tmp_path / "t", *output) == 0
    columns = json.loads((tmp_path / "s.json").read_text())["columns"]
    assert columns[:2] == ["Dice", column]
    assert evaluate(tmp_path / "r", tmp_path / "t", "--metrics", "clinical", *output) == 0
    row = rows(tmp_path / "s.json")["case", "a", "foreground"]
    assert row[f"HD95 {unit}"] == pytest.approx(metrics.hd95(found, truth, SIZES), rel=1e-6)
    size = {"mm": "volume ml", "um": "volume um^3"}[unit]
    factor = {"mm": 1e-3, "um": 1}[unit]
    assert row[size] == pytest.approx(found.sum() * math.prod(SIZES) * factor, rel=1e-6)


def test_planes_of_a_microscope(tmp_path: Path) -> None:
    """TIFF states micrometres, and a PNG truth takes them from the result; 255 does not count.

    Neither does the lower edge, which lies where nobody annotated, nor a part of an area.
    """
    from PIL import Image

    truth = np.zeros((20, 30), np.uint8)
    truth[4:12, 5:20], truth[12:14] = 1, 255
    found = np.zeros_like(truth)
    found[4:14, 8:20] = 1
    for folder in ("r", "t"):
        (tmp_path / folder).mkdir()
    resolution = {"resolution": (2, 4), "metadata": {"unit": "um"}}
    tifffile.imwrite(tmp_path / "r/a_mask.tif", found, imagej=True, **resolution)
    Image.fromarray(truth).save(tmp_path / "t/a.png")
    words = ["--label-kind", "classes", "--output", tmp_path / "s.json"]
    assert evaluate(tmp_path / "r", tmp_path / "t", *words) == 0
    row = rows(tmp_path / "s.json")["case", "a", "1"]
    true = truth == 1
    seen = (found == 1) & (truth != 255)
    assert row["Dice"] == pytest.approx(metrics.dice(seen, true))
    assert row["HD95 um"] == pytest.approx(3 * 0.5)  # the left edge, of 8 rows
    assert row["NSD 1 um"] == pytest.approx(1 - 2 * 8 * 0.25 / (11.5 + 10.0), abs=0.05)
    assert (row["area um^2"], row["true area um^2"]) == (None, None)
    assert row["relative area error"] == pytest.approx(seen.sum() / true.sum() - 1)


def test_planes_and_volumes_are_scored_apart(tmp_path: Path, capsys: Any) -> None:
    found, truth = organs(0)
    for name, z in (("a", slice(None)), ("b", 2)):
        nifti(tmp_path / f"r/{name}_mask.nii.gz", found[..., z])
        nifti(tmp_path / f"t/{name}.nii.gz", truth[..., z])
    assert evaluate(tmp_path / "r", tmp_path / "t", "--label-kind", "classes") == 3
    said = capsys.readouterr().err
    assert "truth b.nii.gz is a plane, and the first one a volume: score them apart" in said


TURN = np.array([[0.8, -0.6, 0.0], [0.36, 0.48, -0.8], [0.48, 0.64, 0.6]])  # a rotation


def askew(tilt: float = 0.0) -> np.ndarray:
    """Voxel to world, mm, of slices turned in space, and shifted sideways by a gantry's tilt."""
    affine = np.eye(4)
    affine[:3, :3] = TURN * SIZES
    affine[:3, 2] += TURN[:, 1] * SIZES[2] * math.tan(math.radians(tilt))
    return affine


def test_a_truth_without_place_has_the_voxels_of_its_result(tmp_path: Path) -> None:
    """A label written without an affine says 1 mm; its result lies askew, in voxels of its own."""
    found, truth = organs(0)
    (tmp_path / "r").mkdir()
    (tmp_path / "t").mkdir()
    image = nib.Nifti1Image(found, askew())
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "r/a_mask.nii.gz")
    nib.save(nib.Nifti1Image(truth, None), tmp_path / "t/a.nii.gz")
    words = ["--label-kind", "classes", "--output", tmp_path / "s.json"]
    assert evaluate(tmp_path / "r", tmp_path / "t", *words) == 0
    table = rows(tmp_path / "s.json")
    for label in "12":
        row = table["case", "a", label]
        own = expected(found == int(label), truth == int(label))
        assert {c: row[c] for c in own} == pytest.approx(own, abs=1e-5)
        pixel = abs(np.linalg.det(image.affine[:3, :3])) / 1000
        assert row["true volume ml"] == pytest.approx((truth == int(label)).sum() * pixel)


@pytest.mark.parametrize("command", ["evaluate", "measure"])
def test_voxels_that_are_no_boxes_have_no_sizes(command: str, tmp_path: Path, capsys: Any) -> None:
    found, truth = organs(0)
    for folder, name, label in (("r", "a_mask", found), ("t", "a", truth)):
        (tmp_path / folder).mkdir()
        image = nib.Nifti1Image(label, askew(20))
        image.set_qform(None, code=0)  # which cannot say it
        nib.save(image, tmp_path / folder / f"{name}.nii.gz")
    truths = [tmp_path / "t", "--label-kind", "classes"] if command == "evaluate" else []
    assert main([command, *map(str, [tmp_path / "r", *truths])]) == 2
    assert "its axes y and z are at 70 degrees, as slices of a tilted" in capsys.readouterr().err


# --- names of cases and classes


@pytest.mark.parametrize("form", ["json", "csv", "semicolons"])
def test_pairs(tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, truth = organs(2)
    nifti(tmp_path / "out/x7_mask.nii.gz", found)
    nifti(tmp_path / "out/y_mask.nii.gz", found)
    nifti(tmp_path / "gold/patient 12.nii.gz", truth)
    pairs = [
        {"result": "out/x7_mask.nii.gz", "truth": "gold/patient 12.nii.gz"},
        {
            "result": "out/y_mask.nii.gz",
            "truth": str(tmp_path / "gold/patient 12.nii.gz"),
            "case": "12, b",
        },
        {"result": "out/gone.nii.gz", "truth": "gold/patient 12.nii.gz", "case": "gone"},
    ]
    file = tmp_path / f"pairs.{form.replace('semicolons', 'csv')}"
    if form == "json":
        file.write_text(json.dumps(pairs))
    else:
        with file.open("w", newline="") as opened:
            between = ";" if form == "semicolons" else ","  # where decimals have a comma
            writer = csv.DictWriter(opened, ["case", "result", "truth"], delimiter=between)
            writer.writeheader()
            writer.writerows(pairs)
    words = ["--label-kind", "classes", "--output", tmp_path / "s.json"]
    assert evaluate("--pairs", file, *words) == 3
    assert f"pairs of {file.name}" in capsys.readouterr().out
    table = rows(tmp_path / "s.json")
    for case in ("x7", "12, b"):
        assert table["case", case, "1"]["Dice"] == metrics.dice(found == 1, truth == 1)
    assert "gone.nii.gz" in table["missing", "gone", ""]["note"]
    about = json.loads((tmp_path / "s.json").read_text())["about"]
    assert about["truth"]["x7"]["file"] == str(tmp_path / "gold/patient 12.nii.gz")


def test_pairs_are_what_the_records_beside_their_results_say(tmp_path: Path, cohort: Any) -> None:
    """They know the kind and the names; a truth that is not there is a row."""
    settings = {"label_kind": "classes", "class_names": ["liver", "spleen"]}
    content = json.dumps({"settings": settings})
    (tmp_path / "results/record.json").write_text(content, encoding="utf-8")
    pairs = [
        {"result": f"../results/{name}_mask.nii.gz", "truth": f"../truth/{truth}.nii.gz"}
        for name, truth in (("all", "all"), ("b", "b"), ("c", "gone"))
    ]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/p.json").write_text(json.dumps(pairs))
    assert evaluate("--pairs", tmp_path / "lists/p.json", "--output", tmp_path / "s.json") == 3
    table = rows(tmp_path / "s.json")
    assert {name for row, _, name in table if row == "case"} == {"liver", "spleen"}
    assert "gone.nii.gz does not exist" in table["failed", "c", ""]["note"]
    about = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["about"]
    assert list(about["truth"]) == ["all", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"result": "a"}]', "does not name a result and a truth; each pair is"),
        ("{}", "is no list of"),
        ("[", "is no JSON"),
        ("[]", "holds no pairs"),
        (
            '[{"result": "a.tif", "truth": "b"}, {"result": "a_mask.tif", "truth": "b"}]',
            "two cases are called a",
        ),
    ],
)
def test_refuses_lists_of_pairs(tmp_path: Path, content: str, message: str, capsys: Any) -> None:
    (tmp_path / "p.json").write_text(content)
    assert evaluate("--pairs", tmp_path / "p.json") == 2
    assert message in capsys.readouterr().err


def test_a_folder_is_no_list_of_pairs(tmp_path: Path, capsys: Any) -> None:
    assert evaluate("--pairs", tmp_path) == 2
    assert f"--pairs {tmp_path} is a folder: name a list of pairs" in capsys.readouterr().err


def test_one_way_to_name_the_files(tmp_path: Path, capsys: Any) -> None:
    for words in ([], ["r"], ["r", "t", "--pairs", "p.json"], ["r", "--pairs", "p.json"]):
        assert evaluate(*words) == 2
        assert "name RESULTS and TRUTH, or --pairs FILE with both" in capsys.readouterr().err


def test_names_of_classes(tmp_path: Path, cohort: Any, capsys: Any) -> None:
    items = [{"image": f"{c}.nii.gz", "label": f"truth/{c}.nii.gz"} for c in cohort]
    labels = {"background": 0, "liver": 1, "spleen": 2, "both": [1, 2], "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "training": items}))
    output = ["--output", tmp_path / "s.json"]
    for words in (
        [tmp_path / "dataset.json"],
        [tmp_path / "truth", "--class-names", tmp_path / "dataset.json"],
        [tmp_path / "truth", "--class-names", "liver", "spleen"],
    ):
        assert evaluate(tmp_path / "results", *words, *output) == 0
        table = rows(tmp_path / "s.json")
        found, truth = cohort["b"]
        assert table["case", "b", "spleen"]["Dice"] == metrics.dice(found == 2, truth == 2)
        assert {label for _, _, label in table} == {"liver", "spleen", ""}
    settings = {"class_names": ["liver", "spleen"], "class_values": None}  # of a prediction
    (tmp_path / "results/record.json").write_text(json.dumps({"settings": settings}))
    assert evaluate(tmp_path / "results", tmp_path / "truth", *output) == 0
    assert ("case", "b", "spleen") in rows(tmp_path / "s.json")
    capsys.readouterr()
    assert evaluate(tmp_path / "results", tmp_path / "truth", "--class-names", "liver") == 3
    said = capsys.readouterr().err
    assert "the value 2 of b.nii.gz or its result has no name: the classes are 1=liver" in said


def test_names_of_truths_and_results_are_of_the_same_values(
    tmp_path: Path, cohort: Any, capsys: Any
) -> None:
    """The livers of one were scored against the spleens of the other, under one name."""
    settings = {"class_names": ["liver", "spleen"], "class_values": None}
    (tmp_path / "results/record.json").write_text(json.dumps({"settings": settings}))
    list_file, words = tmp_path / "dataset.json", (tmp_path / "results", tmp_path / "truth")
    list_file.write_text(json.dumps({"labels": {"Spleen": 1, "Liver": 2}}))
    assert evaluate(*words) == 2
    said = capsys.readouterr().err
    assert "Spleen is the class 1 of dataset.json, and 2 of the results, as their record" in said
    assert "number the classes alike, or say --class-names" in said
    assert evaluate(*words, "--class-names", "liver", "spleen") == 0
    list_file.write_text(json.dumps({"labels": {"hepar": 1, "Spleen": 2}}))
    assert evaluate(*words, "--output", tmp_path / "s.json") == 0
    assert {label for _, _, label in rows(tmp_path / "s.json")} == {"hepar", "Spleen", ""}


def test_told_names() -> None:
    assert told_names(["3=a=b", "tumour core"]) == {3: "a=b", 2: "tumour core"}
    for words, message in (
        (["a", "1=b"], "two names for the value 1"),
        (["a", "a"], "both called a"),
        (["1="], "choose one that is not empty"),
    ):
        with pytest.raises(ValueError, match=message):
            told_names(words)


def test_names_of_the_decathlon(tmp_path: Path) -> None:
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps({"labels": {"0": "background", "2": "edema ", "255": "ignored"}}))
    assert listed_names(file) == {2: "edema"}
    file.write_text(json.dumps({"labels": ["a", "b"]}))
    assert listed_names(file) == {}
    with pytest.raises(ValueError, match="names no classes under 'labels'"):
        told_names([str(file)])


# --- the table


@pytest.mark.parametrize("place", [".", "a.nii.gz"])
def test_what_the_list_beside_a_folder_ignores_counts_nowhere(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of nnU-Net's `dataset.json`, as a training on its folders has it."""
    found, truth = organs(0)
    truth[:2] = 3  # whatever is found there
    found[0] = 1
    nifti(tmp_path / "results/a.nii.gz", found)
    nifti(tmp_path / "labelsTs/a.nii.gz", truth)
    labels = {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    monkeypatch.chdir(tmp_path / "labelsTs")
    assert evaluate("../results", place, "--output", "../s.json") == 0
    table = rows(tmp_path / "s.json")
    assert {key[2] for key in table if key[0] == "case"} == {"liver", "spleen"}
    known = truth != 3
    for value, name in ((1, "liver"), (2, "spleen")):
        dice = metrics.dice((found == value) & known, truth == value)
        assert table["case", "a", name]["Dice"] == pytest.approx(dice)


def test_cases_are_counted_one_at_a_time() -> None:
    alive: list[str] = []

    def cases():
        for name in "abc":
            alive.append(name)
            yield name, {0: {"x": np.array([[1.0]])}}
            alive.remove(name)

    table = score_table(cases(), {"x": Column(lambda rows: float(rows.mean()))})
    assert [row.case for row in table.of("case")] == ["a", "b", "c"]
    assert alive == []


def test_a_table_of_failures_alone_has_no_means() -> None:
    left = [(name, ScoreRow("missing", name)) for name in "ab"]
    assert [row.row for row in score_table(left, {}).rows] == ["missing", "missing"]


def test_a_class_that_cases_lack_counts_as_much_in_the_mean() -> None:
    """As nnU-Net has it: the mean over cases of each class, then over classes; drawn likewise.

    Six of ten cases have the first class and four the second, of which no interval can be told.
    """
    scores = np.random.default_rng(3).random((2, 10))
    scores[0, 6:] = scores[1, :6] = np.nan
    columns = {"x": Column(lambda rows: float(rows.mean()))}
    cases = [(str(k), {v: {"x": scores[v, k : k + 1]} for v in (0, 1)}) for k in range(10)]
    table = score_table(cases, columns, Classes(str))
    found = {(row.row, row.label): row.scores["x"] for row in table.rows if not row.case}
    both = np.nanmean(scores, axis=1)
    assert [found["mean", c] for c in ("0", "1", "")] == pytest.approx([*both, both.mean()])
    ends = {key for key in found if "%" in key[0]}
    assert ends == {(f"{kind} {end} %", "0") for kind in ("mean", "pooled") for end in (2.5, 97.5)}

    scores[1] = np.random.default_rng(4).random(10)
    low, high = mean_interval(scores.tolist())
    draws = np.random.default_rng(0).integers(10, size=(1000, 10))
    means = [np.nanmean(np.nanmean(scores[:, draw], axis=1)) for draw in draws]
    assert (low, high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))))


def test_the_interval_of_a_mean_is_that_of_the_bootstrap() -> None:
    values = [0.3, np.nan, 0.9, 0.5]
    slow = bootstrap_interval([np.array([v]) for v in values], mean_of_known)
    assert mean_interval(values) == pytest.approx(slow)
    assert np.isnan(mean_interval([1.0])).all()
    assert np.isnan(mean_interval([np.nan, np.nan])).all()
