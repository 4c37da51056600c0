"""Images in a folder: what people put there, without what systems and this package leave."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from unet_med.data.atomic import read_json
from unet_med.data.cases import same_name
from unet_med.data.channels import channel_of
from unet_med.data.dicom_files import TO_LABELS, holds_dicom, is_dicom, is_seg
from unet_med.data.formats import DICOM, SUFFIXES, format_at, format_of, stem
from unet_med.data.npy_files import holds_objects
from unet_med.data.pairing import ANOTHER, IMAGE_WORDS, LABEL_WORDS, label_base, parts_of

RECORD = "record.json"  # what a prediction leaves beside its results
OUTLINES = (".zip", ".roi", ".geojson")  # of ImageJ and QuPath
KEPT = "kept"  # folder beside it, of results that had changed before new ones came
OTHER_SUFFIXES = (".dcm", ".zip", ".geojson")  # of results that are no images
OTHERS = (  # what programs leave in place of label images
    (OUTLINES, "outlines", TO_LABELS),
    (("_seg.npy",), "what cellpose keeps for itself", "let it save the masks as PNG or TIFF"),
)
WAY = "save other images as TIFF, in Fiji for example, and volumes of patients as NIfTI"
FRACTIONS = ("_probabilities", "_uncertainty")  # endings of results that are no labels
RESULTS = ("_mask", "_instances", *FRACTIONS, "_seg", "_rois")  # of all results' names
NO_LABELS = (*FRACTIONS, "_flows")  # the last is what cellpose learns from


def image_files(images: str | Path) -> list[Path]:
    """Image files of a folder, in the order of their names, or the one file.

    A folder of DICOM files is one image, wherever it lies: a folder may hold such folders and
    files. Hidden files are passed over: `._a.tif` holds what macOS knows of `a.tif`. So is what
    cellpose pickles beside its masks, `a_seg.npy`. What was predicted into a folder of DICOM files
    is listed beside it.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: a folder without images, or of DICOM files and images of other formats.
    """
    path = Path(images)
    if not path.exists() and not path.is_symlink():  # a link without target fails when it is read
        raise FileNotFoundError(f"{path} does not exist")
    found = format_at(path)
    if path.suffix.lower() == ".json":
        raise ValueError(
            f"{path} is JSON, and labels are images: a data list is named by --images alone; of "
            "COCO's outlines make label images first"
        )
    if path.is_file() and found is None and not is_dicom(path):
        raise ValueError(
            f"{path} has no suffix of an image ({' '.join(SUFFIXES)}), nor of a data list (.json): "
            f"{WAY}"
        )
    if not path.is_dir() or (found and found.is_folder):  # a folder that is one image
        return [path]
    return _images_in(path)


def without_results(files: Sequence[Path], folder: Path) -> list[Path]:
    """Leave out labels and results: those of the other files, or of `record.json`'s.

    Raises:
        ValueError: nothing else is there.
    """
    left = without_labels(files, others=predicted_in(folder))
    if not left:
        raise ValueError(f"folder {folder} holds results of a prediction, and no images")
    return left


def without_labels(files: Sequence[Path], others: Sequence[str] = ()) -> list[Path]:
    """Leave out what is named after another file, or after one of `others`, as label or result.

    And what differs from another file in one word, `volume-1` and `segmentation-1`.
    """
    names = {file: same_name(stem(file)) for file in files}
    cases = {split[0] for name in names.values() if (split := channel_of(name))}
    known = {*names.values(), *cases, *map(same_name, others)}
    images = {part for name in names.values() for part in parts_of(name, IMAGE_WORDS)}
    return [
        file
        for file in files
        if known.isdisjoint(bases_of(names[file]))
        and images.isdisjoint(parts_of(names[file], LABEL_WORDS))
    ]


def bases_of(name: str) -> list[str]:
    """Names of which this may be that of a label or a result."""
    bases = [name.removesuffix(end) for end in (*RESULTS, *NO_LABELS) if name.endswith(end)]
    own = (label_base(each) for each in (name, re.sub(f"{ANOTHER}$", "", name)))
    return [*bases, *filter(None, own)]


def results_in(folder: Path) -> dict[str, list[Path]]:
    """What may be results in a folder, files and folders that are one image, by their stem."""
    found: dict[str, list[Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if format_of(path) or path.suffix.lower() in OTHER_SUFFIXES:
            found.setdefault(same_name(stem(path)), []).append(path)
    return found


def _images_in(folder: Path) -> list[Path]:
    there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in there if _is_image(path)]
    folders = [path for path in there if os.path.isdir(path) and format_at(path) is None]
    if (folder / RECORD).is_file():
        folders = [path for path in folders if path.name != KEPT]
    if part := _slice_among(there, beside_images=bool(files)):
        _refuse_mixture(folder, part, files)
        images = [folder]
    else:
        images = [path for path in folders if holds_dicom(path)]
    if not files and not images:
        raise ValueError(_without_images(folder, folders))
    left = [path for path in folders if path not in set(images)]
    if left and not (folder / RECORD).is_file():  # in which folders are no cases
        _say_passed_over(folder, len(left), left[0].name)
    return sorted([*files, *images])


def _has_images(folder: Path) -> bool:
    return any(_is_image(path) for path in folder.iterdir() if path.name[0] != ".")


def _is_image(file: Path) -> bool:
    found = format_at(file)
    if found is None or file.name.lower().endswith(DICOM):
        return False
    if file.name.lower().endswith("_seg.npy") and os.path.isfile(file) and holds_objects(file):
        return False
    return found.is_folder or not os.path.isdir(file)  # a file that cannot be looked at is one


def _slice_among(paths: Sequence[Path], *, beside_images: bool) -> Path | None:
    """The first DICOM file that is no result and no DICOM SEG.

    Beside images, where there may be thousands of other files, only what is called as a slice is
    opened, by its suffix or none.
    """
    for path in paths:
        ending = path.suffix.lower()
        called = ending in (*DICOM, "") or ending[1:].isdigit()  # 1.2.840.7
        if (beside_images and not called) or stem(path).endswith(RESULTS):
            continue
        with suppress(OSError):  # nothing is known of it
            if is_dicom(path) and not is_seg(path):
                return path
    return None


def _refuse_mixture(folder: Path, part: Path, files: Sequence[Path]) -> None:
    """Refuse a DICOM series beside images of other formats, of which either may be meant."""
    others = without_labels(files, others=[folder.name, *predicted_in(folder)])
    if others:
        raise ValueError(
            f"folder {folder} holds DICOM files, such as {part.name}, beside {others[0].name}: "
            "keep the series in a folder of its own, or name the one file"
        )


def _without_images(folder: Path, folders: Sequence[Path]) -> str:
    """What is wrong with a folder without images of its own."""
    for inner in folders:
        with suppress(OSError):
            if _has_images(inner):
                return (
                    f"folder {folder} holds no images of its own, but folders, such as "
                    f"{inner.name}: name one, {inner} (`predict` takes several, `train` the one of "
                    "the labels as --labels), or list the pairs in a data list"
                )
    for inner in folders:
        with suppress(OSError):
            if deep := [p for p in sorted(inner.iterdir()) if p.is_dir() and _has_images(p)]:
                return (
                    f"folder {folder} holds no images of its own, but folders of folders, such as "
                    f"{inner.name}/{deep[0].name}: put the images into one folder, and a label of "
                    "each into another, or list the pairs in a data list"
                )
    for path in sorted(folder.iterdir()):
        with suppress(OSError):
            if is_seg(path):
                return f"folder {folder} holds no images, but DICOM SEG, {path.name}: {TO_LABELS}"
    if other := other_than_labels(folder):
        return f"folder {folder} holds no images, but {other}"
    there = sorted(path.name for path in folder.iterdir())
    kinds = sorted({Path(name).suffix for name in there if name[0] != "."} - {""})
    but = f", but {' '.join(kinds)}: {WAY}" if kinds else ""
    return f"folder {folder} holds no images ({' '.join(SUFFIXES)}){but}"


def other_than_labels(folder: Path) -> str:
    """What programs left in a folder in place of label images, and what to do; empty: nothing."""
    there = sorted(path.name for path in folder.iterdir())
    for endings, what, way in OTHERS:
        if found := [name for name in there if name.lower().endswith(endings)]:
            return f"{what}, such as {found[0]}: {way}"
    return ""


@cache
def _say_passed_over(folder: Path, count: int, name: str) -> None:
    """Say that folders among images are taken for none; once, however often they are listed."""
    logging.getLogger(__name__).warning(
        "%s: %d folder(s) in it are passed over, such as %s", folder, count, name
    )


def predicted_in(folder: Path) -> list[str]:
    """Names of the images whose results lie in a folder."""
    try:
        return list(read_json(folder / RECORD)["images"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or of somebody else
        return []
