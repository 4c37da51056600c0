"""Which images of an earlier training a later one learns from as well, and where they lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unet_med.data.cases import files_of
from unet_med.data.checksum import sha256
from unet_med.planning.folders import folder_above
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
    """A plan that replays what the source learned from or replayed itself, where that is at hand.

    The images that the source had held out stay so. Every other tile is of an old image, however
    many there are.

    Args:
        plan: of the new training.
        source: the bundle that it starts from.
        places: folders in which the names that the source's plan keeps may lie. What it learned
            from may lie in one, and what it replayed in another.

    Returns:
        The plan, and the place, in which its names are; None, where nothing is replayed, for which
        the plan has a reason.
    """
    parts, reason = _parts(plan, source)
    places = [*places]
    lie = [place_of(chosen, places) if chosen else None for _, chosen in parts]
    place, entries = _together(lie, [chosen for _, chosen in parts])
    if place is None:
        about = reason or f"the images of {source.name} are not at hand (--replay says where)"
        return replace(plan, source={**plan.source, "replay": f"not replayed: {about}"}), None
    counts = [len(each) for each in entries]
    about = _in_words(source.name, counts, [len(every) for every, _ in parts])
    ids = {**plan.ids, "replay_file": Decision(IN_BUNDLE, about)}
    replayed = tuple(entry for each in entries for entry in each)
    return replace(plan, ids=ids, replay=replayed, source={**plan.source, "replay": about}), place


def place_of(entries: Sequence[Entry], places: Iterable[Path]) -> Path | None:
    """The first folder that holds all images of a replay, unchanged; None: none does.

    Folders above two of the places are looked into last: names of a replay that came from two
    are relative to these.
    """
    places = [*places]
    pairs = (folder_above([one, other]) for one in places for other in places if one != other)
    each = dict.fromkeys([*places, *(folder for folder in pairs if folder is not None)])
    return next((place for place in each if all(_is_there(e, place) for e in entries)), None)


def _parts(plan: Plan, source: Source) -> tuple[list[tuple[list[Entry], list[Entry]]], str]:
    """What the source learned from, and what it replayed, with those to replay; or why nothing."""
    if reason := _unlike(plan, source):
        return [], reason
    assert source.plan is not None
    known = {case.image.sha256 for case in plan.data.cases}
    own, earlier = (
        [entry for entry in each if entry["sha256"]["image"] not in known]
        for each in (source.plan.split.get("training", []), source.plan.replay)
    )
    if not (listed := [*own, *earlier]):
        return [], f"{source.name} names no other images"
    most = max(MOST, len(plan.data.cases))
    step = max(1.0, len(listed) / most)
    chosen = [int(k * step) for k in range(min(most, len(listed)))]
    return [
        (own, [own[k] for k in chosen if k < len(own)]),
        (earlier, [earlier[k - len(own)] for k in chosen if k >= len(own)]),
    ], ""


def _unlike(plan: Plan, source: Source) -> str:
    """Why one bundle cannot read the images of another; empty where it can."""
    old = source.plan
    if old is None:
        return f"{source.name} has no plan, which would name its images"
    if dict(old.data.reader) != dict(plan.data.reader):
        return f"{source.name} read its images in another way"
    own = {id: source.ids.get(id) for id in ALIKE}
    own["unknown"] = old.ids["unknown"].value if "unknown" in old.ids else None  # of labels alone
    for id in ALIKE:
        if _plain(own[id], id) != _plain(plan.value(id), id):
            return f"{id} is {plan.value(id)}, and that of {source.name} {own[id]}"
    return ""


def _together(
    places: Sequence[Path | None], parts: Sequence[list[Entry]]
) -> tuple[Path | None, list[list[Entry]]]:
    """One place for what lies in several, with names from there; parts that have none are empty."""
    found = [place for place in places if place is not None]
    if not found:
        return None, []
    first = found[0]
    above = first if all(place == first for place in found) else folder_above([first, found[-1]])
    if above is None:  # such as two disks
        return first, [
            part if place == first else [] for place, part in zip(places, parts, strict=True)
        ]
    return above, [
        [] if place is None else [_from(above, place, entry) for entry in part]
        for place, part in zip(places, parts, strict=True)
    ]


def _from(folder: Path, place: Path, entry: Entry) -> Entry:
    """An entry with names relative to a folder above its place."""
    if folder == place:
        return entry
    inner = Path(os.path.abspath(place)).relative_to(folder)
    files = [(inner / file).as_posix() for file in files_of(entry["image"])]
    image = files[0] if isinstance(entry["image"], str) else files
    return {**entry, "image": image, "label": (inner / entry["label"]).as_posix()}


def _in_words(name: str, counts: Sequence[int], listed: Sequence[int]) -> str:
    """What is replayed, and what no longer is.

    Args:
        name: of the source.
        counts: images to replay, that it learned from, and that it replayed.
        listed: how many it names of either.
    """
    what = f"{counts[0]} image(s) of {name}", f"{counts[1]} that it replayed"
    if not counts[0]:
        what = what[0], f"{counts[1]} image(s) that {name} replayed"
    text = " and ".join(each for each, count in zip(what, counts, strict=True) if count)
    text += ", in every other tile"
    did = ("learned from", "replayed")
    lost = [f"{n} that it {how}" for n, count, how in zip(listed, counts, did, strict=True)
            if n and not count]  # fmt: skip
    if lost:
        text += f"; {lost[0]} are left out: no folder at hand holds them too (--replay says where)"
    return text


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
