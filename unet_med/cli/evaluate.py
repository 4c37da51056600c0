"""`unet-med evaluate`: score results against the truth, in a table."""

from __future__ import annotations

import argparse

from unet_med.cli.options import choice_of
from unet_med.cli.saying import result, say
from unet_med.cli.table_files import check_tables, say_left, write_tables
from unet_med.data.class_names import told_names
from unet_med.report.meanings import explained
from unet_med.scoring.evaluation import evaluate
from unet_med.scoring.tables import format_table


def run(args: argparse.Namespace) -> int:
    """Print a row a case, one for all, with its interval; write the tables where asked."""
    check_tables(args)
    if bool(args.pairs) == bool(args.truth) or (args.pairs and args.results):
        raise ValueError("name RESULTS and TRUTH, or --pairs FILE with both, and not the other")
    evaluation = evaluate(
        args.results or args.pairs,
        args.truth,
        label_kind=args.label_kind,
        metrics=args.metrics,
        tolerance=args.tolerance,
        class_names=told_names(args.class_names) if args.class_names else None,
        choice=choice_of(args),
        unknown=args.unknown,
        group=args.group,
        planes=args.planes,
    )
    table = evaluation.table
    write_tables(args, evaluation.documented() if args.output else table)
    kind = f"labels are {evaluation.label_kind}; {len(evaluation.truths)} image(s)"
    for line in () if args.quiet else filter(None, (evaluation.said, kind)):
        result(line)
    for line in filter(None, (format_table(table), table.interval, *table.remarks())):
        result(line)
    for name, text in explained(table.columns):
        say(f"{name}: {text}")
    return say_left(table)
