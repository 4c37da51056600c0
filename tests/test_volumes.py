"""Block-wise inference: the same as one pass over the whole, whoever does it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from image_files import write_source
from processes import ended, kill, start_command, start_module
from processes import finish as exit_code
from tiny_bundle import make_bundle, network_of

from unet_med.cli import main
from unet_med.cli.blocks import _all_workers
from unet_med.data import load_header, load_image, save_image
from unet_med.inferers import OverlapTileInferer
from unet_med.memory import BYTES_A_PIXEL
from unet_med.networks import unet
from unet_med.segmentation import Segmenter
from unet_med.segmentation.volume import Volume
from unet_med.transforms import InstancesFromLogits, Standardize
from unet_med.transforms.standardize import mean_and_deviation
from unet_med.transforms.windowed import Windowed
from unet_med.volumes import Block, BlockJob, executors, grid, open_source, run_blocks, split
from unet_med.volumes.instances import label_blocks
from unet_med.volumes.job_actions import finish
from unet_med.volumes.store import open_level
from unet_med.volumes.worker import Outcome, Worker

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

CPU = torch.device("cpu")


def one_pass(
    array: np.ndarray, folder: Path, dims: int, dtype: torch.dtype = torch.float32, **options: Any
) -> np.ndarray:
    """Probabilities `(K, [Z,] Y, X)` of the whole image by the inferer, one tile if it can."""
    image = torch.from_numpy(array.astype(np.float32)).to(dtype)
    image = image[None] if image.ndim in (2, 3) else image  # (C, [Z,] Y, X)
    image = image.permute(0, *range(image.ndim - 1, 0, -1))  # (C, X, Y[, Z])
    if dtype == torch.float32:
        image = Standardize(dims)(image)
    else:
        axes = list(range(1, 1 + dims))
        image = (image - image.mean(axes, keepdim=True)) / image.std(
            axes, keepdim=True, correction=0
        )
    network = network_of(folder).to(dtype)
    with torch.no_grad():
        logits = OverlapTileInferer(tile_size=-1, **options)(image[None], network)
    whole = torch.softmax(logits, 1)[0]
    return whole.permute(0, *range(whole.ndim - 1, 0, -1)).numpy()


def blocks_of(
    source: Path, folder: Path, block: Sequence[int], output: Path, **options: Any
) -> np.ndarray:
    job = BlockJob.create(
        source, output, folder, block=block, outputs=("probabilities",), **options
    )
    run_blocks(job, progress=False)
    return np.asarray(open_level(output, job.layers[1])[:])


def assert_equal(
    found: np.ndarray, whole: np.ndarray, output: Path, tolerance: float = 5e-5
) -> None:
    limit = tolerance * whole.std()
    assert np.abs(found - whole).max() <= limit
    best, second = np.sort(whole, axis=0)[::-1][:2]
    clear = best - second > 2 * limit
    mask = np.asarray(zarr.open_array(output / "labels/mask/0", mode="r")[:])
    np.testing.assert_array_equal(mask[clear], whole.argmax(0)[clear])
    assert clear.mean() > 0.95


SMALL = (7, 21, 27)


@pytest.fixture
def noise(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(100, 20, SMALL).astype(np.float32)


@pytest.fixture(scope="module")
def planes_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("planes") / "bundle")


@pytest.mark.parametrize(
    ("dims", "preset", "tta", "statistics"),
    [
        (2, "paper2015", None, None),
        (2, "paper2015", "rotations", None),
        (2, "modern", "rotations", "image"),
        (3, "paper2015", None, None),
        (3, "modern", "flips", None),
        (3, "modern", None, "image"),
    ],
)
def test_blocks_equal_one_pass(
    tmp_path: Path, noise: np.ndarray, dims: int, preset: str, tta: str | None, statistics: Any
) -> None:
    choices = {"preset": preset, "spatial_dims": dims, "tta": tta, "statistics": statistics}
    folder = make_bundle(tmp_path / "bundle", **choices)
    source = write_source(tmp_path / "in.ome.zarr", noise)
    output = tmp_path / "out.ome.zarr"
    found = blocks_of(source, folder, (4, 16, 14), output, tile=28)
    whole = one_pass(noise, folder, dims, tta=tta, statistics=statistics)
    assert_equal(found, whole, output)


@pytest.mark.parametrize(("preset", "tta"), [("paper2015", None), ("modern", "rotations")])
def test_blocks_of_thick_slices_equal_one_pass(
    tmp_path: Path, noise: np.ndarray, preset: str, tta: str | None
) -> None:
    levels = {"pool": [[2, 2, 1], 2], "kernel_size": [[3, 3, 1], 3, 3]}  # (X, Y, Z)
    choices = {"preset": preset, "spatial_dims": 3, "features": [3, 4, 5], "tta": tta, **levels}
    folder = make_bundle(tmp_path / "bundle", **choices)
    source = write_source(tmp_path / "in.ome.zarr", noise)
    output = tmp_path / "out.ome.zarr"
    found = blocks_of(source, folder, (6, 16, 12), output)  # a stride of 2 along Z, of 4 in planes
    assert BlockJob.load(output).layout.block == (6, 16, 12)
    assert_equal(found, one_pass(noise, folder, 3, tta=tta), output)


@pytest.mark.parametrize("preset", ["paper2015", "modern"])
@pytest.mark.parametrize("dims", [2, 3])
def test_in_float64_nothing_but_rounding_is_left(
    tmp_path: Path, noise: np.ndarray, dims: int, preset: str
) -> None:
    choices = {"preset": preset, "spatial_dims": dims, "features": [3, 4, 5]}
    folder = make_bundle(
        tmp_path / "bundle", **choices, network="$@network_def.to(@device).double()"
    )
    source = write_source(tmp_path / "in.ome.zarr", noise)
    output = tmp_path / "out.ome.zarr"
    found = blocks_of(source, folder, (4, 8, 12), output, trust=True)
    assert found.dtype == np.float64
    assert_equal(found, one_pass(noise, folder, dims, torch.float64), output, 1e-12)


def test_a_plane_of_several_channels(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = make_bundle(tmp_path / "bundle", in_channels=3)
    image = rng.integers(0, 60000, (3, 41, 23), dtype=np.uint16)
    save_image(tmp_path / "in.tif", image.transpose(0, 2, 1), np.eye(4))
    output = tmp_path / "out.ome.zarr"
    found = blocks_of(tmp_path / "in.tif", folder, (16, 16), output)
    stack = one_pass(image[:, None], folder, 2)[:, 0]  # (C, 1, Y, X): one plane of a volume
    assert_equal(found, stack, output)


@pytest.mark.parametrize("kind", ["0.4", "0.5", "tif", "nii", "nii.gz"])
def test_sources_read_the_window_that_is_asked_for(
    tmp_path: Path, rng: np.random.Generator, kind: str
) -> None:
    array = rng.integers(0, 255, (2, 9, 20, 31), dtype=np.uint8)  # (C, Z, Y, X)
    path = tmp_path / ("in.ome.zarr" if kind.startswith("0") else f"in.{kind}")
    if kind.startswith("0"):
        write_source(path, array, kind)
    else:
        save_image(path, array.transpose(0, 3, 2, 1), np.diag([0.25, 0.25, 0.5, 1]), "um")
    source = open_source(path)
    assert (source.shape, source.channels, source.dtype) == ((9, 20, 31), 2, np.uint8)
    assert source.unit == "um"
    np.testing.assert_allclose(source.spacing, (0.5, 0.25, 0.25))
    window = (slice(2, 5), slice(3, 19), slice(30, 31))
    np.testing.assert_array_equal(source.read(window), array[(slice(None), *window)])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4, 5), (4, 5)])
def test_an_ome_zarr_loads_as_any_other_file(
    tmp_path: Path, rng: np.random.Generator, shape: tuple[int, ...], version: str
) -> None:
    array = rng.integers(0, 255, shape, dtype=np.uint8)  # ([C,] [Z,] Y, X)
    image = load_image(write_source(tmp_path / "in.ome.zarr", array, version))
    channels = array if len(shape) == 4 else array[None]
    np.testing.assert_array_equal(image, channels.transpose(0, *range(channels.ndim - 1, 0, -1)))
    sizes = [0.25, 0.25, 0.5 if len(shape) > 2 else 1, 1]
    np.testing.assert_array_equal(image.affine, np.diag(sizes))
    assert image.meta["spatial_unit"] == "um"
    header = load_header(tmp_path / "in.ome.zarr")
    assert (header.spatial_shape, header.spacing_source) == (shape[-3:][::-1], "ngff")


def test_what_cannot_be_read_by_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_source(tmp_path / "nothing.tif")
    (tmp_path / "in.png").touch()
    with pytest.raises(ValueError, match=r"give an OME-Zarr folder, .tif"):
        open_source(tmp_path / "in.png")
    zarr.create_group(tmp_path / "plain.zarr")
    with pytest.raises(ValueError, match="no 'multiscales'"):
        open_source(tmp_path / "plain.zarr")


def damage_of(name: str) -> Any:
    """What takes a part of an OME-Zarr's metadata away, or makes it something else."""
    return {
        "datasets": lambda ome: ome["multiscales"][0].pop("datasets"),
        "axes": lambda ome: ome["multiscales"][0].pop("axes"),
        "path": lambda ome: ome["multiscales"][0]["datasets"][0].pop("path"),
        "no level": lambda ome: ome["multiscales"][0]["datasets"].clear(),
        "no image": lambda ome: ome["multiscales"].clear(),
        "a list": lambda ome: ome.update(multiscales=[[]]),
    }[name]


