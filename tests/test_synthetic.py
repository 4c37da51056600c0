"""Generated cells and shapes: known truth, long faint contacts, seeded item by item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage

from tests.oracles import deepest_cell
from unet_med.data import AutoReader, SyntheticCells, SyntheticShapes
from unet_med.data.cell_drawing import _place, _share_out, _tidy, grow_cells
from unet_med.data.synthetic import SHAPES
from unet_med.instances import ridge


def plain(item: dict[str, MetaTensor]) -> tuple[np.ndarray, np.ndarray]:
    return item["image"].numpy(), item["label"].numpy()


@pytest.mark.parametrize("size", [(64, 48), (40, 32, 12)])
@pytest.mark.parametrize("kind", ["dic", "fluorescence"])
def test_an_item_is_a_function_of_seed_and_index_alone(size: tuple[int, ...], kind: str) -> None:
    few = SyntheticCells(3, size, num_cells=8, kind=kind, seed=5)
    many = SyntheticCells(9, size, num_cells=8, kind=kind, seed=5)
    other = SyntheticCells(3, size, num_cells=8, kind=kind, seed=6)
    late = plain(many[2])
    for a, b in zip(plain(few[-1]), late, strict=True):
        np.testing.assert_array_equal(a, b)
    for different in (few[1], other[2]):
        assert (plain(different)[0] != late[0]).mean() > 0.5
    assert len(list(few)) == len(few) == 3  # iteration ends by IndexError
    with pytest.raises(IndexError):
        few[3]


@pytest.mark.parametrize("size", [(80, 64), (48, 40, 16)])
def test_items_are_camera_counts_and_numbered_instances(size: tuple[int, ...]) -> None:
    item = SyntheticCells(1, size, num_cells=9, spacing=(0.5,) * len(size))[0]
    image, label = plain(item)
    assert image.dtype == np.float32
    assert label.dtype == np.int32
    assert image.shape == label.shape == (1, *size)
    np.testing.assert_array_equal(image, image.astype(np.uint16))  # a file holds them exactly
    numbers = np.unique(label)
    np.testing.assert_array_equal(numbers, np.arange(len(numbers)))
    assert 5 <= numbers[-1] <= 9
    for number in numbers[1:]:
        assert ndimage.label(label == number)[1] == 1, "an instance in pieces"
    want = np.eye(4)
    want[range(len(size)), range(len(size))] = 0.5
    for data in item.values():
        np.testing.assert_array_equal(data.affine, want)
        assert data.meta["spatial_unit"] == "um"


def test_both_kinds_show_the_same_cells() -> None:
    dic, bright = (SyntheticCells(1, (64, 64), num_cells=8, kind=k)[0] for k in _KINDS)
    np.testing.assert_array_equal(plain(dic)[1], plain(bright)[1])
    assert np.corrcoef(plain(dic)[0].ravel(), plain(bright)[0].ravel())[0, 1] < 0.5


_KINDS = ("dic", "fluorescence")


def test_cells_stand_in_groups_with_long_contacts_and_background_between() -> None:
    crowded = [plain(SyntheticCells(4, touching=0.85)[i])[1][0] for i in range(4)]
    groups = [ndimage.label(label > 0)[1] for label in crowded]
    cells = [label.max() for label in crowded]
    assert sum(cells) >= 0.9 * 4 * 40
    assert sum(groups) < 0.45 * sum(cells)  # the mask alone merges more than half
    for label in crowded:
        assert 0.25 < (label > 0).mean() < 0.5
        contact = ridge(label).sum() / 2  # px of contact, two px wide
        assert contact > 0.6 * np.sqrt(256**2 * 0.45 / 40 / np.pi) * 40
    alone = plain(SyntheticCells(1, touching=0.0, num_cells=20)[0])[1][0]
    assert ndimage.label(alone > 0)[1] >= 0.9 * alone.max()


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("dic", 0.05, 0.3), ("fluorescence", 0.1, 0.3)]
)
def test_the_contact_is_a_faint_dark_line(kind: str, least: float, most: float) -> None:
    image, label = plain(SyntheticCells(1, kind=kind, noise=0)[0])
    line = ridge(label[0])
    beside = ndimage.binary_dilation(line, iterations=5) & ~ndimage.binary_dilation(
        line, iterations=3
    )
    cell = ndimage.binary_erosion(label[0] > 0, iterations=3)
    dark, light = image[0][line & cell].mean() - 400, image[0][beside & cell].mean() - 400
    assert least < 1 - dark / light < most


def test_noise_is_proportional_and_zero_is_none() -> None:
    clean, usual, double = (
        plain(SyntheticCells(1, (64, 64), num_cells=8, noise=n)[0])[0].astype(float)
        for n in (0, 1, 2)
    )
    np.testing.assert_allclose(double - clean, 2 * (usual - clean), atol=3)  # rounding
    assert (usual - clean).std() > 100
    steps = [np.median(abs(np.diff(image[0]))) for image in (clean, usual)]
    assert steps[0] < 0.3 * steps[1]


def test_thick_slices_show_round_cells() -> None:
    spacing = np.array([1.0, 1.0, 3.0])
    label = plain(SyntheticCells(1, (96, 96, 32), num_cells=20, spacing=spacing)[0])[1][0]
    spread = [(np.argwhere(label == n) * spacing).std(axis=0) for n in range(1, label.max() + 1)]
    x, y, z = np.mean(spread, axis=0)
    assert 0.8 < z / np.hypot(x, y) * np.sqrt(2) < 1.25


@pytest.mark.parametrize("dims", [2, 3])
def test_each_pixel_goes_to_the_cell_in_which_it_lies_deepest(dims: int) -> None:
    rng = np.random.default_rng(1)
    size = (20, 17, 9)[:dims]
    pixel = np.array([1.0, 1.0, 2.0])[:dims]
    where = np.stack(np.indices(size)) * pixel.reshape(-1, *(1,) * dims)
    where = (where + rng.uniform(-1, 1, where.shape)).astype(np.float32)
    centres = rng.uniform(0, size * pixel, (5, dims))
    shapes = [rng.normal(0, 0.15, (dims, dims)) + np.eye(dims) / 4 for _ in centres]
    owner, level = _share_out(where, centres, shapes, pixel, bend=np.sqrt(dims))
    want_owner, want_level = deepest_cell(where, centres, shapes)
    np.testing.assert_array_equal(owner, want_owner)
    np.testing.assert_allclose(level, want_level, atol=1e-5)


def test_only_the_largest_piece_of_a_cell_stays_and_slivers_go() -> None:
    owner = np.array([[1, 1, 0, 4, 4], [2, 1, 0, 1, 4], [2, 2, 3, 0, 4]], np.int32)
    want = [[1, 1, 0, 2, 2], [3, 1, 0, 0, 2], [3, 3, 0, 0, 2]]  # numbered as they are met
    np.testing.assert_array_equal(_tidy(owner, smallest=2), want)
    np.testing.assert_array_equal(_tidy(np.zeros((2, 2), np.int32), smallest=0), np.zeros((2, 2)))


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (3, 3, 3)])
def test_tiny_images(size: tuple[int, ...]) -> None:
    for kind in _KINDS:
        image, label = plain(SyntheticCells(1, size, num_cells=1, kind=kind)[0])
        assert image.shape == label.shape == (1, *size)
        assert np.isfinite(image).all()
        assert label.max() <= 1


def test_too_crowded_stops_early_and_no_cell_lies_on_another() -> None:
    radii = np.full(400, 4.0)
    centres = _place(np.random.default_rng(0), np.array([60.0, 60.0]), radii, touching=1.0)
    apart = np.linalg.norm(centres[:, None] - centres, axis=2)[~np.eye(len(centres), dtype=bool)]
    assert 40 < len(centres) < 400
    assert apart.min() >= 0.6 * 8
    scene = grow_cells(np.random.default_rng(0), (40, 40), (1, 1), 400, touching=1.0)
    assert 50 < scene.instances.max() < 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "phase"}, "kind 'phase'; it is one of 'dic', 'fluorescence'"),
        ({"size": (64,)}, r"size \(64,\); it is \(X, Y\) or \(X, Y, Z\)"),
        ({"size": (64, 0)}, r"size \(64, 0\)"),
        ({"num_cells": 0}, "num_cells 0; an image has at least 1"),
        ({"spacing": (1, 1, 1)}, r"spacing \(1, 1, 1\) for 2 axes"),
        ({"spacing": (1, 0)}, "one positive number each"),
    ],
)
def test_impossible_cells_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticCells(1, **arguments)


@pytest.mark.parametrize(
    ("size", "suffix", "ending"),
    [
        ((40, 32), None, ".tif"),
        ((24, 20, 10), None, ".nii.gz"),
        ((24, 20, 10), ".tif", ".tif"),
    ],
)
def test_written_files_hold_the_items(
    tmp_path: Path, size: tuple[int, ...], suffix: str | None, ending: str
) -> None:
    spacing = (0.5, 0.5, 2.0)[: len(size)]
    cells = SyntheticCells(2, size, num_cells=5, spacing=spacing)
    pairs = cells.write(tmp_path, suffix)
    for index, pair in enumerate(pairs):
        for path, folder, want in zip(pair, ("images", "labels"), plain(cells[index]), strict=True):
            assert path == tmp_path / folder / f"cells_{index:03d}{ending}"
            reader = AutoReader()
            data, meta = reader.get_data(reader.read(path))
            assert data.dtype == np.uint16
            np.testing.assert_array_equal(np.asarray(data).reshape(size), want[0])
            np.testing.assert_allclose(np.diag(meta["affine"])[: len(size)], spacing)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(sum(pairs, ()))


def test_shapes_are_seeded_item_by_item() -> None:
    few, many = SyntheticShapes(2, 64, seed=3), SyntheticShapes(5, 64, seed=3)
    for a, b in zip(plain(few[-1]), plain(many[1]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (plain(few[0])[0] != plain(few[1])[0]).any()
    assert len(list(few)) == 2
    with pytest.raises(ValueError, match="size 0 px"):
        SyntheticShapes(1, 0)


def test_the_image_is_the_sum_of_its_shapes() -> None:
    image, label = plain(SyntheticShapes(1, noise=0)[0])
    assert label.shape == (len(SHAPES), 192, 192) == (6, 192, 192)
    assert label.dtype == np.uint8
    assert set(np.unique(label)) == {0, 1}
    brightness, residue, *_ = np.linalg.lstsq(label.reshape(6, -1).T, image.ravel(), rcond=None)
    assert residue[0] < 1e-6
    assert ((brightness >= 0.5) & (brightness <= 1)).all()


def test_shapes_have_the_areas_of_geometry() -> None:
    u, v = (np.mgrid[:801, :801] - 400) / 320
    areas = {name: inside(u, v).sum() / 320**2 for name, inside in SHAPES.items()}
    want = {
        "triangle": 3 * np.sqrt(3) * 0.6**2,
        "circle": np.pi * 0.9**2,
        "square": 1.6**2,
        "cross": 2 * 2 * 0.5 - 0.5**2,
        "ellipse": np.pi * 0.5,
        "ring": np.pi * (0.95**2 - 0.65**2),
    }
    assert areas == pytest.approx(want, rel=0.01)


def test_more_shapes_and_noise() -> None:
    one, five = (plain(SyntheticShapes(1, shapes_per_channel=n)[0])[1] for n in (1, 5))
    assert (five.sum(axis=(1, 2)) > 1.5 * one.sum(axis=(1, 2)).mean()).all()
    image, label = plain(SyntheticShapes(1, noise=0.2)[0])
    assert image[0][~label.any(axis=0)].std() == pytest.approx(0.2, rel=0.05)
