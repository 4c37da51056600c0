"""`unet-med report`: one page of what was segmented, how well, and by what."""

from __future__ import annotations

import argparse
from pathlib import Path

from unet_med.bundle.exports import about_other_exports
from unet_med.bundle.models import find_trained, is_model
from unet_med.cli.options import choice_of
from unet_med.cli.output import check_file
from unet_med.cli.saying import result, say
from unet_med.data.class_names import told_names
from unet_med.report.page import html_report
from unet_med.report.table import read_scores


def run(args: argparse.Namespace) -> int:
    """Score where asked, write the page and say where it is."""
    _refuse_without_truth(args)
    scores = read_scores(Path(args.scores)) if args.scores else None
    code = 0
    if args.output:
        check_file("--output", args.output)
    if args.truth:
        from unet_med.cli.table_files import say_left
        from unet_med.scoring.evaluation import evaluate

        names = told_names(args.class_names) if args.class_names else None
        scores = evaluate(
            args.folder,
            args.truth,
            label_kind=args.label_kind,
            class_names=names,
            choice=choice_of(args),
            unknown=args.unknown,
        ).documented()
        code = say_left(scores)
    folder = args.folder if Path(args.folder).exists() else find_trained(args.folder)
    if is_model(Path(folder)) and args.output is None:
        raise ValueError(
            f"{args.folder} is part of the installed unet-med, where nothing is written: say where "
            "the page goes with --output"
        )
    result(str(html_report(folder, args.output, pictures=args.pictures, scores=scores)))
    if other := about_other_exports(Path(folder)):
        say(other)
    return code


def _refuse_without_truth(args: argparse.Namespace) -> None:
    """Refuse options that say what a truth holds, where none is scored."""
    if args.truth:
        return
    told = {"label_kind": args.label_kind != "auto", "unknown": args.unknown is not None}
    told |= {"class_names": args.class_names, **dict.fromkeys(choice_of(args), True)}
    for name in (name for name, is_told in told.items() if is_told):
        raise ValueError(f"--{name.replace('_', '-')} says what --truth holds: give it as well")
