"""`unet-med measure`: sizes, counts and intensities of results, without truth."""

from __future__ import annotations

import argparse

from unet_med.cli.options import choice_of
from unet_med.cli.saying import result
from unet_med.cli.table_files import check_tables, say_left, write_tables
from unet_med.data.class_names import told_names
from unet_med.report.provenance import CHANGED, EARLIER
from unet_med.scoring.measurement import measure
from unet_med.scoring.measuring import per_image
from unet_med.scoring.tables import format_table


def run(args: argparse.Namespace) -> int:
    """Print a row a case and class, or object; write the tables where asked.

    Objects that are written are printed as a row an image: there may be many thousands.
    """
    check_tables(args)
    names = told_names(args.class_names) if args.class_names else None
    asked = {"objects": args.objects, "choice": choice_of(args), "planes": args.planes}
    table = measure(args.results, args.images, names, **asked)
    write_tables(args, table)
    written = args.objects and (args.output or args.long)
    shown = format_table(per_image(table) if written else table)
    for line in filter(None, (shown, *table.remarks((EARLIER, CHANGED)))):
        result(line)
    return say_left(table)
