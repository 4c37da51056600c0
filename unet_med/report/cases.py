"""One image of a report: image, result, truth and errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_med.data.cases import files_of
from unet_med.data.checksum import sha256
from unet_med.data.entries import DIGESTS
from unet_med.data.formats import stem
from unet_med.data.grids import Grid, turn_onto
from unet_med.data.plane_kind import PLANES
from unet_med.errors import one_line, user_error
from unet_med.instances import (
    IGNORED,
    UNKNOWN,
    instances_from_mask,
    label_components,
    regrow,
    separate,
)
from unet_med.memory import holds_whole
from unet_med.planes import JOINED, Planes
from unet_med.report import panels
from unet_med.report.colours import class_colours
from unet_med.report.differences import DIFFERENCES, Labels, difference_map
from unet_med.report.objects import CORRECT, ObjectErrors, classify_objects, object_codes
from unet_med.report.scale_bar import bar_length
from unet_med.report.viewing import as_viewed, ends_of, viewing_turn

Array = NDArray[Any]
Entry = Mapping[str, Any]
FileOf = Callable[[str], Path | None]  # of a kind of result

BESIDE = 2  # planes around those that a border can reach, on which touching objects are parted
TIMES = " \N{MULTIPLICATION SIGN} "


@dataclass(frozen=True)
class Reading:
    """How to read images and labels, and how to weigh them.

    Attributes:
        kind: `"mask"`, `"classes"` or `"instances"`.
        by_plane: the network is 2-D, and took each plane of a volume by itself.
        planes: what the scores have made of the planes of a stack; None: as the record says.
        joined: objects go through the planes nevertheless; else they are those of each plane.
        min_size: smallest object of a mask that counts, px.
        grow: px by which the objects of a plane's mask grow into the border between them.
        seeded: touching objects of a mask are told apart by seeds, which only instances show.
        w0: of the weight map.
        sigma: of the weight map, px.
        class_weights: of the weight map; None: balanced.
        choice: which image of files that hold several, and a pixel size; see `load_image`.
        orientation: into which the network's images are turned, whose planes lie along the first
            two of its axes; None: into none.
        unknown: the truths' value of pixels that nobody annotated; see `data.LabelReader`.
        truth_choice: `time` and `axes` of the truths, as `choice`; see `data.LabelReader`.
    """

    kind: str = "instances"
    by_plane: bool = False
    planes: Planes | None = None
    joined: bool = False
    min_size: int = 0
    grow: int = 0
    seeded: bool = False
    w0: float = 10.0
    sigma: float = 5.0
    class_weights: tuple[float, ...] | None = None
    choice: Mapping[str, Any] = field(default_factory=dict)
    orientation: str | None = None
    unknown: int | None = None
    truth_choice: Mapping[str, Any] = field(default_factory=dict)

    @property
    def apart(self) -> bool:
        """Whether objects of a volume are those of each plane."""
        return self.by_plane and not self.joined


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

    Args:
        name: the image's name, without suffix.
        entry: what `record.json` says of it.
        results: folder of the results.
        truth: its label file, if any.
        reading: how images and labels are to be read.

    Raises:
        ValueError: result or truth has another shape than the image.
    """
    case = Case(name, size_text(entry), pixel_size_text(entry))
    if not holds_whole(prod(entry["shape"])):
        case.notes.append("it is larger than memory, and not drawn")
        return case
    reading = replace(reading, joined=(reading.planes or entry.get(PLANES)) == JOINED)
    image = _image(entry, case, reading.choice)
    turn = viewing_turn(entry, reading)
    file_of = partial(result_file, name, results=results, written=entry.get(DIGESTS, ()))
    found = _result_labels(file_of, reading)
    if found is None:
        case.notes.append(f"no {name}_mask or {name}_instances in {results}")
    result = None
    if found is not None:
        seen = as_viewed(_fitting(found[1], "result", name, entry), turn)
        result = _result(seen, found[0], reading, volume=len(entry["shape"]) == 4)
    true = _truth(truth, file_of, reading) if truth else None
    if true is not None:
        true = _true_objects(as_viewed(_fitting(true, "truth", name, entry), turn), reading)
    width, height = _sides(entry, turn)
    case.aspect = round(width / height, 4)
    if entry.get("pixel_size"):
        length = bar_length(width)
        case.bar = f"{length:g} {_unit(entry)}", round(length / width, 4)
    channels = [] if image is None else [as_viewed(channel, turn) for channel in image]
    doubt = _uncertainty(file_of("uncertainty"))
    _judge_and_draw(
        case, channels, true, result, reading, None if doubt is None else as_viewed(doubt, turn)
    )
    if turn is not None and ends_of(entry, turn)[0] == "L":
        case.plane = f"{case.plane}, the patient's right is on the left".lstrip(", ")
    return case


