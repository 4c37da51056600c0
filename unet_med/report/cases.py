"""One image of a report: image, result, truth and errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.data.entries import NOTES
from unet_med.data.grids import Turn
from unet_med.instances import IGNORED, separate
from unet_med.memory import holds_whole
from unet_med.report import panels
from unet_med.report.case_files import CaseFiles, Reading
from unet_med.report.colours import class_colours
from unet_med.report.differences import DIFFERENCES, Labels, difference_map
from unet_med.report.objects import CORRECT, ObjectErrors, classify_objects, object_codes
from unet_med.report.scale_bar import bar_length, in_print
from unet_med.report.viewing import runs_to_left
from unet_med.transforms.compare import SLICES

Array = NDArray[Any]
Entry = Mapping[str, Any]

BESIDE = 2  # planes around those that a border can reach, on which touching objects are parted
TIMES = " \N{MULTIPLICATION SIGN} "


@dataclass
class Case:
    """All that a page shows of one image; pictures are `data:` addresses."""

    name: str
    size: str
    pixel_size: str
    plane: str = ""
    aspect: float = 1.0  # width over height, in physical size
    bar: tuple[str, float] | None = None  # what its length stands for, and its share of the width
    picture: str | None = None
    result: str | None = None
    truth: str | None = None
    errors: str | None = None
    weight: tuple[str, float, float] | None = None  # picture, lowest and highest weight
    uncertainty: tuple[str, float, float] | None = None  # likewise, of the chance to be wrong
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def load_case(name: str, entry: Entry, results: Path, truth: str | None, reading: Reading) -> Case:
    """Read the files of one image and draw them.

    Raises:
        ValueError: result or truth has another shape than the image.
    """
    case = Case(name, size_text(entry), pixel_size_text(entry), notes=_said_of(entry))
    if not holds_whole(prod(entry["shape"])):
        case.notes.append("it is larger than memory, and not drawn")
        return case
    files = CaseFiles.of(name, entry, results, reading)
    channels = files.image(case.notes)
    result = files.result()
    if result is None:
        case.notes.append(f"no {name}_mask or {name}_instances in {results}")
    true = files.truth(truth) if truth else None
    width, height = _sides(entry, files.turn)
    case.aspect = round(width / height, 4)
    if entry.get("pixel_size"):
        length = bar_length(width)
        case.bar = f"{length:g} {in_print(entry['unit'])}", round(length / width, 4)
    _judge_and_draw(case, channels, true, result, files.reading, files.uncertainty())
    if files.turn is not None and runs_to_left(entry, files.turn):
        case.plane = f"{case.plane}, the patient's right is on the left".lstrip(", ")
    return case


def _said_of(entry: Entry) -> list[str]:
    """Where the image is far from the training's, as the prediction said it."""
    far = [note for note in entry.get(NOTES, ()) if SLICES not in note]
    return [f"far from what was trained on: {note}" for note in far]


def size_text(entry: Entry) -> str:
    """`512 × 512 px`, and channels where there are several."""
    channels, *sides = entry["shape"]
    text = TIMES.join(map(str, sides)) + " px"
    return text if channels == 1 else f"{text}, {channels} channels"


def pixel_size_text(entry: Entry) -> str:
    """`0.5 × 0.5 µm`, or that the file does not say it."""
    if not entry.get("pixel_size"):
        return "not stated"
    return TIMES.join(f"{size:.4g}" for size in entry["pixel_size"]) + f" {in_print(entry['unit'])}"


def _errors(true: Labels, result: Labels, reading: Reading, case: Case) -> list[ObjectErrors]:
    """Classify the objects of each plane, or of the volume, and add up the counts."""
    if reading.kind == "classes":
        return []
    if reading.apart:
        planes = range(true.shape[2])
        errors = [classify_objects(true[..., k], result[..., k]) for k in planes]
    else:
        errors = [classify_objects(true, result)] * true.shape[2]
    counted = Counter[str]()
    for one in errors if reading.apart else errors[:1]:
        counted.update(one.counts())
    case.counts = dict(counted)
    return errors


