"""CZI as the microscope's library writes it: axes, pixel size, channels, scenes, limits."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from unet_med.cli import main
from unet_med.data import BioioReader, SyntheticCells, load_header, load_image, save_image
from unet_med.data.bioio_reader import PLUGINS, _child
from unet_med.data.child import Child

czi = pytest.importorskip("pylibCZIrw.czi", reason="writes CZI; needs the extra [bioio]")
pytest.importorskip("bioio_czi")

CPU = ("--device", "cpu")
TITLE = "a" * 300
PIXELS = np.random.default_rng(0).integers(0, 4000, (2, 3, 2, 20, 30)).astype(np.uint16)  # TZCYX


def write_czi(path: Path, pixels: np.ndarray, *, scenes: int = 1, size: bool = True) -> Path:
    """A CZI of pixels `(T, Z, C, Y, X)`, the scenes beside each other, the k-th with k added."""
    with czi.create_czi(str(path)) as file:
        for scene in range(scenes):
            for t, z, c in np.ndindex(pixels.shape[:3]):
                where = {"location": (scene * 100, 0), "scene": scene} if scenes > 1 else {}
                plane = {"T": t, "Z": z, "C": c}
                file.write(data=pixels[t, z, c][..., None] + scene, plane=plane, **where)
        sizes = {"scale_x": 0.25e-6, "scale_y": 0.5e-6, "scale_z": 1.5e-6} if size else {}
        names = dict(enumerate(["DAPI", "GFP"][: pixels.shape[2]]))
        file.write_metadata(document_name=TITLE, channel_names=names, **sizes)
    return path


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_czi(tmp_path_factory.mktemp("czi") / "a.czi", PIXELS[:1])


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_czi(tmp_path_factory.mktemp("czi") / "movie.CZI", PIXELS)


def test_a_czi_arrives_like_a_tiff_of_the_same(tmp_path, stack):
    affine = np.diag([0.25, 0.5, 1.5, 1])
    pixels = PIXELS[0].transpose(1, 3, 2, 0)  # (C, X, Y, Z)
    tiff = save_image(tmp_path / "a.tif", pixels, affine, channel_names=("DAPI", "GFP"))
    ours, theirs = load_image(stack), load_image(tiff)
    assert ours.dtype == theirs.dtype == torch.float32
    torch.testing.assert_close(ours.as_tensor(), theirs.as_tensor(), rtol=0, atol=0)
    torch.testing.assert_close(ours.affine, theirs.affine)
    differ = {"filename_or_obj", "spacing_source"}
    assert ours.meta["spacing_source"] == "bioio"
    assert {k for k in ours.meta.keys() ^ theirs.meta.keys()} == set()
    assert ours.meta["spatial_unit"] == theirs.meta["spatial_unit"] == "um"
    assert differ <= set(ours.meta)
    for path in (stack, tiff):
        header = load_header(path)
        assert header.array.shape == (2, 30, 20, 3)
        assert header.pixel_size == pytest.approx((0.25, 0.5, 1.5))
        assert header.channel_names == ("DAPI", "GFP")


def test_single_axes_go_and_an_unknown_size_is_said(tmp_path):
    path = write_czi(tmp_path / "plane.czi", PIXELS[:1, :1, :1], size=False)
    image = load_image(path)
    np.testing.assert_array_equal(image.numpy()[0], PIXELS[0, 0, 0].T)
    assert image.shape == (1, 30, 20)
    assert image.meta["spacing_source"] == "assumed"
    header = load_header(path, pixel_size=0.5)
    assert (header.pixel_size, header.spacing_source) == ((0.5, 0.5), "given")
    assert header.channel_names == ()


@pytest.mark.parametrize(("time", "channel"), [(1, None), (0, 1)])
def test_time_and_channel_are_chosen_as_of_a_tiff(movie, time, channel):
    with pytest.raises(ValueError, match=r"take one of T with --time 0"):
        load_image(movie)
    image = load_image(movie, time=time, channel=channel).numpy()
    expected = PIXELS[time].transpose(1, 3, 2, 0)
    np.testing.assert_array_equal(image, expected if channel is None else expected[channel][None])
    with pytest.raises(ValueError, match="index 7 along 'T' is not in axes"):
        load_image(movie, time=7)
    with pytest.raises(ValueError, match=r"--axes is for TIFF files, and movie\.CZI names its own"):
        load_image(movie, axes="CYX")


def name_scenes(path: Path, names: str) -> None:
    """Describe the scenes as Zeiss does, in the place of a long title: its writer does not."""
    scenes = "".join(f'<Scene Index="{k}" Name="{name}"/>' for k, name in enumerate(names))
    more = f"<S><Scenes>{scenes}</Scenes></S>".encode()
    content = path.read_bytes()
    assert content.count(b"<Dimensions>") == content.count(TITLE.encode()) == 1
    content = content.replace(TITLE.encode(), TITLE[len(more) :].encode())
    path.write_bytes(content.replace(b"<Dimensions>", b"<Dimensions>" + more))


def test_scenes_are_chosen_as_series(tmp_path):
    path = write_czi(tmp_path / "scenes.czi", PIXELS[:1, :1, :1], scenes=2)
    with pytest.raises(ValueError, match="it holds 2 scenes, and its metadata describe 1"):
        load_header(path)
    name_scenes(path, "AB")
    match = r"it holds 2 images \(0: A, 1: B\); choose one with --series 0"
    with pytest.raises(ValueError, match=match):
        load_header(path)
    for scene in range(2):
        image = load_image(path, series=scene).numpy()
        np.testing.assert_array_equal(image[0], PIXELS[0, 0, 0].T + scene)
    with pytest.raises(ValueError, match="series 2 is not among its 2 images"):
        load_header(path, series=2)


def test_limits_hold(stack, tmp_path):
    with pytest.raises(ValueError, match="once decoded, the limit is"):
        load_image(stack, max_bytes=1000)
    broken = tmp_path / "cut.czi"
    broken.write_bytes(stack.read_bytes()[:4000])
    for damaged in (broken, _noise(tmp_path / "noise.czi")):
        with pytest.raises(
            ValueError, match=f"cannot read .*{damaged.name} as file of a microscope"
        ):
            load_image(damaged)
    assert load_image(stack).shape == (2, 30, 20, 3)  # and the next one is read


def _noise(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(1).bytes(5000))
    return path


CRASHING = """
import os, signal, sys
for line in sys.stdin:
    if b"crash" in line.encode():
        os.kill(os.getpid(), signal.SIGSEGV)
    print('{"said": 1}', flush=True)