@pytest.mark.parametrize("name", ["datasets", "axes", "path", "no level", "no image", "a list"])
def test_a_damaged_ome_zarr_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "in.ome.zarr", np.zeros((4, 4), np.uint8))
    group = zarr.open_group(source, mode="r+")
    ome = dict(group.attrs["ome"])
    damage_of(name)(ome)
    group.attrs["ome"] = ome
    said = rf"cannot read {re.escape(str(source))} as OME-Zarr: it is damaged or not supported \("
    with pytest.raises(ValueError, match=said) as caught:
        open_source(source)
    if name in ("datasets", "axes", "path"):
        assert str(caught.value).endswith(f"(it has no '{name}')")


def test_the_output_is_valid_ngff_with_physical_units(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray
) -> None:
    from yaozarrs import validate_zarr_store

    source = write_source(tmp_path / "in.ome.zarr", np.tile(noise, (1, 30, 1)))
    for outputs in (("mask",), ("probabilities",)):
        output = tmp_path / f"{outputs[0]}.ome.zarr"
        job = BlockJob.create(source, output, planes_bundle, block=(7, 512, 32), outputs=outputs)
        run_blocks(job, progress=False)
        validate_zarr_store(output)
        validate_zarr_store(output / "labels" / "mask")
        again = open_source(output)
        assert (again.shape, again.spacing, again.unit) == ((7, 630, 27), (0.5, 0.25, 0.25), "um")
    mask = zarr.open_group(output / "labels/mask", mode="r")
    np.testing.assert_array_equal(mask["1"][:], mask["0"][:, ::2, ::2])
    image = zarr.open_group(output, mode="r")
    full = np.pad(image["0"][:], ((0, 0), (0, 0), (0, 0), (0, 1)), "edge")
    means = full.reshape(3, 7, 315, 2, 14, 2).mean((3, 5))
    np.testing.assert_allclose(image["1"][:], means, rtol=1e-5)
    assert image["0"].shards == (3, 7, 512, 28)
    scales = image.attrs["ome"]["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert scales[0]["scale"] == [1, 0.5, 0.5, 0.5]
    assert scales[1]["translation"] == [0, 0, 0.125, 0.125]


def small_plan(tmp_path: Path, folder: Path, array: np.ndarray, **options: Any) -> BlockJob:
    source = write_source(tmp_path / "in.ome.zarr", array)
    options = {"block": (4, 16, 16), **options}
    return BlockJob.create(source, tmp_path / "out.ome.zarr", folder, **options)


def test_a_second_run_does_nothing(tmp_path: Path, planes_bundle: Path, noise: np.ndarray) -> None:
    job = small_plan(tmp_path, planes_bundle, noise)
    assert run_blocks(job, shard=(1, 2), progress=False) == 4
    assert run_blocks(job, progress=False) == 4
    assert run_blocks(job, progress=False) == 0
    assert Worker.open(job.output).do(3).voxels == 0  # another process was quicker
    assert BlockJob.load(job.output) == job
    assert job.markers.count() == 8


def test_sides_and_threads_are_numpys_as_well(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray
) -> None:
    """A job's file would hold them as text, which no worker could read."""
    job = small_plan(
        tmp_path, planes_bundle, noise, block=np.array([4, 16, 16]), threads=np.int64(2)
    )
    assert BlockJob.load(job.output) == job
    assert (job.layout.block, job.threads) == ((4, 16, 16), 2)
    with pytest.raises(TypeError, match=r"block side 4\.0 is no whole number"):
        small_plan(tmp_path / "b", planes_bundle, noise, block=(4.0, 16, 16))
    out = np.zeros(6, np.uint8)
    assert label_blocks(np.array([1, 1, 1, 0, 1, 1]), out, np.array([2])) == 2
    assert out.tolist() == [1, 1, 1, 0, 2, 2]


def test_a_plan_is_refused_when_something_has_changed(tmp_path: Path, noise: np.ndarray) -> None:
    folder = make_bundle(tmp_path / "bundle")
    job = small_plan(tmp_path, folder, noise)
    run_blocks(job, shard=(0, 4), progress=False)
    weights = folder / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, weights)
    with pytest.raises(ValueError, match=r"the weights changed since out.ome.zarr was planned"):
        run_blocks(job, progress=False)
    torch.save(state, weights)
    config = folder / "configs" / "inference.json"
    config.write_text(config.read_text().replace('"min_size": 0', '"min_size": 1'))
    with pytest.raises(ValueError, match="the configs changed"):
        run_blocks(job, progress=False)
    config.write_text(config.read_text().replace('"min_size": 1', '"min_size": 0'))
    marker = next((job.folder / "done").iterdir())
    marker.write_text(marker.read_text().replace(job.id, "0123"))
    with pytest.raises(ValueError, match=f"made by job 0123, not {job.id}"):
        run_blocks(job, progress=False)


