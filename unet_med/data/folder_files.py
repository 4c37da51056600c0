"""Images in a folder: what people put there, without what systems and this package leave."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from unet_med.data.cases import same_name
from unet_med.data.channels import channel_of
from unet_med.data.dicom_files import holds_dicom, is_dicom
from unet_med.data.formats import DICOM, SUFFIXES, format_at, format_of, stem
from unet_med.data.npy_files import holds_objects
from unet_med.data.pairing import label_base

RECORD = "record.json"  # what a prediction leaves beside its results
OTHER_SUFFIXES = (".dcm", ".zip", ".geojson")  # of results that are no images
FRACTIONS = ("_probabilities", "_uncertainty")  # endings of results that are no labels
RESULTS = ("_mask", "_instances", *FRACTIONS, "_seg", "_rois")  # of all results' names


def image_files(images: str | Path) -> list[Path]:
    """Image files of a folder, in the order of their names, or the one file.

    A folder of DICOM files alone is one image, and a folder of such folders holds one each.
    Hidden files are passed over: `._a.tif` holds what macOS knows of `a.tif`. So is what cellpose
    pickles beside its masks, `a_seg.npy`.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: a folder without images.
    """
    path = Path(images)
    if not path.exists() and not path.is_symlink():  # a link without target fails when it is read
        raise FileNotFoundError(f"{path} does not exist")
    found = format_at(path)
    if path.is_file() and found is None and not is_dicom(path):
        raise ValueError(
            f"{path} has no suffix of an image ({' '.join(SUFFIXES)}), nor of a data list (.json)"
        )
    if not path.is_dir() or (found and found.is_folder):  # a folder that is one image
        return [path]
    files = sorted(file for file in path.iterdir() if _is_image(file))
    if not files and holds_dicom(path):
        return [path]
    files = files or sorted(each for each in path.iterdir() if holds_dicom(each))
    if not files:
        raise ValueError(f"folder {path} holds no images ({' '.join(SUFFIXES)})")
    return files


def without_results(files: Sequence[Path], folder: Path) -> list[Path]:
    """Leave out labels and results: those of the other files, or of `record.json`'s.

    Raises:
        ValueError: nothing else is there.
    """
    left = without_labels(files, others=_predicted(folder))
    if not left:
        raise ValueError(f"folder {folder} holds results of a prediction, and no images")
    return left


def without_labels(files: Sequence[Path], others: Sequence[str] = ()) -> list[Path]:
    """Leave out what is named after another file, or after one of `others`, as label or result."""
    names = {file: same_name(stem(file)) for file in files}
    cases = {split[0] for name in names.values() if (split := channel_of(name))}
    known = {*names.values(), *cases, *map(same_name, others)}
    return [file for file in files if known.isdisjoint(_bases(names[file]))]


def _bases(name: str) -> list[str]:
    """Names of which this may be that of a label or a result."""
    bases = [name.removesuffix(end) for end in RESULTS if name.endswith(end)]
    return [*bases, base] if (base := label_base(name)) else bases


def results_in(folder: Path) -> dict[str, list[Path]]:
    """What may be results in a folder, files and folders that are one image, by their stem."""
    found: dict[str, list[Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if format_of(path) or path.suffix.lower() in OTHER_SUFFIXES:
            found.setdefault(same_name(stem(path)), []).append(path)
    return found


def _is_image(file: Path) -> bool:
    name, found = file.name.lower(), format_at(file)
    if name.startswith(".") or found is None or name.endswith(DICOM):
        return False
    if name.endswith("_seg.npy") and file.is_file() and holds_objects(file):
        return False
    return not file.is_dir() or found.is_folder


def _predicted(folder: Path) -> list[str]:
    """Names of the images whose results lie in a folder."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return list(record["images"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or of somebody else
        return []
