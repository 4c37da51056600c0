"""Images that no split may part: groups, and copies under other names."""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folded import facts_of, six_cells
from hypothesis import given
from hypothesis import strategies as st

from unet_med.planning import Fingerprint, Plan, fingerprint, make_plan
from unet_med.planning.copies import about_copies, about_subjects, units_of
from unet_med.planning.counting import (
    count_in,
    held_in,
    learned_before,
    pixels_in,
    units_in,
    what_counts,
)
from unet_med.planning.fingerprints import Case

Entry = dict[str, Any]


def cases_like(contents: Sequence[int]) -> Any:
    return [case_of(f"{k}.tif", (8, 8), str(each)) for k, each in enumerate(contents)]


def case_of(name: str, shape: tuple[int, ...], image: str, label: str = "", values: str = "0"):
    return Case(facts_of(name, shape, image), facts_of(f"l{name}", shape, label), values)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=10))
def test_units_are_what_groups_and_copies_join(images: list[tuple[int, int]]) -> None:
    """The slow way: walk from image to image over what two have in common, until none is new."""
    items = [{"image": f"{k}.tif", "who": who, "case": k} for k, (who, _) in enumerate(images)]
    units = units_of(items, cases_like([content for _, content in images]), "who")
    for start in range(len(images)):
        reached = {start}
        for _ in images:
            reached |= {
                k for k, one in enumerate(images) for j in reached
                if one[0] == images[j][0] or one[1] == images[j][1]
            }  # fmt: skip
        assert {k for k, unit in enumerate(units) if unit == units[start]} == reached


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images, and copies of the first and the fourth at the end."""
    folder = six_cells(tmp_path_factory.mktemp("copied"))
    for part in ("images", "labels"):
        for old, new in ((0, 6), (3, 7)):
            shutil.copy(
                folder / f"{part}/cells_{old:03d}.tif", folder / f"{part}/cells_{new:03d}.tif"
            )
    return folder


COPIES = ({0, 6}, {3, 7})


def numbers(entries: Sequence[Entry]) -> set[int]:
    return {int(entry["image"][-7:-4]) for entry in entries}


@functools.cache
def looked_at(folder: Path) -> Fingerprint:
    return fingerprint(folder / "images", folder / "labels")


def planned(folder: Path, **asked: Any) -> Plan:
    return make_plan(looked_at(folder), asked)


@pytest.mark.parametrize("asked", [{"folds": 6}, {"folds": 2, "learning_curve": True}])
def test_no_fold_has_seen_a_copy_of_what_judges_it(copied: Path, asked: dict[str, Any]) -> None:
    plan = planned(copied, **asked)
    held = [numbers(split["validation"]) for split in plan.folds]
    assert sorted(k for part in held for k in part) == list(range(8))
    for part in held:
        assert all(copies <= part or not copies & part for copies in COPIES)
    for subset in plan.subsets:
        learned = numbers(subset["training"])
        assert all(copies <= learned or not copies & learned for copies in COPIES)
    assert "; 2 image(s) are copies of others, and stay with them" in plan.ids["split_file"].reason
    units = {int(name[-7:-4]): unit for (name,), unit in units_in(plan).items()}
    assert units[0] == units[6]
    assert units[3] == units[7]
    assert len(set(units.values())) == 6


def test_seven_folds_of_six_images_are_refused(copied: Path) -> None:
    with pytest.raises(ValueError, match="--folds 7: there are 6 images or groups of them"):
        planned(copied, folds=7)


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5])
def test_no_copy_is_learned_from_where_its_image_is_held_out(copied: Path, share: float) -> None:
    plan = planned(copied, validation_fraction=share)
    learned, held = (numbers(plan.split[side]) for side in ("training", "validation"))
    assert len(learned) + len(held) == 8
    assert all(copies <= learned or copies <= held for copies in COPIES)
    assert plan.split["group"] is None
    assert "copies of others, and stay with them" in plan.ids["split_file"].reason


def test_who_parts_copies_in_a_split_of_their_own_is_told(copied: Path, tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    names = [f"cells_{k:03d}" for k in range(8)]
    file.write_text(json.dumps({"training": names[:6], "validation": names[6:]}))
    said = "; 2 held-out image(s) are copies of some that are learned from"
    assert said in planned(copied, split_file=str(file)).ids["split_file"].reason
    halves = [{"train": names[k::2], "val": names[1 - k :: 2]} for k in (0, 1)]
    file.write_text(json.dumps(halves))  # even numbers, and odd ones
    said = "; 2 image(s) are copies of others"
    assert said in planned(copied, split_file=str(file)).ids["split_file"].reason


def test_all_images_alike_are_split_as_ever() -> None:
    items = [{"image": f"{k}.tif", "case": k} for k in range(3)]
    assert about_copies([(items[1:], items[:1])], cases_like([5, 5, 5])).startswith("; 1 held-out")
    assert about_copies([(items[1:], items[:1])], cases_like([5, 6, 7])) == ""


def test_images_of_one_label_are_not_parted_and_the_label_is_named(tmp_path: Path) -> None:
    folder = six_cells(tmp_path)
    shutil.copy(folder / "labels/cells_001.tif", folder / "labels/cells_004.tif")
    found = fingerprint(folder / "images", folder / "labels")
    plan = make_plan(found, {"folds": 5})
    assert {1, 4} in [numbers(split["validation"]) for split in plan.folds]
    said = "; 1 label(s) are those of other images, such as "
    why = plan.ids["split_file"].reason.partition(said)[2]
    assert re.fullmatch(r"\S*cells_004\.tif and \S*cells_001\.tif", why), plan.ids["split_file"]


def test_labels_that_tell_no_scene_apart_part_no_images() -> None:
    """Empty labels, and those of patches that lie within one object, are alike everywhere."""
    items = [{"image": f"{k}.tif", "case": k} for k in range(4)]
    for values, units, told in (("0", 4, ""), ("1", 4, ""), ("0..1", 3, "; 1 label(s) are those")):
        cases = [case_of(f"{k}.tif", (8, 8), str(k), str(max(k, 1)), values) for k in range(4)]
        assert len(set(units_of(items, cases, None))) == units
        assert about_copies([(items[1:], items[:1])], cases).startswith(told or "")
        assert bool(about_copies([(items[1:], items[:1])], cases)) == bool(told)


def test_sessions_of_a_subject_on_both_sides_are_said(tmp_path: Path) -> None:
    """As BIDS names subjects; who groups them, or has one session of each, reads nothing."""
    folder = six_cells(tmp_path)
    for part in ("images", "labels"):
        for k in range(6):
            name = f"sub-0{k // 2}_ses-{k % 2}.tif"
            (folder / part / f"cells_{k:03d}.tif").rename(folder / part / name)
    found = fingerprint(folder / "images", folder / "labels")
    group = "(sub-[A-Za-z0-9]+)"

    def reason(**asked: Any) -> str:
        return make_plan(found, asked).ids["split_file"].reason

    said = (
        "; sessions of {} subject(s), such as sub-0{}, are on both sides, so the score flatters: "
    )
    assert said.format(3, 0) + f"--group '{group}' keeps each together" in reason(folds=2)
    assert "; sessions of 1 subject(s)" in reason(fold="0/6")
    for asked in ({"folds": 2}, {"fold": "0/3"}, {}):
        assert "subject" not in reason(group=group, **asked)
    planes = [{"image": "sub-00.tif", "case": 0, "slice": z} for z in range(2)]
    assert about_subjects([(planes[:1], planes[1:])]) == ""


# --- what counts


def plan_of(names: Sequence[str], folds: Sequence[Any], depth: int = 1) -> Any:
    """As much of a plan as counting takes."""
    shape = (8, 8) if depth == 1 else (8, 8, depth)
    cases = [case_of(name, shape, name) for name in names]
    sides = [{"training": training, "validation": held} for training, held in folds]
    seen = SimpleNamespace(cases=cases)
    return SimpleNamespace(folds=sides, seen=seen, split={}, value={"label_kind": "mask"}.get)


def test_of_a_single_stack_planes_count() -> None:
    """Ten planes, a block of four in the middle held out: what is left lies in two pieces."""
    pieces = [{"image": "s.tif", "slices": span} for span in ([0, 3], [7, 10])]
    middle = [{"image": "s.tif", "slices": [3, 7]}]
    plan = plan_of(["s.tif"], [(pieces, middle), (middle, pieces)], depth=10)
    assert what_counts(plan) == "planes"
    assert [count_in(plan, split["training"]) for split in plan.folds] == [6, 4]
    assert count_in(plan, [{"image": "s.tif"}]) == 10


def test_of_several_files_files_count() -> None:
    entries = [{"image": name, "slices": [0, 2]} for name in ("a.tif", "b.tif", "b.tif")]
    plan = plan_of(["a.tif", "b.tif", "c.tif"], [(entries, [{"image": "c.tif"}])], depth=4)
    assert what_counts(plan) == "images"
    assert count_in(plan, entries) == 2


@pytest.mark.parametrize("planes", [False, True])
def test_what_each_fold_holds_out_and_how_large_it_is(planes: bool) -> None:
    """Of four planes of a stack two lie in a fold of their own."""
    first, rest = ({"image": "a.tif", "slices": span} for span in ([0, 2], [2, 4]))
    whole = {"image": "b.tif"}
    parts = [[first, whole], [rest]] if planes else [[whole], [{"image": "a.tif"}]]
    plan = plan_of(["a.tif", "b.tif"], [([], held) for held in parts], depth=4)
    known = {"label_kind": "mask", "slice_stacks": planes, "spatial_dims": 3 - planes}
    plan.value = known.get
    a, b = ("a.tif",), ("b.tif",)
    assert held_in(plan) == ([[a, a, b, b, b, b], [a, a]] if planes else [[b], [a]])
    assert pixels_in(plan) == dict.fromkeys([a, b], 64 if planes else 256)


def test_what_the_weights_held_out_they_have_not_learned_from() -> None:
    plan = plan_of([], [])
    entries = [{"image": name, "sha256": {"image": name}} for name in "abc"]
    plan.split = {"training": entries}
    plan.source = {"seen": 2, "images": ["a", "b"], "held_out": ["b"]}
    assert learned_before(plan) == 1
    plan.source = {"seen": None}
    assert learned_before(plan) is None
    plan.source = {}
    assert learned_before(plan) == 0
