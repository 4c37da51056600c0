"""Jobs that are resumed, moved, stopped, finished twice, or whose output somebody deleted."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from monai.data import DataLoader, Dataset
from test_volumes import make_bundle, write_source

from unet_med.cli import blocks as by_blocks
from unet_med.cli import main, predict
from unet_med.data.checksum import sha256
from unet_med.errors import is_full
from unet_med.handlers.skipped_failures import SkipFailuresEvaluator
from unet_med.report.prediction import PredictionRecord
from unet_med.volumes import BlockJob, executors, grid, run_blocks, split
from unet_med.volumes.objects import StoredObjects, save_objects
from unet_med.volumes.store import Layer, Layout, create_store, write_block
from unet_med.volumes.worker import Outcome, Worker, checksum

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")


MASK = Layer("mask", "uint8")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("model") / "bundle", statistics=None)


@pytest.fixture
def planes(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(9, 2, (2, 16, 16)).astype(np.float32)


@pytest.fixture
def line(tmp_path: Path, model: Path, planes: np.ndarray) -> list[str]:
    """Words of a prediction of two blocks; the last is its output."""
    source = write_source(tmp_path / "in.ome.zarr", planes)
    words = ["predict", source, "--bundle", model, "--block", 1, 16, 16, "--workers", 1]
    return [*map(str, words), "--output", str(tmp_path / "out.ome.zarr")]


def mask_of(store: str | Path) -> np.ndarray:
    return np.asarray(zarr.open_array(Path(store) / "labels/mask/0", mode="r")[:])


def note_anew(job: BlockJob, number: int, **changes: Any) -> None:
    """Write the marker of a block once more, as if it had been done again."""
    note = job.markers.of(job.blocks[number])
    assert note is not None
    kept = {name: value for name, value in note.items() if name not in ("job", "block")}
    job.markers.note("done", job.blocks[number], **{**kept, **changes})


def test_what_a_job_was_planned_with_is_given_back_before_the_first_block(
    line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the process that waits for its workers keeps their GPU's memory."""
    done: list[str] = []
    own = executors.predict_block
    monkeypatch.setattr(executors, "free_memory", lambda error: done.append("freed"))
    monkeypatch.setattr(executors, "predict_block", lambda *a: (done.append("block"), own(*a))[1])
    assert main(line) == 0
    assert done == ["freed", "block", "block"]