"""


def test_a_crash_ends_the_child_alone_and_the_next_request_has_another(tmp_path, monkeypatch):
    (tmp_path / "crashing.py").write_text(CRASHING)
    monkeypatch.syspath_prepend(tmp_path)
    child = Child("crashing")
    assert child.ask({"path": "good"}) == ({"said": 1}, None)
    with pytest.raises(ValueError, match=r"ended \(SIGSEGV\): the file is damaged"):
        child.ask({"path": "crash"})
    assert child.ask({"path": "good"}) == ({"said": 1}, None)
    child.close()


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="asks Linux for the limit")
def test_the_child_may_take_no_more_memory(stack):
    load_header(stack)
    child, found = _child(), []
    assert child._process.pid != os.getpid()
    for most in (50_000_000, 3_000_000_000, 50_000_000):
        load_header(stack, max_bytes=most)
        limits = Path(f"/proc/{child._process.pid}/limits").read_text()
        line = next(line for line in limits.splitlines() if line.startswith("Max address space"))
        found.append(int(line.split()[3]))
    assert found[1] - found[0] == pytest.approx(3 * (3_000_000_000 - 50_000_000), rel=0.01)
    assert found[2] == pytest.approx(found[0], rel=0.01)


def test_without_the_extra_one_sentence_says_what_to_install(stack, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for suffix in (".czi", ".nd2", ".lif"):
        path = stack.with_suffix(suffix)
        path.touch()
        expected = rf"{suffix} files need {PLUGINS[suffix]}: pip install 'unet-med\[bioio\]'"
        with pytest.raises(ValueError, match=expected) as caught:
            load_image(path)
        assert "damaged" not in str(caught.value)


def test_nothing_of_bioio_is_imported_here(stack, monkeypatch):
    names = {"bioio_czi", "pylibCZIrw", "dask"}
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)  # of the tests' own imports
    load_image(stack)
    assert not names & set(sys.modules)


def test_suffixes_have_a_plugin():
    assert set(BioioReader.suffixes) == set(PLUGINS)


def test_a_czi_trains_and_becomes_instances_with_its_pixel_size(tmp_path):
    SyntheticCells(3, (48, 40), num_cells=5).write(tmp_path / "tif")
    (tmp_path / "images").mkdir()
    for path in (tmp_path / "tif/images").iterdir():
        grey = load_image(path)[0].numpy().T
        pixels = np.round((grey - grey.min()) / np.ptp(grey) * 60_000).astype(np.uint16)
        write_czi(tmp_path / "images" / f"{path.stem}.czi", pixels[None, None, None])
    small = ["--features", "2", "4", "--epochs", "1", "--tile-size", "40", "--scale", "1"]
    data = ["--images", f"{tmp_path}/images", "--labels", f"{tmp_path}/tif/labels"]
    assert main(["train", *data, "--output", f"{tmp_path}/bundle", *small, *CPU]) == 0
    words = ["--bundle", f"{tmp_path}/bundle", "--output", f"{tmp_path}/out", *CPU]
    assert main(["predict", f"{tmp_path}/images/cells_000.czi", *words, "--instances"]) == 0
    header = load_header(tmp_path / "out/cells_000_instances.tif")
    assert header.spatial_shape == load_header(tmp_path / "images/cells_000.czi").spatial_shape
    assert header.pixel_size == pytest.approx((0.25, 0.5))
    assert header.spacing_source == "ome"
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert record["images"]["cells_000"]["pixel_size"] == [0.25, 0.5]