def size_text(entry: Entry) -> str:
    """`512 × 512 px`, and channels where there are several."""
    channels, *sides = entry["shape"]
    text = TIMES.join(map(str, sides)) + " px"
    return text if channels == 1 else f"{text}, {channels} channels"


def pixel_size_text(entry: Entry) -> str:
    """`0.5 × 0.5 µm`, or that the file does not say it."""
    if not entry.get("pixel_size"):
        return "not stated"
    return TIMES.join(f"{size:.4g}" for size in entry["pixel_size"]) + f" {_unit(entry)}"


def _unit(entry: Entry) -> str:
    return str({"um": "µm"}.get(entry["unit"], entry["unit"]))


def result_file(name: str, kind: str, results: Path, written: Iterable[str] = ()) -> Path | None:
    """Result of an image: `NAME_KIND.tif` or `.nii.gz`, or a part of what blocks are written into.

    That is `NAME_mask.ome.zarr`, see `unet_med.volumes.store`. Of the files that the record names
    (`written`), NAME itself is a mask, whose name somebody chose.
    """
    stems = (f"{name}_{kind}", name) if kind == "mask" else (f"{name}_{kind}",)
    named = [results / file for file in written if stem(file) in stems]
    blocks = results / f"{name}_mask.ome.zarr"
    files = [*named, *(results / f"{name}_{kind}{suffix}" for suffix in (".tif", ".nii.gz"))]
    files.append(blocks / kind if kind == "uncertainty" else blocks / "labels" / kind)
    return next((file for file in files if file.exists()), None)


def plane_instances(mask: Array, min_size: int = 0, grow: int = 0) -> Labels:
    """Instances of each plane of a mask `(X, Y[, Z])` by itself, as a 2-D network saw it."""
    planes = np.moveaxis(mask, -1, 0) if mask.ndim == 3 else mask[None]
    found = [regrow(instances_from_mask(plane, min_size), grow) for plane in planes]
    return np.stack(found, axis=-1) if mask.ndim == 3 else found[0]


def plane_parts(instances: Labels) -> Labels:
    """What instances `(X, Y, Z)` show in each plane: a number for each connected part."""
    found = np.zeros(instances.shape, np.int32)
    count = 0
    for z in range(instances.shape[-1]):
        plane = np.maximum(instances[..., z], 0)
        for number, box in enumerate(ndimage.find_objects(plane), start=1):
            if box is not None:
                parts = label_components(plane[box] == number)
                found[(*box, z)] += np.where(parts > 0, parts + count, 0)
                count += int(parts.max())
    return found


def _image(entry: Entry, case: Case, choice: Mapping[str, Any]) -> Array | None:
    """An image as it was segmented, `(C, X, Y[, Z])`; None, and a note: it is so no longer."""
    from unet_med import data

    source = entry.get("files", entry["file"])
    if gone := [file for file in files_of(source) if not Path(file).exists()]:
        case.notes.append(f"the image is no longer at {gone[0]}")
        return None
    try:
        if sha256(source) != entry["sha256"]:
            case.notes.append("the image file has changed since it was segmented")
        array: Array = data.load_image(source, **choice).numpy()
    except Exception as error:
        if user_error(error) is None:
            raise
        case.notes.append(f"the image is not drawn: {one_line(error)}")
        return None
    if array.shape != tuple(entry["shape"]):
        case.notes.append(
            f"the image is not drawn: its file has shape {array.shape}, and was segmented as "
            f"{tuple(entry['shape'])} (channels, then X, Y, Z)"
        )
        return None
    return array


