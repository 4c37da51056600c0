"""Who does the blocks: this process, processes on this machine, or a dask cluster.

The markers are the truth. Whatever dies, and whoever does a block twice, the next run does
what has no marker yet.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import shlex
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

from tqdm.auto import tqdm

from unet_med.data.bars import no_bar
from unet_med.errors import is_full
from unet_med.memory import free_memory
from unet_med.volumes.job import BlockJob
from unet_med.volumes.worker import Outcome, predict_block

_DEATHS = 3  # of processes at one block, alone, before it is given up
_NAMED = 5  # failed blocks in a message; job status lists all


class BlocksFailedError(ValueError):
    """Some blocks could not be done; all others are."""


def run_blocks(
    job: BlockJob,
    *,
    workers: int = 1,
    shard: tuple[int, int] | None = None,
    scheduler: str | None = None,
    device: str | None = None,
    progress: bool = True,
) -> int:
    """Do all blocks of a job, or of a shard of it, that have no marker yet.

    Args:
        job: what is to be done.
        workers: processes on this machine; 1 works in this one.
        shard: `(i, n)`: every n-th block from the i-th, counted from 0, in this process.
        scheduler: address of a dask scheduler, or `"local"` for one made on the spot with
            `workers` processes.
        device: the one GPU of this machine that all work on, such as `"cuda:1"`; None: all of them
            in turn. Workers of a cluster choose theirs with `CUDA_VISIBLE_DEVICES`.
        progress: whether to show a bar, with voxels a second and time left.

    Returns:
        Number of blocks that were done now.

    Raises:
        BlocksFailedError: some could not be done; the message lists the first.
        ValueError: weights, configs, source or grid have changed since the job was made, or a
            marker is of another.
    """
    job.check()
    job.markers.require_own()
    numbers = range(len(job.blocks))[shard[0] :: shard[1]] if shard else range(len(job.blocks))
    todo = sorted({*numbers} & {*job.markers.missing(job.blocks)})
    free_memory(None)  # what the job was planned with; the GPU is now for those who do the blocks
    outcomes: Generator[Outcome, None, None]
    if scheduler:
        outcomes = _dask(job, todo, scheduler, workers)
    elif shard or workers == 1:
        outcomes = (predict_block(_address(job), number, device) for number in todo)
    else:
        outcomes = _processes(job, todo, workers, device)
    with closing(outcomes):  # whoever stops this stops them
        shown = list(_shown(job, todo, outcomes, progress))
    failed = [outcome for outcome in shown if outcome.error]
    if failed:
        named = [f"{job.blocks[bad.number].name} ({bad.error})" for bad in failed[:_NAMED]]
        listed = "; ".join(named)
        if more := len(failed[_NAMED:]):
            output = shlex.quote(str(job.output))
            listed += f" and {more} more (unet-med job status {output} lists all)"
        raise BlocksFailedError(
            f"{len(failed)} of {len(numbers)} blocks failed, the others are done: {listed}; "
            f"run again with --resume to try these once more"
        )
    return sum(outcome.voxels > 0 for outcome in shown)


def _shown(
    job: BlockJob, todo: Sequence[int], outcomes: Iterable[Outcome], progress: bool
) -> Iterator[Outcome]:
    """The outcomes, with a bar in voxels: its rate and time left are those of the work."""
    sizes = {number: math.prod(job.blocks[number].sides) for number in todo}
    with tqdm(
        total=sum(sizes.values()), desc=f"{len(todo)} blocks", unit="voxel", unit_scale=True,
        disable=no_bar(progress),
    ) as bar:  # fmt: skip
        for outcome in outcomes:
            bar.update(sizes[outcome.number])
            yield outcome


def _processes(
    job: BlockJob, todo: Sequence[int], workers: int, device: str | None = None
) -> Generator[Outcome, None, None]:
    """Processes on this machine; one that dies takes no other block along.

    Its block is done again when the others are through, alone: what these took, memory above all,
    may have killed it. Only deaths of a block that was alone are its own.
    """
    devices = [device or _device(job, k) for k in range(workers)]
    died = []
    with closing(_side_by_side(job, todo, devices)) as found:
        for number, outcome in found:
            if outcome is None:
                died.append(number)
            else:
                yield outcome
    for number in died:
        yield _alone(job, number, devices[0])


def _alone(job: BlockJob, number: int, device: str | None) -> Outcome:
    """Do a block with no other in work; given up after some deaths."""
    for _ in range(_DEATHS):
        [(_, outcome)] = _side_by_side(job, [number], [device])
        if outcome is not None:
            return outcome
    return _given_up(job, number, f"{_DEATHS} processes died at it, with no other block in work")


def _given_up(job: BlockJob, number: int, reason: str) -> Outcome:
    """Note why a block is given up at which processes died, which noted nothing themselves."""
    job.markers.note("failed", job.blocks[number], error=reason)
    return Outcome(number, 0, reason)


def _side_by_side(
    job: BlockJob, todo: Iterable[int], devices: Sequence[str | None]
) -> Generator[tuple[int, Outcome | None], None, None]:
    """What became of each block, by processes one a device; None where its process died.

    Each process has a pool of its own: a pool ends all that it has when one of them dies, and does
    not say which.
    """
    waiting = iter(todo)
    running: dict[Future[Outcome], tuple[int, _Process]] = {}
    with ExitStack() as stack:
        idle = [_Process(device, stack.enter_context(ExitStack())) for device in devices]
        while True:
            for process, number in zip(idle, waiting, strict=False):
                running[process.begin(_address(job), number)] = number, process
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            idle = []
            for future in done:
                number, process = running.pop(future)
                idle.append(process)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    process.end()
                    outcome = None
                yield number, outcome


@dataclass
class _Process:
    """A process of this machine that does one block at a time; begun anew after it has died."""

    device: str | None
    held: ExitStack
    pool: ProcessPoolExecutor | None = None

    def begin(self, address: tuple[str, str], number: int) -> Future[Outcome]:
        if self.pool is None:
            self.pool = self.held.enter_context(_pool(self.device))
        try:
            return self.pool.submit(_do, address, number)
        except BrokenProcessPool:  # it died while it had nothing to do
            self.end()
            return self.begin(address, number)

    def end(self) -> None:
        self.held.close()
        self.pool = None


@contextmanager
def _pool(device: str | None) -> Iterator[ProcessPoolExecutor]:
    """A process on a device; whatever ends the `with` early ends it amid its block.

    A block that is cut short is as if it had not been begun. An executor by itself waits for every
    block that was handed out, which may take days.
    """
    context = _context()
    watched, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(1, context, _start, (device, watched))
    try:
        yield pool
    except BaseException:
        held.send("end")
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        watched.close(), held.close()


def _context() -> Any:
    """Processes that share one import where the system can; never a fork of a used CUDA."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([predict_block.__module__])
    return context


