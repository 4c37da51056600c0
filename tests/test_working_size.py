"""Which pixels the network sees: from the width of objects, and from pixel sizes that differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_med.data import save_image
from unet_med.planning import Fingerprint, Plan, Source, fingerprint, make_plan
from unet_med.planning.fingerprints import MEDIAN, PERCENTILES, SMALL, Case, FileFacts, Instances
from unet_med.planning.object_width import object_widths
from unet_med.planning.objects import decide_objects
from unet_med.planning.sizes import largest_shape, median_size
from unet_med.planning.training_facts import decide_trained_on
from unet_med.planning.words import describe
from unet_med.planning.working_size import FACTORS, decide_pixel_size

UM = (1.0, 1.0)


def found_in(
    widths: Sequence[float] = (),
    sizes: Sequence[tuple[float, ...]] = (UM,),
    *,
    kind: str = "instances",
    source: str = "ome",
    units: Sequence[str] = ("um",),
    orientations: Sequence[str | None] = (None,),
) -> Fingerprint:
    """Images of some pixel sizes, in which discs or balls of some widths lie, in own pixels."""
    dims = len(sizes[0])
    count = len(sizes)
    images = [
        FileFacts(
            name=f"images/{k}.tif",
            sha256="",
            shape=(500, 400, 60)[:dims],
            channels=1,
            dtype="uint8",
            pixel_size=size,
            pixel_size_source=source,
            unit=[*units, *units * count][k],
            orientation=[*orientations, *orientations * count][k],
        )
        for k, size in enumerate(sizes)
    ]
    area = np.percentile(np.pi / 4 * np.square(widths), PERCENTILES) if widths else None
    volume = np.percentile(np.pi / 6 * np.power(widths, 3), PERCENTILES) if widths else None
    objects = widths and Instances(
        count=len(widths),
        touching=0.0,
        plane_px=tuple(area),
        plane_area=tuple(area * np.prod(sizes[0][:2])),
        volume_px=tuple(area if dims == 2 else volume),
        volume=tuple(area * np.prod(sizes[0]) if dims == 2 else volume * np.prod(sizes[0])),
    )
    return Fingerprint(
        images="images",
        labels="labels",
        cases=tuple(Case(image, image, "0..9") for image in images),
        label_kind=kind,
        frequencies={},
        instances=objects or None,
        intensities=(),
        intensities_of=0,
        reader={},
    )


def decided(found: Fingerprint, **asked: Any) -> tuple[Any, Any, Any, str]:
    dims = len(found.cases[0].image.shape)
    ids = decide_pixel_size(found, asked, kind=found.label_kind, dims=dims)
    values = [ids[id].value for id in ("element_size", "element_unit", "scale")]
    return (*values, ids["scale"].reason)


@pytest.mark.parametrize(
    ("widths", "scale", "words"),
    [
        ((33, 65, 65, 65, 91), 1 / 3, r"object is 65 px wide, then 21.7 px, and learned in fewer"),
        ((8, 17, 17, 17, 50), None, r"object is 17 px wide, which the network learns well"),
        ((5, 5, 5), None, r"object is 5 px wide, which the network learns well"),
        ((37, 37), None, "learns well"),
        ((38, 38), 1 / 1.5, "then 25.3 px"),
        ((250, 250), 1 / 10, "then 25 px"),
        ((13, *[65] * 9), 1 / 3, "then 21.7 px"),  # one in ten is small: 5 % are wider than 24
        ((13, 13, *[65] * 9), 1 / 1.5, "then 43.3 px"),  # 8 px wide at least
        ((9, 9, *[65] * 9), None, "65 px wide, but small ones 9 px: images keep their own"),
    ],
)
def test_large_objects_are_made_smaller(widths: Any, scale: Any, words: str) -> None:
    found = found_in(widths, source="assumed")
    *values, reason = decided(found)
    assert values == [None, None, pytest.approx(scale) if scale else None]
    assert words in reason


def discs(*places: tuple[int, int, int]) -> np.ndarray:
    """A mask of 600 x 450 px with discs, each a centre and a width."""
    x, y = np.mgrid[:600, :450]
    return np.any([(x - u) ** 2 + (y - v) ** 2 <= (w / 2) ** 2 for u, v, w in places], axis=0)


def lattice(width: int, step: int) -> np.ndarray:
    """A mask of lines so wide, one in so many pixels along each axis."""
    x, y = np.mgrid[:600, :450]
    return (x % step < width) | (y % step < width)


CELLS = [(50 + 80 * (k % 7), 50 + 80 * (k // 7), 60) for k in range(28)]


@pytest.mark.parametrize(
    ("mask", "scale", "words"),
    [
        (discs((300, 220, 200)), 1 / 2, "object is 200 px wide, then 100 px"),
        (discs((300, 220, 300)), 1 / 3, "object is 300 px wide, then 100 px"),
        (discs((180, 220, 160), (420, 220, 160)), 1 / 2, "object is 226 px wide"),  # two lungs
        (discs((300, 220, 140)), None, "masks may hold structures of a pixel or two"),
        (discs(*CELLS), None, "masks may hold"),
        (lattice(30, 200), None, "masks may hold"),
        (~lattice(3, 400), None, "masks may hold"),  # outlines of large cells are background
    ],
    ids=["lesion", "large lesion", "lungs", "small lesion", "cells", "vessels", "membranes"],
)
def test_few_wide_things_of_a_mask_are_made_smaller(
    tmp_path: Path, mask: np.ndarray, scale: Any, words: str
) -> None:
    for k in range(2):
        for part, pixels in (("images", mask * 100), ("labels", mask * 255)):
            save_image(tmp_path / part / f"{k}.png", pixels[None].astype(np.uint8))
    found = fingerprint(tmp_path / "images", tmp_path / "labels", seconds=0)
    assert found.label_kind == "mask"
    *values, reason = decided(found)
    assert values == [None, None, scale]
    assert words in reason


SMALL_DISC = discs((300, 220, 30))


@pytest.mark.parametrize(
    ("small", "scale"), [(0, 1 / 3), (1, 1 / 3), (3, 1 / 1.5)], ids=["none", "one in 40", "some"]
)
def test_small_things_of_a_mask_keep_their_pixels(tmp_path: Path, small: int, scale: float) -> None:
    """Nothing drops them from results, so also what is less than a tenth of the median counts."""
    for k in range(40):
        mask = SMALL_DISC if k < small else discs((300, 220, 300))
        for part, pixels in (("images", mask * 100), ("labels", mask * 255)):
            save_image(tmp_path / part / f"{k}.png", pixels[None].astype(np.uint8))
    found = fingerprint(tmp_path / "images", tmp_path / "labels", seconds=0)
    assert decided(found)[:3] == (None, None, pytest.approx(scale))


WIDE = discs((300, 220, 300))


@pytest.mark.parametrize(
    ("classes", "scale"),
    [
        ((discs((180, 220, 160)), discs((420, 220, 160))), 1 / 1.5),
        ((WIDE, discs((300, 220, 160))), 1 / 2),  # a ring of 254 px
        ((discs((180, 220, 280)), discs((420, 220, 40))), 1 / 1.5),  # which would be 27 px
        ((WIDE, discs((300, 220, 20))), None),
        ((WIDE, lattice(2, 60)), None),
        ((WIDE, discs(*CELLS[:7])), None),
        ((discs((180, 220, 120)), discs((420, 220, 120))), None),
    ],
    ids=["lungs", "disc and cup", "large and small", "spot", "lines", "cells", "small ones"],
)
def test_classes_of_a_few_wide_things_are_made_smaller(
    tmp_path: Path, classes: Sequence[np.ndarray], scale: float | None
) -> None:
    label = np.zeros((600, 450), np.uint8)
    for value, mask in enumerate(classes, 1):
        label[mask] = value
    for k in range(2):
        for part, pixels in (("images", label * 90), ("labels", label)):
            save_image(tmp_path / part / f"{k}.png", pixels[None])
    found = fingerprint(tmp_path / "images", tmp_path / "labels", seconds=0)
    for each in (found, Fingerprint.from_json(found.to_json())):
        ids = decide_pixel_size(each, {}, kind="classes", dims=2)
        assert ids["scale"].value == (pytest.approx(scale) if scale else None)
    deep = decide_pixel_size(found, {}, kind="classes", dims=3)  # of volumes they keep theirs
    assert deep["scale"].value is None


@given(
    st.lists(st.floats(2, 400), min_size=1, max_size=12),
    st.sampled_from([0.004, 0.13, 1.0, 25.0]),
    st.booleans(),
)
def test_widths_that_the_network_sees(widths: list[float], pixel: float, known: bool) -> None:
    """Never larger than its own, never so small that small objects go; else near the wanted."""
    source = "ome" if known else "assumed"
    found = found_in(widths, [(pixel, pixel)], source=source)
    size, _, scale, _ = decided(found)
    factor = 1.0 if size is scale is None else (1 / scale if size is None else size / pixel)
    small, median = (np.sqrt(np.percentile(np.square(widths), p)) for p in (5, 50))
    if factor == 1:
        assert median <= 37.5 or small < 1.5 * 8
        return
    assert median > 37.5
    assert (scale is None) == known
    assert small / factor > 7.9
    fits = [each for each in FACTORS if small / each >= 8]
    nearest = min(fits, key=lambda each: max(median / each / 25, 25 * each / median))
    assert factor == pytest.approx(nearest, rel=1e-3)


def test_files_that_agree_get_a_physical_size() -> None:
    wide = (65.0,) * 3
    assert decided(found_in(wide, [(0.5, 0.5)] * 2))[:3] == (1.5, "um", None)
    assert decided(found_in(wide, [(0.5, 0.51)]))[:3] == ([1.5, 1.53], "um", None)
    assert decided(found_in((17.0,), [(0.5, 0.5)] * 2))[:3] == (None, None, None)


def test_files_that_differ_are_brought_to_their_median() -> None:
    sizes = [(0.5, 0.5), (0.4, 0.4), (0.8, 0.8)]
    for kind in ("instances", "classes", "mask"):
        found = found_in((20.0,), sizes, kind=kind)
        *values, reason = decided(found)
        assert values == [0.5, "um", None], kind
        assert reason.startswith("the files differ in pixel size")
    assert decided(found_in((100.0,), sizes))[:3] == (2.0, "um", None)
    metres = found_in((20.0,), [(0.5, 0.5), (0.0005, 0.0005)], units=("um", "mm"))
    assert decided(metres)[:3] == (None, None, None)  # the same, in another unit
    assert decided(found_in((20.0,), sizes, source="assumed"))[:3] == (None, None, None)
    assert decided(found_in((20.0,), [(0.5, 0.5), (0.51, 0.5)]))[:3] == (None, None, None)


def nnunets(spacings: np.ndarray) -> np.ndarray:
    """`determine_fullres_target_spacing` of nnU-Net 2, where planes are few as well."""
    target = np.percentile(spacings, 50, 0)
    worst = np.argmax(target)
    others = [target[axis] for axis in range(3) if axis != worst]
    if target[worst] > 3 * max(others):
        tenth = np.percentile(spacings[:, worst], 10)
        target[worst] = max(max(others), tenth)
    return target


@pytest.mark.parametrize("thick", [1.0, 5.0])
def test_volumes_of_classes_as_nnunet_does(thick: float) -> None:
    rng = np.random.default_rng(0)
    spacings = rng.uniform(0.6, 1.2, (9, 3)) * [1, 1, thick]
    found = found_in(sizes=[tuple(row) for row in spacings], kind="classes", units=("mm",))
    assert decided(found)[0] == pytest.approx(nnunets(spacings).tolist(), rel=1e-3)
    alike = found_in(sizes=[(0.7, 0.7, 5.0)] * 4, kind="classes", units=("mm",))
    assert decided(alike)[:3] == (None, None, None)


def test_volumes_along_different_axes_are_left_alone() -> None:
    sizes = [(0.7, 0.7, 5.0), (5.0, 0.7, 0.7)]
    turned = found_in(sizes=sizes, kind="classes", orientations=("RAS", "SAR"))
    assert decided(turned)[:3] == (None, None, None)
    mirrored = found_in(
        sizes=[(0.7, 0.7, 5.0), (0.9, 0.9, 5.0)], kind="classes", orientations=("RAS", "LPS")
    )
    assert decided(mirrored)[0] == [0.8, 0.8, 5.0]


@pytest.mark.parametrize("wrong", [508.0, 1000.0, 10.0, 1 / 25.4, 0.11])
@pytest.mark.parametrize("at", [0, 7, 29])
def test_one_file_with_a_wrong_size_among_thirty_is_refused(wrong: float, at: int) -> None:
    """mm for um, 100 dpi, a wrong decimal: the file would become so many times larger."""
    sizes = [(0.5, 0.5)] * 30
    sizes[at] = (0.5 * wrong, 0.5 * wrong)
    found = found_in((20.0,), sizes)
    words = rf"/{at}.tif says pixels of {0.5 * wrong:.4g} x {0.5 * wrong:.4g} um, and the other"
    with pytest.raises(ValueError, match=words + r" files 0.5 x 0.5 um in the median.*--scale 1"):
        decided(found)
    assert decided(found, scale=1)[2] == 1
    if wrong > 1:
        with pytest.raises(ValueError, match=rf"/{at}.tif says pixels of .* far from --element-si"):
            decided(found, element_size=0.5)


def test_how_far_files_may_be_apart() -> None:
    """Objectives, and slices of a clinic: of these nothing is wrong."""
    for sizes in (
        [(1.3, 1.3), (0.65, 0.65), (0.325, 0.325), (0.1625, 0.1625)],  # 5x to 40x
        [(0.5, 0.5)] * 5 + [(3.9, 3.9)],
        [(0.7, 0.7, 5.0)] * 5 + [(0.7, 0.7, 0.5), (0.5, 0.5, 0.3), (0.9, 0.9, 10.0)],
    ):
        assert decided(found_in((20.0,), sizes, kind="classes"))[0] is not None
    for sizes in (
        [(0.5, 0.5)] * 5 + [(4.1, 4.1)],
        [(0.7, 0.7, 1.0)] * 5 + [(0.7, 0.7, 33.0)],
        [(0.7, 0.7, 1.0)] * 5 + [(17.78, 17.78, 1.0)],  # inches in the plane: 645 times the pixels
    ):
        with pytest.raises(ValueError, match=r"5\.tif says pixels of"):
            decided(found_in((20.0,), sizes, kind="classes"))
    two = [(0.5, 0.5)] * 5 + [(500.0, 500.0), (700.0, 700.0)]
    with pytest.raises(ValueError, match=r"5.tif \(and 1 more files\) says pixels of 500"):
        decided(found_in((20.0,), two))


def test_what_the_user_says_holds() -> None:
    found = found_in((65.0,))
    assert decided(found, scale=1) == (None, None, 1, "as asked")
    assert decided(found, scale=[1.0]) == (None, None, 1, "as asked")  # as the command gives it
    assert decided(found, element_size=[0.7]) == ([0.7], "um", None, "as asked")
    assert decided(found, preset="paper2015")[:3] == (None, None, None)
    with pytest.raises(ValueError, match=r"--element-size 0.7 and --scale 0.5 both say"):
        decided(found, element_size=[0.7], scale=[0.5])
    with pytest.raises(ValueError, match=r"--scale 0 is not positive: leave it out"):
        decided(found, scale=[0.0])
    with pytest.raises(ValueError, match=r"--scale 1 x 1 x 0.5 has 3 values for 2 axes"):
        decided(found, scale=[1, 1, 0.5])
    with pytest.raises(ValueError, match=r"0.tif does not say its pixel size.*a factor, --scale"):
        decided(found_in(source="assumed"), element_size=0.7)


@pytest.mark.parametrize(
    ("width", "scale"),
    [(60, 0.5), (85, 0.5), (42, 0.5), (95, 0.316), (20, 1.5), (30, 1)],
)
def test_a_start_is_shown_objects_as_wide_as_it_knows_them(width: float, scale: float) -> None:
    """Its own were 60 px, of which it saw half as many; what is 1.5 times as wide is alike."""
    ids = {"scale": 0.5, "label_kind": "instances", "spatial_dims": 2, "in_channels": 1}
    source = Source("old", Path(), Path(), ids, Plan({}, found_in([60.0] * 3), {}))
    new = found_in([width] * 3)
    image = replace(new.cases[0].image, sha256="another")
    kept = source.kept(replace(new, cases=(Case(image, image, None),)), {})
    assert kept["scale"].value == scale


# --- sizes in the pixels of the network


def objects(plane: Sequence[float], volume: Sequence[float], pixel: Sequence[float]) -> Instances:
    """Objects of given percentiles, px, in images of which the first alone has such a pixel."""
    own = np.array(plane), np.array(volume)
    area, space = own[0] * np.prod(pixel[:2]), own[1] * np.prod(pixel)
    return Instances(9, 0.0, tuple(own[0]), tuple(area), tuple(own[1]), tuple(space))


def balls_of(small: float, width: float, flat: float, pixel: Sequence[float]) -> Instances:
    """Balls of which `flat` planes stand for one pixel; a plane cuts them 3/4 as large."""
    widths = np.array([small, small, *[width] * 5])
    areas, volumes = 0.75 * np.pi / 4 * widths**2, np.pi / 6 * widths**3 / flat
    return objects(areas, volumes, pixel)


def test_small_and_median_balls_have_their_widths_along_each_axis() -> None:
    found = replace(found_in(sizes=[(0.5, 0.5, 2.0)]), instances=balls_of(6, 24, 4, (1, 1, 1)))
    widths = object_widths(found, 3, None)
    assert widths is not None
    assert widths[MEDIAN] == pytest.approx([24, 24, 6])
    assert widths[SMALL] == pytest.approx([6, 6, 1.5])
    own = balls_of(6, 24, 4, (0.5, 0.5, 2.0))  # in pixels of that size, whatever each image has
    other = replace(own, plane_px=(1.0,) * 7, volume_px=(1.0,) * 7)
    again = object_widths(replace(found, instances=other), 3, (0.5, 0.5, 2.0))
    assert again is not None
    assert again[MEDIAN] == pytest.approx([24, 24, 6])
    assert again[SMALL] == pytest.approx([6, 6, 1.5])
    flat = object_widths(replace(found, instances=other), 2, (0.5, 0.5, 2.0))
    assert flat is not None
    assert flat[MEDIAN] == pytest.approx([24 * 0.75**0.5] * 2)


@pytest.mark.parametrize(
    ("dims", "pixels", "expected"),
    [
        (2, {}, 100),  # of each image's own
        (2, {"scale": 0.5}, 25),
        (2, {"scale": [0.5, 0.1]}, 5),
        (3, {"scale": [0.5, 0.5, 1.0]}, 200),
        (2, {"element_size": 0.5, "element_unit": "um"}, 9 / 0.25),  # of areas in um
        (2, {"element_size": 5e-4, "element_unit": "mm"}, 9 / 0.25),
        (3, {"element_size": [0.5, 0.5, 1.5], "element_unit": "um"}, 27 / 0.375),
    ],
)
def test_the_median_object_in_pixels_of_the_network(
    dims: int, pixels: dict[str, Any], expected: float
) -> None:
    """100 px or 800 voxels in the median image, 9 and 27 of the unit: the files differ."""
    first = found_in(sizes=[(0.2, 0.3, 2.0)[:dims]]).cases[0].image
    own = Instances(9, 0.0, (100.0,) * 7, (9.0,) * 7, (800.0,) * 7, (27.0,) * 7)
    assert median_size(own, first, dims, pixels) == pytest.approx(expected)


def test_the_largest_image_is_so_along_each_axis_by_itself() -> None:
    found = found_in()
    shapes = [(500, 30), (101, 400)]
    images = [replace(found.cases[0].image, shape=shape) for shape in shapes]
    found = replace(found, cases=tuple(Case(image, image, None) for image in images))
    assert largest_shape(found, 2, {}) == (500, 400)
    assert largest_shape(found, 2, {"scale": 1 / 1.5}) == (333, 267)  # 333.3 and 266.7


@pytest.mark.parametrize(
    ("width", "dims", "reach"),
    [(10, 2, 5), (12, 3, 6), (2, 3, 2), (40, 2, 8), (40, 3, 8)],
)
def test_seeds_reach_as_far_as_the_radius_of_the_median_object(
    width: float, dims: int, reach: int
) -> None:
    found = found_in([width] * 3, [(1.0,) * dims])
    ids = {"preset": "modern", "label_kind": "instances", "spatial_dims": dims}
    own = {id: decision.value for id, decision in decide_objects(found, ids).items()}
    size = np.pi / 4 * width**2 if dims == 2 else np.pi / 6 * width**3
    assert (own["reach"], own["min_size"]) == (reach, int(size / 10))
    assert (own["threshold"], own["mask_threshold"]) == ((0.4, 0.3) if dims == 2 else (0.8, 0.4))


def test_what_later_images_are_compared_with_is_the_range_of_those_that_say_it() -> None:
    sizes = [(0.5, 0.6), (0.4, 0.7), (0.6, 0.2), (9.0, 9.0), (1.0, 1.0)]
    found = found_in(sizes=sizes, units=("um", "um", "um", "um", "mm"))
    images = [case.image for case in found.cases]
    images[3] = replace(images[3], pixel_size_source="assumed")
    cases = tuple(Case(image, image, None) for image in images)
    value = decide_trained_on(replace(found, cases=cases)).value
    assert (value["unit"], value["pixel_size"]) == ("um", [[0.4, 0.6], [0.2, 0.7]])
    mixed = found_in(sizes=[(0.5, 0.6)]).cases + found_in(sizes=[(0.5, 0.6, 2.0)]).cases
    value = decide_trained_on(replace(found, cases=mixed)).value
    assert (value["axes"], value["pixel_size"]) == ([2, 3], [[0.5, 0.5], [0.6, 0.6], [2.0, 2.0]])


# --- real label images


def balls(shape: tuple[int, ...], step: tuple[int, ...], width: float, flat: float) -> np.ndarray:
    """A ball in each cell of a grid, `(X, Y[, Z])`; `flat` planes stand for one pixel in Z."""
    index = np.indices(shape).astype(float)
    place = [
        np.minimum(axis // side, n // side - 1)
        for axis, side, n in zip(index, step, shape, strict=True)
    ]
    off = [axis - (p + 0.5) * side + 0.5 for axis, p, side in zip(index, place, step, strict=True)]
    if len(shape) == 3:
        off[2] = off[2] * flat
    number = np.ravel_multi_index(
        [p.astype(int) for p in place], [n // s for n, s in zip(shape, step, strict=True)]
    )
    return np.where(np.sqrt(sum(o**2 for o in off)) < width / 2, number + 1, 0).astype(np.uint16)


def write(folder: Path, label: np.ndarray) -> Fingerprint:
    for part, array in (("images", label.astype(np.float32)), ("labels", label)):
        save_image(folder / part / "a.tif", array, has_channels=False)
    return fingerprint(folder / "images", folder / "labels")


@pytest.mark.parametrize(("width", "scale"), [(70.0, 1 / 3), (17.0, None)])
def test_cells_in_planes(tmp_path: Path, width: float, scale: float | None) -> None:
    side = int(width) + 4
    found = write(tmp_path, balls((side * 5, side * 4), (side, side), width, 1))
    widths = object_widths(found, 2, None)
    assert widths is not None
    assert widths[MEDIAN] == pytest.approx([width, width], rel=0.02)
    plan = make_plan(found, {"label_kind": "instances"})
    assert plan.value("scale") == (pytest.approx(scale) if scale else None)
    sides = [side * 5 * (scale or 1)] * 2
    assert plan.value("tile_size")[0] >= min(sides[0], 128) - 1
    area = np.pi / 4 * (width * (scale or 1)) ** 2
    assert plan.value("min_size") == pytest.approx(area / 10, abs=2)
    assert ("scaled by 0.3333" in describe(plan)) == (scale is not None)


@pytest.mark.parametrize(
    ("width", "device", "tile"),
    [
        (10.0, "cpu", 128),  # the least
        (30.0, "cpu", 160),  # five of them are 150 px, the network's step 16
        (36.0, "cpu", 192),  # 180 px
        (10.0, "cuda", 192),  # a GPU is not short of steps
    ],
)
def test_tiles_of_objects(tmp_path: Path, width: float, device: str, tile: int) -> None:
    side = int(width) + 4
    many = 500 // side * side
    found = write(tmp_path, balls((many, many), (side, side), width, 1))
    asked = {"label_kind": "instances", "features": [2] * 5}
    assert make_plan(found, asked, device=device).value("tile_size") == [tile, tile]
    asked["label_kind"] = "mask"
    assert make_plan(found, asked, device=device).value("tile_size") == [192, 192]


def test_cells_in_volumes_whose_planes_lie_apart(tmp_path: Path) -> None:
    found = write(tmp_path, balls((152, 152, 40), (76, 76, 20), 72.0, 4.0))
    widths = object_widths(found, 3, None)
    assert widths is not None
    assert widths[MEDIAN] == pytest.approx([72.0, 72.0, 72 / 4], rel=0.05)
    plan = make_plan(found, {"label_kind": "instances", "spatial_dims": 3})
    assert plan.value("scale") == pytest.approx([1 / 3, 1 / 3, 1.0])
    assert plan.value("min_size") == pytest.approx(np.pi / 6 * 72**3 / 4 / 9 / 10, rel=0.02)
