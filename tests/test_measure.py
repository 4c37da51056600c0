"""`unet-med measure`: sizes, counts and intensities of results, against numbers counted here."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from scipy import ndimage

from unet_med.cli import main
from unet_med.scoring.measuring import objects_at_edge
from unet_med.scoring.object_shapes import object_shapes

SIZES = (0.8, 1.5, 3.0)


def measure(*words: Any) -> int:
    return main(["measure", *map(str, words)])


def rows(file: Path) -> dict[tuple[str, str], dict[str, Any]]:
    table = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert {row["row"] for row in table} <= {"case", "failed"}
    return {(row["case"], row.get("class", row.get("object"))): row for row in table}


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(exist_ok=True)
    image = nib.Nifti1Image(array, np.diag([*SIZES, 1.0]) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def write(folder: Path, **labels: np.ndarray) -> None:
    folder.mkdir()
    for name, label in labels.items():
        tifffile.imwrite(folder / f"{name}.tif", label)


@pytest.fixture
def organs(tmp_path: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A volume and its mask of two classes, the image of which is stored flipped."""
    mask = np.zeros((12, 10, 6), np.uint8)
    mask[1:4, 1:4, 1:3], mask[6:8, 6:9, 2:5], mask[10, 1, 1] = 1, 2, 1
    image = rng.normal(100, 20, mask.shape).astype(np.float32)
    nifti(tmp_path / "r/p1_mask.nii.gz", mask)
    flipped = np.diag([-SIZES[0], *SIZES[1:], 1.0])
    flipped[0, 3] = (mask.shape[0] - 1) * SIZES[0]
    nifti(tmp_path / "i/p1.nii.gz", image[::-1], flipped)
    return image, mask


def test_volumes_counts_and_intensities(tmp_path: Path, organs: Any) -> None:
    image, mask = organs
    words = ["--images", tmp_path / "i", "--class-names", "liver", "kidney"]
    output = ["--output", tmp_path / "m.json", "--long", tmp_path / "l.csv"]
    assert measure(tmp_path / "r", *words, *output) == 0
    table = rows(tmp_path / "m.json")
    ml = math.prod(SIZES) / 1000
    for value, name in ((1, "liver"), (2, "kidney")):
        inside = mask == value
        row = table["p1", name]
        assert row["volume ml"] == pytest.approx(inside.sum() * ml)
        pieces, count = ndimage.label(inside)
        sizes = ndimage.sum_labels(inside, pieces, range(1, count + 1)) * ml
        assert row["objects"] == count
        expected = sizes.min(), np.median(sizes), sizes.max()
        found = [row[f"{which} object volume ml"] for which in ("smallest", "median", "largest")]
        assert found == pytest.approx(expected)
        own = image[inside].astype(float)
        assert row["mean intensity"] == pytest.approx(own.mean())
        assert row["deviation intensity"] == pytest.approx(own.std())
        assert row["lowest intensity"] == pytest.approx(own.min())
        assert row["median intensity"] == pytest.approx(np.median(own))
        assert row["highest intensity"] == pytest.approx(own.max())
    with (tmp_path / "l.csv").open(newline="") as file:
        long = {(r["class"], r["metric"]): r["value"] for r in csv.DictReader(file)}
    assert float(long["kidney", "volume ml"]) == table["p1", "kidney"]["volume ml"]


