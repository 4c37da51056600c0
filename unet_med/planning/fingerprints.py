"""What the files of a training say, as plain values that go to and from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from unet_med.data.atomic import as_json
from unet_med.data.datalist import HELD_OUT
from unet_med.data.grids import Turn, no_turn
from unet_med.data.orientation import outcome, turn_between
from unet_med.data.pixel_size import ASSUMED
from unet_med.instances import IGNORED, UNKNOWN
from unet_med.planes import Planes
from unet_med.planning.ranges import from_ranges

PERCENTILES = (0.5, 5.0, 25.0, 50.0, 75.0, 95.0, 99.5)
SMALL, MEDIAN, LARGE = (PERCENTILES.index(share) for share in (5.0, 50.0, 95.0))


def unknown_marks(kind: str) -> set[int]:
    """Values that say of a pixel that nobody annotated it, in labels of a kind."""
    return {UNKNOWN, IGNORED} if kind == "classes" else {UNKNOWN}


@dataclass(frozen=True)
class FileFacts:
    """What the header of one file says.

    Attributes:
        name: relative to the folder of the data; of several files all names, with commas between.
        sha256: of the whole file, or of the files one after the other.
        shape: `(X, Y[, Z])`, px.
        channels: 1 where the file has none.
        dtype: of its samples.
        pixel_size: along `(X, Y[, Z])`, in `unit`.
        pixel_size_source: what told it; `"assumed"` where nothing did.
        unit: `"um"` or `"mm"`.
        orientation: such as `"RAS"`, where the affine states one.
        planes: of a stack, what the file says of its planes (`data.plane_kind`); None: it is none,
            or earlier versions did not look.
        channel_names: one a channel, where the file names all.
    """

    name: str
    sha256: str
    shape: tuple[int, ...]
    channels: int
    dtype: str
    pixel_size: tuple[float, ...]
    pixel_size_source: str
    unit: str
    orientation: str | None
    planes: Planes | None = None
    channel_names: tuple[str, ...] = ()

    @property
    def states_size(self) -> bool:
        """Whether the file states its pixel size."""
        return self.pixel_size_source != ASSUMED

    @property
    def plane_count(self) -> int:
        """Planes along Z; 1 where the file is a plane itself, or a volume of one slice."""
        return (*self.shape, 1)[2]

    def turn(self, word: str | None, own: str | None = None) -> Turn:
        """The turn that brings the file into an orientation; none where it states no own.

        Args:
            word: the orientation that is wanted; None: the file's.
            own: that of the file where it states none: of a label that of its image.
        """
        own = self.orientation or own
        if word is None or own is None:
            return no_turn(len(self.shape))
        return turn_between(own, self.shape, word)

    def turned(self, word: str) -> FileFacts:
        """What the header would say in another orientation."""
        if self.orientation is None:
            return self
        turn, orientation = self.turn(word), outcome(self.orientation, self.shape, word)
        shape, pixel_size = turn.sides(self.shape), turn.sides(self.pixel_size)
        return replace(self, shape=shape, pixel_size=pixel_size, orientation=orientation)


@dataclass(frozen=True)
class Case:
    """One image and its label.

    Attributes:
        image: its file.
        label: its file.
        values: the label's distinct values, as `as_ranges` writes them; None: they are no
            integers, or too many to be anything but instance numbers.
        listed: what else a data list says of it, such as its `fold`; of an image in several
            files `image`, their names.
        blank: planes of which nobody knows a pixel, as `as_ranges` writes them, by the value that
            says so: `"-1"`, or `"255"`, which does among classes.
        empty: number of planes that somebody looked at and found nothing in; None: earlier
            versions did not count them.
        in_planes: of a stack, number of planes that hold each value, by the value; empty where
            there are many, or earlier versions did not count them.
        empty_planes: those of `empty`, as `as_ranges` writes them; None: earlier versions did not
            say which they are.
    """

    image: FileFacts
    label: FileFacts
    values: str | None
    listed: Mapping[str, Any] = field(default_factory=dict)
    blank: Mapping[str, str] = field(default_factory=dict)
    empty: int | None = None
    in_planes: Mapping[str, int] = field(default_factory=dict)
    empty_planes: str | None = None

    @property
    def files(self) -> Sequence[str]:
        """Names of an image's files, if it has several: one a channel; else none."""
        names: Sequence[str] = self.listed.get("image", ())
        return names

    @property
    def label_values(self) -> set[int] | None:
        """The label's distinct values."""
        return None if self.values is None else from_ranges(self.values)

    @property
    def holds_object(self) -> bool:
        """Whether the label holds more than background."""
        return self.values is None or max(from_ranges(self.values), default=0) > 0

    @property
    def planes_without_object(self) -> set[int]:
        """Planes that somebody looked at and found nothing in, as far as that is known."""
        return from_ranges(self.empty_planes or "")

    def blank_planes(self, kind: str) -> set[int]:
        """Planes of which labels of a kind know no pixel."""
        ranges = self.blank.get(str(max(unknown_marks(kind))))
        return from_ranges(ranges) if ranges else set()


