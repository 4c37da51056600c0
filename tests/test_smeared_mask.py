"""Masks that JPEG or resampling has smeared are masks; what only resembles them is none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from unet_med import data
from unet_med.cli import main
from unet_med.data.label_reader import look_and_head
from unet_med.data.smeared_mask import sharpened


def numbered(seed: int = 0, side: int = 96) -> np.ndarray:
    """Numbered disks, some of which touch."""
    rng = np.random.default_rng(seed)
    xx, yy = np.mgrid[:side, :side]
    label = np.zeros((side, side), np.uint8)
    for number, (x, y) in enumerate(rng.uniform(8, side - 8, (8, 2)), 1):
        label[((xx - x) ** 2 + (yy - y) ** 2 < rng.uniform(6, 10) ** 2) & (label == 0)] = number
    return label


def white(seed: int = 0) -> np.ndarray:
    return ((numbered(seed) > 0) * 255).astype(np.uint8)


def through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def bordered(seed: int, *borders: int) -> np.ndarray:
    """A mask whose border, inner and outer half, is a class of its own."""
    label, mask = numbered(seed), white(seed)
    edge = ndimage.grey_dilation(label, 3) != ndimage.grey_erosion(label, 3)
    mask[edge & (label > 0)], mask[edge & (label == 0)] = borders
    return mask


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95, 100])
@pytest.mark.parametrize("seed", range(3))
def test_jpeg_gives_the_mask_back(seed: int, quality: int) -> None:
    mask = white(seed)
    smeared = through_jpeg(mask, quality)
    assert len(np.unique(smeared)) > 2
    np.testing.assert_array_equal(sharpened(smeared), mask)
    stack = np.stack([smeared, through_jpeg(white(seed + 1), quality)], axis=-1)
    np.testing.assert_array_equal(sharpened(stack), np.stack([mask, white(seed + 1)], axis=-1))


@pytest.mark.parametrize("size", [(150, 130), (60, 70)])
@pytest.mark.parametrize("way", [Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
def test_a_resized_mask_is_cut_at_half(size: tuple[int, int], way: Image.Resampling) -> None:
    small = np.asarray(Image.fromarray(white()).resize(size, way))
    np.testing.assert_array_equal(sharpened(small), np.where(small > 127, 255, 0))


def lookalikes(seed: int) -> dict[str, np.ndarray]:
    """Labels and images that resemble a smeared mask of black and white."""
    rng, label = np.random.default_rng(seed), numbered(seed)
    edge = ndimage.grey_dilation(label, 3) != ndimage.grey_erosion(label, 3)
    bright = rng.permutation(255)[: label.max() + 1].astype(np.uint8) + 1
    soft = ndimage.gaussian_filter((label > 0) * 300.0, 4).clip(0, 255)
    noisy = (40 + white(seed) / 2.0 + rng.normal(0, 15, label.shape)).clip(0, 255)
    return {
        "a sharp mask": white(seed),
        "numbers": label,
        "numbers of any grey": np.where(label, bright[label], 0).astype(np.uint8),
        "three greys": np.array([0, 128, 255], np.uint8)[label % 3],
        "four greys": np.array([0, 85, 170, 255], np.uint8)[label % 4],
        "ignored at the edges": np.where(edge, 255, label % 3).astype(np.uint8),
        "two marks": np.where(edge, np.where(label > 0, 254, 255), label > 0).astype(np.uint8),
        "a border": bordered(seed, 128, 128),
        "two borders": bordered(seed, 170, 85),
        "distances": (30 * ndimage.distance_transform_edt(label > 0)).clip(0, 255).astype("u1"),
        "a blurred image": soft.astype(np.uint8),
        "a noisy image": noisy.astype(np.uint8),
    }


@pytest.mark.parametrize("what", lookalikes(0))
@pytest.mark.parametrize("seed", range(3))
def test_what_only_resembles_one(what: str, seed: int) -> None:
    assert sharpened(lookalikes(seed)[what]) is None
    if not what.startswith(("a sharp", "ignored", "two marks")):
        for quality in (50, 75, 95):
            assert sharpened(through_jpeg(lookalikes(seed)[what], quality)) is None


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float32])
def test_more_bits_say_nothing(kind: type) -> None:
    assert sharpened(through_jpeg(white(), 75).astype(kind)) is None


@pytest.fixture
def cohort(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Polyps as they are downloaded: masks as JPEG in colours, or as TIFF of such values."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for k in range(3):
        image = (60 + white(k) // 3 + rng.integers(0, 20, (96, 96))).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"images/{k}.jpg")
        smeared = through_jpeg(white(k), 90)
        if k:
            Image.fromarray(np.stack([white(k)] * 3, -1)).save(tmp_path / f"masks/{k}.jpg")
        else:
            tifffile.imwrite(tmp_path / "masks/0.tif", smeared)
    return tmp_path


def test_the_files_are_masks_and_that_is_said(
    cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k, name in enumerate(("0.tif", "1.jpg", "2.jpg")):
        np.testing.assert_array_equal(data.load_label(cohort / "masks" / name, "mask"), white(k).T)
        look, _ = look_and_head(cohort / "masks" / name)
        assert (look.values.tolist(), look.sharpened) == ([0, 255], True)
    words = ["--images", f"{cohort}/images", "--labels", f"{cohort}/masks"]
    assert main(["train", *words, "--output", f"{cohort}/out", "--plan-only"]) == 0
    said = capsys.readouterr().out
    assert "labels look like mask" in said
    note = "3 label(s) are masks whose edges JPEG or resampling smeared, such as 0.tif: read as"
    assert note in said
    (cohort / "results").mkdir()
    for k in range(3):
        Image.fromarray(white(k)).save(cohort / f"results/{k}.png")
    assert main(["evaluate", f"{cohort}/results", f"{cohort}/masks", "--label-kind", "mask"]) == 0
    assert note in capsys.readouterr().out


def test_a_sharp_mask_is_left_alone(tmp_path: Path) -> None:
    Image.fromarray(white()).save(tmp_path / "a.png")
    look, head = look_and_head(tmp_path / "a.png")
    assert not look.sharpened
    assert not head.sharpened
