"""Block-wise results as tiled OME-TIFF: the same as whole files, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import levels_of
from test_volumes import make_bundle, write_source

from unet_med.cli import main
from unet_med.data import load_image, tiff_writer, tiled_tiff_writer
from unet_med.data.tiff_writer import write_tiff
from unet_med.data.tiled_tiff_writer import write_tiled_tiff
from unet_med.volumes import BlockJob, open_source
from unet_med.volumes.tiff import store_of, tiff_of

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")


def metadata_of(path: Path) -> dict[str, Any]:
    """Of the OME-XML what describes the pixels, and of TIFF the size."""
    with tifffile.TiffFile(path) as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        resolution = tif.pages[0].tags["XResolution"].value
        return {"resolution": resolution, "axes": tif.series[0].axes, **pixels}


def in_zarr(folder: Path, array: np.ndarray, chunks: tuple[int, ...]) -> Any:
    return zarr.create_array(folder, data=array, chunks=chunks)


SPACING = {"X": 0.25, "Y": 0.5, "Z": 2.0}


@pytest.mark.parametrize(
    ("axes", "shape", "chunks", "dtype"),
    [
        ("YX", (300, 700), (97, 512), np.uint8),
        ("ZYX", (5, 257, 513), (3, 100, 128), np.uint16),
        ("CYX", (3, 601, 300), (1, 64, 300), np.float32),
        ("CZYX", (2, 3, 130, 515), (1, 2, 130, 64), np.float32),
        ("ZYX", (3, 1, 900), (2, 1, 300), np.float64),
        ("ZYX", (2, 1025, 2), (2, 512, 2), np.uint32),
    ],
)
def test_equal_to_a_file_written_at_once(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch,
    axes: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: type,
) -> None:  # fmt: skip
    monkeypatch.setattr(tiff_writer, "PYRAMID_ABOVE", 64)
    monkeypatch.setattr(tiled_tiff_writer, "_WINDOW", 300_000)  # several windows an image
    monkeypatch.setattr(tiled_tiff_writer, "_BATCH", 3)
    array = (rng.random(shape) * 250).astype(dtype)
    channels = array if "C" in axes else array[None]
    names = ("a", "b", "c")[: shape[0]] if "C" in axes else ()
    space = axes.removeprefix("C")
    affine = np.diag([SPACING[axis] for axis in "XYZ"] + [1.0])
    whole = channels.transpose(0, *range(channels.ndim - 1, 0, -1))  # (C, X, Y[, Z])
    write_tiff(tmp_path / "whole.tif", whole, affine, "um", channel_names=names)
    write_tiled_tiff(
        tmp_path / "tiled.tif", in_zarr(tmp_path / "in.zarr", array, chunks),
        spacing=[SPACING[axis] for axis in space], unit="um", channel_names=names,
    )  # fmt: skip
    found, expected = levels_of(tmp_path / "tiled.tif"), levels_of(tmp_path / "whole.tif")
    assert len(found) == len(expected) > 2
    for tiled, plain in zip(found, expected, strict=True):
        assert tiled.dtype == plain.dtype
        np.testing.assert_array_equal(tiled, plain)
    said, wanted = metadata_of(tmp_path / "tiled.tif"), metadata_of(tmp_path / "whole.tif")
    said.pop("TiffData"), wanted.pop("TiffData")
    assert said == wanted
    assert {p.name for p in tmp_path.iterdir()} == {"in.zarr", "tiled.tif", "whole.tif"}
    read, wanted = (load_image(tmp_path / f"{name}.tif").numpy() for name in ("tiled", "whole"))
    np.testing.assert_array_equal(read, wanted)


@settings(max_examples=50)
@given(data=st.data())
def test_windows_hold_whole_chunks_and_tiles_in_bounded_memory(data: st.DataObject) -> None:
    sides = st.integers(1, 600)
    dims = data.draw(st.integers(2, 4))
    chunks = data.draw(st.tuples(*[sides] * dims))
    itemsize = data.draw(st.sampled_from([1, 2, 4, 8]))
    steps = tiled_tiff_writer._window_sides(chunks, itemsize)
    for step, chunk in zip(steps[-2:], chunks[-2:], strict=True):
        assert step % 256 == 0
        assert step >= chunk
    for step, chunk in zip(steps[:-2], chunks[:-2], strict=True):
        assert 1 <= step <= chunk
    assert np.prod(steps) * itemsize <= 2**26


def test_bigtiff_where_four_gigabytes_might_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = in_zarr(tmp_path / "in.zarr", np.ones((100, 100), np.uint8), (50, 50))
    for limit, big in ((10_000, False), (9_999, True)):
        monkeypatch.setattr(tiff_writer, "_CLASSIC_LIMIT", limit)
        write_tiled_tiff(tmp_path / "a.tif", pixels, spacing=(1, 1), unit=None)
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            assert tif.is_bigtiff == big
            assert (tif.pages[0].tilewidth, tif.pages[0].tilelength) == (256, 256)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), 1)


def test_names_of_the_store_and_the_files() -> None:
    for name in ("a.ome.tif", "a.OME.TIFF", "a.tif", "a.tiff"):
        assert store_of(f"x/{name}") == Path("x/a.ome.zarr")
        assert tiff_of(f"x/{name}") == Path("x") / name
    assert store_of("x/b.zarr") == Path("x/b.zarr")
    assert tiff_of("x/b.zarr") is None


@pytest.fixture
def cells(tmp_path: Path, rng: np.random.Generator) -> tuple[list[str], Path]:
    """Words of a prediction of a small volume into a TIFF, and where it goes."""
    source = write_source(tmp_path / "in.ome.zarr", rng.normal(9, 2, (3, 60, 70)))
    folder = make_bundle(tmp_path / "bundle", min_size=2)
    weights = folder / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    state[[*state][-1]][0] += 1.5  # leaves less foreground
    torch.save(state, weights)
    output = tmp_path / "out.ome.tif"
    words = ["predict", source, "--bundle", folder, "--block", 2, 32, 32, "--workers", 1]
    words += ["--instances", "--probabilities", "--output", output]
    return [*map(str, words)], output


def test_a_tiff_has_what_the_zarr_and_the_whole_image_have(
    tmp_path: Path, cells: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ome_types = pytest.importorskip("ome_types")
    words, output = cells
    assert main(words) == 0
    assert "written as out.ome.tif, out_probabilities.ome.tif, out_instances" in (
        capsys.readouterr().out
    )
    store = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    assert BlockJob.load(store_of(output)).markers.count() == 12
    paths = {"": "labels/mask/0", "_instances": "labels/instances/0", "_probabilities": "0"}
    kinds = {"": "uint8", "_instances": "uint16", "_probabilities": "float32"}
    for kind, path in paths.items():
        file = tmp_path / f"out{kind}.ome.tif"
        found = tifffile.imread(file)
        assert found.dtype == kinds[kind]
        np.testing.assert_array_equal(found, store[path][:])
        pixels = ome_types.from_tiff(file, validate=False).images[0].pixels
        assert (pixels.size_x, pixels.size_y, pixels.size_z) == (70, 60, 3)
        sizes = (pixels.physical_size_x, pixels.physical_size_y, pixels.physical_size_z)
        assert sizes == (0.25, 0.25, 0.5)
    assert [c.name for c in pixels.channels] == ["background", "class 1", "class 2"]
    # The same image, at once and by the other door.
    write_tiff(
        tmp_path / "in.tif",
        np.asarray(open_source(words[1]).read([slice(None)] * 3)).transpose(0, 3, 2, 1),
        np.diag([0.25, 0.25, 0.5, 1]),
    )
    line = ["predict", tmp_path / "in.tif", "--bundle", words[3], "--output", tmp_path / "whole"]
    assert main([*map(str, line), "--instances", "--probabilities", "--tta", "none"]) == 0
    whole = {kind: tifffile.imread(tmp_path / f"whole/in_{kind}.tif")
             for kind in ("mask", "instances", "probabilities")}  # fmt: skip
    found = tifffile.imread(tmp_path / "out_probabilities.ome.tif")
    assert np.abs(found - whole["probabilities"]).max() < 1e-5
    np.testing.assert_array_equal(tifffile.imread(output), whole["mask"])
    instances = tifffile.imread(tmp_path / "out_instances.ome.tif")
    pairs = np.unique(np.stack([instances.ravel(), whole["instances"].ravel()]), axis=1)
    count = int(instances.max())  # the same but for the order: (Z, Y, X) here, (X, Y, Z) there
    assert pairs.shape[1] == count + 1 == whole["instances"].max() + 1 > 6


def test_shards_are_finished_into_a_tiff(
    tmp_path: Path, cells: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words, output = cells
    output.write_text("something else")
    assert main(words) == 2
    assert "out.ome.tif exists: go on with --resume, or choose a new name" in (
        capsys.readouterr().err
    )
    output.unlink()
    assert main([*words, "--shard", "0/2"]) == 0
    assert f"unet-med job finish {output}" in capsys.readouterr().err
    assert main(["job", "finish", str(output)]) == 2
    assert not output.exists()
    assert main(["job", "status", str(output)]) == 0
    assert "6 of 12 blocks done" in capsys.readouterr().out
    assert main([*words, "--shard", "1/2"]) == 0
    assert main(["job", "status", str(output)]) == 0
    assert f"the last step is not done: unet-med job finish {output}" in capsys.readouterr().out
    assert main(["job", "finish", str(output)]) == 0
    mask = zarr.open_array(tmp_path / "out.ome.zarr/labels/mask/0", mode="r")[:]
    np.testing.assert_array_equal(tifffile.imread(output), mask)
