"""The honest score of a bundle: in its model card, and on its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from statistics import mean
from typing import Any

from unet_med.bundle import write_section
from unet_med.bundle.files import FOLDS
from unet_med.planning.rules import SHARE_OF_ONE
from unet_med.report.scores import headline, number, score_rows
from unet_med.report.table import ScoreTable, read_scores


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
        "interval": table.interval,
        "unit": table.about.get("unit", "images"),
        "networks": networks(table),
        "notes": notes(table),
    }


def networks(table: ScoreTable) -> list[dict[str, str]]:
    """The one network and the K beside it: what each learned from, and what it scores."""
    about = table.about
    first = table.columns[0]
    unit = about.get("unit", "images")
    rows = [_row(f"all {unit}", about["images"], about["one"], f"it has seen all {unit}")]
    for fold in about["folds"]:
        score = f"{first} {number(fold['scores'].get(first))} on {fold['judged']}"
        rows.append(_row(f"fold {fold['fold']}", fold["images"], fold, score))
    count, together = len(about["folds"]), f"each image was seen by {len(about['folds']) - 1}"
    return [*rows, _row(f"all {count} folds (--ensemble)", about["images"], {}, together)]


def estimate(table: ScoreTable) -> str:
    """What to expect on other images, in a sentence; empty where no score is defined."""
    first = next(iter(headline(table)), None)
    if first is None or first["value"] == "-":
        return ""
    said = f" ({first['said']})" if first["said"] else ""
    return f"Estimate for other images of this kind: {first['name']} {first['value']}{said}."


def notes(table: ScoreTable) -> list[str]:
    """What a reader must know before believing the score."""
    about = table.about
    unit = about.get("unit")  # earlier versions counted pieces of stacks
    share = 1 - 1 / len(about["folds"])
    if unit is not None:
        share = mean(fold["images"] for fold in about["folds"]) / about["images"]
    every = f"all {unit or 'images'}"
    found = [
        f"The score is of the folds' networks: each learned from about {share:.0%} of {every}, for "
        f"{_minutes(about['folds'])}, and is scored on those that it has not learned from, "
        f"{_judged(about)}.",
        f"The network of {every} learned for {_minutes([about['one']])}{_times(about)}: it is "
        "likely to be better, by how much is not known. To compare it with the folds together "
        "(--ensemble), score both on images that none has seen.",
    ]
    found += [short] if (short := too_short(about)) else []
    if about.get("seen", 0) is None:
        found.append(
            "The weights that all networks started from do not say what they have learned from: if "
            "these images, the score flatters."
        )
    elif about.get("seen"):
        found.append(
            f"The weights that all networks started from had seen {about['seen']} of these images: "
            "the score flatters."
        )
    return found


def _judged(about: Mapping[str, Any]) -> str:
    """How many images are scored, which may be fewer than there are: judging has its minutes.

    >>> _judged({"unit": "images", "images": 6, "folds": [{"judged": 1}, {"judged": 2}]})
    '3 of the 6 images'
    """
    count, unit = sum(fold["judged"] for fold in about["folds"]), about.get("unit")
    return f"{count} of the {about['images']} {unit}" if unit else f"{count} images"


def too_short(about: Mapping[str, Any]) -> str:
    """What to say where the folds' networks learned for less than half the steps of the one.

    Measured on hippocampi: five folds of 1.5 minutes each said Dice 0.35 beside a network of 8
    minutes that reached 0.85 on other images.

    Args:
        about: of the table of scores.
    """
    one, steps = about["one"], [fold["steps"] for fold in about["folds"]]
    if one["steps"] is None or None in steps or 2 * sum(steps) >= len(steps) * one["steps"]:
        return ""
    text = (
        f"The folds' networks learned for {round(sum(steps) / len(steps))} steps each, the network "
        f"of all images for {one['steps']}: the score may be far too low for it"
    )
    if one["minutes"] is None:
        return f"{text}."
    networks = len(steps) + about.get("subsets", 0)  # which all have the same share
    minutes = ceil(networks * one["minutes"] / (1 - SHARE_OF_ONE))
    return f"{text}. With --minutes {minutes} they learn for about as many."


def write_card(bundle: Path, table: ScoreTable) -> None:
    """Write the score into the bundle's model card, `docs/README.md`; an old one makes way."""
    write_section(bundle, "score", card(table))


def card(table: ScoreTable) -> str:
    """Markdown: the score with its interval, then the networks."""
    lines = ["## Score on images that a network has not seen", ""]
    lines += [f"| score | {table.statistic} | 95 % |", "|---|---|---|"]
    lines += [f"| {s['name']} | {s['value']} | {s['interval'] or '-'} |" for s in headline(table)]
    lines += ["", f"{table.interval}.", "", *notes(table), ""]
    unit = table.about.get("unit", "images")
    lines += [f"| network | {unit} | minutes | steps | score |", "|---|---|---|---|---|"]
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


def _mean(trainings: Sequence[Mapping[str, Any]]) -> float | None:
    """Minutes of a training, on average; None: not known."""
    minutes = [each.get("minutes") for each in trainings]
    return None if None in minutes else mean(float(each or 0) for each in minutes)


def _minutes(trainings: Sequence[Mapping[str, Any]]) -> str:
    minutes = _mean(trainings)
    return "a time that is not known" if minutes is None else f"{minutes:.1f} minutes"


def _times(about: Mapping[str, Any]) -> str:
    """How many times as long as a fold's network that of all images learned, if it is longer."""
    one, fold = _mean([about["one"]]), _mean(about["folds"])
    if not one or not fold or one < 1.5 * fold:
        return ""
    return f", {one / fold:.1f} times as long"
