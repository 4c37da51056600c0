"""`unet-med predict IMAGE --output NAME.ome.zarr|.ome.tif`: any size, block by block."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unet_med.bundle import find_ensemble
from unet_med.cli.options import choice_of
from unet_med.cli.saying import result, say
from unet_med.cli.shard import shard_of
from unet_med.devices import HOST, choose, choose_device, count
from unet_med.segmentation import Segmenter, Volume
from unet_med.volumes import BlockJob, open_source, run_blocks
from unet_med.volumes.grid import choose_layout, choose_tile
from unet_med.volumes.job_actions import finish
from unet_med.volumes.tiff import store_of, tiff_of


def run(args: argparse.Namespace) -> None:
    """Lay a job out or resume it, do the blocks, number the instances, write the TIFF."""
    shard = shard_of(args.shard)
    job = _job_of(args, store_of(args.output.rstrip("/")), resume=args.resume or shard is not None)
    say(
        f"job {job.id}: {len(job.blocks)} blocks of {_sides(job.layout.block)} px in "
        f"{_sides(job.layout.shape)}, tiles of {_sides(job.tile)}, {len(job.markers())} done"
    )
    if args.job_only:
        return
    workers = args.workers or _all_workers(job)
    done = run_blocks(job, workers=workers, shard=shard, scheduler=args.scheduler)
    result(f"{done} blocks segmented, results in {job.output}")
    if shard is None:
        result(finish(job, tiff_of(args.output), progress=True))
    else:
        say(f"when all shards are through: unet-med job finish {args.output}")


def _job_of(args: argparse.Namespace, store: Path, *, resume: bool) -> BlockJob:
    """The job of the output where there is one to resume, else a new one."""
    settings: dict[str, Any] = {}
    if args.tta:
        settings["tta"] = None if args.tta == "none" else args.tta
    if args.precision:
        settings["precision"] = args.precision
    settings |= {f"reader::{name}": value for name, value in choice_of(args).items()}
    if args.ensemble:
        settings |= {id: _plain(value) for id, value in find_ensemble(args.bundle).items()}
    maps = ("instances", "probabilities", "uncertainty", "rois")
    outputs = ["mask", *(name for name in maps if getattr(args, name))]
    # Looked at before the job, which another process may be publishing: it is there first.
    taken = [path for path in (store, Path(args.output)) if path.exists()]
    if resume and Path(f"{store}.job").is_dir():
        job = BlockJob.load(store)
        job = replace(
            job, source=Path(args.images[0]).absolute(), bundle=Path(args.bundle).absolute()
        )
        if not set(outputs) <= set(job.outputs) or settings.items() - job.ids.items():
            raise ValueError(
                f"{args.output} was planned with other options: leave them as they were"
            )
        _check_sides(job, args.block, args.tile)
        _check_machine(job, args.device, args.threads)
        job.check()
        return job
    if taken:
        raise FileExistsError(f"{taken[0]} exists: go on with --resume, or choose a new name")
    device = str(choose_device(args.device))
    return BlockJob.create(
        args.images[0],
        store,
        args.bundle,
        block=args.block,
        tile=args.tile,
        outputs=outputs,
        settings=settings,
        device=device,
        threads=args.threads or 1,
        workers=args.workers or _workers_of_gpus(device),
        trust=args.trust,
        progress=True,
    )


def _plain(value: Any) -> Any:
    """A value as the job's file has it."""
    return str(value) if isinstance(value, Path) else value


def _check_sides(job: BlockJob, block: Sequence[int] | None, tile: int | None) -> None:
    """Refuse sides that would have planned other ones; sides above the volume's are cut to it."""
    if (block is None or tuple(block) == job.layout.block) and tile is None:
        return
    segmenter = Segmenter(job.bundle, device=job.device, trust=job.trust, **job.ids)
    volume = Volume(segmenter, open_source(job.source, **job.choice), job.statistics)
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


def _all_workers(job: BlockJob) -> int:
    """One process a core, as far as its threads go round, or two a GPU."""
    if job.device != HOST.type:
        return min(_workers_of_gpus(job.device), max(1, len(job.blocks)))
    cores = (os.cpu_count() or 1) // job.threads
    return max(1, min(cores, len(job.blocks)))


def _workers_of_gpus(device: str) -> int:
    """Two a GPU: one reads or writes its block while the other computes; one on a CPU."""
    kind = device.partition(":")[0]
    return 1 if kind == HOST.type else 2 * count(kind)


def _sides(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))
