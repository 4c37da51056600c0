"""Inputs that broke other programs, or misled their users, after public reports.

Each is right here, or refused in a sentence; docs/explanation/what-can-go-wrong.md has the table.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from doors import run
from PIL import Image

from unet_med import planning
from unet_med.data import find_pairs, load_image
from unet_med.data.label_reader import load_label

CASES = 3
SIDES = (40, 32)  # Y, X; of volumes X, Y
Write = Callable[[Path, int], Any]


def grey(k: int, sides: tuple[int, ...] = SIDES) -> np.ndarray:
    noise = np.random.default_rng(k).normal(0, 9, sides)
    return np.clip(60 + 120 * mask(k, sides) + noise, 0, 255).astype(np.uint8)


def mask(k: int, sides: tuple[int, ...] = SIDES) -> np.ndarray:
    y, x = np.indices(sides)
    return ((y - 12 - 2 * k) ** 2 + (x - 15) ** 2 < 40).astype(np.uint8)


def solid(plane: np.ndarray) -> np.ndarray:
    return np.stack([plane] * 5, -1)


def nifti(path: Path, array: np.ndarray, endianness: str = "<") -> Path:
    header = nib.Nifti1Header(endianness=endianness)
    header.set_data_dtype(array.dtype.newbyteorder(endianness))
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0]), header), path)
    return path


def cohort(folder: Path, image: Write, label: Write) -> Path:
    for part, write in (("images", image), ("labels", label)):
        (folder / part).mkdir()
        for k in range(CASES):
            write(folder / part, k)
    return folder


def tiff(folder: Path, k: int) -> None:
    tifffile.imwrite(folder / f"c{k}.tif", grey(k))


def tiff_mask(folder: Path, k: int) -> None:
    tifffile.imwrite(folder / f"c{k}.tif", mask(k))


def volume(folder: Path, k: int) -> None:
    nifti(folder / f"c{k}.nii.gz", solid(grey(k)).astype(np.int16))


def volume_mask(factor: float) -> Write:
    return lambda folder, k: nifti(folder / f"c{k}.nii.gz", solid(mask(k)) * np.float64(factor))


def of_nan_slope(folder: Path, k: int) -> None:
    path = nifti(folder / f"c{k}.nii", solid(mask(k)))
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<ff", np.nan, np.nan)
    path.write_bytes(bytes(content))


def big_endian(array: Callable[[int], np.ndarray]) -> Write:
    return lambda folder, k: nifti(folder / f"c{k}.nii", solid(array(k)).astype(np.int16), ">")


def of_four_axes(folder: Path, k: int) -> None:
    nifti(folder / f"c{k}.nii.gz", solid(grey(k)).astype(np.int16)[..., None])


def packed_rgb(folder: Path, k: int) -> None:
    pixels = np.zeros((*SIDES, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(pixels, np.eye(4)), folder / f"c{k}.nii")


def layers(folder: Path, k: int) -> None:
    import SimpleITK as sitk

    array = np.stack([solid(mask(k)).T] * 2, -1)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(folder / f"c{k}.nrrd"))


def nrrd(folder: Path, k: int) -> None:
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(solid(grey(k)).T), str(folder / f"c{k}.nrrd"))


def ct_as_label(folder: Path, k: int) -> None:
    nifti(folder / f"c{k}.nii.gz", solid(grey(k)).astype(np.int16) * 5 - 1024)


def separate_planes(folder: Path, k: int) -> None:
    colours = np.stack([grey(k), grey(k) // 2, grey(k) // 3])
    tifffile.imwrite(folder / f"c{k}.tif", colours, photometric="rgb", planarconfig="separate")


def colours_of(*channels: int) -> Write:
    """PNG with so many channels, one number a case."""

    def write(folder: Path, k: int) -> None:
        pixels = np.stack([grey(k) // (c + 1) for c in range(channels[k])], -1)
        Image.fromarray(pixels.squeeze()).save(folder / f"c{k}.png")

    return write


def png_mask(folder: Path, k: int) -> None:
    Image.fromarray(mask(k) * 255).save(folder / f"c{k}.png")


def table_of_colours(folder: Path, k: int) -> None:
    table = np.zeros((3, 256), np.uint16)
    table[:, 0], table[0, 1] = 65535, 50000
    path = folder / f"c{k}.tif"
    tifffile.imwrite(path, mask(k), photometric="palette", colormap=table)


def ink_on_white(folder: Path, k: int) -> None:
    """One bit a pixel, 0 is white: as scanners and ImageJ's inverted masks are."""
    path = folder / f"c{k}.tif"
    tifffile.imwrite(path, mask(k).astype(bool), photometric="miniswhite")
    with tifffile.TiffFile(path) as tif:
        assert (tif.pages[0].photometric, tif.pages[0].bitspersample) == (0, 1)


