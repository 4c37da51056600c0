"""What label images hold: their kind, sizes of instances, numbers of classes."""

from __future__ import annotations

import contextlib
import io
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as pixels
from monai.transforms import LoadImaged
from PIL import Image
from scipy import ndimage

from unet_med import data
from unet_med.cli import main
from unet_med.data import class_values
from unet_med.data.label_kind import UndecidedLabels
from unet_med.data.label_reader import look_and_head, renumber
from unet_med.planning import fingerprint
from unet_med.planning.labels import decide_labels


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
        ([[0, 1, 2, 30], [-1, 0, 5, 7]], "instances"),
        ([[0, 1], [-1, 0, 1]], "classes"),  # strokes are no objects
    ],
)
def test_label_kind(values: list[list[int]], kind: str) -> None:
    assert data.guess_label_kind([np.array(v) for v in values]) == kind


@pytest.mark.parametrize("values", [[[1, 2], [1, 2]], [[1], [1, 2]]])
def test_painted_background_is_asked_about(values: list[list[int]]) -> None:
    said = r"hold 1 and 2 and no 0, .* --unknown 0 if .* as 1, or --label-kind classes"
    with pytest.raises(UndecidedLabels, match=said):
        data.guess_label_kind([np.array(v) for v in values])
    assert data.guess_label_kind([np.array(v) - 1 for v in values]) == "mask"  # --unknown 0


@pytest.mark.parametrize("values", [[[1, 2, 3]] * 2, [[1, 2, 3, 4], [2, 3]], [[1, 2, 255]]])
def test_labels_without_background_are_asked_about(values: list[list[int]]) -> None:
    """They became one class more than there are, of which no image shows the first."""
    with pytest.raises(UndecidedLabels, match=r"and no 0, which is background: say --unknown 0"):
        data.guess_label_kind([np.array(v) for v in values])


def test_nothing_is_learned_from_foreground_alone() -> None:
    for values in ([[1], [1]], [[-1, 3], [3]], [[255]]):
        looks = [data.summarize_label(np.array([v])) for v in values]
        with pytest.raises(ValueError, match=r"every pixel that somebody annotated is .*\(a.tif"):
            data.require_objects(looks, ["a.tif", "b.tif"][: len(values)])
    data.require_objects([data.summarize_label(np.array([v])) for v in ([1, 1], [0, 0])], "ab")


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


@pytest.mark.data
def test_organs_of_which_files_lack_some_are_asked_about(shared: Path) -> None:
    """Three crops of 41 organs of 117; cells renumbered as a scan meets them, some left out."""
    organs = data.load_label(shared / "data/totalseg-nifti/example_seg.nii.gz")
    with pytest.raises(UndecidedLabels, match="most of them in several files, alike in each: "):
        data.guess_label_kind([organs, organs[:, :80, 5:], organs[10:, 10:, :25]])
    cells = sorted((shared / "data/usiigaci-t98g/train").glob("*/instances_ids.png"))
    labels = [as_scanned(data.load_label(path)) for path in cells]
    assert data.guess_label_kind(labels) == "instances"
    for label in labels:
        edges = np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]])
        label[np.isin(label, edges)] = 0
    assert data.guess_label_kind(labels) == "instances"


def as_scanned(label: np.ndarray) -> np.ndarray:
    values, first, where = np.unique(label, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(np.where(values == 0, -1, first)))  # background remains 0
    return order[where].reshape(label.shape)


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
    ("values", "given", "expected"),
    [
        ([(0, 1, 2), (0, 1)], None, [0, 1, 2]),
        ([(0, 1, 255), (0, 255)], None, [0, 1]),
        ([(1, 2), (2, 3)], None, [0, 1, 2, 3]),  # no background
        ([(0,)], None, [0, 1]),
        ([(0, 1, 2), (0, 1)], 5, [0, 1, 2, 3, 4]),
        ([(0, 1, 2, 7)], 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        ([(0, 1, 2, 4), (0, 1, 4)], None, [0, 1, 2, 4]),  # as of BraTS
        ([(0, 2), (0, 2, 255)], None, [0, 2]),
        ([(0, 1, 2), (0, 1, 2, 7)], 4, [0, 1, 2, 7]),  # the user has counted
        ([(0, 85, 170), (85, 170)], None, [0, 85, 170]),
        ([(0, 20, 21, 255), (0, 20, 21)], None, [0, 20, 21]),
    ],
)
def test_values_of_classes(
    values: list[tuple[int, ...]], given: int | None, expected: list[int]
) -> None:
    names = [f"{k}.tif" for k in range(len(values))]
    assert class_values(labels(*values), names, given) == expected


