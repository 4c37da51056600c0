"""`unet-med init`: a writable bundle, planned where there are images to plan it for."""

from __future__ import annotations

import argparse
from pathlib import Path

from unet_med import bundle
from unet_med.cli.options import PLAN


def run(args: argparse.Namespace) -> None:
    """Lay the bundle and say how to run it."""
    folder = Path(args.destination)
    if args.images is None:
        _refuse_idle(args)
        bundle.copy_bundle(folder)
        settings = {"dataset_dir": "DATA"}
        told = "\nwhere DATA holds a folder `images`, and a folder `labels` of the same names"
    else:
        settings, told = _lay_planned(args, folder), ""
    print(f"A bundle in {folder}. Train it with")
    print("  " + bundle.command_line(folder, "train", settings) + told)


def _lay_planned(args: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Plan and lay the bundle; the ids that a run of it needs."""
    from unet_med.cli import overrides, starting
    from unet_med.cli.planned import plan_for
    from unet_med.devices import choose_device
    from unet_med.planning import DataFolder, describe, lay_bundle

    source = starting.source_of(args)
    plan = plan_for(args, overrides.find(args), str(choose_device(args.device)), source)
    plan, replay_dir = starting.replayed(plan, source, args)
    print(describe(plan))
    lay_bundle(plan, folder, source=source)
    settings = DataFolder.of(args.images, args.labels).settings(plan.data.images, plan.data.labels)
    settings |= {"replay_dir": replay_dir} if replay_dir else {}
    return settings | ({"device": f"$torch.device('{args.device}')"} if args.device else {})


def _refuse_idle(args: argparse.Namespace) -> None:
    """Refuse options of a plan where there is nothing to plan."""
    for option in PLAN:
        if option.given(args) is not None:
            raise ValueError(
                f"{option.name} has no effect without --images: give the images to plan for, or "
                f"leave {option.name} out"
            )