def cells(tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """An image of two channels and the instances of three cells, two of which touch."""
    label = np.zeros((14, 16), np.uint16)
    label[1:4, 1:5], label[4:8, 1:5], label[10:12, 8:15] = 3, 7, 40_000
    image = np.random.default_rng(0).integers(0, 999, (2, 14, 16)).astype(np.uint16)
    for folder in ("r", "i"):
        (tmp_path / folder).mkdir()
    resolution = {"resolution": (2, 4), "metadata": {"unit": "um"}}
    tifffile.imwrite(tmp_path / "r/a_instances.tif", label, imagej=True, **resolution)
    tifffile.imwrite(
        tmp_path / "r/a_mask.tif", (label > 0).astype(np.uint8), imagej=True, **resolution
    )
    for fractions in ("probabilities", "uncertainty"):  # as predict writes them beside
        values = np.full(label.shape, 0.25, np.float32)
        tifffile.imwrite(tmp_path / f"r/a_{fractions}.tif", values, imagej=True, **resolution)
    metadata = {"axes": "CYX", "unit": "um"}
    tifffile.imwrite(tmp_path / "i/a.tif", image, imagej=True, resolution=(2, 4), metadata=metadata)
    return image, label


def test_cells_of_a_microscope(tmp_path: Path) -> None:
    image, label = cells(tmp_path)
    assert measure(tmp_path / "r", "--images", tmp_path / "i", "--output", tmp_path / "m.json") == 0
    (row,) = rows(tmp_path / "m.json").values()
    assert row["class"] == "foreground"
    assert row["objects at edge"] == 0
    assert row["objects"] == 3  # as the instances part them, not 2 pieces of the mask
    assert row["area um^2"] == pytest.approx((label > 0).sum() / 8)
    assert row["median object area um^2"] == pytest.approx(14 / 8)
    for channel in (0, 1):
        own = image[channel][label > 0]
        assert row[f"mean intensity {channel}"] == pytest.approx(own.mean())


def test_instances_are_those_of_the_only_class(tmp_path: Path) -> None:
    cells(tmp_path)
    settings = {"class_names": ["cell", "debris"]}
    (tmp_path / "r/record.json").write_text(json.dumps({"settings": settings}))
    assert measure(tmp_path / "r", "--output", tmp_path / "m.json") == 0
    table = rows(tmp_path / "m.json")
    assert {name: row["objects"] for (_, name), row in table.items()} == {"cell": 3, "debris": 0}


def test_objects_of_images_in_several_units(tmp_path: Path, capsys: Any) -> None:
    """A picture states no pixel size, a NIfTI does: each row has the size in its own unit."""
    nifti(tmp_path / "r/n_instances.nii.gz", np.eye(4, dtype=np.uint8), np.diag([2.0, 3, 1, 1]))
    tifffile.imwrite(tmp_path / "r/p_instances.tif", np.eye(5, dtype=np.uint8))
    assert measure(tmp_path / "r", "--objects", "--output", tmp_path / "o.csv") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][-6:] == ["median", "area", "mm^2", "median", "area", "px"]
    assert [line[:3] for line in lines[1:]] == [["n", "1", "1"], ["p", "1", "1"]]
    assert [line[3:5] for line in lines[1:]] == [["24.0000", "-"], ["-", "5.0000"]]


def test_instances_of_another_grid_are_not_measured(tmp_path: Path, capsys: Any) -> None:
    """Beside a mask of one image lies what was found in another: its objects were counted."""
    (tmp_path / "r").mkdir()
    for name, side in (("a_mask", 8), ("a_instances", 6)):
        tifffile.imwrite(tmp_path / f"r/{name}.tif", np.eye(side, dtype=np.uint8))
    assert measure(tmp_path / "r") == 2
    said = "a_instances.tif has shape (6, 6), its result a_mask.tif (8, 8): they must be equal"
    assert said in capsys.readouterr().err


def test_a_row_an_object(tmp_path: Path) -> None:
    image, label = cells(tmp_path)
    words = ["--images", tmp_path / "i", "--objects", "--output", tmp_path / "m.json"]
    assert measure(tmp_path / "r", *words, "--long", tmp_path / "l.csv") == 0
    assert (tmp_path / "l.csv").read_text().startswith("case,object,metric,value")
    table = rows(tmp_path / "m.json")
    assert "class" not in table["a", "3"]
    assert [name for _, name in table] == ["3", "7", "40000"]
    for number in (3, 7, 40_000):
        row = table["a", str(number)]
        assert row["area um^2"] == pytest.approx((label == number).sum() / 8)
        assert row["mean intensity 1"] == pytest.approx(image[1][label == number].mean())