_own_device: str | None = None  # of this process


def _start(device: str | None, watched: Any) -> None:
    """Begin a worker process: its device, and an end when its parent ends or says so."""
    global _own_device
    _own_device = device
    parent = multiprocessing.parent_process()
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, left behind by who ends so

    def follow() -> None:
        if parent is not None:
            connection.wait([parent.sentinel, watched])
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _do(address: tuple[str, str], number: int) -> Outcome:
    return predict_block(address, number, _own_device)


def _device(job: BlockJob, worker: int) -> str | None:
    """Workers take turns on the GPUs."""
    from unet_med.devices import HOST, count

    if job.device == HOST.type:
        return None
    return f"{job.device}:{worker % max(1, count(job.device))}"  # who has none there says so


def _dask(
    job: BlockJob, todo: Sequence[int], scheduler: str, workers: int
) -> Generator[Outcome, None, None]:
    """A dask cluster, the user's or one made here, with one model a worker process."""
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as error:
        raise ImportError(
            'a dask cluster needs distributed: pip install "unet-med[cluster]"'
        ) from error
    with ExitStack() as stack:
        address: Any = scheduler
        if scheduler == "local":
            cluster = distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
            )
            address = stack.enter_context(cluster)
        client = stack.enter_context(distributed.Client(address))
        futures = client.map(
            predict_block, [_address(job)] * len(todo), todo, pure=False, retries=5
        )
        numbers = dict(zip(futures, todo, strict=True))
        try:
            for future in distributed.as_completed(futures):
                try:
                    yield future.result()
                except distributed.KilledWorker:
                    yield _given_up(job, numbers[future], "the cluster's workers died at it")
        except (OSError, distributed.CancelledError) as error:
            if is_full(error):
                raise
            raise OSError(
                f"the cluster at {scheduler} was lost ({error}); finished blocks are kept: run "
                f"again with --resume"
            ) from error


def _address(job: BlockJob) -> tuple[str, str]:
    return str(job.output), job.id
