"""What Python gets of `unet-med evaluate` and `unet-med measure`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from unet_med import scoring
from unet_med.cli import main
from unet_med.report.table import CASE, POOLED
from unet_med.scoring.scores import AP, IOUS


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Of two true objects of 100 px one is found, and 60 px of the other."""
    truth = np.zeros((40, 50), np.uint16)
    truth[0:10, 5:15], truth[20:30, 20:30] = 1, 2
    found = truth.copy()
    found[26:30, 20:30] = 0
    for name, labels in (("results/a_instances.tif", found), ("truth/a.tif", truth)):
        (tmp_path / name).parent.mkdir()
        tifffile.imwrite(tmp_path / name, labels)
    return tmp_path / "results", tmp_path / "truth"


def test_scores_are_those_of_the_command(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = scoring.evaluate(*folders, label_kind="instances", metrics="ap")
    [row] = found.table.of(CASE)
    assert (found.label_kind, row.case) == ("instances", "a")
    assert row.scores == {"AP50": 1, "AP75": 1 / 3, "AP50:95": pytest.approx((3 + 7 / 3) / 10)}
    words = ["--label-kind", "instances", "--metrics", "ap", "--output", str(tmp_path / "a.json")]
    assert main(["evaluate", *map(str, folders), *words]) == 0
    scoring.write_scores(found.documented(), str(tmp_path / "b.json"))
    told, own = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    for each in (told, own):
        each["about"].pop("finished")
    assert told == own


def test_what_is_asked_for_is_what_the_table_says(folders: tuple[Path, Path]) -> None:
    (folders[0] / "a_instances.tif").rename(folders[0] / "a_mask.tif")
    names = {1: "small", 2: "large"}
    table = scoring.evaluate(*folders, label_kind="classes", class_names=names, tolerance=2).table
    assert table.columns[3] == "NSD 2 px"
    dice = {row.label: row.scores["Dice"] for row in table.of(POOLED) if row.label}
    assert dice == {"small": 1, "large": 2 * 60 / 160}
    line = scoring.format_table(table).splitlines()[2]
    assert line.split()[:2] == ["a", "0.7500"]
    assert line.endswith("large")
    with pytest.raises(ValueError, match="class_names: the classes 1 and 2 are both called rim"):
        scoring.evaluate(*folders, label_kind="classes", class_names={1: "rim", 2: "rim"})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"label_kind": "cells"}, "label_kind 'cells' is none of 'auto', 'mask', 'classes', "),
        ({"planes": "alone"}, "planes 'alone' is none of None, 'apart', 'joined'"),
        ({"tolerance": float("nan")}, "tolerance nan: give a distance"),
        ({"metrics": "dice", "label_kind": "mask"}, "dice does not fit labels that are mask"),
    ],
)
def test_words_that_mean_nothing_are_refused(
    asked: dict[str, Any], said: str, folders: tuple[Path, Path]
) -> None:
    with pytest.raises(ValueError, match=said):
        scoring.evaluate(*folders, **asked)


def test_a_list_of_pairs_is_scored(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pairs = [{"result": "results/a_instances.tif", "truth": "truth/a.tif", "case": "mine"}]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    by_list = scoring.evaluate(tmp_path / "pairs.json", label_kind="instances").table
    by_name = scoring.evaluate(*folders, label_kind="instances").table
    assert [row.case for row in by_list.of(CASE)] == ["mine"]
    assert by_list.of(POOLED) == by_name.of(POOLED)
    assert by_name.of(POOLED)[0].scores["SEG"] == (1 + 0.6) / 2


def test_sizes_are_those_of_the_command(folders: tuple[Path, Path], tmp_path: Path) -> None:
    results, _ = folders
    table = scoring.measure(results, objects=True)
    assert [(row.label, row.scores["area px"]) for row in table.of(CASE)] == [("1", 100), ("2", 60)]
    assert main(["measure", str(results), "--objects", "--output", str(tmp_path / "a.json")]) == 0
    scoring.write_scores(table, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    with pytest.raises(ValueError, match="--time has no effect without --images"):
        scoring.measure(results, choice={"time": 0})


def test_precision_at_a_threshold_is_the_column_of_that_threshold() -> None:
    """One row of hits whose number says at which threshold they match, of 100 objects."""
    rows = np.array([[(50 - k, 100) for k in range(len(IOUS))]])
    hits = {"AP50": 50, "AP75": 50 - IOUS.index(0.75)}
    assert {name: AP[name].pool(rows) for name in hits} == {
        name: count / (100 - count) for name, count in hits.items()
    }
    assert len({score.count for score in AP.values()}) == 1  # counted once


def test_an_array_that_a_tiff_was_written_from_is_no_second_result(
    folders: tuple[Path, Path],
) -> None:
    """`predict` leaves it and its job beside the TIFF of a large image."""
    store = folders[0] / "a_instances.ome.zarr"
    store.mkdir()
    (store / "zarr.json").write_text("{}")
    job = folders[0] / "a_instances.ome.zarr.job"
    job.mkdir()
    assert scoring.evaluate(*folders, label_kind="instances").table.of(CASE)[0].case == "a"
    assert {row.case for row in scoring.measure(folders[0]).of(CASE)} == {"a"}
    job.rmdir()
    with pytest.raises(ValueError, match="two results of one name"):
        scoring.measure(folders[0])


def test_labels_beside_their_images_are_the_truth(folders: tuple[Path, Path]) -> None:
    """As `train --images` takes them: `a.tif` with `a_mask.tif`."""
    alone = scoring.evaluate(*folders, label_kind="instances").table.rows
    (folders[1] / "a.tif").rename(folders[1] / "a_mask.tif")
    grey = np.random.default_rng(0).normal(100, 9, (40, 50)).astype(np.float32)
    tifffile.imwrite(folders[1] / "a.tif", grey)
    assert scoring.evaluate(*folders, label_kind="instances").table.rows == alone