def _judge_and_draw(
    case: Case,
    channels: list[Array],
    true: Labels | None,
    result: Labels | None,
    reading: Reading,
    doubt: Array | None = None,
) -> None:
    """Classify the objects, and draw one plane; all arrays are `(X, Y, Z)`."""
    errors = [] if result is None or true is None else _errors(true, result, reading, case)
    known = [a for a in (result, true, *channels) if a is not None]
    if not known:
        return
    planes = known[0].shape[2]
    k = _worst_plane(true, result, errors, planes)
    case.plane = f"plane {k + 1} of {planes}" if planes > 1 else ""
    if doubt is not None:
        case.uncertainty = panels.heat(doubt[..., k])
    if channels:
        case.picture = panels.picture(np.stack([channel[..., k] for channel in channels]))
    if result is not None or true is not None:
        _draw(case, true, result, errors, k, reading)


def _worst_plane(
    true: Labels | None, result: Labels | None, errors: list[ObjectErrors], planes: int
) -> int:
    """The plane with the most wrong pixels; without truth, with the most that was found."""
    if true is None or result is None:
        shown = result if result is not None else true
        amount = [0] * planes if shown is None else (shown > 0).sum(axis=(0, 1)).tolist()
    else:
        amount = [int(_wrong_pixels(true, result, errors, k).sum()) for k in range(planes)]
    middle = planes // 2
    return max(range(planes), key=lambda k: (amount[k], -abs(k - middle)))


def _wrong_pixels(true: Labels, result: Labels, errors: list[ObjectErrors], k: int) -> Array:
    """Pixels of a plane `(X, Y)` that have a wrong class or belong to a wrong object."""
    t, r = true[..., k], result[..., k]
    if errors:
        return object_codes(t, r, errors[k]) > CORRECT
    codes = difference_map(t, r, "classes")
    return codes > list(DIFFERENCES).index("correct")


def _draw(
    case: Case,
    true: Labels | None,
    result: Labels | None,
    errors: list[ObjectErrors],
    k: int,
    reading: Reading,
) -> None:
    """Overlays of one plane."""
    t, r = (None if labels is None else labels[..., k] for labels in (true, result))
    if reading.kind == "classes":
        t, r = (None if a is None else panels.without_ignored(a) for a in (t, r))
        colours = class_colours(1 + max(int(a.max(initial=0)) for a in (t, r) if a is not None))
        case.truth, case.result = (a if a is None else panels.outlines(a, colours) for a in (t, r))
    elif r is not None:
        case.truth, case.result = panels.instance_outlines(t, r)
    if t is not None and r is not None and errors:
        case.errors = panels.object_errors(t, r, errors[k])
    elif true is not None and r is not None:
        case.errors = panels.class_errors(true[..., k], r)
    if true is not None:
        case.weight = panels.heat(_weights(true, k, reading))


def _weights(true: Labels, k: int, reading: Reading) -> NDArray[np.float32]:
    """The weight map that training would have used for a plane, `(X, Y)`."""
    from unet_med.transforms import BorderWeightMap
    from unet_med.weights import class_weight_map
    from unet_med.weights.device import border_reach

    flat = reading.by_plane or true.shape[2] == 1
    labels = true[..., k] if flat else true
    if reading.kind == "classes":
        known = labels[(labels >= 0) & (labels != IGNORED)]
        weights = class_weight_map(labels, int(known.max(initial=1)) + 1)
    else:
        weigh = BorderWeightMap(reading.w0, reading.sigma, class_weights=reading.class_weights)
        if not flat and reading.class_weights is not None:  # balanced ones take the whole volume
            reach = ceil(border_reach(reading.w0, reading.sigma)) + BESIDE
            first = max(0, k - reach)
            labels, k = true[..., first : k + reach + 1], k - first
        weights = weigh(separate(labels))
    return weights if flat else weights[..., k]


def _sides(entry: Entry, turn: Turn | None) -> tuple[float, float]:
    """Width and height of a plane as it is viewed, in the unit of the pixel size; else px."""
    sizes = list(entry.get("pixel_size") or [1.0] * (len(entry["shape"]) - 1))
    sides = [n * size for n, size in zip(entry["shape"][1:], sizes, strict=True)]
    width, height, *_ = sides if turn is None else turn.sides(sides)
    return width, height