def of_eight_bits(folder: Path, k: int) -> None:
    """400 cells, numbered in 8 bits."""
    numbers = np.zeros((200, 200), np.int32)
    for n in range(400):
        y, x = 10 * (n // 20), 10 * (n % 20)
        numbers[y + 2 : y + 8, x + 2 : x + 8] = n + 1
    tifffile.imwrite(folder / f"c{k}.tif", (numbers % 256).astype(np.uint8))


def larger(folder: Path, k: int) -> None:
    tifffile.imwrite(folder / f"c{k}.tif", grey(k, (200, 200)))


def capitals(folder: Path, k: int) -> None:
    tifffile.imwrite(folder / f"c{k}.TIF", grey(k))


def levels(array: Callable[[int], np.ndarray]) -> Write:
    def write(folder: Path, k: int) -> None:
        with tifffile.TiffWriter(folder / f"c{k}.tif") as tif:
            tif.write(array(k), subifds=1, tile=(16, 16))
            tif.write(array(k)[::2, ::2], subfiletype=1, tile=(16, 16))

    return write


def with_thumbnail(folder: Path, k: int) -> None:
    with tifffile.TiffWriter(folder / f"c{k}.tif") as tif:
        tif.write(grey(k))
        tif.write(grey(k)[::4, ::4])


def without_companion(folder: Path, k: int) -> None:
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    only = '<BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:2"/>'
    text = f'<?xml version="1.0"?><OME xmlns="{schema}" UUID="urn:uuid:1">{only}</OME>'
    tifffile.imwrite(folder / f"c{k}.ome.tif", grey(k), description=text, metadata=None)


def shown_turned(folder: Path, k: int) -> None:
    square = Image.fromarray(grey(k, (32, 32)))
    exif = square.getexif()
    exif[0x0112] = 6
    square.save(folder / f"c{k}.jpg", exif=exif)


def turned_mask(folder: Path, k: int) -> None:
    Image.fromarray(np.rot90(mask(k, (32, 32)), -1) * 255).save(folder / f"c{k}.png")


def named_like_channels(array: Callable[[int], np.ndarray]) -> Write:
    return lambda folder, k: nifti(folder / f"PID_{k:04}.nii.gz", solid(array(k)))


RIGHT: dict[str, tuple[Write, Write]] = {
    "labels of 0.99996": (volume, volume_mask(0.99996)),  # spinalcordtoolbox #4346
    "labels whose slope is NaN": (volume, of_nan_slope),  # fmriprep #2507
    "big endian": (big_endian(grey), big_endian(mask)),  # niworkflows #1061
    "a fourth axis of length 1": (of_four_axes, volume_mask(1)),  # nibabel #299
    "colours in separate planes": (separate_planes, tiff_mask),  # imagej2 #196
    "a mask with a table of colours": (tiff, table_of_colours),  # QuPath #993
    "one bit, 0 is white": (tiff, ink_on_white),  # scikit-image #1940
    "suffixes in capitals": (capitals, png_mask),  # webknossos-libs #1099
    "pyramids": (levels(grey), levels(mask)),  # tiatoolbox #452
    "cases that end in _0000": (  # nnU-Net #193
        named_like_channels(grey),
        named_like_channels(mask),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_read_as_the_same_cohort_in_plain_files(tmp_path: Path, name: str) -> None:
    """Pixels, labels and what is planned, against arrays."""
    folder = cohort(tmp_path, *RIGHT[name])
    pairs = find_pairs(folder / "images", folder / "labels")
    assert len(pairs) == CASES
    for k, pair in enumerate(pairs):
        flat = pair["image"].lower().endswith(".tif")
        turn = np.transpose if flat else solid  # files of planes are read as (X, Y)
        image, label = load_image(pair["image"]).numpy(), load_label(pair["label"])
        np.testing.assert_array_equal(image[0], turn(grey(k)))
        np.testing.assert_array_equal(label > 0, turn(mask(k)) > 0)
        assert image.shape[0] == (3 if name.startswith("colours") else 1)
    plan = planning.make_plan(planning.fingerprint(folder / "images", folder / "labels"))
    share = np.mean([mask(k) for k in range(CASES)])
    assert plan.value("label_kind") == "mask"
    assert list(plan.data.frequencies.values())[1] == pytest.approx(share)


REFUSED: dict[str, tuple[Write, Write, str]] = {
    "labels of 0.9882": (  # TorchIO #220
        volume,
        volume_mask(0.9882),
        "label c0.nii.gz holds the value 0.9882: labels are whole numbers; if it was resampled, "
        "export it by nearest neighbour, and if it was scaled (scl_slope of NIfTI), round it and "
        "save integers",
    ),
    "a CT as label": (  # nnU-Net #1007
        volume,
        ct_as_label,
        "labels are 0 and above, and -1 marks ignored pixels (--unknown says another value); is it "
        "an image, such as a CT?",
    ),
    "labels of 14.2": (  # nnU-Net #1183
        volume,
        volume_mask(14.2452545),
        "label c0.nii.gz holds the value 14.2453: labels are whole numbers",
    ),
    "packed RGB": (  # nibabel #979
        packed_rgb,
        volume_mask(1),
        "c0.nii as NIfTI: its samples are packed RGB; convert it to one channel a colour",
    ),
    "a label of layers": (  # nnU-Net #2925
        nrrd,
        layers,
        "label c0.nrrd has 2 channels, a label has one",
    ),
    "grey among colours": (  # YOLOX #1666
        colours_of(1, 3, 3),
        png_mask,
        "image images/c1.png has 3 channel(s), images/c0.png 1: save all alike, grey, RGB",
    ),
    "transparency": (  # image-segmentation-keras #370
        colours_of(3, 3, 4),
        png_mask,
        "image images/c2.png has 4 channel(s), images/c0.png 3: save all alike, grey, RGB",
    ),
    "400 cells in 8 bits": (  # cellpose #88
        larger,
        of_eight_bits,
        "label c0.tif holds each of 1 to 255 in 8 bits, and more objects than that",
    ),
    "a thumbnail": (  # large_image #943
        with_thumbnail,
        tiff_mask,
        "c0.tif as TIFF: it holds 2 images (0: YX (40, 32), 1: YX (10, 8)); choose one with --seri",
    ),
    "a companion that is missing": (  # Bio-Formats #3732
        without_companion,
        tiff_mask,
        "c0.ome.tif as TIFF: its OME-XML refers to another file, 'set.companion.ome'; save the set",
    ),
    "EXIF turns the picture": (  # coco-annotator #228
        shown_turned,
        turned_mask,
        "c0.jpg as picture: its EXIF data say to show it turned (orientation 6)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_a_sentence(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image, label, said = REFUSED[name]
    folder = cohort(tmp_path, image, label)
    words = ["--images", folder / "images", "--labels", folder / "labels", "--plan-only"]
    assert run("train", *words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("unet-med: error: ")
    assert said in error


def test_lists_of_windows_and_lists_that_count_otherwise(tmp_path: Path) -> None:
    """Backslashes after a byte order mark (SelfMedMAE #3); numTraining (nnU-Net #2346)."""
    folder = cohort(tmp_path, tiff, tiff_mask)
    items = [{"image": f"images\\c{k}.tif", "label": f".\\labels\\c{k}.tif"} for k in range(CASES)]
    text = json.dumps({"numTraining": 100, "training": items})
    (folder / "list.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = planning.fingerprint(folder / "list.json")
    assert [case.image.name for case in found.cases] == [f"images/c{k}.tif" for k in range(CASES)]
    assert found.found_by == (
        "3 image(s) of 'training' of list.json",
        "it says that there are 100 (numTraining)",
    )


def test_masks_whose_white_differs_from_file_to_file(tmp_path: Path) -> None:
    """0 and 1, 0 and 128, 0 and 255: one mask; 1 here and 2 there are none."""

    def white(*values: int) -> Write:
        return lambda folder, k: tifffile.imwrite(folder / f"c{k}.tif", mask(k) * values[k])

    for number, (values, same) in enumerate({(1, 128, 255): True, (1, 2, 2): False}.items()):
        (tmp_path / str(number)).mkdir()
        folder = cohort(tmp_path / str(number), tiff, white(*map(np.uint8, values)))
        found = planning.fingerprint(folder / "images", folder / "labels")
        assert (found.label_kind == "mask") == same


def test_what_is_no_image_and_no_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("list.csv", "images.zip"):
        (tmp_path / name).write_bytes(b"image,label\n")
        assert run("train", "--images", tmp_path / name, "--labels", tmp_path, "--plan-only") == 2
        error = capsys.readouterr().err
        assert f"{name} has no suffix of an image" in error
        assert "nor of a data list (.json)" in error


def test_black_images_and_long_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """An image of one value trains (StarDist #163); a name too long for a result is set aside."""

    def with_a_black_one(folder: Path, k: int) -> None:
        tifffile.imwrite(folder / f"c{k}.tif", grey(k) * (k != 1))

    folder = cohort(tmp_path, with_a_black_one, tiff_mask)
    words = ["--images", folder / "images", "--labels", folder / "labels", "--device", "cpu"]
    words += ["--features", 2, 4, "--epochs", 1, "--output", folder / "b"]
    assert run("train", *words) == 0
    rows = (folder / "b/models/learning_curve.csv").read_text().splitlines()
    values = [float(value) for value in rows[-1].split(",")]
    assert np.isfinite(values).all()
    (folder / "images" / "c2.tif").rename(folder / "images" / ("x" * 250 + ".tif"))
    capsys.readouterr()
    code = run("predict", folder / "images", "--bundle", folder / "b", "--output", folder / "out")
    assert code == 3
    assert "File name too long" in capsys.readouterr().err
    assert {path.name for path in (folder / "out").glob("*.tif")} == {"c0_mask.tif", "c1_mask.tif"}
    assert "c1.tif is far from what was trained on: all its pixels are 0" in caplog.text
