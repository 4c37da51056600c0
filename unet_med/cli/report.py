"""`unet-med report`: one page of what was segmented, how well, and by what."""

from __future__ import annotations

import argparse
from pathlib import Path

from unet_med.report.page import html_report


def run(args: argparse.Namespace) -> None:
    """Score where asked, write the page and say where it is."""
    if args.truth:
        from unet_med.cli.evaluate import evaluate, keep

        results = Path(args.folder)
        keep(evaluate(str(results), args.truth), results)
    print(html_report(args.folder, args.output, pictures=args.pictures))