@pytest.mark.parametrize(
    ("values", "given", "match"),
    [
        ([(0, 1, 2), (0, 1, 2, 7)], None, r"1.tif holds the value 7, and no label holds 3 to 6: .*"
         r"\(--classes 4 for these values\)"),
        ([(0, 2), (0, 1, 2, 9), (0, 2)], None, "1.tif holds the value 9, .* holds 3 to 8: "),
        ([(0, 1, 2), (0, 5)], 3, r"1.tif holds the value 5: classes are 0 to 2, .*--classes"),
        ([(0,), (0, 255)], None, r"1.tif holds no class besides 0: .*use --label-kind mask"),
        ([(0, 255)], 2, "use --label-kind mask"),
        ([(0, 1), (0, 255)], None, r"1.tif holds no class besides 0: .*use --label-kind mask"),
        ([(0, 85, 170), (85, 170, 255)], None, r"1.tif holds 255 beside 85, 170, as greys .*"
         r"--unknown 255 if nobody annotated there, else number the classes 0, 1, 2, \.\.\."),
        ([(0, 128, 255)], 3, "0.tif holds 255 beside 128, as greys of a picture lie apart"),
    ],
)  # fmt: skip
def test_values_that_are_no_class(
    values: list[tuple[int, ...]], given: int | None, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        class_values(labels(*values), [f"{k}.tif" for k in range(len(values))], given)


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


# --- what the look refuses


def looked_at(label: np.ndarray) -> None:
    data.check_labels([data.summarize_label(label)], ["a.png"])


@pytest.fixture
def disks(rng) -> np.ndarray:
    """Six numbered disks of 96 x 80 px, in the order in which a scan meets them."""
    yy, xx = np.mgrid[:96, :80]
    centres = [(y, x) for y in (20, 50, 80) for x in (20, 58)]
    return sum(
        k * ((yy - y) ** 2 + (xx - x) ** 2 < rng.uniform(7, 11) ** 2)
        for k, (y, x) in enumerate(centres, 1)
    ).astype(np.int64)


@pytest.mark.parametrize("smooth", [0.0, 1.0, 2.0])
def test_a_picture_is_no_label(disks: np.ndarray, rng, smooth: float) -> None:
    grey = ndimage.gaussian_filter(60 + 120 * (disks > 0) + rng.normal(0, 25, disks.shape), smooth)
    with pytest.raises(ValueError, match=r"label a\.png looks like a picture: it holds \d+ values"):
        looked_at(np.clip(grey, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("quality", [30, 75, 95, 100])
def test_a_mask_with_smeared_edges_is_refused(disks: np.ndarray, quality: int) -> None:
    file = io.BytesIO()
    Image.fromarray(((disks > 0) * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    with pytest.raises(ValueError, match=r"smeared edges: .* near 0 or near 2\d\d"):
        looked_at(np.asarray(Image.open(file)))


@pytest.mark.parametrize("order", [1, 3])
def test_a_mask_of_another_size_is_refused(disks: np.ndarray, order: int) -> None:
    wide = ndimage.zoom((disks > 0) * 255.0, 1.5, order=order)
    with pytest.raises(ValueError, match="JPEG or resampling does that"):
        looked_at(np.clip(np.rint(wide), 0, 255).astype(np.uint8))


def test_what_labels_look_like_passes(disks: np.ndarray) -> None:
    squares = np.kron(np.arange(1, 901).reshape(30, 30), np.ones((3, 3), int))  # 3 px, touching
    dots = np.zeros((40, 40), int)
    dots[::4, ::4] = np.arange(1, 101).reshape(10, 10)
    seen = 85 * (disks % 4)  # classes as viewers scale them, 0 to 255
    for label in (
        disks,
        disks + 2**40,
        (disks > 0) * 255,
        squares,
        dots,
        dots + 150 * (dots > 0),
        seen,
    ):
        looked_at(label)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_numbers_of_few_objects(rng, dims: int, count: int) -> None:
    labels = []
    for _ in range(6):
        label = np.zeros((48, 48, 24)[:dims], int)
        cells = rng.permutation(16)[:count]  # of a grid, so that they do not touch
        for number, cell in enumerate(cells, 1):
            corner = (12 * (cell // 4) + 1, 12 * (cell % 4) + 1, 8)[:dims]
            side = rng.integers(5, 10, dims)
            label[tuple(slice(c, c + s) for c, s in zip(corner, side, strict=True))] = number
        labels.append(label)
    assert data.guess_label_kind(labels) == "instances"


def organs(rng, count: int, *, same_size: bool) -> np.ndarray:
    """Organs of one patient: each value at its place, and of its size, give or take."""
    label = np.zeros((40, 15 * max(4, count + 1), 20), int)
    for value in range(1, count + 1):
        x, y, z = np.array([10, 15 * value, 10]) + rng.integers(-2, 3, 3)
        side = 5 if same_size else 3 + (value - 1) % 5
        label[x - side : x + side, y - 5 : y + 5, z - side : z + side] = value
    return label


def test_values_with_their_own_size_and_place_are_classes(rng) -> None:
    assert data.guess_label_kind([organs(rng, 3, same_size=False) for _ in range(5)]) == "classes"


def test_what_may_be_both_is_asked_for(rng) -> None:
    kidneys = [organs(rng, 2, same_size=True) for _ in range(5)]
    with pytest.raises(
        ValueError, match=r"values 1, 2, .*say --label-kind classes or --label-kind"
    ):
        data.guess_label_kind(kidneys)


def numbered(rng, count: int, *, files: int = 5, scan: bool = False) -> list[np.ndarray]:
    """Numbered cells of random size on a grid of 36 places, at random or as a scan meets them."""
    labels = []
    for _ in range(files):
        label = np.zeros((96, 96), int)
        places = rng.permutation(36)[:count]
        for number, place in enumerate(sorted(places) if scan else places, 1):
            x, y = 16 * (place // 6) + rng.integers(1, 4), 16 * (place % 6) + rng.integers(1, 4)
            label[x : x + rng.integers(5, 12), y : y + rng.integers(5, 12)] = number
        labels.append(label)
    return labels


def with_cuts(labels: list[np.ndarray], count: int) -> list[np.ndarray]:
    """The same, where a line of one pixel cuts so many of the cells in two, one here, one there."""
    for k in range(count):
        label, number = labels[k % len(labels)], k % 8 + 1
        x = np.nonzero((label == number).any(axis=1))[0]
        line = label[x[len(x) // 2]]
        line[line == number] = 0
    return labels


def tissue(rng, values: list[list[int]]) -> list[np.ndarray]:
    """Patches of 8 px, each of one of the file's values."""
    return [np.kron(rng.choice([0, *own], (12, 12)), np.ones((8, 8), int)) for own in values]


def layers(rng, count: int, files: int = 5) -> list[np.ndarray]:
    """Layers of a retina: bands one below the other, of their own thickness."""
    depths = rng.integers(3, 9, count)
    labels = []
    for _ in range(files):
        ends = 8 + np.cumsum(depths) + rng.integers(-1, 2)
        label = np.zeros((120, 64), int)
        for number, end in enumerate(ends, 1):
            label[end - depths[number - 1] : end] = number
        labels.append(label)
    return labels


def lungs(rng, files: int = 5) -> list[np.ndarray]:
    """Organs that are one piece each, but for one that is two in every file."""
    labels = [organs(rng, 3, same_size=False) for _ in range(files)]
    for label in labels:
        label[30:38, 2:6, 5:15] = label[30:38, 40:44, 5:15] = 4
    return labels


def eight_or_ten(rng) -> list[np.ndarray]:
    return [*numbered(rng, 10, files=2), *numbered(rng, 8, files=3)]


def with_specks(labels: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The same, where one voxel of the first file lies apart from its organ."""
    first, *others = labels
    first[1, 1, 1] = 1
    return [first, *others]


def renamed(labels: list[np.ndarray], values: list[int]) -> list[np.ndarray]:
    return [np.array([0, *values])[label] for label in labels]


def lacking(rng) -> list[np.ndarray]:
    """Twelve files of all four values, and three that lack one between or at the end."""
    others = numbered(rng, 4, files=3)
    for gone, label in zip((2, 3, 4), others, strict=True):
        label[label == gone] = 0
    return [*numbered(rng, 4, files=12), *others]


def disc_and_cup(rng, *, closed: bool = True) -> list[np.ndarray]:
    """Five eyes of two classes, one within the other or, if it is not closed, beyond its edge."""
    x, y = np.indices((90, 80))
    labels = []
    for _ in range(5):
        u, v, radius = *rng.uniform(35, 45, 2), rng.uniform(12, 20)
        off = rng.choice([-1, 1]) * radius * (rng.uniform(0, 0.2) if closed else 1)
        label = (np.hypot(x - u, y - v) < radius).astype(np.uint8)
        label[np.hypot(x - u - off, y - v) < rng.uniform(0.3, 0.7) * radius] = 2
        labels.append(label)
    return labels


def kidneys(rng) -> list[np.ndarray]:
    """A pair of them is 1 in each file, with a tumour (2) and a cyst (3) in some."""
    values = [[1, 1], [1, 1, 2], [1, 1, 2, 3], [1, 1], [1, 1]]
    return [renamed(numbered(rng, len(own), files=1), own)[0] for own in values]


def movie(rng) -> list[np.ndarray]:
    """Frames of 14 tracked cells each, of 18 in all, each of which is in two frames or more."""
    ids = [sorted(rng.permutation(18)[:14] + 1) for _ in range(6)]
    return [renamed(numbered(rng, 14, files=1), own)[0] for own in ids]


def at_edges(rng) -> list[np.ndarray]:
    """Numbered cells without those that the image's edge cut."""
    values = [[2, 3], [1, 3, 4], [1, 2, 5]]
    return [renamed(numbered(rng, len(own), files=1), own)[0] for own in values]


def frames(rng, counts: list[int], files: int = 2) -> list[np.ndarray]:
    """Stacks whose planes number their cells anew."""
    return [np.dstack([numbered(rng, n, files=1)[0] for n in counts]) for _ in range(files)]


def lacking_some(labels: list[np.ndarray], share: float, rng) -> list[np.ndarray]:
    """The same labels, each without a share of its values."""
    for label in labels:
        values = np.unique(label)[1:]
        label[np.isin(label, rng.permutation(values)[: int(share * len(values))])] = 0
    return labels


def body(rng) -> np.ndarray:
    """30 organs in two rows."""
    one, two = (organs(rng, 15, same_size=False) for _ in "ab")
    return np.concatenate([one, np.where(two > 0, two + 15, 0)])


def of_many_sizes(rng) -> list[np.ndarray]:
    """As scanned, in small and in large images, and a part left out: large numbers lie far off."""
    counts = [14, 20, 36] * 4
    labels = [numbered(rng, n, files=1, scan=True)[0] for n in counts]
    own = [np.kron(one, np.ones((n // 6,) * 2, int)) for one, n in zip(labels, counts, strict=True)]
    return lacking_some(own, 0.2, rng)


def tracked(rng) -> list[np.ndarray]:
    """Frames of a movie: 20 cells move a little, and each frame lacks three of them."""
    first = numbered(rng, 20, files=1)[0]
    moved = [np.roll(first, rng.integers(-2, 3, 2), (0, 1)) for _ in range(4)]
    return lacking_some(moved, 0.15, rng)


HALVES = [[1, 2, 3], [3, 4, 5], [1, 2, 4], [2, 3, 5], [1, 4, 5], [1, 3, 4]]
SCATTERED = [*range(2, 12), 40, 41, 47, 60]


SPEAK: dict[str, tuple[str, Any]] = {
    # many values, the same in each file
    "13 organs": ("doubt", lambda r: [organs(r, 13, same_size=False) for _ in range(4)]),
    "13 organs, twice": ("doubt", lambda r: [organs(r, 13, same_size=False) for _ in "ab"]),
    "13 layers": ("doubt", lambda r: layers(r, 13)),
    "14 cells": ("instances", lambda r: numbered(r, 14)),
    "14 cells as scanned": ("instances", lambda r: numbered(r, 14, scan=True)),
    "14 scattered values": ("doubt", lambda r: renamed(numbered(r, 14), SCATTERED)),
    "14 or 15 cells": ("instances", lambda r: [*numbered(r, 14), *numbered(r, 15)]),
    "30 organs, some missing": (
        "doubt",
        lambda r: lacking_some([body(r) for _ in "abcd"], 0.2, r),
    ),
    "30 organs, some missing, in two files": (
        "doubt",
        lambda r: lacking_some([body(r) for _ in "ab"], 0.15, r),
    ),
    "20 tracked cells, some missing": ("doubt", tracked),
    "30 cells, some missing": ("instances", lambda r: lacking_some(numbered(r, 30), 0.2, r)),
    "30 cells as scanned, some missing": (
        "instances",
        lambda r: lacking_some(numbered(r, 30, files=12, scan=True), 0.2, r),
    ),
    "cells of small and large images, some missing": ("instances", of_many_sizes),
    "14 cells, copied": ("instances", lambda r: numbered(r, 14, files=1) * 4),
    # values that some files have not
    "tissue in some files": ("doubt", lambda r: tissue(r, HALVES)),
    "tissue of one file": ("doubt", lambda r: tissue(r, [[1, 2, 3]])),
    "much tissue": ("doubt", lambda r: tissue(r, [[*range(1, 14)], [*range(7, 20)]])),
    "frames of tissue": (
        "classes",
        lambda r: [np.dstack(tissue(r, [[1, 2, 3]] * 4)) for _ in "ab"],
    ),
    "the same tissue": ("classes", lambda r: tissue(r, [[1, 2, 3]] * 4)),
    "a value missing in some files": ("doubt", lacking),
    "one of two in each file": (
        "doubt",
        lambda r: [renamed(numbered(r, 1, files=1), [v])[0] for v in (1, 2, 1, 2)],
    ),
    "kidneys": ("doubt", kidneys),
    "a movie": ("instances", movie),
    "cells at edges left out": ("instances", at_edges),
    # objects, some of which something cuts apart
    "8 or 10 cells": ("instances", lambda r: numbered(r, 8) + numbered(r, 10)),
    "one cut": ("instances", lambda r: with_cuts(eight_or_ten(r), 1)),
    "five cuts": ("instances", lambda r: with_cuts(eight_or_ten(r), 5)),
    "15 cuts": ("doubt", lambda r: with_cuts(numbered(r, 9), 15)),
    "9 cells as scanned": ("instances", lambda r: numbered(r, 9, scan=True)),
    "frames of 9 cells": ("instances", lambda r: frames(r, [9, 8, 9, 9, 7, 9])),
    "frames of 14 cells": ("instances", lambda r: frames(r, [14] * 6)),
    "one stack of such": ("instances", lambda r: frames(r, [14] * 6, files=1)),
    "9 cells, copied": ("instances", lambda r: numbered(r, 9, files=1) * 3),
    # classes, some of which are one piece
    "lungs": ("classes", lambda r: lungs(r)),
    "a speck": ("classes", lambda r: with_specks(organs(r, 3, same_size=False) for _ in range(5))),
    "disc and cup": ("classes", disc_and_cup),
    "a cup that is open": ("doubt", lambda r: disc_and_cup(r, closed=False)),
    "7 layers": ("doubt", lambda r: layers(r, 7)),
    "3 layers": ("classes", lambda r: layers(r, 3)),
}


@pytest.mark.parametrize("name", SPEAK)
def test_what_the_values_speak_for(name: str) -> None:
    kind, made = SPEAK[name]
    for seed in range(3):
        labels = made(np.random.default_rng(seed))
        if kind == "doubt":
            with pytest.raises(ValueError, match="say --label-kind classes or --label-kind inst"):
                data.guess_label_kind(labels)
        else:
            assert data.guess_label_kind(labels) == kind


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_among_numbers_is_refused(tmp_path: Path, rng, value: int) -> None:
    """Wherever it is among the files; a cell that something cuts in two, with a speck, is none."""
    cells = [*numbered(rng, 9, files=6), *numbered(rng, 1, files=1)]
    row = np.nonzero((cells[-1] > 0).any(axis=1))[0][2]
    cells[-1][row] = 0
    cells[-1][-1, -1] = 1
    masks = [(label > 0) * value for label in numbered(rng, 9, files=1)]
    for folder, labels in (("one", cells), ("mixed", [*cells, *masks])):
        for k, label in enumerate(labels):
            for part in ("images", "labels"):
                (tmp_path / folder / part).mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(tmp_path / folder / part / f"{k}.tif", label.astype(np.uint8))
    one, mixed = (
        fingerprint(tmp_path / f / "images", tmp_path / f / "labels", seconds=0)
        for f in ("one", "mixed")
    )
    assert (one.label_kind, one.doubt) == ("instances", None)
    assert mixed.label_kind is None
    assert f"label 7.tif looks like a mask: its one value, {value}, lies in" in mixed.doubt
    words = [f"{tmp_path}/mixed/{part}" for part in ("images", "labels")]  # the same in both
    assert main(["evaluate", *words]) == 2
    assert main(["evaluate", *words, "--label-kind", "instances"]) == 0


def test_the_tutorials_cells_are_instances() -> None:
    cells = data.SyntheticCells(6, (160, 160), num_cells=12)
    assert data.guess_label_kind([item["label"].numpy()[0] for item in cells]) == "instances"


@given(
    pixels(np.uint8, (7, 6), elements=st.integers(0, 3))
    | pixels(np.uint8, (4, 3, 4), elements=st.integers(0, 2))
)
def test_blobs_are_those_of_a_flood(label: np.ndarray) -> None:
    """Pieces by flooding from each pixel, one neighbour after the other."""
    summary = data.summarize_label(label)
    blobs, apart = summary.blobs, summary.planes == "apart"
    assert blobs is not None
    assert blobs.largest.keys() == {*label.flat} - {0}
    for value, share in blobs.largest.items():
        left, sizes = {*zip(*np.nonzero(label == value), strict=True)}, {}
        places = np.array([*left])
        while left:
            reached = [left.pop()]
            for one in reached:  # grows while it is read
                near = {o for o in left if max(abs(a - b) for a, b in zip(one, o, strict=True)) < 2}
                near = {o for o in near if not apart or o[2] == one[2]}
                reached += near
                left -= near
            sizes.setdefault(one[2] if apart else 0, []).append(len(reached))
        assert share == sum(map(max, sizes.values())) / len(places)
        expected = (np.log(len(places)), *(places.mean(axis=0) / label.shape))
        assert blobs.places[value] == pytest.approx(expected)


def test_as_many_objects_in_each_file_are_no_classes(rng) -> None:
    """Also where they are more than 255, which is no number of a class."""
    cells = [np.kron(1 + rng.permutation(300).reshape(20, 15), np.ones((4, 4), int))]
    cells += [np.roll(cells[0], 20 * k, axis=k % 2) for k in (1, 2)]
    for label in cells:
        label[::4] = 0
    assert data.guess_label_kind(cells) == "instances"


def test_a_volume_is_looked_at_plane_by_plane() -> None:
    label = np.zeros((96, 80, 100), np.uint8)
    label[4:20, 5:30, 6:20] = 1
    label[40:60, 30:50, 50:70] = 2
    tracemalloc.start()
    summary = data.summarize_label(label)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert summary.counts.tolist() == [label.size - 5600 - 8000, 5600, 8000]
    assert peak < 2.5 * label.size  # bytes; the label of 8 bits is not among them


def disks_of(rng, count: int) -> np.ndarray:
    """Cells of 128 x 128 px that do not touch, numbered as a scan meets them."""
    yy, xx = np.mgrid[:128, :128]
    cells: list[tuple[float, float, float]] = []
    while len(cells) < count:
        radius = rng.uniform(7, 13)
        y, x = rng.uniform(radius, 128 - radius, 2)
        if all((y - v) ** 2 + (x - u) ** 2 > (radius + r + 2) ** 2 for v, u, r in cells):
            cells.append((y, x, radius))
    cells.sort(key=lambda cell: cell[0] - cell[2])
    return sum(
        k * ((yy - y) ** 2 + (xx - x) ** 2 < r**2) for k, (y, x, r) in enumerate(cells, 1)
    ).astype(np.uint8)


@pytest.mark.parametrize("few", [[1, 1, 2, 2, 2], [3] * 10, [3] * 3, [2] * 5])
def test_a_few_cells_an_image_are_never_taken_for_classes(few: list[int]) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        with contextlib.suppress(ValueError):  # it asks
            assert data.guess_label_kind([disks_of(rng, count) for count in few]) == "instances"


@pytest.mark.data
@pytest.mark.parametrize("files", [2, 3, 5, 8])
def test_two_parts_of_an_organ_are_classes(shared: Path, files: int) -> None:
    folder = sorted((shared / "data/msd-hippocampus/labels").glob("hippocampus_*"))
    labels = [data.load_label(path) for path in folder[:files]]
    assert data.guess_label_kind(labels) == "classes"


def test_one_and_255_in_different_files_are_a_mask(disks: np.ndarray) -> None:
    mask = disks > 0
    assert data.guess_label_kind([mask * 1, mask * 255, mask * 1]) == "mask"
    assert data.guess_label_kind([mask * 1, mask * 255 - (disks == 2) * 254]) != "mask"


# --- whole numbers, whatever their size


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.uint64, np.float64])
@pytest.mark.parametrize("dims", [2, 3])
def test_large_numbers_stay_apart(tmp_path: Path, disks: np.ndarray, dtype: Any, dims: int) -> None:
    first = 2**31 if dtype == np.uint32 else 2**52 if dtype == np.float64 else 2**62
    label = np.where(disks > 0, disks + first, 0).astype(dtype)
    label = label if dims == 2 else np.stack([label] * 4, axis=-1)
    np.save(tmp_path / "a.npy", label.T)
    np.testing.assert_array_equal(data.load_label(tmp_path / "a.npy"), label)
    item = LoadImaged("label", reader=data.LabelReader("instances"), ensure_channel_first=True)(
        {"label": tmp_path / "a.npy"}
    )
    expected = disks if dims == 2 else np.stack([disks] * 4, axis=-1)
    np.testing.assert_array_equal(item["label"].numpy()[0], expected)
    if dtype != np.float64:
        np.testing.assert_array_equal(data.load_image(tmp_path / "a.npy").numpy()[0], label)


def test_ignored_pixels_stay_ignored() -> None:
    numbers = renumber(np.array([-1, 0, 2**40, 5, 2**40 + 1]), "a.tif")
    assert numbers.tolist() == [-1, 0, 2, 1, 3]
    assert renumber(np.array([-1, 0, 70_000]), "a.tif").tolist() == [-1, 0, 70_000]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.array([[0.0, 0.5]]), r"a\.npy holds the value 0\.5: labels are whole numbers"),
        (np.array([[0.0, np.nan]]), r"a\.npy holds NaN"),
        (np.array([[0, 40_000_000]], np.float32), "value 40000000 as float32, in which such"),
    ],
)
def test_values_that_are_no_numbers(tmp_path: Path, values: np.ndarray, match: str) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ValueError, match=match):
        data.load_label(tmp_path / "a.npy")


def test_scaled_numbers_are_rounded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 2.99997, 1.0004]], np.float32).T)
    assert data.load_label(tmp_path / "a.npy").tolist() == [[0, 3, 1]]


def test_a_jpeg_of_classes_is_refused(tmp_path: Path, disks: np.ndarray) -> None:
    Image.fromarray((60 * (disks % 3)).astype(np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg is a JPEG of \d+ values: its compression"):
        data.load_label(tmp_path / "a.jpg")


MASK = 255 * np.eye(5, 4, dtype=np.uint8)  # (Y, X)
OPAQUE = np.full_like(MASK, 255)


@pytest.mark.parametrize("planes", [[MASK] * 3, [MASK] * 3 + [OPAQUE], [MASK, OPAQUE]])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_mask_saved_in_colour_is_one(tmp_path: Path, planes: Any, name: str) -> None:
    file = tmp_path / name
    Image.fromarray(np.stack(planes, axis=-1)).save(file)
    np.testing.assert_array_equal(data.load_label(file, "mask"), MASK.T)
    assert look_and_head(file)[0].values.tolist() == [0, 255]


@pytest.mark.parametrize("planes", [[MASK, MASK, OPAQUE], [MASK] * 4])
def test_colours_are_no_numbers(tmp_path: Path, planes: Any) -> None:
    Image.fromarray(np.stack(planes, axis=-1)).save(tmp_path / "a.png")
    said = "a label has one: its colours are not numbers; in Fiji Image > Type > 8-bit"
    with pytest.raises(ValueError, match=said):
        data.load_label(tmp_path / "a.png")


def test_classes_are_read_by_their_values(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 4, 2, 255]], np.uint8).T)
    volume = data.LabelReader("classes", [0, 1, 2, 4]).open(tmp_path / "a.npy")
    assert volume.array.tolist() == [[0, 3, 2, 255]]
    with pytest.raises(ValueError, match=r"a\.npy holds the value 4: the classes are \[0, 2\]"):
        data.LabelReader("classes", [0, 2]).open(tmp_path / "a.npy")


def trained(tmp_path: Path, images: list[np.ndarray], labels: list[np.ndarray], *words: str) -> int:
    for folder, arrays in (("images", images), ("labels", labels)):
        (tmp_path / folder).mkdir()
        for k, array in enumerate(arrays):
            tifffile.imwrite(tmp_path / folder / f"{k}.tif", array)
    given = ["--images", f"{tmp_path}/images", "--labels", f"{tmp_path}/labels"]
    return main(["train", *given, "--output", f"{tmp_path}/b", *words])


def test_nothing_but_background(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = [np.zeros((24, 24), np.uint8)] * 2
    assert trained(tmp_path, empty, empty) == 2
    assert "no label holds anything besides 0 (labels/0.tif, labels/1.tif)" in (
        capsys.readouterr().err
    )


def test_an_image_is_not_its_own_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], disks: np.ndarray
) -> None:
    tifffile.imwrite(tmp_path / "x.tif", disks.astype(np.uint8))
    (tmp_path / "same").symlink_to(tmp_path)
    words = ["--images", f"{tmp_path}", "--labels", f"{tmp_path}/same"]
    assert main(["train", *words, "--output", f"{tmp_path}/b"]) == 2
    assert "x.tif is image and label at once: keep images and labels in two" in (
        capsys.readouterr().err
    )


def test_masks_are_not_planned_as_instances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each would be one object as large as all; an image without cells says nothing."""
    places = np.zeros((10, 10), np.uint8)
    places[::2, ::2] = 255
    mask = np.kron(places, np.ones((6, 6), np.uint8))
    labels = [mask, np.zeros_like(mask), mask[::-1].copy()]
    words = ("--label-kind", "instances", "--plan-only")
    assert trained(tmp_path, [mask] * 3, labels, *words) == 2
    assert (
        "the labels are masks: the one value of labels/0.tif, 255, lies in 25 pieces; say "
        "--label-kind mask"
    ) in capsys.readouterr().err
    numbered, _ = ndimage.label(mask, np.ones((3, 3)))
    tifffile.imwrite(tmp_path / "labels/2.tif", numbered.astype(np.uint8))
    found = fingerprint(tmp_path / "images", tmp_path / "labels")
    assert found.masks is None
    assert decide_labels(found, "instances")["label_kind"].value == "instances"