@dataclass(frozen=True)
class Instances:
    """How large the positive values of the labels are, each taken for an object.

    Attributes:
        count: objects in all files.
        touching: share of them that have another one beside them.
        plane_px: percentiles of their size within one plane, px.
        plane_area: that in the square of the first image's unit.
        volume_px: percentiles of their size in a volume, px; of images that of a plane.
        volume: that in the unit of the first image to the power of its axes.
        width_px: percentiles of how wide they are within one plane, px; None: earlier versions did
            not look, and took them for discs.
        width: that in the first image's unit.
        depth_px: percentiles of how far they reach across planes at most, px; None: earlier
            versions did not look, there is one plane, or unknown ones lie between.
        depth: that in the first image's unit.
        whole_px: width in a plane of the narrowest value, px, which all but 5 % of the planes that
            hold it exceed; None: a value lies in many pieces or in strips, the values are many, or
            earlier versions did not look.
        whole: that in the first image's unit.
        specks: of the objects, those that are too small to be any (`object_sizes.are_specks`); no
            percentile counts them, and below the median none what is smaller than a tenth of it.
    """

    count: int
    touching: float
    plane_px: tuple[float, ...]
    plane_area: tuple[float, ...]
    volume_px: tuple[float, ...]
    volume: tuple[float, ...]
    width_px: tuple[float, ...] | None = None
    width: tuple[float, ...] | None = None
    depth_px: tuple[float, ...] | None = None
    depth: tuple[float, ...] | None = None
    whole_px: float | None = None
    whole: float | None = None
    specks: int = 0

    def as_discs(self) -> Instances:
        """What earlier versions would say of them."""
        return replace(self, width_px=None, width=None, depth_px=None, depth=None)


@dataclass(frozen=True)
class Apart:
    """Two label values of like size that lie apart along one axis, the same way in all files.

    Attributes:
        axis: `R`, `A` or `S`.
        values: the first lies to the right, the front or the head of the second.
        files: that hold both.
    """

    axis: str
    values: tuple[int, int]
    files: int


