"""Data lists in JSON: MONAI's, those of the Medical Segmentation Decathlon, and nnU-Net's."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_med.data.atomic import read_json
from unet_med.data.cases import Case, files_of
from unet_med.data.channels import channel_cases, require_complete
from unet_med.data.entries import Item
from unet_med.data.folder_files import image_files
from unet_med.data.formats import stem
from unet_med.data.pairing import pair_by_name

SECTIONS = {
    "training": ("training", "train"),
    "validation": ("validation", "val"),
    "test": ("test", "testing"),
}


def facts_in(path: Path) -> dict[str, Any]:
    """What a list says by name; nothing where there is none, or it is broken.

    That is refused where its items are read.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def declared_count(path: Path) -> int | None:
    """`numTraining` of the lists of the Decathlon and of nnU-Net; None where there is none."""
    count = facts_in(path).get("numTraining")
    return count if isinstance(count, int) else None


def is_list(path: Any) -> bool:
    """Whether a path names a data list."""
    return isinstance(path, str | Path) and Path(path).suffix.lower() == ".json"


def list_of(place: Path) -> Path:
    """A data list itself, or the `dataset.json` beside a folder of images or labels.

    There nnU-Net and the Decathlon name classes; whether it is there, nobody has looked.
    """
    if is_list(place):
        return place
    folder = place if place.is_dir() else place.parent
    return folder.absolute().parent / "dataset.json"


def read_list(path: Path) -> dict[str, list[Item]]:
    """The sections of a data list, of `training`, `validation` and `test`, that have items.

    A list without sections is `training`. Files are relative to the list's folder.

    Returns:
        By section items `{"image": files, "label": file}`, with what else the list says of them;
        an image of several files is a list of them, its channels.

    Raises:
        FileNotFoundError: the list is missing.
        ValueError: it is no JSON, or holds no items; names it.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    content = read_json(path)
    sections = _sections(content) or _of_folders(path.parent, content)
    found: dict[str, list[Item]] = {
        name: [_item(entry, path) for entry in entries] for name, entries in sections.items()
    }
    if not any(found.values()):
        if isinstance(content, dict) and "annotations" in content:
            raise ValueError(
                f"{path} is no data list, but holds outlines as COCO does: make label images of "
                "them, and name these with --labels"
            )
        raise ValueError(
            f"data list {path} holds no items under 'training', 'validation' or 'test', and is "
            "not nnU-Net's, with imagesTr beside it"
        )
    return {name: items for name, items in found.items() if items}


def _sections(content: Any) -> dict[str, list[Any]]:
    if isinstance(content, list):
        return {"training": content}
    if not isinstance(content, dict):
        return {}
    found = {name: section_of(content, name) for name in SECTIONS}
    return found if any(found.values()) else {}


def section_of(content: Mapping[str, Any], name: str) -> list[Any]:
    """A section of a list, or of a split, under any of its names; empty where there is none."""
    return next((content[key] for key in SECTIONS[name] if isinstance(content.get(key), list)), [])


def _item(entry: Any, path: Path) -> Item:
    item = dict(entry) if isinstance(entry, dict) else {"image": entry}
    if not item.get("label"):  # lists of tests leave it empty
        item.pop("label", None)
    for key in ("image", "label") if "label" in item else ("image",):
        files = item.get(key)
        names = [files] if isinstance(files, str) else files
        if not names or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ValueError(
                f"data list {path}: the {key} of {entry!r} is no file, nor a list of some"
            )
        found: Case = [_file(path.parent, name) for name in names]
        found = _with_channels(found[0]) if len(found) == 1 else found
        if key == "label" and not isinstance(found, str):
            raise ValueError(f"data list {path}: {entry!r} has {len(found)} labels: give one")
        item[key] = found
    return item


def _file(folder: Path, name: str) -> str:
    """A file that a list names, relative to its folder or absolute; Windows has backslashes."""
    file, plain = folder / name, folder / name.replace("\\", "/")
    return str(plain if plain.exists() and not file.exists() else file)


def _with_channels(file: str) -> Case:
    """The channels of an nnU-Net case that its list calls by the case's name."""
    path = Path(file)
    suffix = path.name[len(stem(path)) :]
    first = path.with_name(f"{stem(path)}_0000{suffix}")
    if path.exists() or not first.exists():
        return file
    pattern = f"{glob.escape(stem(path))}_[0-9][0-9][0-9][0-9]{suffix}"
    files = sorted(map(str, path.parent.glob(pattern)))
    return files[0] if len(files) == 1 else files


def _of_folders(folder: Path, content: Any) -> dict[str, list[Any]]:
    """nnU-Net's second `dataset.json` names channels; the files are in folders beside it."""
    if not isinstance(content, dict):
        return {}
    if isinstance(listed := content.get("dataset"), dict):
        entries = [entry for entry in listed.values() if isinstance(entry, dict)]
        return {"training": [{"image": e.get("images"), "label": e.get("label")} for e in entries]}
    channels = content.get("channel_names") or content.get("modality") or {}
    found = {
        name: _of_part(folder, part, len(channels))
        for name, part in (("training", "Tr"), ("test", "Ts"))
        if (folder / f"images{part}").is_dir()
    }
    return found if channels else {}


def _of_part(folder: Path, part: str, channels: int) -> list[Item]:
    files = [str(file.absolute()) for file in image_files(folder / f"images{part}")]
    cases = channel_cases(files)
    if cases:
        require_complete(cases, channels)
    if not (labels := folder / f"labels{part}").is_dir():
        images = cases.values() if cases else files
        return [{"image": files_of(image)} for image in images]
    found = pair_by_name(files, [str(file.absolute()) for file in image_files(labels)])
    return [{"image": files_of(image), "label": label} for image, label in found.pairs]
