"""Lists of images and labels: pairs by name, planes of stacks, training and validation.

A data list is MONAI's: one dictionary an item, `{"image": path, "label": path}`,
and `"slice": k` if a 2-D network reads one plane of a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_med.data.formats import SUFFIXES, format_of, stem

if TYPE_CHECKING:
    from unet_med.data.file_reader import FileReader

Item = dict[str, Any]


def find_images(
    images: str | Path | Sequence[str | Path],
    stacks: bool = False,
    *,
    reader: FileReader | None = None,
) -> list[Item]:
    """List images: of a folder, a file, a sequence of these, or a MONAI data list (JSON).

    Args:
        images: folder, image file, sequence of them, or a `.json` data list of MONAI.
        stacks: make one item of each plane of a multi-plane file (for 2-D networks).
        reader: counts those planes; `AutoReader` by default.

    Returns:
        Items `{"image": path}`, in the order of their names; with `stacks`
        `{"image": path, "slice": k}`.

    Raises:
        FileNotFoundError: a path is missing.
        ValueError: a folder without images.
    """
    if isinstance(images, (str, Path)) and Path(images).suffix == ".json":
        items = _read_json(Path(images))
    else:
        items = [{"image": str(path)} for path in _image_files(images)]
    return _split_stacks(items, reader) if stacks else items


def find_pairs(
    images: str | Path,
    labels: str | Path | None = None,
    stacks: bool = False,
    *,
    reader: FileReader | None = None,
) -> list[Item]:
    """Pair images with labels of the same name.

    Args:
        images: a folder, one file, or a MONAI data list (JSON) with `image` and `label`.
        labels: a folder with labels of matching names, or the one label file;
            not needed for a data list.
        stacks: make one item of each plane of a multi-plane file (for 2-D networks).
        reader: counts the planes of the images; `AutoReader` by default.

    Returns:
        Items `{"image": path, "label": path}`, in the order of their names.

    Raises:
        FileNotFoundError: a path is missing.
        ValueError: an image without a label, or two labels of one name; names the file.
    """
    items = find_images(images)
    if not all("label" in item for item in items):
        if labels is None:
            raise ValueError(f"{images} names no labels: give a folder of labels as well")
        _attach_labels(items, Path(labels), single=Path(images).is_file())
    return _split_stacks(items, reader) if stacks else items


def split_validation(items: Sequence[Item], fraction: float = 0.1) -> tuple[list[Item], list[Item]]:
    """Hold back an evenly spread share of the items for validation.

    Evenly spread, so that validation does not get neighbouring slices of one stack. A single
    item serves both training and validation.

    Args:
        items: all items, in order.
        fraction: share for validation, 0 to 1; at least one item is held back
            if there are two or more and the fraction is above 0.

    Returns:
        Items for training, items for validation.
    """
    if len(items) < 2 or fraction <= 0:
        return list(items), list(items)
    count = min(len(items) - 1, max(1, round(len(items) * fraction)))
    held = {int((k + 0.5) * len(items) / count) for k in range(count)}
    training = [item for k, item in enumerate(items) if k not in held]
    return training, [items[k] for k in sorted(held)]


def share_of(items: Sequence[Item], rank: int, ranks: int) -> list[Item]:
    """Share of one process in the validation: every `ranks`-th item.

    Together the shares are all items, each once, and MONAI's metrics gather the results. With
    fewer items than processes each process validates all of them: a process without items
    would stop, and the mean over equal copies is the same.

    Args:
        items: all items, in order.
        rank: number of this process, from 0 on.
        ranks: number of processes.
    """
    return list(items[rank::ranks] if len(items) >= ranks else items)


def _image_files(images: str | Path | Sequence[str | Path]) -> list[Path]:
    if not isinstance(images, (str, Path)):
        return [path for entry in images for path in _image_files(entry)]
    path = Path(images)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    found = format_of(path)
    if path.is_file() or (found and found.is_folder):  # a folder that is one image
        return [path]
    files = sorted(p for p in path.iterdir() if p.name.lower().endswith(SUFFIXES))
    if not files:
        raise ValueError(f"folder {path} holds no images ({' '.join(SUFFIXES)})")
    return files


def _read_json(path: Path) -> list[Item]:
    """MONAI's data list: a list of items, or its `training`/`testing` sections."""
    import json

    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        content = content.get("training") or content.get("testing") or content.get("test") or []
    items = [item if isinstance(item, dict) else {"image": item} for item in content]
    if not items:
        raise ValueError(f"data list {path} holds no items under 'training' or 'testing'")

    def absolute(entry: str) -> str:
        return str(path.parent / entry)  # an absolute entry stays as it is

    return [
        {k: absolute(v) if k in ("image", "label") else v for k, v in item.items()}
        for item in items
    ]


def _attach_labels(items: list[Item], labels: Path, *, single: bool) -> None:
    if single and labels.is_file():
        items[0]["label"] = str(labels)
        return
    by_stem: dict[str, Path] = {}
    for path in _image_files(labels):
        if stem(path) in by_stem:
            raise ValueError(f"two labels of one name: {by_stem[stem(path)]} and {path}")
        by_stem[stem(path)] = path
    for item in items:
        label = by_stem.get(stem(item["image"]))
        if label is None:
            name = Path(item["image"]).name
            raise ValueError(
                f"image {name} has no label of the same name in {labels}: "
                f"expected {stem(name)}{Path(name).suffix}, for example"
            )
        item["label"] = str(label)


def _split_stacks(items: Sequence[Item], reader: FileReader | None) -> list[Item]:
    """One item a plane; files of one plane stay as they are."""
    split: list[Item] = []
    for item in items:
        planes = _count_planes(item["image"], reader)
        split += [item] if planes == 1 else [{**item, "slice": k} for k in range(planes)]
    return split


def _count_planes(path: str, reader: FileReader | None) -> int:
    """Planes along the last spatial axis of a file, 1 for a 2-D image."""
    from unet_med.data.auto_reader import AutoReader

    volume = (reader or AutoReader()).open(Path(path), header_only=True)
    return (*volume.spatial_shape, 1)[2]  # (X, Y[, Z])
