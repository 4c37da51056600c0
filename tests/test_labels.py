"""What label images hold: their kind, sizes of instances, numbers of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from unet_med import data
from unet_med.cli import main
from unet_med.data import count_classes


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[0, 255], [0, 255]], "mask"),
        ([[0, 1]], "mask"),
        ([[0], [7]], "mask"),
        ([[0, 1, 2], [0, 1, 2]], "classes"),
        ([[0, 1, 2, 255], [0, 1, 2]], "classes"),
        ([[0, 1, 2, 3]], "instances"),
        ([list(range(40)), list(range(30))], "instances"),
        ([[0, 1, 2], [-1, 0, 1, 2]], "instances"),
    ],
)
def test_label_kind(values: list[list[int]], kind: str) -> None:
    assert data.guess_label_kind([np.array(v) for v in values]) == kind


def test_few_numbered_cells_are_instances() -> None:
    cells = data.SyntheticCells(3, (96, 96), num_cells=6)
    labels = [cells[k]["label"].numpy() for k in range(3)]
    assert max(label.max() for label in labels) < 12
    assert data.guess_label_kind(labels) == "instances"
    grain = [np.random.default_rng(k).integers(0, 6, (6, 6)) for k in (0, 1)]
    tissue = [np.kron(g, np.ones((9, 9))) for g in grain]
    assert data.guess_label_kind(tissue) == "classes"


@pytest.mark.data
def test_label_kind_of_real_labels(shared: Path) -> None:
    load = data.load_image
    hippocampus = sorted((shared / "data/msd-hippocampus/labels").iterdir())[:5]
    assert data.guess_label_kind([load(p).numpy() for p in hippocampus]) == "classes"
    cells = sorted((shared / "data/usiigaci-t98g/train").glob("*/instances_ids.png"))[:3]
    assert data.guess_label_kind([load(p).numpy() for p in cells]) == "instances"
    membranes = sorted((shared / "data/isbi2012/label").iterdir())[:3]
    assert data.guess_label_kind([load(p).numpy() for p in membranes]) == "mask"


@given(st.integers(0, 2**32 - 1))
def test_instance_sizes_are_counted_one_by_one(seed: int) -> None:
    label = np.random.default_rng(seed).integers(-1, 4, (5, 4, 3)) * 70_000
    whole = [np.sum(label == k) for k in np.unique(label) if k > 0]
    planes = [
        np.sum(plane == k) for plane in label.transpose(2, 0, 1) for k in np.unique(plane) if k > 0
    ]
    assert sorted(data.instance_sizes(label, 3)) == sorted(whole)
    assert sorted(data.instance_sizes(label, 2)) == sorted(planes)


def labels(*values: tuple[int, ...]) -> list[np.ndarray]:
    return [np.resize(np.array(found, np.uint8), (24, 24)) for found in values]


@pytest.mark.parametrize(
    ("values", "given", "count"),
    [
        ([(0, 1, 2), (0, 1)], None, 3),
        ([(0, 1, 255), (0, 255)], None, 2),
        ([(1, 2), (2, 3)], None, 4),  # no background
        ([(0,)], None, 2),
        ([(0, 1, 2), (0, 1)], 5, 5),
        ([(0, 1, 2, 7)], 8, 8),
    ],
)
def test_number_of_classes(values: list[tuple[int, ...]], given: int | None, count: int) -> None:
    names = [f"{k}.tif" for k in range(len(values))]
    assert count_classes(labels(*values), names, given) == count


@pytest.mark.parametrize(
    ("values", "given", "match"),
    [
        ([(0, 1, 2), (0, 1, 2, 7)], None, r"1.tif holds the value 7, and no label holds 3 to 6: .*"
         r"\(--classes 8\)"),
        ([(0, 2), (0, 2)], None, r"0.tif holds the value 2, and no label holds 1: .*--classes 3"),
        ([(0, 1, 2), (0, 5)], 3, r"1.tif holds the value 5: classes are 0 to 2, .*--classes"),
        ([(0,), (0, 255)], None, r"1.tif holds no class besides 0: .*use --label-kind mask"),
        ([(0, 255)], 2, "use --label-kind mask"),
    ],
)  # fmt: skip
def test_values_that_are_no_class(
    values: list[tuple[int, ...]], given: int | None, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        count_classes(labels(*values), [f"{k}.tif" for k in range(len(values))], given)


@pytest.mark.parametrize(
    ("values", "words", "match"),
    [
        ([(0, 1, 2), (0, 1, 2, 7)], [], "b.tif holds the value 7, and no label holds 3 to 6"),
        ([(0, 255)] * 2, ["--label-kind", "classes"], "use --label-kind mask"),
        ([(0, 1)] * 2, ["--label-kind", "mask", "--classes", "3"], "these are mask"),
    ],
)
def test_train_refuses_them_before_anything_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    values: list[tuple[int, ...]],
    words: list[str],
    match: str,
) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name, label in zip("ab", labels(*values), strict=True):
        tifffile.imwrite(tmp_path / f"images/{name}.tif", label)
        tifffile.imwrite(tmp_path / f"labels/{name}.tif", label)
    given = ["--images", f"{tmp_path}/images", "--labels", f"{tmp_path}/labels"]
    assert main(["train", *given, "--output", f"{tmp_path}/out", *words]) == 2
    assert match in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