def test_blocks_take_their_threads_and_leave_the_process_its_own(
    line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs a job in Python may train in the same process."""
    before, taken = torch.get_num_threads(), []
    own = Worker.look
    torch.set_num_threads(3)
    monkeypatch.setattr(
        Worker, "look", lambda *a: (taken.append(torch.get_num_threads()), own(*a))[1]
    )
    try:
        assert main(line) == 0
        assert main(["job", "verify", line[-1]]) == 0
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert taken == [1, 1, 1, 1]  # two blocks; one of them once more, with tiles of two sizes


def test_a_full_disk_is_named(
    tmp_path: Path, planes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """zarr writes to an open file: the system's error names none."""
    layout = Layout((2, 16), (2, 16), ((1, 1),), (1.0, 1.0), None)
    store, [block] = tmp_path / "out.ome.zarr", split((2, 16), (2, 16))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    said = r"out\.ome\.zarr cannot be written: No space left on device"
    with monkeypatch.context() as patch:
        patch.setattr(zarr.Group, "create_array", full)
        with pytest.raises(OSError, match=said) as caught:
            create_store(store, [MASK], layout)
    assert is_full(caught.value)
    assert not any(tmp_path.iterdir())
    create_store(store, [MASK], layout)
    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(OSError, match=said) as caught:
        write_block(store, MASK, block, planes[0, :2], layout)
    assert is_full(caught.value)


@pytest.mark.parametrize(
    ("block", "chunks"),
    [((1021, 600), (1021, 300)), ((1042, 509), (521, 509)), ((131, 6, 262), (131, 6, 131))],
)
def test_no_shard_is_of_chunks_of_one_pixel(
    tmp_path: Path, block: tuple[int, ...], chunks: tuple[int, ...]
) -> None:
    """Blocks of a resampled image are cut to its sides, which may be prime."""
    ones = (1,) * len(block)
    create_store(tmp_path / "a.zarr", [MASK], Layout(block, block, (ones,), ones, None))
    array = zarr.open_array(tmp_path / "a.zarr/labels/mask/0", mode="r")
    assert (array.shards, array.chunks) == (block, chunks)


def test_only_what_is_the_jobs_own_is_swept_away(line: list[str], tmp_path: Path) -> None:
    """A name may hold what a search takes for a pattern."""
    line[-1] = str(tmp_path / "out[1].ome.zarr")
    ours, theirs = (tmp_path / f".{name}.ome.zarr.left" for name in ("out[1]", "out1"))
    for left in (ours, theirs):
        left.mkdir()
    assert main(line) == 0
    assert not ours.exists()
    assert theirs.exists()


# --- the output is gone


@pytest.mark.parametrize("whole", [False, True])
def test_markers_without_their_output_are_not_taken_for_a_result(
    line: list[str], whole: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == 0
    store, expected = Path(line[-1]), mask_of(line[-1])
    shutil.rmtree(store if whole else store / "labels/mask/0")
    gone = f"{store} {'is gone' if whole else 'is no longer whole'}, to which 2 of 2 blocks were"
    again = [line] if whole else []  # else it is refused as an output that is there
    for words in (*again, [*line, "--resume"], ["job", "finish", str(store)]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert gone in said
        assert f"{store}.job to begin anew" in said
    assert main(["job", "status", str(store)]) == 0
    assert gone in capsys.readouterr().out
    assert store.exists() != whole  # nobody made it anew
    shutil.rmtree(f"{store}.job")
    shutil.rmtree(store, ignore_errors=True)
    assert main(line) == 0
    np.testing.assert_array_equal(mask_of(store), expected)
    assert len(np.unique(expected)) > 1


@pytest.mark.parametrize("content", ["", "[1"])
@pytest.mark.parametrize("file", ["done/1.0.0.json", "finished.json", "job.json"])
def test_a_file_of_the_job_that_a_power_failure_has_cut_is_named(
    line: list[str], file: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == 0
    expected = mask_of(line[-1])
    cut = Path(f"{line[-1]}.job") / file
    cut.write_text(content)
    assert main([*line, "--resume"]) == 2
    assert f"error: {cut} is damaged, as a power failure leaves" in capsys.readouterr().err
    if file == "job.json":
        shutil.rmtree(cut.parent)
        shutil.rmtree(line[-1])
    else:
        cut.unlink()
    assert main([*line, "--resume"]) == 0
    np.testing.assert_array_equal(mask_of(line[-1]), expected)


def test_a_job_that_was_killed_before_it_made_its_output(line: list[str]) -> None:
    assert main([*line, "--job-only"]) == 0
    shutil.rmtree(line[-1])
    assert main([*line, "--resume"]) == 0
    assert len(np.unique(mask_of(line[-1]))) > 1


# --- the same job, said again


def test_settings_that_are_lists_can_be_said_again(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--pixel-size", "0.5", "0.5", "2"]
    assert main([*line, *sizes, "--job-only"]) == 0
    assert main([*line, *sizes, "--shard", "0/2"]) == 0
    assert main([*line, "--pixel-size", "0.5", "0.5", "1", "--resume"]) == 2
    assert "was planned with other options" in capsys.readouterr().err
    assert main([*line, "--tta", "none", "--resume"]) == 2
    assert main([*line, *sizes, "--resume"]) == 0


def test_bundle_and_source_may_move(tmp_path: Path, model: Path, planes: np.ndarray) -> None:
    shutil.copytree(model, tmp_path / "b")
    tifffile.imwrite(tmp_path / "a.tif", planes, metadata={"axes": "ZYX"})

    def run(source: str, bundle: str, *more: str) -> int:
        words = ["predict", tmp_path / source, "--bundle", tmp_path / bundle, "--workers", 1]
        words += ["--output", tmp_path / "out.ome.zarr", "--block", 1, 16, 16]
        return main([*map(str, words), *more])

    assert run("a.tif", "b", "--job-only") == 0
    (tmp_path / "b").rename(tmp_path / "b2")
    (tmp_path / "a.tif").rename(tmp_path / "a2.tif")
    before = BlockJob.load(tmp_path / "out.ome.zarr")
    assert run("a2.tif", "b2", "--resume") == 0
    job = BlockJob.load(tmp_path / "out.ome.zarr")
    assert (job.id, job.source.name, job.bundle.name) == (before.id, "a2.tif", "b2")
    assert job.markers.count() == 2
    assert main(["job", "verify", str(job.output)]) == 0


# --- stopped


def test_whoever_stops_a_run_does_not_wait_for_the_blocks_to_come(
    line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*line, "--job-only"]) == 0
    job = BlockJob.load(line[-1])
    forked = multiprocessing.get_context("fork")  # sees the blocks below
    seconds = {0: 0.0, 1: 60.0}

    def block(address: Any, number: int, device: str | None) -> Outcome:
        time.sleep(seconds[number])
        return Outcome(number, 1)

    monkeypatch.setattr(executors, "predict_block", block)
    monkeypatch.setattr(executors, "_context", lambda: forked)
    began = time.monotonic()
    outcomes = executors._processes(job, [0, 1], 2)
    assert next(outcomes).number == 0
    with pytest.raises(KeyboardInterrupt):
        outcomes.throw(KeyboardInterrupt("stopped", 143))
    assert time.monotonic() - began < 30
    outcomes = executors._processes(job, [0, 1], 2)
    assert next(outcomes).number == 0
    outcomes.close()
    assert time.monotonic() - began < 30


# --- processes that die


def test_a_process_that_dies_takes_no_other_block_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block 0 kills each of its processes, block 1 the first one, as where memory was short."""
    noted: list[tuple[str, tuple[int, ...], str]] = []
    job: Any = SimpleNamespace(
        device="cpu", output=tmp_path, id="", blocks=split((5,), (1,)),
        markers=SimpleNamespace(
            note=lambda kind, block, error: noted.append((kind, block.index, error))
        ),
    )  # fmt: skip
    forked = multiprocessing.get_context("fork")  # sees the blocks below

    def block(address: Any, number: int, device: str | None) -> Outcome:
        tries = len([*tmp_path.glob(f"{number}.*")])
        (tmp_path / f"{number}.{tries}").touch()
        if number == 0 or (number, tries) == (1, 0):
            os._exit(1)
        time.sleep(0.2)  # amid which the others die
        return Outcome(number, 1)

    monkeypatch.setattr(executors, "predict_block", block)
    monkeypatch.setattr(executors, "_context", lambda: forked)
    found = {each.number: each for each in executors._processes(job, range(5), 4)}
    reason = "3 processes died at it, with no other block in work"
    assert found == {0: Outcome(0, 0, reason), **{n: Outcome(n, 1) for n in range(1, 5)}}
    assert noted == [("failed", (0,), reason)]  # job status says it
    tries = [len([*tmp_path.glob(f"{number}.*")]) for number in range(5)]
    assert tries == [4, 2, 1, 1, 1]  # no block beside one that died was begun anew


def test_a_block_that_kills_the_workers_of_a_cluster_is_given_up_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class KilledWorker(Exception):
        """As dask's."""

    class Cluster(ExitStack):
        def __init__(self, address: str) -> None:
            super().__init__()

        def map(self, do: Any, addresses: Any, todo: list[int], **_: Any) -> list[Future[Outcome]]:
            futures: list[Future[Outcome]] = [Future() for _ in todo]
            for number, future in zip(todo, futures, strict=True):
                if number == 1:
                    future.set_exception(KilledWorker("predict_block"))
                else:
                    future.set_result(Outcome(number, 1))
            return futures

    noted: list[str] = []
    distributed = SimpleNamespace(
        Client=Cluster, as_completed=list, KilledWorker=KilledWorker, CancelledError=CancelledError
    )
    monkeypatch.setattr(executors.importlib, "import_module", lambda name: distributed)
    markers = SimpleNamespace(note=lambda kind, block, error: noted.append(f"{block.name} {error}"))
    job: Any = SimpleNamespace(output="", id="", blocks=split((3,), (1,)), markers=markers)
    found = [*executors._dask(job, range(3), "tcp://host", 1)]
    assert found == [
        Outcome(0, 1), Outcome(1, 0, "the cluster's workers died at it"), Outcome(2, 1)
    ]  # fmt: skip
    assert noted == ["1 the cluster's workers died at it"]


def test_a_process_that_dies_while_it_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    forked = multiprocessing.get_context("fork")
    monkeypatch.setattr(executors, "predict_block", lambda *_: Outcome(os.getpid(), 1))
    monkeypatch.setattr(executors, "_context", lambda: forked)
    with ExitStack() as held:
        process = executors._Process(None, held)
        first = process.begin(("", ""), 0).result().number
        os.kill(first, signal.SIGKILL)
        while process.pool is not None and not process.pool._broken:
            time.sleep(0.01)
        assert process.begin(("", ""), 1).result().number != first


def test_failed_blocks_are_named_in_a_sentence_of_bounded_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job: Any = SimpleNamespace(
        output="out.ome.zarr",
        id="",
        blocks=split((9,), (1,)),
        check=list,
        markers=SimpleNamespace(require_own=list, missing=lambda blocks: range(len(blocks))),
    )
    monkeypatch.setattr(executors, "predict_block", lambda _, number, __: Outcome(number, 0, "bad"))
    with pytest.raises(executors.BlocksFailedError) as caught:
        run_blocks(job, progress=False)
    assert str(caught.value) == (
        "9 of 9 blocks failed, the others are done: 0 (bad); 1 (bad); 2 (bad); 3 (bad); 4 (bad) "
        "and 4 more (unet-med job status out.ome.zarr lists all); run again with --resume to try "
        "these once more"
    )


# --- where it runs


@pytest.mark.parametrize(
    ("words", "id", "own", "workers"),
    [
        (["--device", "cuda:1"], None, "cuda:1", 2),
        (["--device", "cuda"], None, None, 4),
        ([], "$torch.device('cuda:1')", "cuda:1", 2),
        (["--device", "cuda:0"], "$torch.device('cuda:1')", "cuda:0", 2),
    ],
)
def test_the_gpu_that_was_named_is_taken_alone(
    words: list[str], id: str | None, own: str | None, workers: int,
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = tmp_path / "bundle"
    shutil.copytree(line[line.index("--bundle") + 1], folder)
    path = folder / "configs/inference.json"
    if id:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"device": id}))
    monkeypatch.setattr(by_blocks, "count", lambda kind: 2)
    monkeypatch.setattr("unet_med.devices.count", lambda kind: 2)
    job = SimpleNamespace(id="", device="cuda", blocks=[None] * 9, tile=(), output="", threads=1,
                          layout=SimpleNamespace(block=(1,), shape=(1,)), channels=1,
                          markers=SimpleNamespace(count=int))  # fmt: skip
    made, ran = [], []
    monkeypatch.setattr(BlockJob, "create", lambda *_, **options: made.append(options) or job)
    monkeypatch.setattr(by_blocks, "run_blocks", lambda job, **options: ran.append(options) or 0)
    line[line.index("--bundle") + 1] = str(folder)
    del line[line.index("--workers") : line.index("--output")]
    assert main([*line, *words, "--shard", "0/1"]) == 0
    assert made[0]["device"] == (own or "cuda")
    assert (ran[0]["device"], ran[0]["workers"]) == (own, workers)
    monkeypatch.setattr(grid, "count", lambda kind: 2)
    assert grid._sharing(torch.device(own or "cuda"), 1, workers) == 2


def test_local_processes_take_the_gpu_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def side_by_side(job: Any, todo: Any, devices: list[str]) -> Any:
        given.append(devices)
        yield 0, Outcome(0, 1)

    monkeypatch.setattr(executors, "_side_by_side", side_by_side)
    monkeypatch.setattr("unet_med.devices.count", lambda kind: 2)
    job: Any = SimpleNamespace(device="cuda")
    for device in (None, "cuda:1"):
        assert [*executors._processes(job, [0], 3, device)] == [Outcome(0, 1)]
    assert given == [["cuda:0", "cuda:1", "cuda:0"], ["cuda:1"] * 3]
    monkeypatch.setattr("unet_med.devices.count", lambda kind: 0)  # resumed where there is none
    assert executors._device(job, 1) == "cuda:0"  # which a sentence refuses


@pytest.mark.parametrize(("words", "given"), [([], False), (["--device", "cpu"], True)])
def test_whole_images_go_where_the_bundle_says(
    words: list[str], given: bool, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(ValueError):
        """Enough was seen."""

    def load(folder: Path, kind: str, settings: dict[str, Any], **_: Any) -> Any:
        assert ("device" in settings) == given
        raise Seen("seen")

    monkeypatch.setattr(predict.bundle, "load_workflow", load)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16), np.uint8))
    line = ["predict", str(tmp_path / "a.tif"), "--bundle", str(model), *words]
    assert main([*line, "--output", str(tmp_path / "results")]) == 2


