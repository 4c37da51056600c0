"""Which images are held out, as a bundle keeps it: names and hashes, in `configs/split.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unet_med.data.cases import files_of
from unet_med.data.checksum import sha256
from unet_med.data.entries import Item
from unet_med.data.splits import groups_of, parts_of, split_validation
from unet_med.planning.copies import about_copies, about_subjects, kept_together, units_of
from unet_med.planning.fingerprints import Case, Fingerprint
from unet_med.planning.held_objects import NONE, holds_object, with_objects
from unet_med.planning.labels import about_untaught
from unet_med.planning.learned import Learned
from unet_med.planning.plan import Decision, Decisions

IN_BUNDLE = "$@bundle_root + '/configs/split.json'"
OWN = ("pairs", "split")  # ids that an override file may replace: then nothing is known here

Split = dict[str, Any]


def decide_split(
    found: Fingerprint,
    ids: Mapping[str, Any],
    asked: Mapping[str, Any],
    file: str | None = None,
    *,
    begun: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Split, Decisions, int | None]:
    """What `configs/split.json` holds, and the ids that say so.

    Args:
        found: what the files say.
        ids: what was decided besides, by id.
        asked: what the user chose, by id.
        file: the user's own split, if any.
        begun: what the training starts from, as `Source.described` has it: what that held out
            stays held out, and what it has learned from is not held out, unless somebody says so.

    Returns:
        `{"fold": ..., "group": ..., "from": ..., "training": [...], "validation": [...]}`, where
        an image has its names and hashes; of a stack that is on both sides `slices`, which are
        `[first, stop]`; `"seen": True` where all are learned from. Empty where an override file
        splits in a way of its own. And how many images are held out that do not train; None:
        nothing is known.

    Raises:
        ValueError: as `split_validation`, or a share that has no effect.
    """
    fold = ids.get("fold", ids.get("split::fold"))
    own = _splits_itself(ids)
    _refuse_idle(asked, fold, file, own=own)
    if own:
        return {}, {}, None
    items = items_of(found.cases, planes=bool(ids["slice_stacks"]), kind=ids["label_kind"])
    options = {"fold": fold, "group": ids.get("group"), "file": file}
    if file is None and found.held_out is None:
        items, options["group"] = kept_together(items, found.cases, options["group"])
    sides = split_validation(items, ids["validation_fraction"], **options)
    known = Known(Learned.of(begun), found.cases)
    if fold is None and file is None and found.held_out is None:
        sides = _as_known(sides, known, options["group"])
        if not begun:
            units = parts_of(items, options["group"])
            sides = with_objects(sides, units, found.cases, ids["label_kind"])
    split: Split = {
        "fold": fold,
        "group": ids.get("group"),
        "from": origin_of(file),
        **sides_of(*sides, found.cases),
    }
    how = _in_words(sides, len(items), found, split)
    if len(items) > 1 and known.has(sides[0]) and {*map(id, sides[1])} <= {*map(id, sides[0])}:
        split["seen"] = True
        how = _about_seen(sides, known, begun["name"])
    how += about_copies([sides], found.cases) + about_subjects([sides])
    if blank := sum(len(case.blank_planes(ids["label_kind"])) for case in found.cases):
        how += f"; {blank} planes that nobody annotated are left out" * bool(ids["slice_stacks"])
    how += about_untaught({item["case"] for item in sides[0]}, found.cases, ids["label_kind"])
    learned = {id(item) for item in sides[0]}
    held = [item for item in sides[1] if id(item) not in learned]
    how += _about_held(held, known, begun)
    how += NONE * (bool(held) and not holds_object(held, found.cases))
    decided = {"split_file": Decision(IN_BUNDLE, how)}
    if taught := len(known.has(held)):
        why = f"{begun['name']} has learned from {taught} of the held-out images: they fit it alone"
        decided["fit"] = Decision(False, why)
    return split, decided, _count(held, found.cases, ids.get("group"))


def _splits_itself(ids: Mapping[str, Any]) -> bool:
    """Whether an override file splits in a way of its own."""
    others = [id for id in ids if id != "split::fold"]
    return any(id in ids or any(each.startswith(f"{id}::") for each in others) for id in OWN)


def _refuse_idle(
    asked: Mapping[str, Any], fold: int | str | None, file: str | None, *, own: bool
) -> None:
    """Refuse what has no effect on what is held out.

    Raises:
        ValueError: names the options.
    """
    if own:
        if file is not None or any(asked.get(id) is not None for id in ("fold", "group")):
            raise ValueError(
                "--split, --fold and --group have no effect where an override file sets `pairs` "
                "or `split`: leave them out"
            )
    elif "validation_fraction" in asked and (fold is not None or file is not None):
        how = "--split" if file is not None else f"--fold {fold}"
        raise ValueError(
            f"{how} says what is held out, so --validation has no effect: leave it out"
        )


def _count(held: Sequence[Item], cases: Sequence[Case], group: str | None) -> int:
    """How many images are held out, copies and a group being one; planes of a single file."""
    if len({item["case"] for item in held}) < 2:
        return len(held)
    return len(set(units_of(held, cases, group)))


def items_of(cases: Sequence[Case], *, planes: bool, kind: str) -> list[Item]:
    """As `unet_med.data.find_pairs` gives them, by the names that the bundle keeps.

    Planes of which labels of this kind know nothing are left out.
    """
    items = []
    for k, case in enumerate(cases):
        item = {"image": case.image.name, "label": case.label.name, **case.listed, "case": k}
        count = case.image.plane_count if planes else 1
        known = sorted({*range(count)} - case.blank_planes(kind))
        items += [item] if count == 1 else [{**item, "slice": z} for z in known]
    return items


def origin_of(file: str | None) -> dict[str, str] | None:
    """What a plan keeps of the file that says what is held out."""
    return None if file is None else {"name": Path(file).name, "sha256": sha256(file)}


def sides_of(
    training: Sequence[Item], held: Sequence[Item], cases: Sequence[Case]
) -> dict[str, list[dict[str, Any]]]:
    """Both sides of a split, as files of a bundle have them."""
    return {"training": _entries(training, cases), "validation": _entries(held, cases)}


def _entries(items: Sequence[Item], cases: Sequence[Case]) -> list[dict[str, Any]]:
    """An entry an image, in order; of a stack that is in pieces, one a piece."""
    planes: dict[int, list[int]] = {}
    images: dict[int, Any] = {}
    for item in items:
        images[item["case"]] = item["image"]
        planes.setdefault(item["case"], []).extend([item["slice"]] if "slice" in item else [])
    return [
        _entry(cases[k], image, piece)
        for k, image in images.items()
        for piece in _pieces(planes[k]) or [[]]
    ]


def _pieces(planes: Sequence[int]) -> list[list[int]]:
    """Planes that follow one another: a block in the middle leaves two pieces.

    >>> _pieces([0, 1, 4, 5])
    [[0, 1], [4, 5]]
    """
    pieces: list[list[int]] = []
    for plane in planes:
        if not pieces or plane != pieces[-1][-1] + 1:
            pieces.append([])
        pieces[-1].append(plane)
    return pieces


def _entry(case: Case, image: Any, planes: Sequence[int]) -> dict[str, Any]:
    part = planes and len(planes) < case.image.plane_count
    return {
        "image": image,
        "label": case.label.name,
        **({"slices": [planes[0], planes[-1] + 1]} if part else {}),
        "sha256": {"image": case.image.sha256, "label": case.label.sha256},
    }


@dataclass(frozen=True)
class Known:
    """Which items the weights know that a training starts from."""

    learned: Learned
    cases: Sequence[Case]

    def has(self, items: Sequence[Item]) -> list[Item]:
        """Those that they have learned from."""
        return [item for item in items if self.learned.has(*self._of(item))]

    def held(self, items: Sequence[Item]) -> list[Item]:
        """Those that were held out from them."""
        return [item for item in items if self.learned.held(*self._of(item))]

    def _of(self, item: Item) -> tuple[str, int | None]:
        return self.cases[item["case"]].image.sha256, item.get("slice")


def _as_known(
    sides: tuple[list[Item], list[Item]], known: Known, group: str | None
) -> tuple[list[Item], list[Item]]:
    """What an earlier training held out stays so, and new images make up the share.

    A score of images that the weights know would say nothing, and an image that was just corrected
    has the most to teach: it is learned from unless there are several new ones. Where nothing is
    left to hold out all is learned from.

    Args:
        sides: as they would be without that training.
        known: by it.
        group: see `split_validation`.
    """
    items = sorted(
        {id(item): item for side in sides for item in side}.values(),
        key=lambda item: (item["case"], item.get("slice", 0)),
    )
    units, wanted = parts_of(items, group), len(parts_of(sides[1], group))
    fresh = [unit for unit in units if not known.has(unit)]
    kept = [unit for unit in fresh if known.held(unit)]
    new = [unit for unit in fresh if not known.held(unit)]
    if len(units) in (len(new), len(kept)):
        return sides
    more = min(wanted - len(kept), len(new) // 2)
    if more > 0:
        share = more / len(new)
        kept += groups_of(split_validation([*chain(*new)], share, group=group)[1], group)
    apart = {id(item) for unit in kept for item in unit}
    if not apart:
        return items, sides[1]
    return (
        [item for item in items if id(item) not in apart],
        [item for item in items if id(item) in apart],
    )


def _about_seen(sides: tuple[list[Item], list[Item]], known: Known, name: str) -> str:
    what = "planes" if "slice" in sides[0][0] else "images"
    new = len(sides[0]) - len(known.has(sides[0]))
    but = f"all but {new}" if new else "all"
    return (
        f"all {len(sides[0])} {what} are learned from: {name} has learned from {but} of them, and "
        "a score of these says nothing of other images, so score those with unet-med evaluate"
    )


def _about_held(held: Sequence[Item], known: Known, begun: Mapping[str, Any]) -> str:
    """What is to be known of held-out images, and of the weights that the training starts from."""
    text, name = "", begun.get("name")
    if kept := len(known.held(held)):
        text += f"; {kept} of them as {name} did"
    if taught := len(known.has(held)):
        text += f"; {name} has learned from {taught} of them, so their score flatters"
    if held and begun.get("seen", 0) is None:
        text += f"; {name} does not say what it has learned from: if these, their score flatters"
    return text


def _in_words(
    sides: tuple[list[Item], list[Item]], count: int, found: Fingerprint, split: Split
) -> str:
    training, held = sides
    what = "planes" if "slice" in held[0] else "images"
    if training == held:
        return (
            "the only image is validated on itself: its score says nothing of other images, so "
            "score those with unet-med evaluate"
        )
    text = f"{len(held)} of {count} {what} held out"
    if left := count - len(training) - len(held):
        text += f", {left} left out"
    if split["from"]:
        text += f" by {split['from']['name']}"
    elif found.held_out is not None:
        text += " by the data list"
    elif len({str(files_of(item["image"])) for item in [*training, *held]}) == 1:
        text += ", one block of the stack"
    text += f", fold {split['fold']}" if split["fold"] is not None else ""
    return text + (f", groups by {split['group']} on one side each" if split["group"] else "")
