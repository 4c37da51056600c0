"""Pairs, stacks and splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unet_med import data


def write_png(path: Path, shape: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)
    return path


def test_pairs_by_name_whatever_the_suffix(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_png(tmp_path / "images" / f"{name}.png")
        write_png(tmp_path / "labels" / f"{name}.bmp")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    pairs = data.find_pairs(tmp_path / "images", tmp_path / "labels")
    assert [(Path(p["image"]).name, Path(p["label"]).name) for p in pairs] == [
        ("a.png", "a.bmp"),
        ("b.png", "b.bmp"),
    ]


def test_a_folder_of_ome_zarr_is_an_image(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 8, 6)
    image = data.save_image(tmp_path / "images" / "a.ome.zarr", pixels)
    label = data.save_image(tmp_path / "labels" / "a.zarr", pixels)
    item = {"image": str(image), "label": str(label)}
    assert data.find_pairs(tmp_path / "images", tmp_path / "labels") == [item]
    assert data.find_pairs(image, label) == [item]
    assert data.find_images([image]) == [{"image": str(image)}]


def test_missing_label_names_the_image(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "a.png")
    write_png(tmp_path / "labels" / "b.png")
    with pytest.raises(ValueError, match=r"image a\.png has no label of the same name"):
        data.find_pairs(tmp_path / "images", tmp_path / "labels")


def test_two_labels_of_one_name(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "a.png")
    write_png(tmp_path / "labels" / "a.png")
    write_png(tmp_path / "labels" / "a.bmp")
    with pytest.raises(ValueError, match="two labels of one name"):
        data.find_pairs(tmp_path / "images", tmp_path / "labels")


def test_empty_and_absent_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no images"):
        data.find_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        data.find_images(tmp_path / "nowhere")


def test_no_labels_given(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "a.png")
    with pytest.raises(ValueError, match="names no labels"):
        data.find_pairs(tmp_path / "images")


def test_stack_becomes_planes(tmp_path: Path) -> None:
    import tifffile

    for name in ("image", "label"):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", np.zeros((3, 8, 6), np.uint8), photometric="minisblack"
        )
    pairs = data.find_pairs(tmp_path / "image.tif", tmp_path / "label.tif", stacks=True)
    assert [p["slice"] for p in pairs] == [0, 1, 2]
    assert {Path(p["label"]).name for p in pairs} == {"label.tif"}
    whole = data.find_pairs(tmp_path / "image.tif", tmp_path / "label.tif")
    assert len(whole) == 1
    assert "slice" not in whole[0]


def test_monai_data_list(tmp_path: Path) -> None:
    write_png(tmp_path / "x" / "a.png")
    write_png(tmp_path / "x" / "a_label.png")
    listing = {"training": [{"image": "x/a.png", "label": "x/a_label.png", "fold": 0}]}
    (tmp_path / "list.json").write_text(json.dumps(listing))
    (pair,) = data.find_pairs(tmp_path / "list.json")
    assert pair["label"] == str(tmp_path / "x" / "a_label.png")
    assert pair["fold"] == 0


@given(count=st.integers(2, 40), fraction=st.floats(0.01, 0.99))
def test_split_is_a_partition(count: int, fraction: float) -> None:
    items = [{"image": str(k)} for k in range(count)]
    training, validation = data.split_validation(items, fraction)
    assert training
    assert validation
    assert sorted(training + validation, key=lambda i: int(i["image"])) == items


def test_split_is_spread_evenly() -> None:
    items = [{"image": k} for k in range(20)]
    _, validation = data.split_validation(items, 0.1)
    assert [item["image"] for item in validation] == [5, 15]


def test_split_of_a_single_image_uses_it_twice() -> None:
    items = [{"image": "only"}]
    assert data.split_validation(items, 0.5) == (items, items)
