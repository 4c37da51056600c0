"""Pictures: what they tell apart, where each pixel goes, and that no half file is left."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.figure import Figure
from matplotlib.image import imread
from monai.data.meta_tensor import MetaTensor

from unet_med.data import SyntheticCells
from unet_med.report import (
    DIFFERENCES,
    comparison,
    comparison_figure,
    curve,
    difference_map,
    learning_curve_figure,
)
from unet_med.report.colours import (
    PALETTE,
    UNMATCHED,
    class_colours,
    instance_colours,
    matched_colours,
    rgb,
    stretched,
)

CODE = {name: position for position, name in enumerate(DIFFERENCES)}
SQUARE = np.zeros((1, 24, 16), np.int32)
SQUARE[0, 4:12, 4:12] = 1
BUSY = hnp.arrays(np.int32, (7, 6), elements=st.integers(-1, 3))


def blocks(*numbers: int) -> np.ndarray:
    """Instances side by side, each 6 x 6 px, in a frame of background, `(8, 6 n + 2)`."""
    row = np.repeat(numbers, 6)
    return np.pad(np.tile(row, (6, 1)), 1)


def test_a_merged_border_is_where_two_true_instances_became_one() -> None:
    found = difference_map(blocks(1, 2, 3), blocks(5, 5, 6))
    want = np.where(blocks(1, 1, 1) > 0, CODE["correct"], 0)
    want[1:7, 6:8] = CODE["merged border"]
    np.testing.assert_array_equal(found, want)


def test_a_split_border_is_where_one_true_instance_came_apart() -> None:
    found = difference_map(blocks(1, 2), blocks(4, 3) + 0 * blocks(1, 2))
    assert set(np.unique(found)) == {0, CODE["correct"]}  # numbers do not matter
    result = np.pad(np.tile(np.repeat([1, 2, 3], [3, 3, 6]), (6, 1)), 1)
    found = difference_map(blocks(1, 2), result)
    want = np.where(blocks(1, 1) > 0, CODE["correct"], 0)
    want[1:7, 3:5] = CODE["split border"]
    np.testing.assert_array_equal(found, want)


def test_large_numbers_take_no_large_tables(tmp_path: Path) -> None:
    """One with all numbers up to 2**40 would take 8 TiB."""
    small, large = blocks(1, 2, 3), blocks(5, 2**31 + 7, 2**40)
    joined = np.where(large == 5, 2**31 + 7, large)
    wanted = difference_map(small, np.where(small == 1, 2, small))
    assert CODE["merged border"] in wanted
    np.testing.assert_array_equal(difference_map(large, joined), wanted)
    image = np.zeros((1, *large.shape))
    path = comparison_figure([image], [large[None]], [joined[None]], tmp_path / "a.png")
    assert imread(path).size


def test_a_gap_of_a_pixel_between_two_cells_is_no_error_of_the_border() -> None:
    result = blocks(1, 2).copy()
    result[:, 7] = 0
    found = difference_map(blocks(1, 2), result)
    assert (found[1:7, 7] == CODE["missed"]).all()
    assert set(np.unique(found)) == {0, CODE["correct"], CODE["missed"]}


def test_a_merge_across_a_separated_border_is_marked_on_the_border() -> None:
    truth = blocks(1, 2).copy()
    truth[:, 6:8] = 0  # what `separate` leaves between two that touched
    found = difference_map(truth, blocks(3, 3))
    want = np.where(blocks(1, 1) > 0, CODE["correct"], 0)
    want[1:7, 6:8] = CODE["merged border"]
    np.testing.assert_array_equal(found, want)


def test_a_missed_and_a_false_instance_make_no_border() -> None:
    found = difference_map(blocks(1, 2, 0), blocks(1, 0, 2))
    want = np.pad(
        np.tile(np.repeat([CODE[n] for n in ("correct", "missed", "false")], 6), (6, 1)), 1
    )
    np.testing.assert_array_equal(found, want)


def test_classes_have_no_borders_and_ignored_pixels_no_difference() -> None:
    truth = np.array([[0, 1, 1, 2, 255, -1, 2]])
    result = np.array([[1, 1, 2, 0, 1, 1, 2]])
    want = [[CODE[n] for n in ("false", "correct", "wrong class", "missed")] + [0, 0, 1]]
    np.testing.assert_array_equal(difference_map(truth, result, "classes"), want)
    assert difference_map(np.array([[-1, 1]]), np.array([[1, 1]])).tolist() == [[0, 1]]


@given(truth=BUSY, result=BUSY)
def test_differences_mirror_when_truth_and_result_change_places(
    truth: np.ndarray, result: np.ndarray
) -> None:
    same = difference_map(truth, truth)
    np.testing.assert_array_equal(same, truth > 0)
    result = np.maximum(result, 0)
    truth = np.maximum(truth, 0)
    there, back = difference_map(truth, result), difference_map(result, truth)
    for one, other in (("missed", "false"), ("false", "missed"), ("correct", "correct")):
        borders = (there >= CODE["merged border"]) | (back >= CODE["merged border"])
        np.testing.assert_array_equal(
            (there == CODE[one]) | borders, (back == CODE[other]) | borders
        )


def test_neighbours_differ_in_colour_and_the_result_wears_its_truths() -> None:
    truth = SyntheticCells(1)[0]["label"].numpy()[0]
    colours = instance_colours(truth)
    assert len(colours) == truth.max() + 1
    for axis in (0, 1):
        a, b = np.moveaxis(truth, axis, 0)[:-1], np.moveaxis(truth, axis, 0)[1:]
        touch = (a != b) & (a > 0) & (b > 0)
        assert (colours[a[touch]] != colours[b[touch]]).any(axis=1).all()
    same = len(PALETTE) + 1  # would wear the first colour again
    assert (instance_colours(blocks(1, same))[[1, same]].std(axis=0) > 0).any()
    shuffled = np.append(0, np.random.default_rng(0).permutation(truth.max()) + 1)
    result = shuffled[truth]
    np.testing.assert_array_equal(
        matched_colours(truth, result, colours)[result][truth > 0], colours[truth][truth > 0]
    )
    half = matched_colours(blocks(1, 2), blocks(7, 7), instance_colours(blocks(1, 2)))
    np.testing.assert_array_equal(half[7], rgb([UNMATCHED])[0])


def test_more_classes_than_colours_go_round() -> None:
    colours = class_colours(len(PALETTE) + 2)
    np.testing.assert_array_equal(colours[1], colours[len(PALETTE) + 1])
    assert len(np.unique(colours, axis=0)) == len(PALETTE) + 1


def test_x_runs_across_and_y_down(tmp_path: Path) -> None:
    image = np.zeros((1, 48, 16))
    image[0, 36:48, 0:4] = 1  # right and top
    none = np.zeros((1, 48, 16), np.uint8)
    path = comparison_figure([image], [none], [none], tmp_path / "a.png", names=["x"])
    picture = imread(path)[..., 0]
    rows, columns = np.nonzero(picture < 0.02)  # the black image, four panels
    first = slice(columns.min(), columns.max() // 4 - 8)
    panel = picture[rows.min() : rows.max() + 1, first]
    bright = np.argwhere(panel > 0.99)
    assert bright[:, 0].mean() < panel.shape[0] / 3
    assert bright[:, 1].mean() > 2 * panel.shape[1] / 3
    assert panel.shape[1] > 2 * panel.shape[0]


def test_a_row_is_as_high_as_its_image_is(tmp_path: Path) -> None:
    images = [np.zeros((1, 48, 16)), np.zeros((1, 16, 48))]  # wide, and tall
    none = [image.astype(np.uint8) for image in images]
    dark = imread(comparison_figure(images, none, none, tmp_path / "a.png"))[..., 0] < 0.02
    rows = np.flatnonzero(dark.any(axis=1))
    wide, tall = (np.count_nonzero(dark[row]) for row in (rows[3], rows[-3]))
    assert wide == pytest.approx(tall, rel=0.05)


def test_pixels_have_their_proportions_and_a_bar_their_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(comparison, "save", lambda figure, *_: figures.append(figure))
    none = np.zeros((1, 100, 50), np.uint8)
    affine = torch.diag(torch.tensor([0.5, 1.0, 3.0, 1.0]))
    meta = {"spatial_unit": "um", "spacing_source": "ome"}
    stated = MetaTensor(torch.zeros(1, 100, 50), affine=affine, meta=meta)
    assumed = MetaTensor(torch.zeros(1, 100, 50), affine=affine, meta={"spacing_source": "assumed"})
    comparison_figure([stated, assumed, none], [none] * 3, [none] * 3, "a.png")
    size = (0.02, 0.04, "mm")
    comparison_figure([none], [none], [none], "a.png", pixel_sizes=[size])
    found = []
    for axes in (row[0] for figure in figures for row in np.reshape(figure.axes, (-1, 4))):
        bars = [line.get_xdata() for line in axes.lines]
        lengths = [round(float(np.ptp(bar)), 6) for bar in bars]  # in pixels
        found.append((axes.get_aspect(), lengths, [text.get_text() for text in axes.texts]))
    # 100 pixels of 0.5 um: three tenths are 15 um; of 0.02 mm: 0.6 mm
    assert found == [(2, [20], ["10 µm"]), (1, [], []), (1, [], []), (2, [25], ["0.5 mm"])]
    first, second = (figure.axes for figure in figures)
    assert [axes.lines[:] for axes in (*first[1:], *second[1:])] == [[]] * 14


def test_no_line_is_lost_where_an_image_is_drawn_smaller(tmp_path: Path) -> None:
    lines = np.zeros((1, 1500, 400), np.uint8)
    lines[0, 100:1401:101] = 1  # 13 columns of one pixel each
    none = np.zeros_like(lines)
    path = comparison_figure([none], [lines], [none], tmp_path / "a.png", kind="classes")
    row = imread(path)[120].astype(float)
    missed = (row[:, 0] - row[:, 2] > 0.1) & (np.arange(len(row)) > 0.75 * len(row))
    assert np.count_nonzero(np.diff(missed.astype(int)) == 1) == 13


def test_a_volume_shows_its_middle_slice(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image, truth, result = (rng.integers(0, 3, (1, 20, 12, 5)) for _ in range(3))
    volume = comparison_figure([image], [truth], [result], tmp_path / "volume.png")
    plane = comparison_figure(
        [image[..., 2]], [truth[..., 2]], [result[..., 2]], tmp_path / "plane.png"
    )
    np.testing.assert_array_equal(imread(volume), imread(plane))


@pytest.mark.parametrize("kind", ["instances", "classes"])
def test_every_kind_of_image_can_be_drawn(tmp_path: Path, kind: Any) -> None:
    rng = np.random.default_rng(0)
    spoilt = rng.normal(size=(1, 24, 16))
    spoilt[0, 0] = np.nan
    images = [
        rng.integers(0, 65535, (1, 24, 16)).astype(np.uint16),
        rng.integers(0, 255, (3, 24, 16)).astype(np.uint8),
        np.full((2, 24, 16), 7.0),
        spoilt,
    ]
    truths = [SQUARE, 0 * SQUARE, SQUARE - 1, SQUARE * 255]
    path = comparison_figure(
        images,
        truths,
        [0 * SQUARE, SQUARE, SQUARE, SQUARE * 1.0],
        tmp_path / "new" / "a.png",
        names=list("abcd"),
        scores=[{"SEG": 0.5, "DET": 1}] * 4,
        kind=kind,
    )
    height, width, _ = imread(path).shape
    assert width == 1664
    assert height > 1000
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_a_spoilt_pixel_does_not_hide_the_image() -> None:
    ramp = np.linspace(0, 1, 1000).reshape(50, 20)
    spoilt = ramp.copy()
    spoilt[0, 0], spoilt[0, 1] = np.nan, np.inf
    np.testing.assert_allclose(stretched(spoilt)[1:], stretched(ramp)[1:], atol=0.01)
    assert not np.isnan(stretched(np.full((2, 2), np.nan))).any()


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    image = np.zeros((1, 24, 16))
    with pytest.raises(ValueError, match="1 images, 0 truths and 1 results"):
        comparison_figure([image], [], [SQUARE], tmp_path / "a.png")
    with pytest.raises(ValueError, match="0 images, 0 truths and 0 results"):
        comparison_figure([], [], [], tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"row 0: image \(1, 24, 16\), truth \(1, 24, 15\)"):
        comparison_figure([image], [SQUARE[..., :15]], [SQUARE], tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"shape \(24, 16\); pictures need \(C, X, Y\[, Z\]\)"):
        comparison_figure([image[0]], [SQUARE], [SQUARE], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_half_a_picture_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curve.png"
    path.write_bytes(b"yesterday")

    def breaks(_: Figure, beside: Path, **options: object) -> None:
        Path(beside).write_bytes(b"half")
        assert path.read_bytes() == b"yesterday"
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", breaks)
    with pytest.raises(OSError, match="disk full"):
        learning_curve_figure([{"epoch": 1, "loss": 1.0}], path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"yesterday"]


HISTORY = [
    {"epoch": 1, "minutes": 0.5, "train_loss": 0.9},
    {"epoch": 2, "minutes": 1.0, "train_loss": 0.5, "val_loss": 0.6, "val_seg": 0.7, "dice": 0.1},
    {"epoch": 3, "minutes": 1.5, "train_loss": 0.4},
    {"epoch": 4, "minutes": 2.0, "train_loss": 0.3, "val_loss": 0.5, "val_seg": 0.7, "dice": 0.9},
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that would have been saved."""
    figures: list[Figure] = []
    monkeypatch.setattr(
        curve, "save", lambda figure, path, *_: figures.append(figure) or Path(path)
    )
    return figures


