"""The honest score of a bundle: in its model card, and on its page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_med.bundle import write_section
from unet_med.bundle.files import FOLDS
from unet_med.report.scores import headline, number, score_rows
from unet_med.report.table import ScoreTable, read_scores

UNSEEN = "it has seen all images"


def describe_folds(bundle: Path) -> dict[str, Any] | None:
    """Score, networks and images of a bundle's folds, as the page takes them; None without."""
    file = bundle / FOLDS / "scores.json"
    if not file.is_file():
        return None
    table = read_scores(file)
    return {
        "headline": headline(table),
        "columns": table.columns,
        "rows": score_rows(table),
        "interval": table.about["interval"],
        "networks": networks(table),
        "notes": notes(table),
    }


def networks(table: ScoreTable) -> list[dict[str, str]]:
    """The one network and the K beside it: what each learned from, and what it scores."""
    about = table.about
    first = table.columns[0]
    rows = [_row("all images", about["images"], about["one"], UNSEEN)]
    for fold in about["folds"]:
        score = f"{first} {number(fold['scores'].get(first))} on {fold['judged']}"
        rows.append(_row(f"fold {fold['fold']}", fold["images"], fold, score))
    count, together = len(about["folds"]), f"each image was seen by {len(about['folds']) - 1}"
    return [*rows, _row(f"all {count} folds (--ensemble)", about["images"], {}, together)]


def notes(table: ScoreTable) -> list[str]:
    """What a reader must know before believing the score."""
    about = table.about
    share = 1 - 1 / len(about["folds"])
    found = [
        f"Each image is scored by a network that has not seen it, and that learned from about "
        f"{share:.0%} of the images, for {_minutes(about['folds'][0])}. The network of all images "
        f"learned for {_minutes(about['one'])}: it is likely to be better, by how much is not "
        "known. To compare it with the folds together, score both on images that none has seen."
    ]
    if about.get("seen") or about.get("seen", 0) is None:
        count = "an unknown number" if about["seen"] is None else str(about["seen"])
        found.append(
            f"The weights that all networks started from had seen {count} of these images: the "
            "score flatters."
        )
    return found


def write_card(bundle: Path, table: ScoreTable) -> None:
    """Write the score into the bundle's model card, `docs/README.md`; an old one makes way."""
    write_section(bundle, "score", card(table))


def card(table: ScoreTable) -> str:
    """Markdown: the score with its interval, then the networks."""
    lines = ["## Score on images that a network has not seen", "", "| score | all | 95 % |"]
    lines += ["|---|---|---|"]
    lines += [f"| {s['name']} | {s['value']} | {s['interval'] or '-'} |" for s in headline(table)]
    lines += ["", f"{table.about['interval']}.", "", *notes(table), ""]
    lines += ["| network | images | minutes | steps | score |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(row.values()) + " |" for row in networks(table)]
    return "\n".join(lines) + "\n"


def _row(name: str, images: Any, training: Mapping[str, Any], score: str) -> dict[str, str]:
    minutes, steps = training.get("minutes"), training.get("steps")
    return {
        "name": name,
        "images": str(images),
        "minutes": "-" if minutes is None else f"{minutes:.1f}",
        "steps": "-" if steps is None else str(steps),
        "score": score,
    }


def _minutes(training: Mapping[str, Any]) -> str:
    minutes = training.get("minutes")
    return "a time that is not known" if minutes is None else f"{minutes:.1f} minutes"
