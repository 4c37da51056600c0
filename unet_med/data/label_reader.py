"""Labels as whole numbers: of one channel, however large, renumbered where floats would merge."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.auto_reader import AutoReader, label_choice
from unet_med.data.colours import in_fewer_channels
from unet_med.data.file_reader import Volume, placeholder
from unet_med.data.grids import RAS, Grid, Turn
from unet_med.data.label_blobs import piece_sizes
from unet_med.data.label_checks import check_labels
from unet_med.data.label_kind import UndecidedLabels, is_mask
from unet_med.data.label_unknown import mark_unknown
from unet_med.data.labels import LabelSummary, summarize_label
from unet_med.data.orientation import turn_towards
from unet_med.data.smeared_mask import sharpened
from unet_med.instances import IGNORED, UNKNOWN

EXACT = 2**24  # whole numbers up to here are exact as 32-bit floats
TOLERANCE = 1e-3  # scaled integers of NIfTI come out as 2.99997
LOSSY = (".jpg", ".jpeg")


class LabelReader(AutoReader):
    """MONAI reader of labels, which our configs name: `AutoReader`, and values that hold.

    Samples are whole numbers; floats within 0.001 of them are rounded. A mask of black and white
    whose edges JPEG or resampling has smeared is cut at half (`smeared_mask.sharpened`), unless
    `unknown` says that a value means something else. MONAI makes 32-bit floats of what it reads,
    in which numbers above 2**24 merge: instances beyond are renumbered 1 to N.

    Args:
        label_kind: ``"mask"``, ``"classes"`` or ``"instances"``; classes keep their numbers.
            ``"values"``: whatever they are, as the file has them.
        values: of labels that are classes, the file's value of each class in order, such as
            `[0, 1, 2, 4]`; they become 0 to K-1, and 255 stays. None: the values are 0 to K-1.
        unknown: the file's value of pixels that nobody annotated, as for `mark_unknown`; they
            and those of -1 become 255 among classes, else -1.
        images: reader of the images, such as an `AutoReader(time=3)`: its time and its names of
            axes hold for labels that have these as well.
        max_bytes: see `FileReader`.

    Raises:
        ValueError: when a file is read: channels that differ, values that are no whole numbers,
            a JPEG that is no mask, a value that is no class; names the file.
    """

    def __init__(
        self,
        label_kind: str | None = None,
        values: Sequence[int] | None = None,
        *,
        unknown: int | None = None,
        images: object = None,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(max_bytes, **label_choice(getattr(images, "choice", {})))
        self.label_kind = label_kind
        self.values = values
        self.unknown = unknown

    def open(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file with the reader of its suffix, as integers."""
        volume = super().open(path, header_only=header_only)
        return volume if header_only else self._in_numbers(volume, path)

    def _in_numbers(self, volume: Volume, path: Path) -> Volume:
        array = _single_channel(volume.array, path.name) if volume.has_channels else volume.array
        array = whole_numbers(array, f"label {path.name}")
        plain = array[0] if volume.has_channels else array
        mask = sharpened(plain) if self.unknown is None else None
        if mask is not None:
            array = mask.reshape(array.shape)
        elif path.suffix.lower() in LOSSY and (count := len(np.unique(array))) > 2:
            raise ValueError(
                f"label {path.name} is a JPEG of {count} values: its compression smears them; "
                "export it anew as PNG or TIFF, or threshold it there"
            )
        return replace(volume, array=self._meant(array, path), sharpened=mask is not None)

    def _meant(self, array: np.ndarray, path: Path) -> np.ndarray:
        array = mark_unknown(array, self.unknown)
        if self.values is not None:
            return _classes(array, self.values, path.name)
        if self.label_kind == "classes" and array.min(initial=0) < 0:
            return np.where(array == UNKNOWN, IGNORED, array.astype(np.int32))  # int8 has no 255
        kept = self.label_kind in ("classes", "values")
        return array if kept else renumber(array, path.name)


