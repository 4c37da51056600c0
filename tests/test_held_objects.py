"""What is held out holds an object, where there are several that do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from unet_med.planning import Plan, fingerprint, make_plan


def plan_of(folder: Path, labels: dict[str, np.ndarray], **choices: Any) -> Plan:
    """The plan of labels, `(Y, X)` or `(Z, Y, X)`, with images that do not matter."""
    rng = np.random.default_rng(0)
    for name, label in labels.items():
        for part, pixels in (("images", rng.integers(0, 255, label.shape)), ("labels", label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            path = folder / part / f"{name}.tif"
            options = {
                "photometric": "minisblack",
                "description": name,
            }  # no file is another's copy
            tifffile.imwrite(path, pixels.astype(np.uint8), **options)
    return make_plan(fingerprint(folder / "images", folder / "labels", seconds=0), choices)


def marked(holding: bool, value: int = 1) -> np.ndarray:
    label = np.zeros((24, 20), int)
    label[6:14, 4:15] = value * holding
    return label


def held_files(plan: Plan) -> list[str]:
    return [Path(entry["image"]).stem for entry in plan.split["validation"]]


@pytest.mark.parametrize(
    ("full", "held"),
    [
        ((0, 1, 18, 19), ["05", "18"]),  # 15 is next to 18
        ((5, 9), ["05", "15"]),  # as without the rule: one holds an object
        (range(20), ["05", "15"]),
    ],
)
def test_an_image_with_an_object_is_held_out(tmp_path: Path, full: Any, held: list[str]) -> None:
    plan = plan_of(tmp_path, {f"{k:02}": marked(k in full) for k in range(20)})
    assert held_files(plan) == held
    assert len(plan.split["training"]) == 18
    assert plan.ids["split_file"].reason == "2 of 20 images held out"


@pytest.mark.parametrize(("only", "held"), [(3, ["05"]), (5, ["04"])])
def test_the_only_one_is_learned_from(tmp_path: Path, only: int, held: list[str]) -> None:
    plan = plan_of(tmp_path, {f"{k:02}": marked(k == only) for k in range(10)})
    assert held_files(plan) == held
    assert "none of them holds an object" in plan.ids["split_file"].reason
    assert "no image that is learned from" not in plan.ids["split_file"].reason


@pytest.mark.parametrize(
    ("kind", "rare", "held"),
    [
        ("classes", (5,), ["04"]),  # what 2 is nothing else would teach
        ("classes", (4, 5), ["05"]),
        ("classes", (), ["05"]),
        ("instances", (5,), ["05"]),  # a number that one image alone has is no class
    ],
)
def test_a_class_of_one_image_is_learned_from(
    tmp_path: Path, kind: str, rare: Any, held: list[str]
) -> None:
    labels = {f"{k:02}": marked(True) for k in range(10)}
    for k in rare:
        labels[f"{k:02}"][1, 1] = 2
    assert held_files(plan_of(tmp_path, labels, label_kind=kind)) == held


@pytest.mark.parametrize(
    ("full", "block"),
    [
        (range(10, 20), [19, 22]),  # one of ten planes with objects, as of all
        (range(3, 5), [4, 7]),
        (range(10, 30), [27, 30]),  # the last, as without the rule
    ],
)
def test_the_block_of_a_stack_holds_objects(tmp_path: Path, full: Any, block: list[int]) -> None:
    stack = np.stack([marked(k in full, 255) for k in range(30)])
    plan = plan_of(tmp_path, {"a": stack})
    assert [entry["slices"] for entry in plan.split["validation"]] == [block]
    learned = [k for entry in plan.split["training"] for k in range(*entry["slices"])]
    assert learned == sorted({*range(30)} - {*range(*block)})
    assert Plan.from_json(plan.to_json()) == plan


def test_white_is_the_object_of_a_mask_in_planes(tmp_path: Path) -> None:
    """Among classes 255 is ignored, and a plane of nothing else holds none."""
    mask = np.stack([marked(k > 2, 255) for k in range(8)])
    plan = plan_of(tmp_path / "mask", {"a": mask})
    assert (plan.data.cases[0].empty, plan.data.cases[0].empty_planes) == (3, "0..2")
    assert plan.value("rare") is None
    mask[5, 0, 0] = 1
    plan = plan_of(tmp_path / "classes", {"a": mask}, label_kind="classes")
    assert plan.data.cases[0].empty_planes == "0..4 6..7"
