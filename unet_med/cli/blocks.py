"""`unet-med predict IMAGE --output NAME.ome.zarr|.ome.tif`: any size, block by block."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from unet_med.bundle import inference_parser
from unet_med.cli.saying import result, say
from unet_med.cli.shard import shard_of
from unet_med.cli.wanted import outputs_of, settings_of
from unet_med.data.atomic import as_json
from unet_med.devices import HOST, choose, choose_device, count
from unet_med.volumes import BlockJob, run_blocks
from unet_med.volumes.grid import choose_layout, choose_tile, most_workers
from unet_med.volumes.job_actions import finish, is_finished
from unet_med.volumes.record import is_recorded
from unet_med.volumes.tiff import store_of, tiff_of


def run(args: argparse.Namespace) -> None:
    """Lay a job out or resume it, do the blocks, number the instances, write the TIFF."""
    shard, store = shard_of(args.shard), store_of(args.output.rstrip("/"))
    if args.resume and not Path(f"{store}.job").is_dir() and _is_recorded(args):
        result(f"{args.output} is there: the same weights and settings have made it")
        return
    job, device = _job_of(args, store, resume=args.resume or shard is not None)
    say(
        f"job {job.id}: {len(job.blocks)} blocks of {_sides(job.layout.block)} px in "
        f"{_sides(job.layout.shape)}, tiles of {_sides(job.tile)}, {job.markers.count()} done"
    )
    if args.job_only:
        return
    own = None if device is None or device.index is None else str(device)
    done = run_blocks(
        job,
        workers=args.workers or _all_workers(job, own),
        shard=shard,
        scheduler=args.scheduler,
        device=own,
    )
    result(f"{done} blocks segmented, results in {job.output}")
    if shard is None and is_finished(job, tiff_of(args.output)):
        result(f"all {len(job.blocks)} blocks were done, and the last step too")
    elif shard is None:
        result(finish(job, tiff_of(args.output), progress=True))
    else:
        say(f"when all shards are through: unet-med job finish {shlex.quote(str(args.output))}")


def _job_of(
    args: argparse.Namespace, store: Path, *, resume: bool
) -> tuple[BlockJob, torch.device | None]:
    """The job of the output where there is one to resume, else a new one; and where to do it.

    The device is None for a CPU.
    """
    # Looked at before the job, which another process may be publishing: it is there first.
    taken = [path for path in (store, Path(args.output)) if path.exists()]
    if resume and Path(f"{store}.job").is_dir():
        return _resumed(args, store)
    if taken:
        advice = "go on with --resume, or choose a new name"
        if args.resume:
            advice = "no job is beside it, nor a record of this image, weights and settings"
        raise FileExistsError(f"{taken[0]} exists: {advice}")
    device = _device_of(args)
    job = BlockJob.create(
        args.images[0],
        store,
        args.bundle,
        block=args.block,
        tile=args.tile,
        outputs=outputs_of(args),
        settings=as_json(settings_of(args)),
        device=str(device),
        threads=args.threads or 1,
        workers=args.workers or _workers_of_gpus(device),
        trust=args.trust,
        progress=True,
    )
    return job, device


def _is_recorded(args: argparse.Namespace) -> bool:
    """Whether the result is there, as `record.json` says; its job may have been deleted since."""
    output = Path(args.output.rstrip("/"))
    return output.exists() and is_recorded(
        args.images[0],
        output,
        Path(args.bundle),
        outputs=outputs_of(args),
        settings=as_json(settings_of(args)),
        device=_device_of(args),
    )


def _resumed(args: argparse.Namespace, store: Path) -> tuple[BlockJob, torch.device | None]:
    """The job that is there, unless it was planned otherwise than the options say."""
    job = BlockJob.load(store).at(args.images[0], args.bundle)
    planned = as_json(job.ids)
    same = planned | as_json(settings_of(args)) == planned
    if not same or not set(outputs_of(args)) <= set(job.outputs):
        raise ValueError(f"{args.output} was planned with other options: leave them as they were")
    _check_sides(job, args.block, args.tile)
    _check_machine(job, args.device, args.threads)
    device = None if job.device == HOST.type else _device_of(args)
    return job, device if device is not None and device.type == job.device else None


def _device_of(args: argparse.Namespace) -> torch.device:
    """Where the network runs: as the user says, else as the bundle does."""
    if args.device:
        return choose_device(args.device)
    parser = inference_parser(Path(args.bundle), {})
    return torch.device(parser.get_parsed_content("device"))


def _check_sides(job: BlockJob, block: Sequence[int] | None, tile: int | None) -> None:
    """Refuse sides that would have planned other ones; sides above the volume's are cut to it."""
    if (block is None or tuple(block) == job.layout.block) and tile is None:
        return
    volume = job.volume(HOST)  # its network does not run
    layout = choose_layout(volume, block or job.layout.block)
    sides = choose_tile(layout, volume, job.tile if tile is None else tile, job.threads)
    for name, asked, planned in (
        ("block", layout.block, job.layout.block),
        ("tile", sides, job.tile),
    ):
        if asked != planned:
            raise _otherwise(job, name, f"{_sides(asked)} px", f"{_sides(planned)} px")


def _check_machine(job: BlockJob, device: str | None, threads: int | None) -> None:
    """Refuse a device or a number of threads on which the last digits would differ."""
    kind = device and choose(device).device.type
    if kind and kind != job.device:
        raise _otherwise(job, "device", kind, job.device)
    if threads and threads != job.threads:
        raise _otherwise(job, "threads", str(threads), str(job.threads))


def _otherwise(job: BlockJob, name: str, asked: str, planned: str) -> ValueError:
    return ValueError(
        f"--{name} gives {asked}, and {job.output.name} was planned with {planned}: "
        f"leave --{name} out, or choose a new --output"
    )


def _all_workers(job: BlockJob, device: str | None = None) -> int:
    """One process a core, as far as threads and memory go round, or two a GPU."""
    most = most_workers(job.layout, job.channels, job.threads)
    if job.device != HOST.type:
        most = _workers_of_gpus(torch.device(device or job.device))
    return max(1, min(most, len(job.blocks)))


def _workers_of_gpus(device: torch.device) -> int:
    """Two a GPU: one reads or writes its block while the other computes; one on a CPU."""
    if device.type == HOST.type:
        return 1
    return 2 if device.index is not None else 2 * count(device.type)


def _sides(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))