def test_where_objects_lie_and_their_shapes(tmp_path: Path, capsys: Any) -> None:
    """Against moments and circles; pixels of 0.5 x 0.25 um, a disk cut by the edge, a line."""
    y, x = np.mgrid[:60, :90].astype(float)
    label = np.zeros((60, 90), np.int32)
    label[np.hypot(0.5 * (x - 40), 0.25 * (y - 30)) < 6] = 70_000
    label[np.hypot(x - 80, y - 5) < 7] = 2
    label[50, 3:9] = 9
    (tmp_path / "r").mkdir()
    tifffile.imwrite(
        tmp_path / "r/a_instances.tif",
        label.astype(np.float32),
        imagej=True,
        resolution=(2, 4),
        metadata={"unit": "um"},
    )
    assert measure(tmp_path / "r", "--objects", "--output", tmp_path / "m.json") == 0
    table = {int(name): row for (_, name), row in rows(tmp_path / "m.json").items()}
    assert list(table) == [2, 9, 70_000]
    for number, row in table.items():
        inside = label == number
        places = np.stack([x[inside], y[inside]])
        assert [row["centre x"], row["centre y"]] == pytest.approx(places.mean(1))
        assert row["diameter um"] == pytest.approx(2 * math.sqrt(inside.sum() / 8 / math.pi))
        width, length = np.linalg.eigvalsh(np.cov(places * [[0.5], [0.25]])).clip(0)
        ratio = None if width < 1e-12 else pytest.approx(math.sqrt(length / width))
        assert row["elongation"] == ratio
    disk = table[70_000]
    assert disk["perimeter um"] == pytest.approx(2 * math.pi * 6, rel=0.03)
    assert disk["roundness"] == pytest.approx(1, rel=0.02)
    assert disk["elongation"] == pytest.approx(1, rel=0.02)
    assert table[9]["roundness"] < 0.95
    assert [row["at edge"] for row in table.values()] == [1, 0, 0]
    sizes = [row["area um^2"] for row in table.values()]
    said = capsys.readouterr().out.splitlines()
    assert said[-2].split() == ["objects", "objects", "at", "edge", "median", "area", "um^2"]
    assert said[-1].split() == ["a", "3", "1", f"{np.median(sizes):.4f}"]
    assert measure(tmp_path / "r", "--output", tmp_path / "m.json") == 0
    (whole,) = rows(tmp_path / "m.json").values()
    assert (whole["objects"], whole["objects at edge"]) == (3, 1)
    np.save(tmp_path / "r/a_instances.npy", np.zeros((9, 9), np.uint8))
    (tmp_path / "r/a_instances.tif").unlink()
    assert measure(tmp_path / "r", "--objects", "--output", tmp_path / "m.json") == 0
    assert rows(tmp_path / "m.json") == {}


def test_shapes_in_a_volume(tmp_path: Path) -> None:
    """A ball of 15 mm in voxels of three sizes, and a slice alone, which is a plane."""
    x, y, z = (np.arange(n) * size for n, size in zip((41, 21, 11), SIZES, strict=True))
    ball = np.hypot(np.hypot(x[:, None, None] - 16, y[:, None] - 15), z - 15) < 14
    nifti(tmp_path / "r/a_instances.nii.gz", ball.astype(np.uint8))
    nifti(tmp_path / "r/b_instances.nii.gz", ball[..., 5:6].astype(np.uint8))
    assert measure(tmp_path / "r", "--objects", "--output", tmp_path / "m.json") == 0
    volume, plane = rows(tmp_path / "m.json").values()
    assert [volume[f"centre {axis}"] for axis in "xyz"] == pytest.approx([20, 10, 5])
    assert volume["diameter mm"] == pytest.approx(28, rel=0.02)
    assert volume["surface mm^2"] == pytest.approx(4 * math.pi * 14**2, rel=0.05)
    assert volume["roundness"] == pytest.approx(1, rel=0.05)
    assert [volume["at edge"], plane["at edge"]] == [0, 0]
    for cut, at_edge in ((ball[3:], 1), (ball[:, :, 2:], 1), (ball[..., 5:6], 0), (ball, 0)):
        assert objects_at_edge(cut.astype(int)) == at_edge
    assert plane["perimeter mm"] == pytest.approx(2 * math.pi * 14, rel=0.05)


@pytest.mark.parametrize("edges", [(1.0, 1.0), (0.35, 0.71)])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_line_has_no_elongation(dims: int, edges: tuple[float, ...]) -> None:
    """Rounding gave some the elongation 80000000, which ruled the mean of a table."""
    label = np.zeros((2500, 1100), np.int32)
    for number in range(1, 40):  # all in directions of their own
        steps = np.arange(2 + number % 7)
        label[60 * number + number % 5 * steps, 900 + (2 - number % 3) * steps] = number
    label[2440:2450, 900], label[2445, 901] = 40, 40  # 11 px, one of which makes it wide
    if dims == 3:
        label, edges = np.stack([label, 0 * label], axis=2), (*edges, 2.0)
    *lines, wide = (shape["elongation"] for shape in object_shapes(label, edges, "um"))
    assert len(lines) == 39
    assert set(lines) == {None}
    places = np.argwhere(label == 40) * edges
    small, large = np.linalg.eigvalsh(np.cov(places.T, bias=True))[-2:]
    assert wide == pytest.approx(math.sqrt(large / small), rel=1e-6)


