"""Which images of an earlier training a later one learns from as well, and where they lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unet_med.data.cases import files_of
from unet_med.data.checksum import sha256
from unet_med.planning.plan import Decision, Plan
from unet_med.planning.source import Source

IN_BUNDLE = "$@bundle_root + '/configs/replay.json'"
MOST = 64  # images; more than there are new ones, and than these, take time to load
ALIKE = (  # one bundle reads all of its images in one way
    *("label_kind", "class_values", "unknown", "orientation"),
    *("element_size", "element_unit", "scale", "intensity"),
)

Entry = Mapping[str, Any]


def with_replay(plan: Plan, source: Source, places: Iterable[Path]) -> tuple[Plan, Path | None]:
    """A plan that replays what the source was trained on, where that is at hand.

    The images that the source had held out stay so. Every other tile is of an old image, however
    many there are.

    Args:
        plan: of the new training.
        source: the bundle that it starts from.
        places: folders in which the names that the source's plan keeps may lie.

    Returns:
        The plan, and the place; None, where nothing is replayed, for which the plan has a reason.
    """
    entries, reason = _entries(plan, source)
    place = place_of(entries, places) if entries else None
    if place is None:
        about = reason or f"the images of {source.name} are not at hand (--replay says where)"
        return replace(plan, source={**plan.source, "replay": f"not replayed: {about}"}), None
    about = f"{len(entries)} image(s) of {source.name}, in every other tile"
    ids = {**plan.ids, "replay_file": Decision(IN_BUNDLE, about)}
    return replace(
        plan, ids=ids, replay=tuple(entries), source={**plan.source, "replay": about}
    ), place


def place_of(entries: Sequence[Entry], places: Iterable[Path]) -> Path | None:
    """The first folder that holds all images of a replay, unchanged; None: none does."""
    return next((place for place in places if all(_is_there(e, place) for e in entries)), None)


def _entries(plan: Plan, source: Source) -> tuple[list[Entry], str]:
    """What can be replayed, or why nothing can."""
    old = source.plan
    if old is None:
        return [], f"{source.name} has no plan, which would name its images"
    if dict(old.data.reader) != dict(plan.data.reader):
        return [], f"{source.name} read its images in another way"
    own = {id: source.ids.get(id) for id in ALIKE}
    own["unknown"] = old.ids["unknown"].value if "unknown" in old.ids else None  # of labels alone
    for id in ALIKE:
        if _plain(own[id], id) != _plain(plan.value(id), id):
            return [], f"{id} is {plan.value(id)}, and that of {source.name} {own[id]}"
    known = {case.image.sha256 for case in plan.data.cases}
    listed = [e for e in old.split.get("training", []) if e["sha256"]["image"] not in known]
    if not listed:
        return [], f"{source.name} names no other images"
    most = max(MOST, len(plan.data.cases))
    step = max(1.0, len(listed) / most)
    return [listed[int(k * step)] for k in range(min(most, len(listed)))], ""


def _plain(value: Any, id: str) -> Any:
    """A value under which configs that act alike are equal: a scale of 1 is none."""
    return None if id == "scale" and value == 1 else value


def _is_there(entry: Entry, place: Path) -> bool:
    for part in ("image", "label"):
        files = [place / name for name in files_of(entry[part])]
        if not all(file.exists() for file in files):
            return False
        if sha256([str(file) for file in files]) != entry["sha256"][part]:
            return False
    return True


__all__ = ["place_of", "with_replay"]
