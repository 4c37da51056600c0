"""`unet-med plan`: how far a block-wise prediction is, whether it is right, its last step."""

from __future__ import annotations

import argparse

from unet_med.volumes import BlockPlan
from unet_med.volumes.checking import finish, status, verify
from unet_med.volumes.tiff import store_of, tiff_of


def run(args: argparse.Namespace) -> None:
    """Do one of `status`, `verify`, `finish`."""
    plan = BlockPlan.load(store_of(args.output.rstrip("/")))
    if args.action == "status":
        print(status(plan))
    elif args.action == "finish":
        print(finish(plan, tiff_of(args.output), progress=True))
    else:
        print(verify(plan, sample=args.sample, seed=args.seed))