def test_a_class_has_one_name_and_each_case_a_row_of_it(tmp_path: Path, capsys: Any) -> None:
    """Of four masks one holds both classes, one the first, one the second, one none."""
    (tmp_path / "r").mkdir()
    for name, values in {"a": (1, 2), "b": (1, 1), "c": (2, 2), "d": (0, 0)}.items():
        mask = np.zeros((6, 9), np.uint8)
        mask[1, 1], mask[3, 3:6] = values
        tifffile.imwrite(tmp_path / f"r/{name}_mask.tif", mask)
    assert measure(tmp_path / "r", "--output", tmp_path / "m.json") == 0
    table = rows(tmp_path / "m.json")
    assert list(table) == [(case, name) for case in "abcd" for name in "12"]
    found = {key: (row["area px"], row["objects"]) for key, row in table.items()}
    by_hand = {("a", "1"): (1, 1), ("a", "2"): (3, 1), ("b", "1"): (4, 2), ("c", "2"): (4, 2)}
    assert found == {key: by_hand.get(key, (0, 0)) for key in found}
    printed = {line[:1]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert printed["b"] == ["b", "0", "0", "0", "-", "-", "-", "2"]  # counts are whole, `-` no size
    for name in "ac":
        (tmp_path / f"r/{name}_mask.tif").unlink()
    white = np.where(mask + np.eye(6, 9) > 0, 255, 0).astype(np.uint8)
    tifffile.imwrite(tmp_path / "r/e_mask.tif", white)
    assert measure(tmp_path / "r", "--output", tmp_path / "m.json") == 0
    areas = {key: row["area px"] for key, row in rows(tmp_path / "m.json").items()}
    assert areas == {("b", "foreground"): 4, ("d", "foreground"): 0, ("e", "foreground"): 6}


def test_channels_have_the_names_of_the_file(tmp_path: Path) -> None:
    image, label = cells(tmp_path)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "actin"]}}
    (tmp_path / "i/a.tif").unlink()
    tifffile.imwrite(tmp_path / "i/a.ome.tif", image, metadata=metadata)
    words = ["--images", tmp_path / "i/a.ome.tif", "--output", tmp_path / "m.json"]
    assert measure(tmp_path / "r", *words) == 0
    (row,) = rows(tmp_path / "m.json").values()
    assert row["mean intensity actin"] == pytest.approx(image[1][label > 0].mean())


def test_names_of_the_record_and_classes_that_a_case_lacks(tmp_path: Path, organs: Any) -> None:
    settings = {"class_names": ["liver", "kidney", "spleen"], "class_values": [0, 1, 2, 5]}
    (tmp_path / "r/record.json").write_text(json.dumps({"settings": settings}))
    assert measure(tmp_path / "r", "--output", tmp_path / "m.json") == 0
    table = rows(tmp_path / "m.json")
    assert [name for _, name in table] == ["liver", "kidney", "spleen"]
    empty = table["p1", "spleen"]
    assert (empty["volume ml"], empty["objects"], empty["median object volume ml"]) == (0, 0, None)


def test_what_cannot_be_measured(tmp_path: Path, organs: Any, capsys: Any) -> None:
    broken = tmp_path / "r/p2_mask.nii.gz"
    broken.write_bytes(b"no")
    assert measure(tmp_path / "r", "--output", tmp_path / "m.csv") == 3
    assert "unet-med: failed: p2: cannot read" in capsys.readouterr().err
    assert "\nfailed,p2," in (tmp_path / "m.csv").read_text().replace("\r", "")
    (tmp_path / "i/p3.nii.gz").write_bytes((tmp_path / "i/p1.nii.gz").read_bytes())
    assert measure(tmp_path / "r", "--images", tmp_path / "i") == 3
    assert "failed: p2: no image for the result p2 in" in capsys.readouterr().err
    (tmp_path / "i/p3.nii.gz").unlink()
    broken.unlink()
    assert measure(tmp_path / "r", "--time", 1) == 2
    assert "--time has no effect without --images" in capsys.readouterr().err
    assert measure(tmp_path / "r", "--objects") == 2
    assert "has no instances beside it: predict with --instances" in capsys.readouterr().err
    nifti(tmp_path / "i/p1.nii.gz", np.zeros((3, 4, 5), np.float32))
    assert measure(tmp_path / "r", "--images", tmp_path / "i") == 2
    assert "image p1.nii.gz has shape (3, 4, 5), its result p1_mask.nii.gz" in (
        capsys.readouterr().err
    )


