"""Label images of what other programs keep as annotation: outlines, and DICOM SEG.

Outlines, of ImageJ and QuPath, say nothing of the size of their image, and a DICOM SEG holds some
planes of its series: both become labels on the grid of the image that is named as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.array_writer import smallest_label_dtype
from unet_med.data.cases import Files, case_name, files_of, one_place, same_name
from unet_med.data.datalist import look_for_images
from unet_med.data.dicom_files import is_dicom
from unet_med.data.files import load_header, save_image
from unet_med.data.folder_files import OUTLINES, bases_of
from unet_med.data.formats import result_suffix, stem
from unet_med.data.roi_reader import Drawn, label_of_outlines
from unet_med.data.seg_reader import label_of_seg, segment_names


@dataclass(frozen=True)
class Annotated:
    """Images, and what was annotated in them.

    Attributes:
        files: file, or files, of each image, by its name.
        annotations: file of outlines, or a DICOM SEG, by the image's name; of some, perhaps.
        classes: name of each class, by its value in labels; none: outlines, which are objects.
        ordered: see `unet_med.data.seg_reader.label_of_seg`.
        choice: which image of files that hold several; see `AutoReader`.
    """

    files: Mapping[str, Files]
    annotations: Mapping[str, Path]
    classes: Mapping[int, str]
    ordered: bool = False
    choice: Mapping[str, Any] = field(default_factory=dict)

    def label(self, name: str) -> tuple[np.ndarray, str]:
        """Label of an image, `(X, Y[, Z])`, and in words what it holds.

        Raises:
            ValueError: the annotation cannot be read, or does not fit the image; names it.
        """
        image, file = self.files[name], self.annotations.get(name)
        if file is None or not self.classes:
            shape = load_header(image, **self.choice).spatial_shape
            none = Drawn(np.zeros(shape, np.int32), 0, (0, 0), 0)
            found = label_of_outlines(file, shape) if file else none
            return found.label, _objects(found)
        values = self._values(segment_names(file))
        source, series = Path(files_of(image)[0]), self.choice.get("series")
        label = label_of_seg(file, source, values, series=series, ordered=self.ordered)
        held = [f"{self.classes[value]} {value}" for value in np.unique(label).tolist() if value]
        return label, ", ".join(held) or "nothing"

    def _values(self, names: Mapping[int, str]) -> dict[int, int]:
        """Value in the label of each segment of a file, in the order of the values."""
        if not self.ordered:
            return {number: number for number in sorted(names)}
        pairs = [
            (value, number)
            for value, wanted in self.classes.items()
            for number, name in names.items()
            if name.casefold() == wanted.casefold()
        ]
        return {number: value for value, number in pairs}

    def write(self, name: str, folder: Path) -> str:
        """Write the label of an image, and say what it holds.

        Raises:
            ValueError: see `label`; or a label of this name is there.
        """
        image = self.files[name]
        path = folder / f"{name}{result_suffix(files_of(image)[0])}"
        if path.exists():
            raise ValueError(f"{path} is there already: remove it, or give another --output")
        label, said = self.label(name)
        head = load_header(image, **self.choice)
        unit = head.spatial_unit if head.states_size else None
        label = smallest_label_dtype(label)
        save_image(path, label, head.affine, unit, has_channels=False)
        return f"{path}: {said}"


def annotated(
    annotations: Path,
    images: Path,
    segments: Sequence[str] = (),
    choice: Mapping[str, Any] | None = None,
) -> Annotated:
    """Find what was annotated in which images.

    Args:
        annotations: folder of `.zip`, `.roi` or `.geojson`, or of DICOM SEG, named as the images,
            or with an ending such as `_seg`; a SEG may lie in a folder of that name. Or one file.
        images: as for `find_images`.
        segments: names of the segments that become the classes 1, 2, ...; of those that lie upon
            each other the later one is above. Empty: all, by their numbers.
        choice: see `Annotated`.

    Raises:
        FileNotFoundError: a path is missing.
        ValueError: an annotation of no image, two of one; outlines beside DICOM SEG; or segments
            whose numbers do not mean the same in all files.
    """
    files = _by_name([item["image"] for item in look_for_images(images).items])
    found = _annotations(annotations)
    if annotations.is_file() and len(files) == 1:
        paired = {next(iter(files)): annotations}
    else:
        paired = _paired(found, files)
    outlines = [path for path in paired.values() if path.suffix.lower() in OUTLINES]
    if outlines and (segments or len(outlines) < len(paired)):
        raise ValueError(
            f"{outlines[0]} holds outlines, which are objects and no segments: keep DICOM SEG in a "
            "folder of their own, and name --segments of them alone"
        )
    classes = {} if outlines else _classes(list(paired.values()), segments)
    return Annotated(files, paired, classes, bool(segments), dict(choice or {}))


def _by_name(images: Sequence[Files]) -> dict[str, Files]:
    """Images by their names, of which no two may be equal."""
    files = {same_name(case_name(image)): image for image in images}
    places = Counter(one_place(case_name(image)) for image in images)
    for image in images:
        if places[one_place(name := case_name(image))] > 1:
            raise ValueError(
                f"two images are named {name}, one of them {files_of(image)[0]}, and would "
                "share one annotation (upper and lower case are one): rename one"
            )
    return files


def _annotations(path: Path) -> list[tuple[str, Path]]:
    """Names of files of outlines and of DICOM files, and these."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    there = sorted(p for p in path.iterdir() if p.name[0] != ".") if path.is_dir() else [path]
    found = []
    for each in there:
        inner = [p for p in each.iterdir() if is_dicom(p)] if each.is_dir() else []
        if each.suffix.lower() in OUTLINES:
            found.append((each.stem, each))
        elif is_dicom(each) or len(inner) == 1:
            found.append((stem(each), inner[0] if inner else each))
    if not found:
        raise ValueError(f"{path} holds neither outlines ({' '.join(OUTLINES)}) nor DICOM SEG")
    return found


