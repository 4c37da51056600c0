"""What the options of `predict` want of a bundle, of whole images and block by block alike."""

from __future__ import annotations

import argparse
from typing import Any

from unet_med.bundle import find_ensemble
from unet_med.cli.options import choice_of


def outputs_of(args: argparse.Namespace) -> list[str]:
    """What is to be written of each image, by the names that a bundle has for it."""
    wanted = {"instances": args.instances, "probabilities": args.probabilities}
    wanted |= {"uncertainty": args.uncertainty, "seg": args.dicom_seg, "rois": args.rois}
    return ["mask", *(name for name, yes in wanted.items() if yes)]


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Ids of the bundle that decide a result and that the options set.

    Raises:
        ValueError: the bundle has no networks that predict together, and `--ensemble` wants them;
            or it sees all images alike, or as they are, whatever `--object-width` says.
    """
    settings: dict[str, Any] = {f"reader::{name}": v for name, v in choice_of(args).items()}
    if args.tta:
        settings["tta"] = None if args.tta == "none" else args.tta
    if args.precision:
        settings["precision"] = args.precision
    if args.object_width:
        from unet_med.planning import Source

        settings["scale"] = Source.of(args.bundle, trust=args.trust).scale_for(args.object_width)
    settings |= {"planes": args.planes} if args.planes else {}
    return settings | (find_ensemble(args.bundle) if args.ensemble else {})