def _uncertainty(file: Path | None) -> Array | None:
    """The map of an image, `(X, Y[, Z])`, where one was written."""
    from unet_med import data

    return None if file is None else data.load_image(str(file)).numpy()[0]


def _labels(path: str | Path, reading: Reading) -> Labels:
    from unet_med import data

    return data.load_label(path, reading.kind)


def _fitting(labels: Labels, what: str, name: str, entry: Entry) -> Labels:
    """Labels of the shape of their image, else an error."""
    if labels.shape != tuple(entry["shape"][1:]):
        raise ValueError(
            f"{what} of {name} has shape {labels.shape}, its image "
            f"{tuple(entry['shape'][1:])}: they must be equal"
        )
    return labels


def _truth(path: str, file_of: FileOf, reading: Reading) -> Labels:
    """A truth, turned onto the grid of its result, as `unet-med evaluate` turns it."""
    from unet_med import data

    choice = data.label_choice(reading.truth_choice)
    labels = data.load_label(path, reading.kind, unknown=reading.unknown, **reading.truth_choice)
    files = (file_of(kind) for kind in ("mask", "instances"))
    file = next((str(each) for each in files if each), None)
    if file is None or sorted(data.load_header(file).spatial_shape) != sorted(labels.shape):
        return labels
    own = Grid.of(data.load_header(path, **choice), f"truth {Path(path).name}")
    turn = turn_onto(own, Grid.of(data.load_header(file), f"its result {Path(file).name}"))
    return turn.of_array(labels)


def _result_labels(file_of: FileOf, reading: Reading) -> tuple[str, Labels] | None:
    """The labels that are shown, `(X, Y[, Z])`, and whether they are instances or a mask."""
    instances, mask = file_of("instances"), file_of("mask")
    if reading.kind == "classes":
        instances = None
    if instances is not None and (mask is None or not reading.apart or reading.seeded):
        return "instances", _labels(instances, reading)
    return None if mask is None else ("mask", _labels(mask, reading))


def _result(labels: Labels, what: str, reading: Reading, *, volume: bool) -> Labels:
    """Classes, or instances: those of the file, or components of the mask, `(X, Y, Z)`."""
    by_plane = volume and reading.apart
    if what == "instances":
        return plane_parts(labels) if by_plane and reading.seeded else labels
    if reading.kind == "classes":
        return labels
    if by_plane:
        return plane_instances(labels > 0, reading.min_size, reading.grow)
    return instances_from_mask(labels > 0, reading.min_size)


def _true_objects(labels: Labels, reading: Reading) -> Labels:
    """Instances as annotated; of a mask its components."""
    if reading.kind != "mask":
        return labels
    mask = labels > 0
    found = plane_instances(mask) if reading.apart else instances_from_mask(mask)
    return np.where(labels < 0, UNKNOWN, found)  # nobody annotated there


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
        amount = [int(wrong_pixels(true, result, errors, k).sum()) for k in range(planes)]
    middle = planes // 2
    return max(range(planes), key=lambda k: (amount[k], -abs(k - middle)))


def wrong_pixels(true: Labels, result: Labels, errors: list[ObjectErrors], k: int) -> Array:
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


def _sides(entry: Entry, turn: Array | None) -> tuple[float, float]:
    """Width and height of a plane as it is viewed, in the unit of the pixel size; else px."""
    sizes = list(entry.get("pixel_size") or [1.0] * (len(entry["shape"]) - 1))
    sides = [n * size for n, size in zip(entry["shape"][1:], sizes, strict=True)]
    if turn is not None:
        sides = [sides[int(np.flatnonzero(turn[:, 0] == axis)[0])] for axis in range(3)]
    return sides[0], sides[1]
