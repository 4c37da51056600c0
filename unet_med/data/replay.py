"""Pairs of an earlier training that a later one learns from as well, lest it forget."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_med.data.atomic import read_json
from unet_med.data.cases import files_of
from unet_med.data.datalist import split_stacks
from unet_med.data.entries import Item
from unet_med.data.split_file import names_plane

if TYPE_CHECKING:
    from unet_med.data.file_reader import FileReader


def replayed_pairs(
    file: str | Path | None,
    folder: str | Path | None,
    *,
    stacks: bool = False,
    reader: FileReader | None = None,
    orientation: str | None = None,
) -> list[Item]:
    """Items of a data list as `find_pairs` gives them, of the names that a bundle keeps.

    Args:
        file: `configs/replay.json` of the bundle, `[{"image": ..., "label": ...}, ...]`, of a
            stack of which a part was learned `slices`, `[first, stop]`; None: there is nothing.
        folder: that the names are relative to; None: it is not at hand, which is said.
        stacks: one item a plane of a volume.
        reader: counts those planes.
        orientation: in which they are counted; None: in the file's own.

    Raises:
        FileNotFoundError: an image or a label is not in the folder.
    """
    entries = [] if file is None else read_json(file)
    if not entries:
        return []
    if folder is None:
        logging.getLogger(__name__).warning(
            "%d image(s) of the training before are not replayed: say where they are (replay_dir)",
            len(entries),
        )
        return []
    found: list[Item] = []
    for entry in entries:
        items = [_item(entry, Path(folder))]
        items = split_stacks(items, reader, orientation) if stacks else items
        found += [item for item in items if names_plane(entry, item.get("slice"))]
    return found


def _item(entry: Mapping[str, Any], folder: Path) -> Item:
    files = [str(folder / name) for name in files_of(entry["image"])]
    label = str(folder / entry["label"])
    for path in (*files, label):
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}, which is to be replayed, does not exist")
    return {"image": files[0] if len(files) == 1 else files, "label": label}
