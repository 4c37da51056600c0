"""What is measured of labels: sizes, numbers and shapes of objects, intensities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_med.data.class_names import FOREGROUND, ClassNames, require_few
from unet_med.instances import IGNORED, label_components
from unet_med.report.table import CASE, ScoreRow, ScoreTable
from unet_med.scoring.clinical import PIXELS, size_factor, size_unit
from unet_med.scoring.object_shapes import object_shapes

Array = np.ndarray[Any, Any]
Scores = dict[str, float | None]

STATISTICS: Mapping[str, Callable[[Array], Any]] = {
    "mean": np.mean,
    "deviation": np.std,
    "lowest": np.min,
    "median": np.median,
    "highest": np.max,
}
AT_EDGE = "objects at edge"
EMPTY = "empty"  # what a table of objects says of images that hold none: their names
OF_OBJECTS: Mapping[str, Callable[[Array], Any]] = {
    "smallest": np.min,
    "median": np.median,
    "largest": np.max,
}


@dataclass(frozen=True)
class Size:
    """The size of a pixel.

    Attributes:
        unit: of lengths: `"mm"`, `"um"`, or `"px"`.
        edges: of a pixel along `(X, Y[, Z])`, in the unit.
    """

    unit: str
    edges: tuple[float, ...]

    @property
    def name(self) -> str:
        """What sizes are called, with their unit."""
        return size_unit(self.unit, len(self.edges))

    @property
    def pixel(self) -> float:
        """Area or volume of a pixel; a whole 1 where pixels are counted."""
        dims = len(self.edges)
        return 1 if self.unit == PIXELS else math.prod(self.edges) * size_factor(self.unit, dims)


@dataclass(frozen=True)
class Grey:
    """Intensities of an image, `(C, X, Y[, Z])`, and the names of its channels."""

    pixels: Array
    channels: tuple[str, ...]

    def within(self, inside: Array) -> Scores:
        """`STATISTICS` of each channel where a mask `(X, Y[, Z])` is true; NaN left out."""
        return self.of(self.pixels[:, inside])

    def of(self, pixels: Array) -> Scores:
        """The same of some pixels, `(C, N)`."""
        scores: Scores = {}
        for channel, values in zip(self.channels, pixels, strict=True):
            known = values[np.isfinite(values)].astype(np.float64)
            of = f" {channel}" if len(pixels) > 1 else ""
            for name, compute in STATISTICS.items():
                scores[f"{name} intensity{of}"] = float(compute(known)) if len(known) else None
        return scores


@dataclass(frozen=True)
class Classes:
    """The classes of a table.

    Attributes:
        names: the one name of each, by value.
        only: the only class that any case holds, whose objects the instances are; None: there
            are several.
    """

    names: Mapping[int, str]
    only: int | None

    @property
    def foreground(self) -> str:
        """What a row is called that is of all objects."""
        return next(iter(self.names.values())) if len(self.names) == 1 else FOREGROUND


def classes_of(found: Iterable[frozenset[int]], names: ClassNames) -> Classes:
    """The classes that are named, and those that any case holds.

    Args:
        found: values above 0 of each case.
        names: of the classes, as far as they are known.

    >>> classes_of([frozenset(), frozenset({1})], {}).names
    {1: 'foreground'}
    >>> classes_of([frozenset({1}), frozenset({1, 2, 255})], {2: "rim"}).names
    {1: '1', 2: 'rim'}
    """
    held: set[int] = set().union(*found)
    if IGNORED in held and IGNORED not in names:
        masks = held | set(names) <= {1, IGNORED}  # some write their foreground as 255
        held = {1} if masks else held - {IGNORED}
    values = sorted(held | set(names)) or [1]
    single = FOREGROUND if values == [1] else "1"
    known = {v: names.get(v, single if v == 1 else str(v)) for v in values}
    return Classes(known, next(iter(held)) if len(held) == 1 else None)


def values_in(label: Array) -> frozenset[int]:
    """Values above 0.

    Raises:
        ValueError: they are too many to be classes.
    """
    values = np.unique(label)
    require_few(values)
    return frozenset(int(value) for value in values if value > 0)


def class_rows(
    label: Array, size: Size, grey: Grey | None, classes: Classes, pieces: Array | None
) -> Iterator[tuple[str, Scores]]:
    """A row a class of the table, zeros where the case lacks it.

    Objects of the only class are the instances, else connected pieces.
    """
    if classes.only == 1 and values_in(label) == {IGNORED}:  # a mask of 0 and 255
        label = label == IGNORED
    for value, name in classes.names.items():
        inside = label == value
        own = pieces if value == classes.only else None
        objects = label_components(inside, inside.ndim) if own is None else own
        yield name, whole_scores(inside, size, objects, grey)


def object_rows(label: Array, size: Size, grey: Grey | None) -> Iterator[tuple[str, Scores]]:
    """A row an object, in the order of their numbers."""
    values = np.unique(label)
    where = np.searchsorted(values, label)  # the inverse of `unique` takes ten times as long
    counts = np.bincount(where.ravel(), minlength=len(values))
    ends = np.cumsum(counts)
    pixels = None
    if grey is not None:
        order = np.argsort(where.ravel(), kind="stable")
        pixels = grey.pixels.reshape(len(grey.pixels), -1)[:, order]
    first = int(np.searchsorted(values, 1))
    shapes = object_shapes(np.maximum(where - first + 1, 0), size.edges, size.unit)
    for value, end, count, shape in zip(
        values[first:].tolist(), ends[first:].tolist(), counts[first:].tolist(), shapes, strict=True
    ):
        own = {} if grey is None or pixels is None else grey.of(pixels[:, end - count : end])
        yield str(value), {size.name: count * size.pixel, **shape, **own}


def whole_scores(inside: Array, size: Size, objects: Array, grey: Grey | None) -> Scores:
    """Size of a class, number and sizes of its objects, and its intensities.

    Objects that the image cuts off are among them, and counted by themselves.

    Args:
        inside: where the class is, `(X, Y[, Z])`.
        size: of a pixel.
        objects: a number each, 0 elsewhere, likewise.
        grey: the image.
    """
    sizes = object_sizes(objects)
    scores: Scores = {size.name: int(inside.sum()) * size.pixel, "objects": len(sizes)}
    scores[AT_EDGE] = objects_at_edge(objects)
    for name, compute in OF_OBJECTS.items():
        known = compute(sizes).item() * size.pixel if len(sizes) else None
        scores[f"{name} object {size.name}"] = known
    return {**scores, **({} if grey is None else grey.within(inside))}


def object_sizes(label: Array) -> Array:
    """Pixels of each object."""
    values, counts = np.unique(label, return_counts=True)
    return counts[values > 0]


def objects_at_edge(label: Array) -> int:
    """How many objects the image ends at, as `at edge` of `object_shapes` has it.

    >>> objects_at_edge(np.array([[7, 7, 0], [0, 0, 0], [0, 0, 2]]))
    2
    """
    if label.shape[2:] == (1,):
        label = label[..., 0]  # a volume of one slice is a plane
    faces = (np.take(label, (0, -1), axis) for axis in range(label.ndim))
    return int((np.unique(np.concatenate([face.ravel() for face in faces])) > 0).sum())


def per_image(table: ScoreTable) -> ScoreTable:
    """Of rows an object a row an image: their number and median size; last those without any.

    Sizes of an image have a unit, which comes first among its columns; others may have another.
    """
    of: dict[str, list[ScoreRow]] = {}
    for row in table.of(CASE):
        of.setdefault(row.case, []).append(row)
    rows = [ScoreRow(CASE, case, "", _summed_up(own)) for case, own in of.items()]
    nothing: Scores = {"objects": 0, AT_EDGE: 0}
    rows += [ScoreRow(CASE, case, "", nothing) for case in table.about.get(EMPTY, ())]
    columns = dict.fromkeys(column for row in rows for column in row.scores)
    return ScoreTable(tuple(columns), (*rows, *table.left), table.about)


def _summed_up(objects: Sequence[ScoreRow]) -> Scores:
    size = next(iter(objects[0].scores))
    sizes, at_edge = ([row.scores[name] or 0 for row in objects] for name in (size, "at edge"))
    median = float(np.median(sizes))
    return {"objects": len(objects), AT_EDGE: sum(map(int, at_edge)), f"median {size}": median}