def test_labels_of_other_names_number_objects_where_those_are_asked_for(
    tmp_path: Path, capsys: Any
) -> None:
    label = np.kron(np.arange(16).reshape(4, 4), np.ones((3, 5), int)).astype(np.uint16)
    write(tmp_path / "r", a=label, empty=np.zeros_like(label))
    words = [tmp_path / "r", "--output", tmp_path / "m.json"]
    assert measure(*words) == 0
    said = "15 values, each taken for a class: where they number objects, --objects gives a row"
    assert said in capsys.readouterr().err
    assert measure(*words, "--objects") == 0
    assert [row["area px"] for row in rows(tmp_path / "m.json").values()] == [15] * 15
    write(tmp_path / "m", a=np.isin(label, (0, 3, 13)).astype(np.uint8))
    assert measure(tmp_path / "m", "--objects") == 2
    assert "a.tif is a mask, in which all objects are one" in capsys.readouterr().err


def test_an_image_without_objects_counts(tmp_path: Path, capsys: Any) -> None:
    """It has no row among the objects, and who counts by their rows would leave it out."""
    label = np.zeros((9, 9), np.uint8)
    one = label + (np.arange(9) == 4)
    write(tmp_path / "r", a_instances=label, b_instances=one.astype(np.uint8))
    assert measure(tmp_path / "r", "--objects", "--output", tmp_path / "m.json") == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert printed == [["b", "1", "1", "9.0000"], ["a", "0", "0", "-"]]
    assert json.loads((tmp_path / "m.json").read_text())["about"] == {"empty": ["a"]}
    assert [*rows(tmp_path / "m.json")] == [("b", "1")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objects", "--class-names", "liver"], "--class-names has no effect on objects"),
        (["--pixel-size", "0.3"], "p1_mask.nii.gz states 800 1500 3000 um, which counts"),
        (["--output", "m.csv", "--long", "./m.csv"], "--output and --long both name ./m.csv"),
    ],
)
def test_what_does_nothing_is_refused(
    tmp_path: Path, organs: Any, capsys: Any, words: list[str], message: str
) -> None:
    assert measure(tmp_path / "r", *words) == 2
    assert message in capsys.readouterr().err
    assert measure(tmp_path / "r", "--pixel-size", 800, 1500, 3000) == 0  # as it is


def test_images_in_the_place_of_results(
    tmp_path: Path, organs: Any, rng: np.random.Generator, capsys: Any
) -> None:
    (tmp_path / "raw").mkdir()
    tifffile.imwrite(tmp_path / "raw/a.tif", rng.integers(0, 200, (40, 50), np.uint8))
    assert measure(tmp_path / "raw") == 2
    said = f"label {tmp_path / 'raw' / 'a.tif'} looks like a picture"
    assert said in capsys.readouterr().err
    assert measure(tmp_path / "raw", "--objects") == 2
    assert said in capsys.readouterr().err
    (tmp_path / "raw/p1_mask.nii.gz").write_bytes((tmp_path / "r/p1_mask.nii.gz").read_bytes())
    assert measure(tmp_path / "raw", "--output", tmp_path / "m.json") == 3
    found = rows(tmp_path / "m.json")
    failed = [row for (case, _), row in found.items() if case == "a"]
    assert ["looks like a picture" in row["note"] for row in failed] == [True]
    classes = {key for key in found if key[0] == "p1"}
    assert classes == {("p1", "1"), ("p1", "2")}  # the picture's values are none


def test_channels_of_a_case_are_measured_together(tmp_path: Path, organs: Any) -> None:
    image, mask = organs
    for channel in range(2):
        nifti(tmp_path / f"c/p1_000{channel}.nii.gz", image + 1000 * channel)
    assert measure(
        tmp_path / "r", "--images", tmp_path / "c", "--output", tmp_path / "m.json"
    ) == 0  # fmt: skip
    row = rows(tmp_path / "m.json")["p1", "1"]
    for channel in range(2):
        mean = image[mask == 1].mean() + 1000 * channel
        assert row[f"mean intensity {channel}"] == pytest.approx(mean, rel=1e-5)


def test_quiet_leaves_the_table(tmp_path: Path, organs: Any, capsys: Any) -> None:
    assert measure(tmp_path / "r", "--quiet", "--log-file", tmp_path / "log") == 0
    said = capsys.readouterr()
    assert "p1" in said.out
    assert said.err == ""
    assert "p1" in (tmp_path / "log").read_text(encoding="utf-8")
    shutil.copytree(tmp_path / "r", tmp_path / "t")
    words = [str(tmp_path / "r"), str(tmp_path / "t"), "--label-kind", "classes"]
    for quiet in ([], ["--quiet"]):
        assert main(["evaluate", *words, *quiet]) == 0
        said = capsys.readouterr().out
        assert ("labels are classes" in said) == (not quiet)
        assert "Dice" in said
