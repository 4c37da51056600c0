"""How far a job is, whether its output is right, and its last step."""

from __future__ import annotations

import errno
import math
import random
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path

import numpy as np

from unet_med.inferers.tile_size import smaller_sides
from unet_med.volumes.blocks import Block
from unet_med.volumes.grid import block_needs
from unet_med.volumes.job import BlockJob
from unet_med.volumes.objects import StoredObjects, Turned
from unet_med.volumes.record import note_result
from unet_med.volumes.store import named_if_full, open_level, write_block
from unet_med.volumes.worker import Worker, checksum, threads_of

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)  # what a file system without locks says
# Most by which probabilities of other tiles differ, and share of pixels that fall to another class:
# a hundred times what was measured in float32, and some bits of TF32's and bfloat16's mantissa.
_ROUNDING = {"float32": 1e-3, "tf32": 2e-2, "bf16": 5e-2}


def status(job: BlockJob, tiff: Path | None = None) -> str:
    """What is done, what failed, and how long the rest takes one worker."""
    markers, failures = job.markers.all(), job.markers.failures()
    left = len(job.blocks) - len(markers)
    lost = job.lost()
    seconds = [marker["seconds"] for marker in markers]
    lines = [f"{len(markers)} of {len(job.blocks)} blocks done, {left} left"]
    if left and seconds:
        mean = sum(seconds) / len(seconds)
        lines.append(f"{mean:.1f} s a block: {left * mean / 3600:.2f} h of one worker to go")
    lines += [lost] if lost else _unfinished(job, left, tiff)
    lines += [f"block {note['block']}: {note['error']}" for note in failures]
    return "\n".join(lines)


def verify(job: BlockJob, tiff: Path | None = None, *, sample: float = 0.01, seed: int = 0) -> str:
    """Read all finished blocks back, and compute some anew with another tile size.

    Args:
        job: which one.
        tiff: file that it writes besides.
        sample: share of the finished blocks to compute anew; at least one is.
        seed: of their choice.

    Returns:
        The largest difference of class probabilities, by how many pixels the masks differ, and
        whether the last step is missing.

    Raises:
        ValueError: no block is done, a block does not hold what was written, what decides the
            result has changed, or what is computed anew differs by more than rounding.
    """
    worker = Worker.open(job.output)
    done = [(block, note) for block in job.blocks if (note := job.markers.of(block))]
    if not done:
        raise ValueError(f"no block of {job.output} is done")
    torn = [
        note["block"] for block, note in done if checksum(worker.read(block)) != note["checksum"]
    ]
    if torn:
        raise ValueError(
            f"blocks {', '.join(torn)} of {job.output} do not hold what was written: delete their "
            f"markers in {job.folder / 'done'} and run again with --resume"
        )
    count = max(1, round(sample * len(done)))
    chosen = [block for block, _ in random.Random(seed).sample(done, count)]
    tile = _other_tile(worker)
    largest, flips = 0.0, 0
    with threads_of(job):
        for block in chosen:
            difference, changed = _compare(worker, block, tile)
            largest, flips = max(largest, difference), flips + changed
    found = (
        f"{count} computed anew with tiles of {' x '.join(map(str, tile))} px: "
        f"max|difference| {largest:.3g}, {flips} pixels of another class"
    )
    most, pixels = _ROUNDING[worker.precision], sum(math.prod(block.sides) for block in chosen)
    if not largest <= most or flips > most * pixels:
        raise ValueError(
            f"{found}, of {pixels}: more than rounding in {worker.precision} explains ({most:g}). "
            f"{job.output} is not what {job.bundle} makes of {job.source}: begin anew, elsewhere"
        )
    more = _unfinished(job, len(job.blocks) - len(done), tiff)
    return "\n".join([f"{len(done)} blocks hold what was written", found, *more])


def finish(job: BlockJob, tiff: Path | None = None, *, progress: bool = False) -> str:
    """Number the instances and write the TIFF, where they are wanted, once all blocks are done.

    The image is noted in `record.json` beside its result, see `unet_med.volumes.record`.

    Args:
        job: which one.
        tiff: file to write besides, such as `out.ome.tif`; None: none.
        progress: whether to show bars of the TIFF's tiles.

    Returns:
        What was done, in a sentence.

    Raises:
        ValueError: blocks are missing, or the output to which they were written; or another process
            does the same now.
    """
    if lost := job.lost():
        raise ValueError(lost)
    job.markers.require_own()
    if missing := job.markers.missing(job.blocks):
        raise ValueError(
            f"{len(missing)} of {len(job.blocks)} blocks of {job.output} are missing: run "
            f"predict again with --resume"
        )
    with _alone(job):
        return _last_step(job, tiff, progress=progress)