def _single_channel(array: np.ndarray, name: str) -> np.ndarray:
    """The one channel `(1, X, Y[, Z])` of a label: of a grey picture in colours, that of each.

    Raises:
        ValueError: the channels differ, or some of it is transparent.
    """
    count = len(array)
    if count == 1:
        return array
    said = f"label {name} has {count} channels, a label has one: "
    if count > 4:
        raise ValueError(f"{said}save it as single-channel integers")
    fewer = in_fewer_channels(array, 1)
    if fewer is None:
        raise ValueError(
            f"{said}its colours are not numbers; in Fiji Image > Type > 8-bit for black and "
            "white, or number the colours where each object has its own (and where each class has "
            "one, give it the same number in all files)"
        )
    return fewer


def load_label(
    path: str | os.PathLike[str],
    label_kind: str | None = "classes",
    *,
    unknown: int | None = None,
    **choice: Any,
) -> np.ndarray:
    """Read a label of any of our formats as integers.

    Args:
        path: as for `load_image`.
        label_kind: as for `LabelReader`; classes keep the values of the file, whatever they are.
        unknown: as for `LabelReader`.
        choice: that of its image; see `AutoReader`.

    Returns:
        `(X, Y[, Z])`, any integer dtype.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it cannot be read in full as one label; one sentence naming the file.
    """
    return open_label(path, label_kind, unknown=unknown, **choice).array


def open_label(
    path: str | os.PathLike[str],
    label_kind: str | None = "classes",
    *,
    unknown: int | None = None,
    **choice: Any,
) -> Volume:
    """A label as `load_label` reads it, without channels, and what its file says of its grid."""
    reader = LabelReader(label_kind, unknown=unknown, images=AutoReader(**choice))
    volume = reader.open(Path(path).expanduser())
    array = volume.array[0] if volume.has_channels else volume.array
    return replace(volume, array=array, has_channels=False)


def look_and_head(
    path: str | os.PathLike[str],
    *,
    blobs: bool = True,
    turn: Turn | None = None,
    unknown: int | None = None,
    **choice: Any,
) -> tuple[LabelSummary, Volume]:
    """What one label holds; what cannot be a label is refused, in training as in evaluation.

    Args:
        path: as for `load_label`.
        blobs: as for `summarize_label`.
        turn: of its axes, so that planes and places are those of other labels too; None: to RAS,
            where it states an orientation.
        unknown: as for `LabelReader`; -1 in what comes back.
        choice: that of its image; see `AutoReader`.

    Returns:
        That, and the file's header, as `load_header` gives it.

    Raises:
        ValueError: it cannot be read, or cannot be a label; names the file.
    """
    volume = open_label(path, "values", unknown=unknown, **choice)
    turn = turn or turn_towards(Grid.of(volume, Path(path).name), RAS)
    label = volume.array
    look = summarize_label(label if turn.keeps else turn.of_array(label), blobs=blobs)
    check_labels([look], [Path(path).name])
    look = replace(look, sharpened=volume.sharpened)
    return look, replace(volume, array=placeholder(label.shape, label.dtype))


def refuse_masks(
    files: Sequence[str | os.PathLike[str]],
    looks: Sequence[LabelSummary],
    *,
    unknown: int | None = None,
    **choice: Any,
) -> None:
    """Refuse masks among labels that number their objects, where nobody said what they are.

    A mask would be one object, whatever it holds. Files of one value are read once more, unless
    it is known to lie in one piece.

    Raises:
        UndecidedLabels: names the file.
    """
    for file, look in zip(files, looks, strict=True):
        if mask_pieces(file, look, unknown=unknown, **choice):
            raise UndecidedLabels(
                f"label {Path(file).name} looks like a mask: its one value, {look.values[-1]:g}, "
                "lies in several pieces, and other labels number their objects; number these as "
                "well, or say --label-kind mask if all are masks, or instances if it is one object"
            )


