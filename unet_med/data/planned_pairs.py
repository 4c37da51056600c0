"""The pairs that a bundle was planned for, by the names in its plan, where their files are not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from unet_med.data.atomic import read_json
from unet_med.data.cases import files_of
from unet_med.data.entries import Item
from unet_med.data.orientation import turn_between


def pairs_of_plan(
    images: str | Path, plan: str | Path, *, stacks: bool = False, orientation: str | None = None
) -> list[Item]:
    """Items of a data list as `find_pairs` would give them; nothing of them needs to be there.

    Args:
        images: where the images would be: what the plan calls them, in any folder.
        plan: `configs/plan.json` of a bundle.
        stacks: one item a plane of a volume.
        orientation: in which planes are counted; None: in the file's own.

    Returns:
        The items; none where there is no plan, or `images` is not what it calls them.
    """
    if not Path(plan).is_file():
        return []
    data = read_json(plan).get("data", {})
    parts, own = PurePath(images).parts, PurePath(data.get("images", "")).parts
    if not own or parts[-len(own) :] != own:
        return []
    folder = Path(*parts[: -len(own)])
    items: list[Item] = []
    for case in data.get("cases", ()):
        files = [str(folder / name) for name in files_in_plan(case)]
        item = {
            **case.get("listed", {}),
            "image": files[0] if len(files) == 1 else files,
            "label": str(folder / case["label"]["name"]),
        }
        planes = _planes(case["image"], orientation) if stacks else 1
        items += [item] if planes == 1 else [{**item, "slice": k} for k in range(planes)]
    return items


def files_in_plan(case: Mapping[str, Any]) -> list[str]:
    """Names of the files of an image in a plan; that of a single one may hold a comma."""
    return files_of(case.get("listed", {}).get("image", case["image"]["name"]))


def _planes(image: Mapping[str, Any], orientation: str | None) -> int:
    """Planes of an image as the plan keeps it."""
    shape, own = image["shape"], image["orientation"]
    if orientation is not None and own is not None:
        shape = turn_between(own, shape, orientation).sides(shape)
    return int((*shape, 1)[2])