@dataclass(frozen=True)
class Fingerprint:
    """What the files say, of each and of all; nothing is decided yet.

    Attributes:
        images: name of the folder, file or data list of the images.
        labels: name of that of the labels; None with a data list.
        cases: each image with its label, in order.
        label_kind: what the labels' values look like: `mask`, `classes` or `instances`; None:
            they may be several of these.
        frequencies: share of the pixels of each label value; empty where there are many.
        instances: sizes of the objects; None where no label has any.
        intensities: for each channel the percentiles `PERCENTILES` of the images' pixels.
        skews: for each channel the least and the largest skew of an image (`data.grey_values`);
            empty where all pixels are equal.
        intensities_of: number of images that were looked at for them.
        reader: which image of files that hold several, and the pixel size that was told.
        found_by: in words, how images and labels were found, where not by equal names.
        apart: values that may be the two sides of a body, where files state an orientation.
        class_names: of label values, where the data list says them; keys are digits, for JSON.
        doubt: why `label_kind` is None, and what to say.
        modality: of each channel, how it was taken, where a data list says it.
        foreground: of each channel `low`, `high`, `mean` and `std` of the pixels within objects;
            empty where they were not looked at.
        foreground_of: number of images that were looked at for that; 0: that is not known.
        extremes: of each channel in how many images few pixels rule the deviation, and whether
            they are objects (`extremes.Extremes`); empty: earlier versions did not look.
        unknown: the labels' value of pixels that nobody annotated, as told or as a data list
            says; such pixels are -1 in all else that is said of labels.
        marked: share of the pixels that are `"-1"` and `"255"`, where there are any.
        stand_out: labels in which 255 may mark such pixels, and may be an object.
        covered: share of the pixels that somebody annotated, not -1, which are positive; None:
            earlier versions did not count them.
        planes: whether the numbers of annotated objects go through the planes of stacks (`joined`)
            or not (`apart`); None: they do not say, or not the same in all.
        masks: in words, why all labels are masks, where they are; None: some are none, there is
            one, or earlier versions did not look.
        needed: channels that add something in the images that were looked at, where the files
            have more (`data.colours`); None: all do, or earlier versions did not look.
        off_scale: CTs that hold neither air nor fat, where others hold air.
    """

    images: str
    labels: str | None
    cases: tuple[Case, ...]
    label_kind: str | None
    frequencies: Mapping[str, float]
    instances: Instances | None
    intensities: tuple[tuple[float, ...], ...]
    intensities_of: int
    reader: Mapping[str, Any]
    found_by: tuple[str, ...] = ()
    apart: tuple[Apart, ...] = ()
    class_names: Mapping[str, str] = field(default_factory=dict)
    doubt: str | None = None
    modality: tuple[str, ...] = ()
    foreground: tuple[Mapping[str, float], ...] = ()
    foreground_of: int = 0
    extremes: tuple[Mapping[str, float], ...] = ()
    skews: tuple[tuple[float, ...], ...] = ()
    unknown: int | None = None
    marked: Mapping[str, float] = field(default_factory=dict)
    stand_out: tuple[str, ...] = ()
    covered: float | None = None
    planes: Planes | None = None
    masks: str | None = None
    needed: int | None = None
    off_scale: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Channels that a network is shown."""
        return self.needed or self.cases[0].image.channels

    def unknown_share(self, kind: str) -> float:
        """Share of the pixels that nobody annotated, in labels of a kind."""
        return sum(self.marked.get(str(mark), 0.0) for mark in unknown_marks(kind))

    @property
    def held_out(self) -> str | None:
        """What the data list itself validates on, in words; None: it does not say."""
        return next((note for note in self.found_by if note.endswith(HELD_OUT)), None)

    def turned(self, word: str | None) -> Fingerprint:
        """The same files as a network sees them, in one orientation; None: as they are."""
        if word is None:
            return self
        cases = (
            replace(case, image=case.image.turned(word), label=case.label.turned(word))
            for case in self.cases
        )
        return replace(self, cases=tuple(cases))

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dictionaries and numbers."""
        return as_json(asdict(self))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Fingerprint:
        """What `to_json` gave, after any journey through a file."""
        found = dict(content)
        objects = found["instances"]
        found["cases"] = tuple(
            Case(**case | {part: FileFacts(**_tuples(case[part])) for part in ("image", "label")})
            for case in found["cases"]
        )
        found["instances"] = objects and Instances(**_tuples(objects))
        found["found_by"] = tuple(found.get("found_by", ()))
        found["apart"] = tuple(Apart(**_tuples(apart)) for apart in found.get("apart", ()))
        found |= {
            id: tuple(found.get(id, ()))
            for id in ("modality", "foreground", "extremes", "stand_out", "off_scale")
        }
        for name in ("intensities", "skews"):
            found[name] = tuple(tuple(channel) for channel in found.get(name, ()))
        return cls(**found)


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