def mask_pieces(
    file: str | os.PathLike[str],
    look: LabelSummary,
    *,
    unknown: int | None = None,
    **choice: Any,
) -> int:
    """In how many pieces the one positive value of a label lies, where it is a mask; else 0.

    A file of one value is read once more, unless it is known to lie in one piece; see `is_mask`.
    """
    held = look.values[look.values > 0]
    if len(held) != 1 or (look.blobs and look.blobs.largest.get(float(held[0])) == 1):
        return 0
    label = load_label(file, "instances", unknown=unknown, **choice)
    return len(piece_sizes(label > 0)) if is_mask(label) else 0


def whole_numbers(array: np.ndarray, name: str) -> np.ndarray:
    """The same values with an integer dtype; floats within 0.001 of whole numbers are rounded.

    Args:
        array: any shape and real dtype.
        name: for messages, such as `"label a.tif"`.

    Raises:
        ValueError: NaN, infinity, fractions, or floats that are too large to tell numbers apart.

    >>> whole_numbers(np.array([0, 2.99997]), "label").tolist()
    [0, 3]
    """
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite pixels: replace them first")
    rounded = np.rint(array)
    wrong = np.abs(array - rounded) > TOLERANCE
    if wrong.any():
        raise ValueError(
            f"{name} holds the value {float(array[wrong].flat[0]):g}: labels are whole numbers; if "
            "it was resampled, export it by nearest neighbour, and if it was scaled (scl_slope of "
            "NIfTI), round it and save integers"
        )
    largest = np.abs(rounded).max(initial=0)
    if largest > 2 ** (np.finfo(array.dtype).nmant + 1):
        raise ValueError(
            f"{name} holds the value {float(largest):.0f} as {array.dtype}, in which such numbers "
            "merge: save it as integers"
        )
    return rounded.astype(np.int64 if largest > np.iinfo(np.int32).max else np.int32)


def renumber(label: np.ndarray, name: str = "label") -> np.ndarray:
    """Instances as they are, or numbered 1 to N in their order where one is above 2**24.

    Args:
        label: integers of any shape; 0 and below stay.
        name: of its file.

    Raises:
        ValueError: there are more than 2**24 instances.

    >>> renumber(np.array([0, 7, 2**40])).tolist(), renumber(np.array([-1, 7])).tolist()
    ([0, 1, 2], [-1, 7])
    """
    if label.max(initial=0) <= EXACT:
        return label
    values, where = np.unique(label, return_inverse=True)
    numbers = np.where(values > 0, np.cumsum(values > 0), np.minimum(values, 0).astype(np.int64))
    if numbers[-1] > EXACT:
        raise ValueError(f"label {name} holds {numbers[-1]} instances, more than {EXACT}: cut it")
    return numbers.astype(np.int32)[where].reshape(label.shape)


def exact_floats(array: np.ndarray) -> np.ndarray:
    """Grey values as float32; whole numbers that would merge in it as int64.

    Raises:
        ValueError: a value beyond 64 bits with sign.
    """
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 4 or not array.size:
        return array.astype(np.float32)
    low, high = int(array.min()), int(array.max())
    if low >= -EXACT and high <= EXACT:
        return array.astype(np.float32)
    if high > np.iinfo(np.int64).max:
        raise ValueError(f"it holds the value {high}, which needs more than 63 bits: renumber it")
    return array.astype(np.int64)


def _classes(array: np.ndarray, values: Sequence[Any], name: str) -> np.ndarray:
    """Class 0 to K-1 of each value; 255 stays unless it is one of them."""
    known = {int(value): number for number, value in enumerate(values)}
    known.setdefault(IGNORED, IGNORED)
    known[UNKNOWN] = IGNORED
    found = np.unique(array)
    for value in found.tolist():
        if value not in known:
            raise ValueError(
                f"label {name} holds the value {value}: the classes are {list(values)}, and "
                f"{IGNORED} for ignored pixels; correct it, or set class_values"
            )
    numbers = np.array([known[value] for value in found.tolist()], np.int32)
    return numbers[np.searchsorted(found, array)]  # `return_inverse` takes ten times as long