# --- the last step


def test_the_last_step_is_missed_and_keeps_its_tables_with_the_job(
    line: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = line[-1]
    assert main([*line, "--instances", "--job-only"]) == 0
    run_blocks(BlockJob.load(store), progress=False)
    monkeypatch.setattr(tempfile, "tempdir", f"{store}/missing")  # often memory, on clusters
    missed = f"the last step is not done: unet-med job finish {store}"
    for words, due in (("status", True), ("verify", True), ("finish", False), ("status", False),
                       ("verify", False)):  # fmt: skip
        assert main(["job", words, store]) == 0
        assert (missed in capsys.readouterr().out) == due
    job = BlockJob.load(store)
    note_anew(job, 0)
    assert main(["job", "status", store]) == 0
    assert missed in capsys.readouterr().out
    assert not [*job.folder.glob(".*")]


def test_verify_fails_where_other_tiles_give_another_result(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of a network that sees farther than its bundle says."""
    assert main(line) == 0
    job = BlockJob.load(line[-1])
    zarr.open_array(job.output / "labels/mask/0", mode="r+")[0] = 0
    note_anew(job, 0, checksum=checksum([mask_of(job.output)[:1]]))
    assert main(["job", "verify", str(job.output), "--sample", "1"]) == 2
    said = capsys.readouterr().err
    assert "pixels of another class, of 512: more than rounding in float32 explains" in said


def test_objects_are_found_without_a_search(tmp_path: Path) -> None:
    class Counted(list[Any]):
        walks = 0

        def __iter__(self) -> Any:
            self.walks += 1
            return super().__iter__()

    blocks = Counted(split((6, 5), (2, 3)))
    for number in range(len(blocks)):
        shape = [part.stop - part.start for part in blocks[number].slices]
        save_objects(tmp_path, blocks[number], np.full(shape, number))
    stored = StoredObjects(tmp_path, (6, 5), blocks)
    for number in range(len(blocks)):
        assert np.all(stored[blocks[number].slices] == number)
    assert blocks.walks <= 1


# --- what is there already


@pytest.mark.parametrize("name", ["B.ome.tif", "B_mask.ome.tif", "B.ome.zarr", "B_mask.ome.zarr"])
def test_a_result_whose_job_was_deleted_is_known_by_its_record(
    name: str, line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*line[:-1], str(tmp_path / name), "--instances"]
    store = tmp_path / name.replace(".tif", ".zarr")
    assert main(line) == 0
    shutil.rmtree(f"{store}.job")
    if name.endswith(".tif"):
        shutil.rmtree(store)  # as the last step says they may be
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert main([*line, "--resume"]) == 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert before == after
    for more in (["--tta", "flips"], ["--probabilities"], ["--rois"]):
        assert main([*line, *more, "--resume"]) == 2
        said = capsys.readouterr().err
        assert f"{name} exists: no job is beside it, nor a record of this image, weights" in said
    assert main(line) == 2
    assert "exists: go on with --resume, or choose a new name" in capsys.readouterr().err


def test_a_job_that_is_done_is_left_alone(
    line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "B.ome.tif"
    line = [*line[:-1], str(output), "--instances", "--resume"]
    assert main(line) == 0
    before = [path.stat().st_mtime_ns for path in (output, tmp_path / "record.json")]
    assert main(line) == 0
    assert "all 2 blocks were done, and the last step too" in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in (output, tmp_path / "record.json")] == before
    (tmp_path / "B_instances.ome.tif").unlink()
    assert main(line) == 0
    assert (tmp_path / "B_instances.ome.tif").is_file()


def test_where_a_volume_lies_is_said_to_be_left_out_and_kept_in_the_record(
    line: list[str], tmp_path: Path, planes: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zarr and TIFF hold no rotation, flip or place; a radiologist's sides are not to be lost."""
    affine = np.array([[0, -2, 0, 9.0], [1, 0, 0, 8], [0, 0, 3, 7], [0, 0, 0, 1]])
    line[1] = str(tmp_path / "turned.nii")
    nibabel.save(nibabel.Nifti1Image(planes.T, affine), line[1])
    said = (
        "OME-Zarr and TIFF hold pixel sizes, not the directions of the axes and the place in "
        f"space: results are in the order of the voxels of {line[1]}, whose affine record.json"
    )
    assert main(line) == 0
    assert capsys.readouterr().err.count(said) == 1
    assert main([*line, "--resume"]) == 0  # of one job once
    assert said not in capsys.readouterr().err
    [entry] = json.loads((tmp_path / "record.json").read_text())["images"].values()
    np.testing.assert_array_equal(entry["affine"], affine)
    image = nibabel.load(line[1])
    for form in ("sform", "qform"):
        image.header[f"{form}_code"] = 0  # it states pixel sizes alone, and nibabel supposes more
    nibabel.save(nibabel.Nifti1Image(planes.T, None, image.header), tmp_path / "sizes.nii")
    line[1], line[-1] = str(tmp_path / "sizes.nii"), str(tmp_path / "sizes.ome.zarr")
    assert main([*line, "--job-only"]) == 0
    assert "hold pixel sizes" not in capsys.readouterr().err


def test_results_of_a_small_image_are_written_at_once(
    tmp_path: Path,
    model: Path,
    planes: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As NIfTI and PNG are: without blocks, and without the extra that they take."""
    tifffile.imwrite(tmp_path / "a.tif", planes, metadata={"axes": "ZYX"})
    (tmp_path / "out").mkdir()
    line = ["predict", str(tmp_path / "a.tif"), "--bundle", str(model), "--output"]
    monkeypatch.setattr("unet_med.cli.extras.find_spec", lambda name: None)
    assert main([*line, str(tmp_path / "out/a_mask.ome.tif"), "--instances"]) == 0
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"a_mask.ome.tif", "a_instances.ome.tif", "record.json"}
    assert list(json.loads((tmp_path / "out/record.json").read_text())["images"]) == ["a"]
    assert main([*line, str(tmp_path / "whole"), "--instances"]) == 0
    for layer in ("mask", "instances"):
        found = tifffile.imread(tmp_path / f"out/a_{layer}.ome.tif")
        np.testing.assert_array_equal(found, tifffile.imread(tmp_path / f"whole/a_{layer}.tif"))
    for more, reason in (
        (["--workers", "1"], "--workers"),
        (["--shard", "0/2"], "--shard"),
    ):
        assert main([*line, str(tmp_path / "b.tif"), *more]) == 2
        assert f"block by block because of {reason}, needs zarr, not" in capsys.readouterr().err
    monkeypatch.setattr(predict, "_fits", lambda *_: False)
    assert main([*line, str(tmp_path / "b.tif")]) == 2
    assert "b.tif, block by block because of the image's size, needs" in capsys.readouterr().err


def test_an_image_done_whole_is_not_done_again_block_by_block(
    tmp_path: Path, model: Path, planes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which it would be on a day on which less memory is free."""
    tifffile.imwrite(tmp_path / "a.tif", planes, metadata={"axes": "ZYX"})
    line = ["predict", str(tmp_path / "a.tif"), "--bundle", str(model)]
    line += ["--output", str(tmp_path / "out"), "--instances"]
    assert main(line) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(predict, "_is_large", lambda *_: True)
    assert main([*line, "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(("choice", "pixels"), [({"series": 1}, 30 * 20), ({"time": 2}, 9 * 7)])
def test_one_image_of_several_in_a_large_tiff_goes_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: dict[str, int], pixels: int
) -> None:
    """Its header is refused without the choice, and its size is that of what is chosen."""
    with tifffile.TiffWriter(tmp_path / "series.tif") as file:
        file.write(np.zeros((8, 8), np.uint8), tile=(16, 16))
        file.write(np.zeros((30, 20), np.uint8), tile=(16, 16))
    movie = np.zeros((4, 9, 7), np.uint8)
    tifffile.imwrite(tmp_path / "time.tif", movie, imagej=True, metadata={"axes": "TYX"})
    asked: list[int] = []
    monkeypatch.setattr("unet_med.memory.holds_whole", asked.append)
    assert predict._is_large(str(tmp_path / f"{next(iter(choice))}.tif"), choice)
    assert asked == [pixels]


# --- folders


def test_a_damaged_image_among_those_that_go_block_by_block_is_set_aside(
    tmp_path: Path, model: Path, planes: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        write_source(tmp_path / f"in/{name}.ome.zarr", planes)
    chunk = tmp_path / "in/a.ome.zarr/0/c/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:40])
    tifffile.imwrite(tmp_path / "in/d.tif", np.zeros((16, 16), np.uint8))
    (tmp_path / "in/e.tif").write_text("no image")
    (tmp_path / "out/c_mask.ome.zarr").mkdir(parents=True)  # of somebody else

    def run(*more: str, images: str = "in") -> int:
        words = ["predict", tmp_path / images, "--bundle", model, "--output", tmp_path / "out"]
        return main([*map(str, words), "--workers", "1", *more])

    assert run() == 3
    assert "2 of 5 images segmented" in capsys.readouterr().out
    assert len(np.unique(mask_of(tmp_path / "out/b_mask.ome.zarr"))) > 1
    assert (tmp_path / "out/d_mask.tif").is_file()
    report = json.loads((tmp_path / "out/failed.json").read_text(encoding="utf-8"))
    assert (report["images"], report["segmented"]) == (5, 2)
    failed = {Path(fault["image"]).name: fault["reason"] for fault in report["failed"]}
    assert sorted(failed) == ["a.ome.zarr", "c.ome.zarr", "e.tif"]
    assert "cannot be read at" in failed["a.ome.zarr"]
    assert "exists: go on with --resume" in failed["c.ome.zarr"]
    assert run(images="in/a.ome.zarr") == 2
    assert run("--fail-fast", images="in/a.ome.zarr") == 2
    assert "cannot be read at" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "out/c_mask.ome.zarr")
    (tmp_path / "in/e.tif").unlink()
    shutil.rmtree(tmp_path / "in/a.ome.zarr")
    assert run("--resume") == 0
    assert not (tmp_path / "out/failed.json").exists()


def one_by_one(tmp_path: Path, raised: dict[str, Exception], **options: Any) -> list[str]:
    """Names of the images that are listed in failed.json, of a run in which some raise."""

    def by_blocks(_: Any, image: str, output: str) -> None:
        if error := raised.get(Path(image).stem):
            raise error

    args: Any = SimpleNamespace(
        output=str(tmp_path), **{"fail_fast": False, "job_only": False, **options}
    )
    pairs = [(str(tmp_path / f"{name}.tif"), "") for name in "abc"]
    for image, _ in pairs:
        Path(image).touch()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(predict, "_by_blocks", by_blocks)
        if any(isinstance(error, OSError) for error in raised.values()):
            with pytest.raises(OSError, match="no space"):
                predict._one_by_one(args, tmp_path, [], pairs, {})
        else:
            assert predict._one_by_one(args, tmp_path, [], pairs, {}) == 3
    report = json.loads((tmp_path / "failed.json").read_text())
    return [Path(fault["image"]).stem for fault in report["failed"]]


def test_what_any_error_sets_aside_is_listed_even_where_another_ends_the_run(
    tmp_path: Path,
) -> None:
    full = OSError(errno.ENOSPC, "no space")
    assert one_by_one(tmp_path, {"a": KeyError("datasets"), "b": ValueError("x")}) == ["a", "b"]
    assert one_by_one(tmp_path, {"a": IndexError("no level"), "b": full}) == ["b", "a"]
    (tmp_path / "failed.json").unlink()
    assert one_by_one(tmp_path, {"a": ValueError("x"), "b": full}) == ["a"]


def test_what_was_set_aside_is_listed_where_an_error_ends_a_run_of_whole_images(
    tmp_path: Path,
) -> None:
    class Ended(SkipFailuresEvaluator):
        def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> Any:
            name = batchdata["image"][0]
            if name == "c":
                raise OSError(errno.ENOSPC, "no space")
            return self._set_aside(name, "bad") if name == "a" else []

    items = [{"image": name} for name in "abcd"]
    evaluator = Ended(
        torch.device("cpu"), DataLoader(Dataset(items)), torch.nn.Identity(), report_dir=tmp_path
    )
    with pytest.raises(OSError, match="no space"):
        evaluator.run()
    report = json.loads((tmp_path / "failed.json").read_text())
    assert report == {
        "images": 2, "segmented": 1, "failed": [{"image": "a", "reason": "bad"}]
    }  # fmt: skip


# --- many images


def test_a_folder_is_read_once_however_many_images_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads it for each image takes a quarter of an hour for ten thousand."""
    names = [f"{n:02}" for n in range(20)]
    for name in names:
        (tmp_path / f"{name}.tif").write_text(name)
        (tmp_path / f"{name}_mask.tif").touch()
    (tmp_path / "07_instances.tif").touch()
    (tmp_path / "record.json").write_text(json.dumps({
        "weights": None, "settings": {},
        "images": {n: {"file": f"{n}.tif", "sha256": sha256(tmp_path / f"{n}.tif"), "outputs": [
            "mask", *(["instances"] if n == "07" else [])]} for n in names},
    }))  # fmt: skip
    (tmp_path / "03.tif").write_text("changed")
    walks = []
    walk = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: walks.append(self) or walk(self))
    record = PredictionRecord(tmp_path)
    data = [{"image": str(tmp_path / f"{name}.tif")} for name in names]
    left = record.unfinished(data, ["mask"])
    assert [Path(item["image"]).stem for item in left] == ["03"]
    assert len(record.unfinished(data, ["mask", "instances"])) == 19
    with pytest.raises(ValueError, match=r"holds the results of 03.tif, and those of .*03.tif"):
        record.refuse_others(item["image"] for item in data)
    engine: Any = SimpleNamespace(state=SimpleNamespace())
    record._drop(engine, [item["image"] for item in data])
    assert {path.name for path in tmp_path.glob("*_*")} == set()
    assert walks == [tmp_path] * 4
