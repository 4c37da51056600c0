"""`unet-med plan`: how far a block-wise prediction is, whether it is right, its last step."""

from __future__ import annotations

import argparse

from unet_med.volumes import BlockPlan
from unet_med.volumes.checking import finish, status, verify


def run(args: argparse.Namespace) -> None:
    """Do one of `status`, `verify`, `finish`."""
    plan = BlockPlan.load(args.output)
    if args.action == "status":
        print(status(plan))
    elif args.action == "finish":
        print(finish(plan))
    else:
        print(verify(plan, sample=args.sample, seed=args.seed))
