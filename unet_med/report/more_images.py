"""What more images would buy, in words: on the shell, in a bundle's model card, and on its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unet_med.bundle import write_section
from unet_med.bundle.files import SUBSETS
from unet_med.data.atomic import read_json, write_json
from unet_med.metrics.bootstrap import drawn_over
from unet_med.metrics.power_law import Gain, PowerLaw
from unet_med.report.scores import lower_is_better, number
from unet_med.report.table import TOO_FEW

FILE = f"{SUBSETS}/learning_curve.json"  # of a bundle
PICTURE = f"{SUBSETS}/learning_curve.png"
LITTLE = 0.01  # an error that leaves hardly anything to add


@dataclass(frozen=True)
class Size:
    """What networks of one number of images reach.

    Attributes:
        images: that each learned from, mean over folds.
        score: of all images that judge them.
        low: lower end of its 95 % interval; None: too few images judge it for one.
        high: upper end.
        networks: of each fold `fold`, `images`, `minutes`, `steps`, how objects are made, and
            `score`; None where it is not known, or not defined for the fold's images.
    """

    images: float
    score: float
    low: float | None
    high: float | None
    networks: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class LearningCurve:
    """Score against the number of images, and how it goes on.

    Attributes:
        score: its name.
        unit: what is counted: `images`, or `planes` of a single stack.
        total: how many there are.
        judged: how many of them judge each size.
        sizes: what was measured, growing.
        law: of the error, 1 - score, or the score where lower is better.
        gains: what more would take from the error.
        band: 95 % of the score as it goes on: images, lower end, upper end; empty: see `Size`.
        seen: images that the weights which all started from had seen; None: not known.
        groups: in which the images that judge were drawn; None: each by itself.
    """

    score: str
    unit: str
    total: int
    judged: int
    sizes: Sequence[Size]
    law: PowerLaw
    gains: Sequence[Gain]
    band: Sequence[tuple[float, float, float]]
    seen: int | None = 0
    groups: int | None = None

    @property
    def falls(self) -> bool:
        """Whether a lower score is better."""
        return lower_is_better(self.score)

    def score_of(self, error: Any) -> Any:
        """The score of an error, or of an array of them."""
        return error if self.falls else 1 - error


def write_curve(curve: LearningCurve, bundle: Path) -> None:
    """Write it into a bundle: numbers, and a section of the model card."""
    write_json(bundle / FILE, asdict(curve), indent=2)  # a law is a tuple: scale, power
    write_section(bundle, "more images", card(curve))


def read_curve(bundle: Path) -> LearningCurve | None:
    """What `write_curve` wrote; None where a bundle has no such curve."""
    file = bundle / FILE
    if not file.is_file():
        return None
    content = read_json(file)
    sizes = [Size(**size) for size in content.pop("sizes")]
    gains = [Gain(**gain) for gain in content.pop("gains")]
    law = PowerLaw(*content.pop("law"))
    return LearningCurve(**content, sizes=sizes, gains=gains, law=law)


def verdict(curve: LearningCurve) -> list[str]:
    """What the curve says, one sentence each; and what it does not."""
    here = curve.score_of(float(curve.law(curve.total)))
    sentences = [f"{curve.total} {curve.unit}: {curve.score} about {number(here)}."]
    sentences += [_gain(gain, curve) for gain in curve.gains]
    last = curve.sizes[-1].score
    if (last if curve.falls else 1 - last) <= LITTLE:
        sentences.append("There is hardly anything left to gain.")
    elif not curve.gains[0].is_told:
        why = ": the interval holds zero" if curve.gains[0].low is not None else f", with {TOO_FEW}"
        sentences.append(f"Whether more {curve.unit} help cannot be told{why}.")
    elif curve.gains[0].gain < 0:
        sentences.append(f"More {curve.unit} made it worse: look at them, and at their labels.")
    return sentences


def notes(curve: LearningCurve) -> list[str]:
    """What a reader must know before believing it."""
    counts = [f"{size.images:.3g}" for size in curve.sizes]
    listed = f"{', '.join(counts[:-1])} and {counts[-1]}"
    found = [
        f"Measured with networks that learned from {listed} {curve.unit}{_budget(curve)}; from "
        f"there on the curve is carried on as a power law{_about_interval(curve)}",
        "In short trainings steps are what is missing, more than images: then a longer one gains "
        "more from further images than this says.",
    ]
    if curve.seen is None:
        found.append(
            "The weights that all networks started from may have seen these images: then the curve "
            "is flatter than that of new ones."
        )
    return found


def rows(curve: LearningCurve) -> list[dict[str, str]]:
    """A row a size: images, score, its interval, and the score of each fold's network."""
    return [
        {
            "images": f"{size.images:.3g}",
            "score": number(size.score),
            "interval": "-" if size.low is None else f"{number(size.low)} to {number(size.high)}",
            "networks": ", ".join(number(network["score"]) for network in size.networks),
        }
        for size in curve.sizes
    ]


def table(curve: LearningCurve) -> str:
    """The sizes, aligned, for a terminal."""
    header = {"images": curve.unit, "score": curve.score, "interval": "95 %", "networks": "folds"}
    lines = [header, *rows(curve)]
    widths = {key: max(len(line[key]) for line in lines) for key in header}
    return "\n".join("  ".join(f"{v:>{widths[k]}}" for k, v in line.items()) for line in lines)


def card(curve: LearningCurve) -> str:
    """Markdown: the verdict, then what was measured."""
    lines = ["## What more images would buy", "", " ".join(verdict(curve)), ""]
    lines += [f"| {curve.unit} | {curve.score} | 95 % | each fold |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows(curve)]
    return "\n".join([*lines, "", *notes(curve)]) + "\n"


def describe_more_images(bundle: Path) -> dict[str, Any] | None:
    """Verdict, sizes and notes, as the page takes them; None without."""
    curve = read_curve(bundle)
    if curve is None:
        return None
    return {
        "verdict": " ".join(verdict(curve)),
        "notes": notes(curve),
        "unit": curve.unit,
        "score": curve.score,
        "rows": rows(curve),
    }


def _gain(gain: Gain, curve: LearningCurve) -> str:
    verb, sign = ("change it by", -1) if curve.falls else ("add", 1)
    interval = "no interval"
    if gain.low is not None and gain.high is not None:
        low, high = sorted((sign * gain.low, sign * gain.high))
        interval = f"95 %: {low:+.3f} to {high:+.3f}"
    name = "Five" if gain.more == 5 else str(gain.more)
    return f"{name} more would {verb} about {sign * gain.gain:+.3f} ({interval})."


def _about_interval(curve: LearningCurve) -> str:
    """What it is of, or why there is none."""
    over = f"{drawn_over(curve.judged, curve.unit, curve.groups)} that judge them"
    if not curve.band:
        return f". The {over} are {TOO_FEW}."
    alike = " They are planes of one stack, which are alike." if curve.unit == "planes" else ""
    return (
        f", which the interval takes for granted. It is a bootstrap over the {over}, and how "
        f"unlike networks of one size are.{alike}"
    )


def _budget(curve: LearningCurve) -> str:
    """For how long each network learned, as far as that is known."""
    networks = [network for size in curve.sizes for network in size.networks]
    known = {
        name: [network[name] for network in networks if network.get(name) is not None]
        for name in ("minutes", "steps")
    }
    if not known["minutes"] or not known["steps"]:
        return ""
    minutes, steps = (sum(values) / len(values) for values in known.values())
    return f", for {minutes:.1f} minutes ({steps:.0f} steps) each"
