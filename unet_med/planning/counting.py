"""What counts in the folds of a plan: images, or planes of the only stack, and which are alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from unet_med.data.cases import files_of
from unet_med.planning.copies import units_of
from unet_med.planning.learned import Learned
from unet_med.planning.plan import Plan
from unet_med.planning.splits import items_of

SIDES = ("training", "validation")

Entry = Mapping[str, Any]
Files = tuple[str, ...]  # of an image, as the plan names them


def what_counts(plan: Plan) -> str:
    """What is counted: `images`, or `planes` of the only file."""
    return "planes" if len({_files(entry) for entry in _entries(plan)}) == 1 else "images"


def count_in(plan: Plan, entries: Sequence[Entry]) -> int:
    """How many images, or planes of the only file, some entries of a split name."""
    if what_counts(plan) == "images":
        return len({_files(entry) for entry in entries})
    depth = _depths(plan)
    return len({plane for entry in entries for plane in _planes(entry, depth)})


def held_in(plan: Plan) -> list[list[Files]]:
    """What each fold holds out: the files of its images, those of a stack once a plane."""
    depth = _depths(plan) if plan.value("slice_stacks") else {}
    return [
        [_files(entry) for entry in split["validation"] for _ in _planes(entry, depth)]
        for split in plan.folds
    ]


def pixels_in(plan: Plan) -> dict[Files, int]:
    """How many pixels the network sees at once of each image: all, or those of a plane."""
    dims = plan.value("spatial_dims")
    return {_files(item): prod(case.image.shape[:dims]) for item, case in _items(plan)}


def learned_before(plan: Plan) -> int | None:
    """How many images the weights have learned from that all networks start with.

    None: they do not say. A plan holds none of these out, but plans of earlier versions did.
    """
    seen: int | None = plan.source.get("seen", 0)
    if not seen:
        return seen
    return Learned.of(plan.source).count(plan.split["training"])


def units_in(plan: Plan) -> dict[Files, int]:
    """A number for each image of the folds, or of the split, equal in a group and for copies."""
    names = {_files(entry) for entry in _entries(plan)}
    items = [item for item, _ in _items(plan) if _files(item) in names]
    units = units_of(items, plan.seen.cases, plan.split.get("group"))
    return {_files(item): unit for item, unit in zip(items, units, strict=True)}


def _depths(plan: Plan) -> dict[Files, int]:
    """Planes of each image."""
    return {_files(item): case.image.plane_count for item, case in _items(plan)}


def _planes(entry: Entry, depth: Mapping[Files, int]) -> range:
    """Planes that an entry names: of a stack, else of an image, the one."""
    return range(*(entry.get("slices") or (0, depth.get(_files(entry), 1))))


def _entries(plan: Plan) -> Iterator[Entry]:
    splits = plan.folds or (plan.split,)
    return (entry for split in splits for side in SIDES for entry in split.get(side, ()))


def _items(plan: Plan) -> Iterator[tuple[dict[str, Any], Any]]:
    """Images as the plan names them, with what their files say; a stack is one."""
    cases = plan.seen.cases
    items = items_of(cases, planes=False, kind=plan.value("label_kind"))
    return zip(items, cases, strict=True)


def _files(entry: Entry) -> Files:
    return tuple(files_of(entry["image"]))
