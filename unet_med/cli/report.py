"""`unet-med report`: one page of what was segmented, how well, and by what."""

from __future__ import annotations

import argparse
from pathlib import Path

from unet_med.bundle.models import find_trained, is_model
from unet_med.report.page import html_report
from unet_med.report.table import read_scores


def run(args: argparse.Namespace) -> int:
    """Score where asked, write the page and say where it is."""
    scores = read_scores(Path(args.scores)) if args.scores else None
    code = 0
    if not args.truth and (args.label_kind != "auto" or args.unknown is not None):
        raise ValueError("--label-kind and --unknown say what --truth holds: give it as well")
    if args.truth:
        from unet_med.cli.evaluate import Asked, evaluate, say_left

        asked = Asked(args.label_kind, unknown=args.unknown)
        scores = evaluate(args.folder, args.truth, asked).documented()
        code = say_left(scores)
    folder = args.folder if Path(args.folder).exists() else find_trained(args.folder)
    if is_model(Path(folder)) and args.output is None:
        raise ValueError(
            f"{args.folder} is part of the installed unet-med, where nothing is written: say where "
            "the page goes with --output"
        )
    print(html_report(folder, args.output, pictures=args.pictures, scores=scores))
    return code