@contextmanager
def _alone(job: BlockJob) -> Iterator[None]:
    """One last step at a time: each sweeps away what it takes for left over, and writes the same.

    The system gives this lock up with its process, however that ends; the step may take days.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(job.folder / "finish.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another process does the last step of {job.output} now: wait for it; if there is "
            f"none, delete {lock.lock_file}"
        ) from None
    except NotImplementedError:  # a file system without locks: nobody is kept apart
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()


def _last_step(job: BlockJob, tiff: Path | None, *, progress: bool) -> str:
    """See `finish`."""
    _sweep(job)
    count = _number_instances(job)
    files: list[Path] = []
    said = f"all {len(job.blocks)} blocks are done"
    if count is not None:
        said += f", {count} instances"
    if "rois" in job.outputs and count is not None:
        from unet_med.volumes.rois import write_rois

        files += write_rois(job, count, tiff or job.output)
        said += f", outlined in {' and '.join(file.name for file in files)}"
    if tiff is not None:
        from unet_med.volumes.tiff import write_tiffs

        written = write_tiffs(job, tiff, instances=count, progress=progress)
        files += written
        said += (
            f", written as {', '.join(file.name for file in written)}; {job.output} and "
            f"{job.folder} hold the same and may be deleted"
        )
    note_result(job, tiff or job.output, files)
    job.markers.note_finished(files=[file.name for file in files])
    return said


def is_finished(job: BlockJob, tiff: Path | None = None) -> bool:
    """Whether `finish` was done, with this TIFF, and its files are there."""
    note = job.markers.finished()
    if note is None or (tiff is not None and tiff.name not in note["files"]):
        return False
    return all((job.output.parent / name).exists() for name in note["files"])


def _number_instances(job: BlockJob) -> int | None:
    """Write the instances and give their number; None where they are not wanted."""
    layer = job.layer("instances")
    if layer is None:
        return None
    from unet_med.volumes.instances import label_blocks

    out = open_level(job.output, layer, mode="r+")
    stored = StoredObjects(job.folder, job.layout.shape, job.blocks)
    classes = stored if job.objects else job.pixels("mask")
    turned = [Block(b.index[::-1], b.slices[::-1]) for b in job.blocks]
    blocks = sorted(turned, key=lambda block: block.index)
    with named_if_full(job.output):
        count = label_blocks(
            Turned(classes), Turned(out), blocks, tables=job.folder, **job.instances
        )  # which wrote level 0
    for block in job.blocks:
        write_block(job.output, layer, block, out[block.slices], job.layout, since=1)
    return count


def _unfinished(job: BlockJob, left: int, tiff: Path | None) -> list[str]:
    """A line, where no blocks are left and the last step is: until then there are no instances."""
    if left or is_finished(job, tiff):
        return []
    output = shlex.quote(str(tiff or job.output))
    return [f"the last step is not done: unet-med job finish {output}"]


def _sweep(job: BlockJob) -> None:
    """Take away what processes that were killed left half-written, which nothing ever reads."""
    beside = job.output.parent.glob(f".{escape(job.output.name)}.*")
    notes = [*job.folder.glob(".*"), *job.folder.glob("*/.*")]
    for left in [*beside, *notes, *job.output.rglob("*.partial")]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)  # a process at the same block may be quicker
        else:
            left.unlink(missing_ok=True)


def _compare(worker: Worker, block: Block, tile: Sequence[int]) -> tuple[float, int]:
    """Largest difference of probabilities, and number of pixels of another class."""
    job, anew = worker.job, worker.predict(block, tile)
    if (stored := job.pixels("probabilities")) is not None:
        before = np.asarray(stored[(..., *block.slices)])
    else:
        before = worker.given(worker.predict(block, job.tile))
    changed = worker.mask(anew) != job.pixels("mask")[block.slices]
    return float(np.abs(worker.given(anew) - before).max()), int(changed.sum())


def _other_tile(worker: Worker) -> tuple[int, ...]:
    """Tiles of about half the size; of the whole block where they are the smallest already."""
    tiling, job = worker.volume.tiling.in_file_order(), worker.job
    whole = tiling.whole_sides(block_needs(job.layout, worker.volume))
    return tuple(smaller_sides(job.tile, tiling) or whole)