def _paired(found: Sequence[tuple[str, Path]], files: Mapping[str, Files]) -> dict[str, Path]:
    """Annotation of each image that has one, by the image's name."""
    paired: dict[str, Path] = {}
    for name, path in found:
        names = [same_name(each) for each in (name, *bases_of(name))]
        image = next((each for each in names if each in files), None)
        if image is None:
            raise ValueError(f"no image is named as {path}: name it as its image, or remove it")
        if (other := paired.setdefault(image, path)) != path:
            raise ValueError(f"{other} and {path} are both of the image {image}: leave one")
    return paired


def _classes(files: Sequence[Path], wanted: Sequence[str]) -> dict[int, str]:
    """Name of each class, by its value: the segments that are wanted, or all by their numbers."""
    known: dict[int, tuple[str, Path]] = {}
    all_names: set[str] = set()
    for file in files:
        names = segment_names(file)
        all_names |= {name.casefold() for name in names.values()}
        for number, name in names.items():
            first, where = known.setdefault(number, (name, file))
            if not wanted and first.casefold() != name.casefold():
                raise ValueError(
                    f"segment {number} is {first!r} in {where}, and {name!r} in {file}: say which "
                    "are the classes 1, 2, ... with --segments NAME ..."
                )
    if lacking := [name for name in wanted if name.casefold() not in all_names]:
        listed = ", ".join(sorted(all_names))
        raise ValueError(f"--segments {lacking[0]}: no DICOM SEG has this segment, but {listed}")
    if wanted:
        return dict(enumerate(wanted, 1))
    return {number: known[number][0] for number in sorted(known)}


def _objects(drawn: Drawn) -> str:
    """How many objects a label holds, and what of the outlines is none, or hardly one."""
    label, outlines, (around, held), left = drawn
    count = len(np.unique(label[label > 0]))
    said = [f"{count} objects"]
    if lost := outlines - count:
        said.append(f"{lost} more hold no pixel, or lie beneath")
    if around:
        said.append(
            f"{around} of them around {held} others: where it is a region and no cell, remove it, "
            "or all that lies between them is learned as an object"
        )
    if left:
        said.append(f"{left} left out, which are lines, points or of an ignored class")
    return "; ".join(said)