@pytest.mark.parametrize("x", ["epoch", "minutes"])
def test_the_curve_draws_losses_left_scores_right_and_marks_the_first_best(
    x: Any, drawn: list[Figure]
) -> None:
    learning_curve_figure(HISTORY, "a.png", x=x)
    left, right = drawn[0].axes
    lines = {line.get_label(): np.array(line.get_data()).T.tolist() for line in left.get_lines()}
    assert lines == {
        "train loss": [[row[x], row["train_loss"]] for row in HISTORY],
        "val loss": [[row[x], row["val_loss"]] for row in HISTORY[1::2]],
    }
    assert left.get_xlabel() == x
    marks = {line.get_label(): np.array(line.get_data()).T.tolist() for line in right.get_lines()}
    assert marks == {
        "val seg": [[row[x], 0.7] for row in HISTORY[1::2]],
        "dice": [[HISTORY[1][x], 0.1], [HISTORY[3][x], 0.9]],
        "best: 0.700, epoch 2": [[HISTORY[1][x], 0.7]],
    }
    assert right.get_ylim() == (0, 1.03)


def test_the_best_epoch_need_not_be_the_first_or_last(drawn: list[Figure]) -> None:
    scores = enumerate((0.2, 0.8, 0.5), start=1)
    learning_curve_figure([{"epoch": epoch, "dice": score} for epoch, score in scores], "a.png")
    assert "best: 0.800, epoch 2" in [line.get_label() for line in drawn[0].axes[1].get_lines()]


