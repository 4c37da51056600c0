"""Sizes, counts and intensities of results, without truth, file by file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unet_med import data
from unet_med.data.bars import with_bar
from unet_med.data.cases import Case, same_name, shown
from unet_med.data.channels import channel_cases
from unet_med.data.class_names import ClassNames
from unet_med.data.entries import CHANNEL_NAMES
from unet_med.data.file_reader import Volume
from unet_med.data.grids import Grid, Turn, turn_onto
from unet_med.data.label_kind import is_mask
from unet_med.data.label_reader import open_label
from unet_med.data.labels import MAX_CLASSES
from unet_med.data.orientation import turn_towards
from unet_med.errors import one_line, user_error
from unet_med.planes import APART, Planes
from unet_med.report.provenance import record_of, recorded_names
from unet_med.report.table import CASE, FAILED, ScoreRow, ScoreTable
from unet_med.scoring.clinical import PIXELS, size_of
from unet_med.scoring.found_cases import INSTANCES, Found, find_cases, refuse_idle
from unet_med.scoring.matching import by_name, result_names
from unet_med.scoring.measuring import (
    EMPTY,
    Classes,
    Grey,
    Scores,
    Size,
    class_rows,
    classes_of,
    object_rows,
    values_in,
    whole_scores,
)
from unet_med.scoring.pictures import open_result
from unet_med.scoring.recorded import counts, planes_of, recorded_of

_log = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
Place = str | os.PathLike[str]


@dataclass(frozen=True)
class Ask:
    """What is to be measured.

    Attributes:
        classes: of all cases.
        objects: a row an object in place of a row a class.
        choice: which image of files that hold several; see `load_image`.
        planes: what somebody says of the planes of stacks; see `recorded.planes_of`.
    """

    classes: Classes
    objects: bool
    choice: Mapping[str, Any]
    planes: Planes | None = None


@dataclass(frozen=True)
class Part:
    """What is measured at a time: a case, or a plane of it, which is an image.

    Attributes:
        suffix: of the case's name: of plane 3 of a stack `-z003`, the first is 0.
        label: its classes or objects, `(X, Y[, Z])`.
        pieces: its objects beside classes, likewise.
        grey: its intensities.
        size: of its pixels.
    """

    suffix: str
    label: Array
    pieces: Array | None
    grey: Grey | None
    size: Size

    def planes(self) -> Iterator[Part]:
        """Each plane of a stack by itself."""
        size = replace(self.size, edges=self.size.edges[:2])
        for z in range(self.label.shape[2]):
            pieces = None if self.pieces is None else self.pieces[..., z]
            grey = self.grey and replace(self.grey, pixels=self.grey.pixels[..., z])
            yield Part(f"{self.suffix}-z{z:03}", self.label[..., z], pieces, grey, size)

    def turned(self, turn: Turn) -> Part:
        """The same with its axes as the network saw them."""
        if turn.keeps:
            return self
        pieces = None if self.pieces is None else turn.of_array(self.pieces)
        grey = self.grey and replace(
            self.grey, pixels=np.stack([turn.of_array(each) for each in self.grey.pixels])
        )
        size = replace(self.size, edges=turn.sides(self.size.edges))
        return Part(self.suffix, turn.of_array(self.label), pieces, grey, size)


def measure(
    results: Place,
    images: Place | None = None,
    names: ClassNames | None = None,
    *,
    objects: bool = False,
    choice: Mapping[str, Any] | None = None,
    planes: Planes | None = None,
) -> ScoreTable:
    """Sizes and intensities of the classes or objects of results, as `unet-med measure` gives them.

    One case is held at a time. One that cannot be measured is a row that says why.

    Args:
        results: folder of results, or one file.
        images: folder of their images, one file, or a data list, for intensities.
        names: of the classes; None: as the record of the results says.
        objects: a row an object in place of a row a class.
        choice: which image of files that hold several; see `load_image`.
        planes: `"apart"`: a row for each plane of a stack, called as the case and `-z003`, of the
            planes that the network saw; `"joined"`: a row a volume; None: as the record of the
            results says, else the numbers of the objects, else the file.

    Raises:
        ValueError: no case can be measured; names the first and why. Or an argument that does
            nothing for what is asked.
    """
    choice = dict(choice or {})
    results, images = str(results), None if images is None else str(images)
    cases = find_cases(results)
    refuse_idle(cases, images, names, choice, objects=objects)
    known = _images(images, cases, results)
    names = recorded_names(record_of(results)) if names is None else names
    classes = Classes({}, None) if objects else _classes(cases, names)
    ask = Ask(classes, objects, choice, planes)
    rows: list[ScoreRow] = []
    empty: list[str] = []
    failures: list[Exception] = []
    for name, found in with_bar([*cases.items()], "measuring"):
        try:
            image = None if known is None else _image(name, known, images)
            parts = [*_measure(replace(found, image=image), ask)]
            rows += [ScoreRow(CASE, name + part, label, own) for part, label, own in parts if own]
            empty += [name + part for part, _, own in parts if not own]
        except Exception as error:
            if user_error(error) is None:
                raise
            failures.append(error)
            rows.append(ScoreRow(FAILED, name, note=one_line(error)))
    if len(failures) == len(cases):
        raise failures[0]
    columns = dict.fromkeys(column for row in rows for column in row.scores)
    measured = dict.fromkeys(found.instances or found.mask for found in cases.values())
    about = {**counts(path for path in measured if path), **({EMPTY: empty} if empty else {})}
    return ScoreTable(tuple(columns), tuple(rows), about, "object" if objects else "class")


def _classes(cases: Mapping[str, Found], names: ClassNames) -> Classes:
    """Those of all masks, so that each has one name; what cannot be read fails later, by name."""
    found = []
    for case in cases.values():
        with suppress(ValueError, OSError):
            found += [values_in(open_result(case.mask, "classes").array)] if case.mask else []
    classes = classes_of(found, names)
    many = len(classes.names) > max(MAX_CLASSES, len(names))
    if many and any(case.numbered for case in cases.values()):
        _log.info(
            "%d values, each taken for a class: where they number objects, --objects gives a row "
            "for each",
            len(classes.names),
        )
    return classes


def _images(images: str | None, cases: Mapping[str, Found], results: str) -> dict[str, Case] | None:
    """Images by the names of their results; of one case and one image, whatever their names."""
    if images is None:
        return None
    found = [item["image"] for item in data.find_images(images)]
    if len(cases) == 1 and len(found) == 1:
        return dict.fromkeys(cases, found[0])
    files = [image for image in found if isinstance(image, str)]
    channels = (len(files) == len(found) and channel_cases(files)) or {}  # as of nnU-Net
    if channels.keys() >= cases.keys():
        return channels
    names = result_names(found, results)
    if not cases.keys() <= {same_name(name) for name in names}:
        names = result_names(found, results, moved=True)
    way = "predict with --name, and measure with the record of these results beside them"
    return by_name(names, found, "images", way) | channels


def _image(case: str, known: Mapping[str, Case], images: str | None) -> Case:
    if case in known:
        return known[case]
    raise ValueError(f"no image for the result {case} in {images}: leave --images out, or add it")


def _measure(found: Found, ask: Ask) -> Iterator[tuple[str, str, Scores]]:
    """Rows of one case: suffix of its name, name of the class or number of the object, scores."""
    path = found.numbered if ask.objects or not found.mask else found.mask
    if path is None:
        raise ValueError(f"{found.mask} has no {INSTANCES[1:]} beside it: predict with --instances")
    kind = "instances" if ask.objects or path == found.instances else "classes"
    header = opened = open_result(path, kind)
    if (told := ask.choice.get("pixel_size")) is not None:
        header = data.load_header(path, pixel_size=told)
    label, grid = opened.array, Grid.of(opened, f"its result {Path(path).name}")
    if ask.objects and path == found.mask:
        _refuse_mask(label, path)
    unit = header.spatial_unit if header.states_size else PIXELS
    size = Size(unit, size_of([header], unit))
    grey = None if found.image is None else _grey(found.image, grid, ask.choice)
    beside = None if kind == "instances" else found.instances
    pieces = None if beside is None else _on_grid(open_label(beside, "instances"), beside, grid)
    recorded = recorded_of(path)
    turn = turn_towards(Grid.of(header, Path(path).name), recorded.orientation)
    whole = Part("", label, pieces, grey, size)
    numbers = label if kind == "instances" else pieces
    given = np.zeros((1,) * label.ndim) if numbers is None else turn.of_array(numbers)
    apart = planes_of(ask.planes, recorded, given, header) == APART
    for part in whole.turned(turn).planes() if apart else [whole]:
        yield from ((part.suffix, *row) for row in _rows(part, kind, ask))


def _refuse_mask(label: Array, path: str) -> None:
    """Refuse one value for many objects, of a file whose name does not say what it holds."""
    if is_mask(label):
        raise ValueError(
            f"{Path(path).name} is a mask, in which all objects are one: predict with --instances, "
            "or number them"
        )


def _rows(part: Part, kind: str, ask: Ask) -> Iterator[tuple[str, Scores]]:
    """Name of the class or number of the object, and its scores."""
    if ask.objects:
        rows = [*object_rows(part.label, part.size, part.grey)]
        yield from rows or [("", {})]  # nothing is there, which a count has to know
    elif kind == "instances":
        scores = whole_scores(part.label > 0, part.size, part.label, part.grey)
        yield ask.classes.foreground, scores
    else:
        yield from class_rows(part.label, part.size, part.grey, ask.classes, part.pieces)


def _on_grid(objects: Volume, path: str, grid: Grid) -> Array:
    """Objects, turned onto the grid of the mask that lies beside them."""
    return turn_onto(Grid.of(objects, Path(path).name), grid).of_array(objects.array)


def _grey(image: Case, result: Grid, choice: Mapping[str, Any]) -> Grey:
    """The image, on the grid of its result; channels that nobody named have their number."""
    loaded = data.load_image(image, **choice)
    turn = turn_onto(Grid.of_image(loaded, f"image {shown(image)}"), result)
    names = loaded.meta[CHANNEL_NAMES].splitlines()
    channels = names if len(set(names)) == len(loaded) else map(str, range(len(loaded)))
    return Grey(np.stack([turn.of_array(channel) for channel in loaded.numpy()]), tuple(channels))
