"""`unet-med job`: how far a block-wise prediction is, whether it is right, its last step."""

from __future__ import annotations

import argparse

from unet_med.bundle import require_trust
from unet_med.cli.options import refuse_without_effect
from unet_med.volumes import BlockJob
from unet_med.volumes.job_actions import finish, status, verify
from unet_med.volumes.tiff import store_of, tiff_of

SAMPLE = 0.01  # share of the blocks that `verify` computes anew


def run(args: argparse.Namespace) -> None:
    """Do one of `status`, `verify`, `finish`."""
    refuse_without_effect(args)
    job, tiff = BlockJob.load(store_of(args.output.rstrip("/"))), tiff_of(args.output)
    if args.action != "status" and not args.trust:
        require_trust(job.bundle)  # which the job names, whoever wrote it
    if args.action == "status":
        print(status(job, tiff))
    elif args.action == "finish":
        print(finish(job, tiff, progress=True))
    else:
        sample = SAMPLE if args.sample is None else args.sample
        print(verify(job, tiff, sample=sample, seed=args.seed or 0))
