"""How wide objects are for the plan: compact ones as before, long ones by their faces; specks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unet_med.data import save_image, summarize_label
from unet_med.data.labels import instance_faces, instance_sizes
from unet_med.planning import Fingerprint, fingerprint, make_plan
from unet_med.planning.fingerprints import MEDIAN, SMALL
from unet_med.planning.labels import min_size
from unet_med.planning.object_sizes import are_specks
from unet_med.planning.object_width import COMPACT, depths, object_widths, plane_widths
from unet_med.planning.source import _alike
from unet_med.planning.words import _found
from unet_med.planning.working_size import decide_pixel_size


def ellipse(long: float, wide: float, degrees: float = 0.0) -> np.ndarray:
    """A label of one, in the middle of an image."""
    side = int(long) + 6
    x, y = np.indices((side, side)) - (side - 1) / 2
    turn = np.radians(degrees)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return ((2 * u / long) ** 2 + (2 * v / wide) ** 2 < 1).astype(np.uint8)


def rod(long: float, wide: float, degrees: float) -> np.ndarray:
    side = int(long) + int(wide) + 6
    x, y = np.indices((side, side)) - (side - 1) / 2 + 0.25
    turn = np.radians(degrees)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return ((2 * abs(u) < long) & (2 * abs(v) < wide)).astype(np.uint8)


def measured(label: np.ndarray, dims: int = 2) -> tuple[np.ndarray, np.ndarray]:
    look = summarize_label(label, blobs=False)
    return instance_sizes(look, dims), instance_faces(look, dims)


@pytest.mark.parametrize("diameter", [9, 16, 25, 60])
def test_faces_of_a_disc_say_its_diameter(diameter: int) -> None:
    area, faces = measured(ellipse(diameter, diameter))
    assert faces[0] == pytest.approx(4 * diameter, abs=8)  # 8 r, and not 2 pi r
    circle = 2 * np.sqrt(area[0] / np.pi)
    assert 16 / np.pi * area[0] / faces[0] == pytest.approx(circle, rel=0.05)
    assert plane_widths(area, faces)[0] == circle


@pytest.mark.parametrize("degrees", [0.0, 20.0, 45.0])
@pytest.mark.parametrize("times", [1.5, 3.0, 6.0])
def test_compact_objects_are_as_wide_as_circles(times: float, degrees: float) -> None:
    for label in (ellipse(12 * times, 12, degrees), rod(12 * times, 12, degrees)):
        area, faces = measured(label)
        assert plane_widths(area, faces)[0] == 2 * np.sqrt(area[0] / np.pi)


@pytest.mark.parametrize("degrees", [0.0, 20.0, 45.0])
def test_no_length_makes_a_fibre_wide(degrees: float) -> None:
    widths = [plane_widths(*measured(rod(long, 8, degrees)))[0] for long in (160, 320, 480)]
    assert all(3.2 * 8 < width < 5.2 * 8 for width in widths)
    assert widths[2] == pytest.approx(widths[1], rel=0.05)


@pytest.mark.parametrize("apart", [1, 2, 4])
def test_faces_of_a_ball_say_its_depth(apart: int) -> None:
    x, y, z = (
        np.indices((45, 45, 44 // apart))
        - np.array([22, 22, 22 / apart - 0.5])[:, None, None, None]
    )
    ball = (x**2 + y**2 + (apart * z) ** 2 < 20**2).astype(np.uint8)
    depth = depths(*measured(ball, 3))[0]
    assert depth == pytest.approx(COMPACT * 40 / apart, rel=0.08)


# --- from files to the plan --------------------------------------------------------------------


def look(folder: Path, *labels: np.ndarray) -> Fingerprint:
    for k, label in enumerate(labels):
        for part in ("images", "labels"):
            array = label.astype(np.uint16 if part == "labels" else np.float32)
            save_image(folder / part / f"{k}.tif", array, has_channels=False)
    return fingerprint(folder / "images", folder / "labels")


def scale_of(found: Fingerprint, dims: int = 2) -> object:
    decided = decide_pixel_size(found, {}, kind="instances", dims=dims)
    assert decided["element_size"].value is None
    return decided["scale"].value


def cells(side: int = 52, specks: int = 0, pixels: int = 3) -> np.ndarray:
    """Sixteen discs, 4 px narrower than `side`, and specks at the ends of their squares."""
    x, y = np.indices((4 * side, 4 * side))
    off = [axis % side - side / 2 + 0.5 for axis in (x, y)]
    number = x // side * 4 + y // side + 1
    label = np.where(np.hypot(*off) < side / 2 - 2, number, 0)
    for k in range(specks):
        step = pixels + 5
        row, place = divmod(k, 4 * side // step)
        label[row * side, step * place : step * place + pixels] = 17 + k
    return label


def test_fibres_keep_their_pixels(tmp_path: Path) -> None:
    label = np.zeros((320, 240), int)
    for k in range(15):
        label[10:310, 16 * k + 4 : 16 * k + 10] = k + 1  # 300 x 6 px: a circle of 48
    found = look(tmp_path, label)
    assert object_widths(found, 2, None)[MEDIAN][0] == pytest.approx(5 * 6, rel=0.05)
    assert scale_of(found) is None
    assert found.instances is not None
    assert scale_of(replace(found, instances=found.instances.as_discs())) == 1 / 2


def test_the_tile_and_the_reach_of_fibres_are_those_of_their_width(tmp_path: Path) -> None:
    label = np.zeros((420, 420), int)
    for k in range(40):
        label[10:410, 10 * k + 4 : 10 * k + 7] = k + 1  # 400 x 3 px: a circle of 39
    found = look(tmp_path, label)
    plan = make_plan(found, {"label_kind": "instances", "features": [2] * 5})
    assert (plan.value("tile_size"), plan.value("reach")) == ([128, 128], 8)
    assert plan.value("min_size") == 120  # of their pixels, as before
    half = make_plan(found, {"label_kind": "instances", "features": [2] * 5, "scale": 0.5})
    assert half.value("reach") == 4  # across them it is no more than 3.75 px, see `COMPACT`
    assert found.instances is not None
    discs = replace(found, instances=found.instances.as_discs())
    plan = make_plan(discs, {"label_kind": "instances", "features": [2] * 5, "scale": 1})
    assert (plan.value("tile_size"), plan.value("reach")) == ([192, 192], 8)


def test_fibres_across_planes_keep_their_planes(tmp_path: Path) -> None:
    label = np.zeros((130, 60, 90), int)
    for z in range(5, 85):  # rods that rise by a plane a pixel
        for k in range(6):
            label[20 + z - 3 : 20 + z + 3, 10 * k + 2 : 10 * k + 8, z] = k + 1
    found = look(tmp_path, label)
    widths = object_widths(found, 3, None)
    assert widths[MEDIAN][2] == pytest.approx(2 * 3 * 6 / 2, rel=0.1)
    discs = replace(found, instances=found.instances.as_discs())
    assert object_widths(discs, 3, None)[MEDIAN][2] > 80
    assert scale_of(found, 3) is None
    assert scale_of(discs, 3) != scale_of(found, 3)


@pytest.mark.parametrize("count", [4, 30])
def test_specks_decide_nothing(tmp_path: Path, count: int) -> None:
    """Four of twenty were the 5th percentile; thirty of 46 the median."""
    clean, found = look(tmp_path / "clean", cells()), look(tmp_path / "specks", cells(specks=count))
    assert scale_of(found) == scale_of(clean) == 1 / 2
    ids = {"scale": 1 / 2}
    assert min_size(found, "instances", 2, ids) == min_size(clean, "instances", 2, ids)
    assert min_size(found, "instances", 2, ids).value == pytest.approx(np.pi * 12**2 / 10, abs=1)
    assert found.instances is not None
    assert (found.instances.count, found.instances.specks) == (16 + count, count)
    assert f"; {count} are specks" in "\n".join(_found(replace(found, label_kind="instances")))
    assert "specks" not in "\n".join(_found(replace(clean, label_kind="instances")))


def test_what_results_leave_out_needs_no_pixels(tmp_path: Path) -> None:
    """Objects below a tenth of the median count in it, and not in the 5th percentile."""
    found = look(tmp_path, cells(specks=4, pixels=30)).instances
    assert found is not None
    assert found.specks == 0
    assert found.plane_px[SMALL] > found.plane_px[MEDIAN] / 10
    label = cells()
    sizes = [*np.bincount(label.ravel())[1:], 30, 30, 30, 30]
    assert found.plane_px[MEDIAN] == np.median(sizes)


def test_small_objects_are_no_specks() -> None:
    rng = np.random.default_rng(0)
    nuclei = np.exp(rng.normal(np.log(237), 0.9, 900)).astype(int)  # widths from 5 to 53 px
    assert not are_specks(nuclei[nuclei > 20], 2).any()
    spots = rng.integers(4, 12, 100)
    assert not are_specks(spots, 2).any()
    one_giant = np.array([300] * 20 + [60_000])
    assert not are_specks(one_giant, 2).any()


def test_plans_of_earlier_versions_took_objects_for_discs(tmp_path: Path) -> None:
    label = np.zeros((320, 80), int)
    for k in range(5):
        label[10:310, 16 * k + 4 : 16 * k + 10] = k + 1
    found = look(tmp_path, label)
    content = found.to_json()
    assert Fingerprint.from_json(content) == found
    for name in ("width_px", "width", "depth_px", "depth", "specks"):
        del content["instances"][name]
    old = Fingerprint.from_json(content)
    assert object_widths(old, 2, None)[MEDIAN][0] == pytest.approx(2 * np.sqrt(1800 / np.pi))
    pair = _alike(old, found)  # a new training starts from an old bundle, of the same images
    assert object_widths(pair[0], 2, None) == object_widths(pair[1], 2, None)
    assert _alike(found, found) == (found, found)
