"""What the files of one image of a report hold: the image, its result, its truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_med.data.cases import files_of
from unet_med.data.checksum import sha256
from unet_med.data.entries import DIGESTS
from unet_med.data.formats import stem
from unet_med.data.grids import Grid, Turn, turn_onto
from unet_med.data.plane_kind import PLANES
from unet_med.errors import one_line, user_error
from unet_med.instances import (
    UNKNOWN,
    in_a_table,
    instances_from_mask,
    label_components,
    regrow,
)
from unet_med.planes import JOINED, Planes
from unet_med.report.differences import Labels
from unet_med.report.viewing import as_viewed, viewing_turn

Array = NDArray[Any]
Entry = Mapping[str, Any]


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


@dataclass(frozen=True)
class CaseFiles:
    """The files of one image; arrays are as a page shows them, `(X, Y, Z)`.

    Attributes:
        name: the image's name, without suffix.
        entry: what `record.json` says of it.
        results: folder of the results.
        reading: how images and labels are to be read.
    """

    name: str
    entry: Entry
    results: Path
    reading: Reading

    @classmethod
    def of(cls, name: str, entry: Entry, results: Path, reading: Reading) -> CaseFiles:
        """The same; of planes that the scores do not tell of, as the image's record says."""
        joined = (reading.planes or entry.get(PLANES)) == JOINED
        return cls(name, entry, results, replace(reading, joined=joined))

    @cached_property
    def turn(self) -> Turn | None:
        """To how a page shows the image; see `viewing_turn`."""
        return viewing_turn(self.entry, self.reading)

    def image(self, notes: list[str]) -> list[Array]:
        """Channels of the image as it was segmented; none, and a note: it is so no longer."""
        from unet_med import data

        source = self.entry.get("files", self.entry["file"])
        if gone := [file for file in files_of(source) if not Path(file).exists()]:
            notes.append(f"the image is no longer at {gone[0]}")
            return []
        try:
            if sha256(source) != self.entry["sha256"]:
                notes.append("the image file has changed since it was segmented")
            array: Array = data.load_image(source, **self.reading.choice).numpy()
        except Exception as error:
            if user_error(error) is None:
                raise
            notes.append(f"the image is not drawn: {one_line(error)}")
            return []
        shape = tuple(self.entry["shape"])
        if array.shape != shape:
            notes.append(
                f"the image is not drawn: its file has shape {array.shape}, and was segmented as "
                f"{shape} (channels, then X, Y, Z)"
            )
            return []
        return [as_viewed(channel, self.turn) for channel in array]

    def result(self) -> Labels | None:
        """Classes, or instances: those of the file, or components of the mask; None: no file.

        Raises:
            ValueError: it has another shape than the image.
        """
        from unet_med import data

        shown = self._shown()
        if shown is None:
            return None
        what, file = shown
        labels = data.load_label(file, self.reading.kind)
        volume = len(self.entry["shape"]) == 4
        return _objects(self._viewed(labels, "result"), what, self.reading, volume=volume)

    def truth(self, path: str) -> Labels:
        """A truth, turned onto the grid of the result, as `unet-med evaluate` turns it.

        Raises:
            ValueError: it has another shape than the image.
        """
        from unet_med import data
        from unet_med.data.label_reader import open_label

        reading = self.reading
        truth = open_label(path, reading.kind, unknown=reading.unknown, **reading.truth_choice)
        labels, file = truth.array, self._file("mask") or self._file("instances")
        if file:
            result = data.load_header(file)
            if sorted(result.spatial_shape) == sorted(labels.shape):
                own = Grid.of(truth, f"truth {Path(path).name}")
                theirs = Grid.of(result, f"its result {file.name}")
                labels = turn_onto(own, theirs).of_array(labels)
        return _true_objects(self._viewed(labels, "truth"), reading)

    def uncertainty(self) -> Array | None:
        """The map of the image, where one was written."""
        from unet_med import data

        file = self._file("uncertainty")
        return None if file is None else as_viewed(data.load_image(file).numpy()[0], self.turn)

    def _shown(self) -> tuple[str, Path] | None:
        """Whether the labels that are shown are instances or a mask, and their file."""
        instances, mask = self._file("instances"), self._file("mask")
        if self.reading.kind == "classes":
            instances = None
        if instances and (mask is None or not self.reading.apart or self.reading.seeded):
            return "instances", instances
        return None if mask is None else ("mask", mask)

    def _file(self, kind: str) -> Path | None:
        """Of a kind of result; of files that the record names, NAME itself is a mask."""
        return result_file(self.name, kind, self.results, self.entry.get(DIGESTS, ()))

    def _viewed(self, labels: Labels, what: str) -> Labels:
        """Labels of the shape of their image, else an error; colours lie in a table."""
        shape = tuple(self.entry["shape"][1:])
        if labels.shape != shape:
            raise ValueError(
                f"{what} of {self.name} has shape {labels.shape}, its image {shape}: they must be "
                "equal"
            )
        return as_viewed(
            labels if self.reading.kind == "classes" else in_a_table(labels), self.turn
        )


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


def _objects(labels: Labels, what: str, reading: Reading, *, volume: bool) -> Labels:
    """Classes as they are, or instances, of labels that are a mask or instances, `(X, Y, Z)`."""
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
