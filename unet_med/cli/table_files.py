"""What commands do with a table: the files that options name, and the cases without scores."""

from __future__ import annotations

import argparse
from pathlib import Path

from unet_med.cli.output import check_file
from unet_med.cli.saying import LEFT, warn
from unet_med.report.table import TABLES, ScoreTable, write_long, write_scores


def check_tables(args: argparse.Namespace) -> None:
    """Refuse the files of tables that cannot be written, before the work is done."""
    for option, path in (("--output", args.output), ("--long", args.long)):
        if not path:
            continue
        if (suffix := Path(path).suffix) not in TABLES:
            raise ValueError(f"{option} {path} ends in {suffix!r}: name a .json or .csv file")
        check_file(option, path)
    if args.output and args.long and Path(args.output).absolute() == Path(args.long).absolute():
        raise ValueError(f"--output and --long both name {args.long}: two tables take two files")


def write_tables(args: argparse.Namespace, table: ScoreTable) -> None:
    """Write a table where the command line names files; before it is printed, which may end it."""
    if args.output:
        write_scores(table, args.output)
    if args.long:
        write_long(table, args.long)


def say_left(table: ScoreTable) -> int:
    """Say on stderr which cases have no scores; the exit code."""
    for row in table.left:
        warn(f"unet-med: {row.row}: {row.case}: {row.note}")
    return LEFT if table.left else 0