def test_sides_other_than_the_plans_are_refused(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    job = small_plan(tmp_path, planes_bundle, noise, block=(7, 16, 16), tile=20)
    line = ["predict", job.source, "--bundle", planes_bundle, "--output", job.output, "--resume"]
    line = [*map(str, line), "--workers", "1", "--job-only"]
    for same in ([], ["--block", "7", "16", "16"], ["--block", "99", "16", "16", "--tile", "20"]):
        assert main([*line, *same]) == 0
    assert main([*line, "--block", "4", "16", "16"]) == 2
    said = "--block gives 4 x 16 x 16 px, and out.ome.zarr was planned with 7 x 16 x 16 px: leave"
    assert said in capsys.readouterr().err
    assert main([*line, "--tile", "28"]) == 2
    assert "--tile gives 28 x 28 px, and out.ome.zarr was planned with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cores", "threads", "blocks", "room", "workers"),
    [(8, 1, 72, 9, 8), (8, 3, 72, 9, 2), (8, 1, 3, 9, 3), (1, 2, 9, 9, 1), (8, 1, 72, 2.9, 2),
     (8, 1, 72, 0.1, 1)],
)  # fmt: skip
def test_a_cpu_has_a_process_a_core_with_room_for_a_block(
    cores: int, threads: int, blocks: int, room: float, workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)  # of the machine, not of this process
    monkeypatch.setattr("unet_med.cgroups.cores", lambda: cores)
    layout = SimpleNamespace(block=(4, 16, 16))
    need = 4 * 16 * 16 * 2 * BYTES_A_PIXEL
    monkeypatch.setattr(grid, "available_bytes", lambda: int(room * need))
    job: Any = SimpleNamespace(
        device="cpu", threads=threads, blocks=[None] * blocks, layout=layout, channels=2
    )
    assert _all_workers(job) == workers
    assert grid._sharing(CPU, threads, 1) == max(1, cores // threads)


def test_a_machine_other_than_the_plans_is_refused(
    tmp_path: Path,
    planes_bundle: Path,
    noise: np.ndarray,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = small_plan(tmp_path, planes_bundle, noise)
    line = ["predict", job.source, "--bundle", planes_bundle, "--output", job.output, "--resume"]
    line = [*map(str, line), "--workers", "1", "--job-only"]
    assert main([*line, "--threads", "1", "--device", "cpu"]) == 0
    assert main([*line, "--threads", "2"]) == 2
    said = "--threads gives 2, and out.ome.zarr was planned with 1: leave --threads out"
    assert said in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert main([*line, "--device", "cuda:0"]) == 2
    assert "--device gives cuda, and out.ome.zarr was planned with cpu" in capsys.readouterr().err


def test_the_file_of_the_weights_is_part_of_the_plan(tmp_path: Path, noise: np.ndarray) -> None:
    from safetensors.torch import save_file

    folder = make_bundle(tmp_path / "bundle")
    weights = folder / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    weights.unlink()
    save_file(state, weights.with_suffix(".safetensors"))
    job = small_plan(tmp_path, folder, noise)
    run_blocks(job, shard=(0, 4), progress=False)
    save_file({k: v + 1 for k, v in state.items()}, weights.with_suffix(".safetensors"))
    with pytest.raises(ValueError, match=r"the weights changed since out.ome.zarr was planned"):
        run_blocks(job, progress=False)


def test_an_output_of_another_plan_is_not_written_to(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray
) -> None:
    job = small_plan(tmp_path, planes_bundle, noise)
    with pytest.raises(FileExistsError, match="belongs to another job"):
        BlockJob.create(job.source, job.output, planes_bundle, block=(7, 16, 16))
    same = BlockJob.create(job.source, job.output, planes_bundle, block=(4, 16, 16))
    assert same.id == job.id
    shutil.rmtree(job.folder)
    with pytest.raises(FileExistsError, match="has no job beside it"):
        BlockJob.create(job.source, job.output, planes_bundle)


def test_a_poisoned_block_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray
) -> None:
    job = small_plan(tmp_path, planes_bundle, noise, block=(7, 8, 8))
    chunk = job.source / "0" / "c" / "0" / "0" / "1"  # x from 16
    good = chunk.read_bytes()
    chunk.write_bytes(good[:40])
    words = ["predict", job.source, "--bundle", planes_bundle, "--output", job.output]
    words += ["--resume", "--workers", "1"]
    assert main([*map(str, words)]) == 2
    failed = {note["block"] for note in job.markers.failures()}
    assert failed
    assert job.markers.count() == len(job.blocks) - len(failed) > 0
    chunk.write_bytes(good)
    assert run_blocks(job, progress=False) == len(failed)
    assert job.markers.failures() == []


@pytest.mark.parametrize(
    ("number", "ends"), [(errno.ENOSPC, True), (errno.EROFS, True), (errno.EIO, False)]
)
def test_a_full_disk_ends_the_run(number: int, ends: bool) -> None:
    """And a chunk that cannot be read does not: the next block may be of another."""
    notes: list[str] = []

    class Full(Worker):
        def look(self, block: Block, tile: Any) -> Any:
            raise OSError(number, os.strerror(number), "c/0/0")

        _patiently = lambda self, block: self.look(block, ())  # noqa: E731

    markers = SimpleNamespace(
        of=lambda block: None, note=lambda kind, block, error: notes.append(error)
    )
    job: Any = SimpleNamespace(blocks=split((4,), (4,)), markers=markers)
    worker = Full(job, SimpleNamespace())  # type: ignore[arg-type]
    if ends:
        with pytest.raises(OSError, match=os.strerror(number)):
            worker.do(0)
    else:
        assert os.strerror(number) in worker.do(0).error
    assert os.strerror(number) in notes[-1]


def test_a_lack_of_memory_means_smaller_tiles(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray
) -> None:
    job = small_plan(tmp_path, planes_bundle, noise, outputs=("probabilities",))
    worker = Worker.open(job.output)

    class Cramped(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[-1] >= job.tile[-1]:
                raise torch.OutOfMemoryError("out of memory")
            return network(x)

    network = worker.volume.segmenter.network
    block = job.blocks[0]
    expected = worker.predict(block, job.tile)
    cramped = Worker.open(job.output)
    cramped.volume.segmenter.network = Cramped()
    cramped.volume.segmenter.network.module = network  # says its geometry, type and device
    assert cramped.do(0).error == ""
    assert job.markers.of(block)["tile"] < [*job.tile]
    np.testing.assert_allclose(cramped.read(block)[1], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network_def": {"_target_": "unet_med.networks.unet", "features": [4, 8],
          "out_channels": 3, "norm": "instance"}}, "computes statistics over the whole image"),
        ({"inferer": {"_target_": "monai.inferers.SimpleInferer"}}, r"is monai\S+SimpleInferer;"),
        ({"preprocessing": {"_target_": "monai.transforms.Compose", "transforms": [
            {"_target_": "monai.transforms.ScaleIntensityd", "keys": "image"}]}},
         "preprocessing of inference.json has monai.*ScaleIntensityd"),
        ({"in_channels": 2}, "has 1 channels, the network takes 2"),
    ],
)  # fmt: skip
def test_what_blocks_cannot_do_is_refused(
    tmp_path: Path, noise: np.ndarray, changes: dict[str, Any], words: str
) -> None:
    folder = make_bundle(tmp_path / "bundle")
    path = folder / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    if "in_channels" in changes:
        torch.save(unet(in_channels=2, out_channels=3, features=(4, 8)).state_dict(),
                   folder / "models" / "model.pt")  # fmt: skip
    with pytest.raises(ValueError, match=words):
        small_plan(tmp_path, folder, noise, trust=True)