def test_a_curve_of_losses_alone_has_one_axis(drawn: list[Figure]) -> None:
    learning_curve_figure([{"epoch": 1, "loss": 2.0}], "a.png")
    assert len(drawn[0].axes) == 1


def test_scores_beyond_one_are_not_cut_off(drawn: list[Figure]) -> None:
    learning_curve_figure([{"epoch": 1, "psnr": 30.0}, {"epoch": 2, "psnr": 35.0}], "a.png")
    assert drawn[0].axes[1].get_ylim()[1] > 35


def test_the_curve_reaches_the_disk(tmp_path: Path) -> None:
    for name in ("curve.png", "curve.svg"):
        assert learning_curve_figure(HISTORY, tmp_path / name).stat().st_size > 1000
    assert imread(tmp_path / "curve.png").std() > 0.05


def test_a_history_without_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match="0 epochs of history"):
        learning_curve_figure([], "a.png")
    with pytest.raises(ValueError, match="give at least 1, each with 'minutes'"):
        learning_curve_figure([{"epoch": 1, "loss": 1.0}], "a.png", x="minutes")


def test_nothing_global_is_touched(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, unet_med.report as r;"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules;"
        "z = np.zeros((1, 8, 8), int);"
        f"r.comparison_figure([z], [z], [z], {str(tmp_path / 'a.png')!r});"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_written_figure_frees_its_canvas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes, at once: Python's collector may not come by for hundreds of steps."""
    from matplotlib.backends.backend_agg import RendererAgg

    canvases = []
    draw = RendererAgg.__init__

    def note(self: RendererAgg, *words: Any) -> None:
        draw(self, *words)
        canvases.append(weakref.ref(self))

    monkeypatch.setattr(RendererAgg, "__init__", note)
    gc.disable()
    try:
        learning_curve_figure([{"epoch": 1, "loss": 0.5, "SEG": 0.7}], tmp_path / "curve.png")
        assert [canvas() for canvas in canvases] == [None] * len(canvases) != []
    finally:
        gc.enable()
