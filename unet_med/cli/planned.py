"""What `unet-med train` and `unet-med init` share: arguments in, a plan out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from unet_med.cli.kept_sizes import warn_of_kept
from unet_med.cli.options import choice_of, config_ids
from unet_med.planning import Plan, Source, fingerprint, make_plan
from unet_med.planning.looking import SECONDS

SHARE_OF_BUDGET = 0.05  # that statistics of the images' pixels may take, where that is longer


def plan_for(
    args: argparse.Namespace, files: Sequence[Path], device: str, source: Source | None = None
) -> Plan:
    """Look at the files that the arguments name, and decide."""
    seconds = max(SECONDS, SHARE_OF_BUDGET * 60 * (args.minutes or 0))
    found = fingerprint(
        args.images,
        args.labels,
        seconds=seconds,
        modality=args.modality,
        unknown=args.unknown,
        progress=True,
        **choice_of(args),
    )
    if args.pixel_size:
        warn_of_kept({case.image.name: case.image.pixel_size_source for case in found.cases})
    return make_plan(found, config_ids(args), overrides=files, device=device, source=source)