def test_blocks_off_the_networks_grid_are_refused(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=r"15 px is no multiple of .* 2 px; nearest: 14, 16"):
        small_plan(tmp_path, planes_bundle, noise, block=(3, 15, 16))


def command(words: list[Any], folder: Path, prepare: Callable[[], Any] = os.setsid) -> BaseProcess:
    """The command, in a process group of its own; what it says is in the folder."""
    folder.mkdir(exist_ok=True)
    return start_command(words, folder, prepare)


def slowly() -> None:
    """In a process group of its own, a block takes so long that a kill comes before the last."""
    os.setsid()
    do = executors.predict_block

    def predict_block(*which: Any) -> Any:
        time.sleep(0.05)
        return do(*which)

    executors.predict_block = predict_block  # of this process, which is killed


def said(folder: Path) -> str:
    """What a command said."""
    return (folder / "stdout").read_text() + (folder / "stderr").read_text()


def contents(store: Path) -> dict[str, bytes]:
    """All files of an output."""
    files = sorted(path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, bytes]]:
    """A source, a bundle, and the output of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    planes = np.random.default_rng(1).integers(0, 255, (12, 40, 50), dtype=np.uint8)
    source = write_source(folder / "in.ome.zarr", planes)
    model = make_bundle(folder / "bundle")
    job = BlockJob.create(source, folder / "out.ome.zarr", model, block=(2, 16, 16))
    run_blocks(job, progress=False)
    return source, model, contents(job.output)


def predict_words(source: Path, model: Path, output: Path) -> list[Any]:
    return ["predict", source, "--bundle", model, "--output", output, "--block", 2, 16, 16]


def test_shards_at_once_agree_to_the_bit(
    tmp_path: Path, undisturbed: tuple[Path, Path, dict[str, bytes]]
) -> None:
    source, model, expected = undisturbed
    output = tmp_path / "out.ome.zarr"
    words = predict_words(source, model, output)
    # All job at the same time, and the first two do the same blocks.
    folders = [tmp_path / name for name in "abc"]
    parts = zip(folders, ("0/2", "0/2", "1/2"), strict=True)
    shards = [command([*words, "--shard", part], folder) for folder, part in parts]
    with ended(*shards):
        for shard, folder in zip(shards, folders, strict=True):
            assert exit_code(shard) == 0, said(folder)
    assert contents(output) == expected
    assert BlockJob.load(output).markers.count() == 72


def wait_for(output: Path, markers: int) -> None:
    """Until so many blocks are done."""
    done = Path(f"{output}.job") / "done"
    until = time.monotonic() + 200
    while len([*done.glob("[0-9]*.json")]) < markers:
        assert time.monotonic() < until
        time.sleep(0.002)


def kill_one_worker(process: BaseProcess) -> None:
    """Kill a process of the pool, which is a child of the server that all are forked from."""
    import psutil

    children = psutil.Process(process.pid).children(recursive=True)
    parents = {child.ppid() for child in children}
    worker = next(c for c in children if c.ppid() != process.pid and c.pid not in parents)
    worker.kill()


def test_a_block_that_another_process_did_meanwhile_has_not_failed(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray
) -> None:
    job = small_plan(tmp_path, planes_bundle, noise)
    quick = Worker.open(job.output)

    class Slow(Worker):
        def write(self, block: Block, *_: Any) -> list[np.ndarray]:
            """The others do all blocks and sweep up what they take for left over."""
            for number in range(len(job.blocks)):
                assert quick.do(number).error == ""
            finish(job)
            raise FileNotFoundError(2, "No such file or directory", "0.0.0.partial")

    assert Slow(job, quick.volume).do(0) == Outcome(0, 0)
    assert job.markers.failures() == []
    assert [*(job.folder / "failed").iterdir()] == []


def test_a_note_that_goes_while_notes_are_read(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray
) -> None:
    job = small_plan(tmp_path, planes_bundle, noise)
    job.markers.note("failed", job.blocks[1], error="in work")
    (job.folder / "failed" / "0.0.0.json").symlink_to("gone")  # listed, and not there
    assert [note["block"] for note in job.markers.failures()] == ["0.0.1"]


@pytest.mark.slow
@pytest.mark.long  # workers of a pool import all anew
@pytest.mark.timeout(600)
def test_killed_and_resumed_is_as_if_undisturbed(
    tmp_path: Path, undisturbed: tuple[Path, Path, dict[str, bytes]]
) -> None:
    source, model, expected = undisturbed
    output = tmp_path / "out.ome.zarr"
    words = predict_words(source, model, output)
    with ended(command([*words, "--workers", 1], tmp_path / "first", slowly)):
        wait_for(output, 7)
    before = contents(output.with_name(output.name + ".job") / "done")
    assert 7 <= len(before) < 72, "it was killed too late to show anything"
    assert main([*map(str, words)]) == 2  # without --resume nothing is overwritten
    process = command([*words, "--workers", 2, "--resume"], tmp_path / "second")
    with ended(process):
        wait_for(output, len(before) + 3)
        kill_one_worker(process)
        assert exit_code(process) == 0, said(tmp_path / "second")
    after = contents(output.with_name(output.name + ".job") / "done")
    assert {name: after[name] for name in before if name in after} == {
        name: text for name, text in before.items() if not name.startswith(".")
    }  # finished blocks were not done again: their markers hold the seconds they took
    assert len(after) == 72
    assert contents(output) == expected


def test_verify_computes_blocks_anew(
    undisturbed: tuple[Path, Path, dict[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    source, _, _ = undisturbed
    output = source.with_name("out.ome.zarr")
    assert main(["job", "verify", str(output), "--sample", "0.05"]) == 0
    text = capsys.readouterr().out
    assert "72 blocks hold what was written" in text
    line = r"4 computed anew with tiles of ([\d x]+) px: max\|difference\| (\S+), 0 pixels"
    found = re.search(line, text)
    assert found is not None
    tile = tuple(map(int, found[1].split(" x ")))
    assert tile != tuple(BlockJob.load(output).tile)  # some CPUs give them the same bits even so
    assert float(found[2]) < 1e-5
    assert main(["job", "status", str(output)]) == 0
    assert "72 of 72 blocks done, 0 left" in capsys.readouterr().out


def test_verify_finds_a_torn_shard(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    job = small_plan(tmp_path, planes_bundle, noise)
    run_blocks(job, progress=False)
    mask = zarr.open_array(job.output / "labels/mask/0", mode="r+")
    mask[5, 3, 20] = 3 - mask[5, 3, 20]
    assert main(["job", "verify", str(job.output)]) == 2
    assert "blocks 1.0.1 of" in capsys.readouterr().err


def test_finish_waits_for_all_blocks_and_sweeps(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray
) -> None:
    job = small_plan(tmp_path, planes_bundle, noise)
    run_blocks(job, shard=(0, 2), progress=False)
    with pytest.raises(ValueError, match=r"4 of 8 blocks of .* are missing"):
        finish(job)
    run_blocks(job, progress=False)
    with (
        FileLock(job.folder / "finish.lock"),
        pytest.raises(ValueError, match=r"another process does the last step of .* now: wait"),
    ):
        finish(job)
    (job.output / "labels/mask/0/c.partial").touch()
    (job.folder / "done" / ".0.0.0.json.x").mkdir()

    def no_locks(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with pytest.MonkeyPatch.context() as patch:  # as on some file systems of a network
        patch.setattr(FileLock, "acquire", no_locks)
        assert finish(job) == "all 8 blocks are done"
    assert not [*tmp_path.rglob("*.partial"), *job.folder.rglob(".*")]


def dask(part: str, words: list[Any], folder: Path) -> BaseProcess:
    """A scheduler, or the parent of workers, in a process group of its own."""
    (folder / part).mkdir()
    return start_module(f"distributed.cli.dask_{part}", words, folder / part, os.setsid)


@pytest.fixture
def forking() -> Iterator[None]:
    """Dask forks its workers, which then need not import torch again."""
    pytest.importorskip("distributed")  # whose defaults go into the config when it is imported
    config = pytest.importorskip("dask").config
    with config.set({"distributed.worker.multiprocessing-method": "fork"}):
        yield


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("forking")
@pytest.mark.long
def test_a_dask_cluster_may_die_at_any_time(
    tmp_path: Path, undisturbed: tuple[Path, Path, dict[str, bytes]]
) -> None:
    psutil = pytest.importorskip("psutil")
    source, model, expected = undisturbed
    output, address = tmp_path / "out.ome.zarr", tmp_path / "scheduler.json"
    options = ["--scheduler-file", str(address), "--no-dashboard"]
    scheduler = dask("scheduler", ["--port", 0, *options], tmp_path)
    workers = dask("worker", ["--nworkers", 2, "--nthreads", 1, *options], tmp_path)
    with ended(scheduler, workers):
        while not address.exists():
            time.sleep(0.05)
        url = json.loads(address.read_text())["address"]
        words = [*predict_words(source, model, output), "--scheduler", url]
        run = command(words, tmp_path / "run")
        with ended(run):
            wait_for(output, 3)
            psutil.Process(workers.pid).children()[0].kill()
            wait_for(output, 20)
            kill(scheduler)
            assert exit_code(run) == 2, said(tmp_path / "run")
    assert "finished blocks are kept: run again with --resume" in said(tmp_path / "run")
    job = BlockJob.load(output)
    assert 20 <= job.markers.count() < 72, "the scheduler was killed too late to show anything"
    left = 72 - job.markers.count()
    assert run_blocks(job, scheduler="local", workers=2, progress=False) == left
    finish(job)
    assert contents(output) == expected


@pytest.mark.parametrize(("dims", "planes"), [(2, "apart"), (3, None)])
def test_instances_are_those_of_the_whole_volume(
    tmp_path: Path, noise: np.ndarray, dims: int, planes: Any
) -> None:
    pytest.importorskip("unet_med.volumes.instances")
    folder = make_bundle(tmp_path / "bundle", spatial_dims=dims, min_size=3, grow=1)
    scores = one_pass(noise, folder, dims)
    ahead = np.log(scores[1:].max(0) / scores[0])  # foreground before background
    weights = folder / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    state[[*state][-1]][0] += float(np.quantile(ahead, 0.85))  # leaves 15 % foreground
    torch.save(state, weights)
    source = write_source(tmp_path / "in.ome.zarr", noise)
    words = ["--block", 4, 16, 16, "--instances", "--probabilities", "--workers", 1]
    output = tmp_path / "out.ome.zarr"
    line = ["predict", source, "--bundle", folder, "--output", output, *words]
    line += ["--planes", planes] if planes else []
    assert main([*map(str, line)]) == 0
    labels = zarr.open_group(output / "labels", mode="r")
    assert labels.attrs["ome"]["labels"] == ["mask", "instances"]
    scores = zarr.open_array(output / "0", mode="r")[:]
    turned = torch.from_numpy(scores).permute(0, 3, 2, 1)  # numbered in the order X, Y, Z
    whole = InstancesFromLogits(3, grow=1, spatial_dims=dims, planes=planes)(turned)[0].numpy()
    assert whole.max() > 5
    np.testing.assert_array_equal(labels["instances/0"][:], whole.T)


@pytest.mark.parametrize(
    ("images", "output", "more", "words"),
    [
        (["in.ome.zarr"], "results", [], "in.ome.zarr does not exist"),
        (["a/in.ome.zarr", "b/in.ome.zarr"], "results", [], "two images are named in"),
        (["a.tif", "b.tif"], "out.ome.zarr", [], "2 images given; out.ome.zarr is made of one"),
        (["in.ome.zarr"], "out.ome.zarr", ["--shard", "4/4"], "'4/4' is not I/N with I from 0"),
        (["missing.tif"], "out.ome.zarr", [], "missing.tif does not exist"),
        (["in.ome.tif"], "out.ome.zarr", ["--fail-fast"], "--fail-fast has no effect block by"),
    ],
)
def test_the_command_refuses_in_a_sentence(
    planes_bundle: Path, images: list[str], output: str, more: list[str], words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    line = ["predict", *images, "--bundle", str(planes_bundle), "--output", output, *more]
    assert main(line) == 2
    assert words in capsys.readouterr().err


def test_a_source_that_turns_out_to_be_in_colours_is_refused_as_such(
    tmp_path: Path, planes_bundle: Path
) -> None:
    tifffile = pytest.importorskip("tifffile")
    colours = np.full((60, 60, 3), 255, np.uint8)
    colours[-1, -1, 0] = 0
    tifffile.imwrite(tmp_path / "in.tif", colours, photometric="rgb")
    with pytest.raises(ValueError, match=r"^image in.tif has 3 channels \(RGB or RGBA\), the "):
        BlockJob.create(tmp_path / "in.tif", tmp_path / "out.ome.zarr", planes_bundle)


def test_a_source_that_cannot_be_read_has_no_mean(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray
) -> None:
    source = write_source(tmp_path / "in.ome.zarr", noise)
    chunk = source / "0" / "c" / "0" / "0" / "1"
    chunk.write_bytes(chunk.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"in.ome.zarr cannot be read at .* repair it first"):
        BlockJob.create(source, tmp_path / "out.ome.zarr", planes_bundle)
    assert not (tmp_path / "out.ome.zarr").exists()


@pytest.mark.parametrize("words", ["image in.ome.zarr is cut short", "a chunk is cut short"])
def test_what_a_reader_says_does_not_pass_for_what_the_network_takes(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray, words: str
) -> None:
    def breaks(window: Any) -> np.ndarray:
        raise OSError(words)

    source = replace(open_source(write_source(tmp_path / "in.ome.zarr", noise)), read=breaks)
    with pytest.raises(ValueError, match=rf"cannot be read at .* \({words}\), and what"):
        Volume(Segmenter(planes_bundle, device="cpu"), source)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ImportError("pip install it"), ImportError, "^pip install it$"),
        (MemoryError("no room"), ValueError, r"in\.ome\.zarr .* \(no room\), .*: make room in mem"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_the_file(
    tmp_path: Path, planes_bundle: Path, noise: np.ndarray, error: Exception, kind: Any, said: str
) -> None:
    def breaks(window: Any) -> np.ndarray:
        raise error

    source = replace(open_source(write_source(tmp_path / "in.ome.zarr", noise)), read=breaks)
    with pytest.raises(kind, match=said):
        Volume(Segmenter(planes_bundle, device="cpu"), source)


def test_whole_statistics_do_not_depend_on_the_windows(rng: np.random.Generator) -> None:
    array = rng.normal(1e6, 1, (2, 8, 9, 5))  # (C, X, Y, Z); a naive sum of squares cancels

    def read(box: Any) -> torch.Tensor:
        return torch.from_numpy(array[(slice(None), *(slice(*side) for side in box))])

    image = Windowed(read, 2, (8, 9, 5), torch.eye(4), {})
    for by_plane, axes in ((False, (1, 2, 3)), (True, (1, 2))):
        for block in ((8, 9, 5), (3, 4, 2)):
            boxes = [[(s.start, s.stop) for s in b.slices] for b in split(image.shape, block)]
            mean, std = mean_and_deviation(image, boxes, by_plane=by_plane)
            np.testing.assert_allclose(mean.T.squeeze(), array.mean(axes).squeeze(), rtol=1e-12)
            np.testing.assert_allclose(std.T.squeeze(), array.std(axes).squeeze(), rtol=1e-9)
