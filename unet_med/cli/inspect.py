"""`unet-med inspect`: what a bundle's configs would import and evaluate."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from unet_med import bundle

TITLES = {
    "target": "imported and called (_target_)",
    "expression": "evaluated as Python ($)",
    "macro": "opened (%)",
}


def run(args: argparse.Namespace) -> None:
    """Print every name, expression and macro of the configs; nothing of them is run."""
    uses = bundle.targets_of(bundle.config_files(bundle.find_trained(args.bundle)))
    if args.json:
        print(json.dumps([asdict(use) for use in uses], indent=2))
    else:
        print(_summary(uses))


def _summary(uses: Sequence[bundle.ConfigUse]) -> str:
    """Each kind with its distinct texts and how often they occur."""
    lines = []
    for kind, title in TITLES.items():
        counts = Counter(use.text for use in uses if use.kind == kind)
        lines += [f"{title}: {len(counts)}"]
        lines += [f"  {count:3} x {text}" for text, count in sorted(counts.items())]
    return "\n".join(lines)
