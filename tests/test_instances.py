"""Components, ridges and their undoing, against loops over pixels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import ridge_by_loops, spread_by_loops
from skimage import io, measure
from skimage.segmentation import expand_labels
from strategies import instance_maps

import unet_med
from unet_med.instances import (
    along_axes,
    as_integers,
    instances_from_classes,
    instances_from_mask,
    label_components,
    regrow,
    ridge,
    separate,
    spread,
)

KINDS = ("symmetric", "falk")
PAIR = np.repeat([[1, 1, 1, 2, 2, 2]], 5, axis=0)  # two cells that share an edge


def touching_pairs(labels: np.ndarray) -> int:
    return int(ridge_by_loops(labels, "symmetric").sum())


@pytest.mark.parametrize("kind", KINDS)
@given(labels=instance_maps(max_side=(20, 9, 5)))
def test_ridge_is_where_a_neighbour_is_another_instance(labels, kind):
    np.testing.assert_array_equal(ridge(labels, kind), ridge_by_loops(labels, kind))


@pytest.mark.parametrize("kind", KINDS)
@given(labels=instance_maps(max_side=(20, 9, 5)))
def test_separated_instances_touch_nowhere_and_keep_their_numbers(labels, kind):
    apart = separate(labels, kind)
    assert touching_pairs(apart) == 0
    np.testing.assert_array_equal(apart[apart != 0], labels[apart != 0])
    np.testing.assert_array_equal(apart == -1, labels == -1)


@given(labels=instance_maps(axes=(2,), max_side=(0, 9)))
def test_symmetric_ridge_turns_and_flips_with_the_image(labels):
    np.testing.assert_array_equal(np.rot90(ridge(labels)), ridge(np.rot90(labels)))
    np.testing.assert_array_equal(ridge(labels)[::-1], ridge(labels[::-1]))


def test_width_of_the_ridges():
    for labels in (PAIR, PAIR.T):
        symmetric = ridge(labels)
        assert symmetric.sum() == 2 * 5
    np.testing.assert_array_equal(separate(PAIR)[2], [1, 1, 0, 0, 2, 2])
    np.testing.assert_array_equal(separate(PAIR, "falk")[0], [1, 1, 1, 0, 2, 2])  # no NE here
    np.testing.assert_array_equal(separate(PAIR, "falk")[2], [1, 1, 0, 0, 2, 2])
    np.testing.assert_array_equal(separate(PAIR.T, "falk")[:, 2], [1, 1, 1, 0, 2, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_channel_axis_changes_nothing(kind):
    np.testing.assert_array_equal(separate(PAIR[None], kind), separate(PAIR, kind)[None])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill", [0, 1, -1])
def test_no_ridge_without_two_instances(fill, kind):
    assert not ridge(np.full((4, 5), fill), kind).any()


def test_ridge_of_unsigned_labels():
    np.testing.assert_array_equal(separate(PAIR.astype(np.uint8)), separate(PAIR))
    assert separate(PAIR.astype(np.uint8)).dtype == np.uint8


def test_unknown_ridge():
    with pytest.raises(ValueError, match=r"ridge kind 'round'; it is 'symmetric' or 'falk'"):
        ridge(PAIR, "round")


@pytest.mark.parametrize("connectivity", [1, 2])
def test_components_are_those_of_scikit_image(rng, connectivity):
    mask = rng.random((30, 40)) < 0.5
    np.testing.assert_array_equal(
        label_components(mask * 255, connectivity),
        measure.label(mask, connectivity=connectivity),
    )
    np.testing.assert_array_equal(
        label_components(mask[None], connectivity)[0], label_components(mask, connectivity)
    )


def test_diagonal_neighbours_are_two_components_by_default():
    assert label_components(np.eye(3)).max() == 3
    assert label_components(np.eye(3), 2).max() == 1


@pytest.mark.parametrize("connectivity", [0, 3])
def test_connectivity_beyond_the_dimensions(connectivity):
    with pytest.raises(ValueError, match=rf"connectivity {connectivity} in 2 dimensions; 1 joins"):
        label_components(np.eye(3), connectivity)


@pytest.mark.parametrize("fill", [0, 1])
def test_components_of_a_constant(fill):
    np.testing.assert_array_equal(label_components(np.full((3, 4), fill)), np.full((3, 4), fill))
    np.testing.assert_array_equal(instances_from_mask(np.full((3, 4), fill)), np.full((3, 4), fill))


def test_small_components_go_and_numbers_close_up():
    mask = [1, 0, 1, 1, 1, 0, 1, 1, 0, 1]
    np.testing.assert_array_equal(instances_from_mask(mask, 2), [0, 0, 1, 1, 1, 0, 2, 2, 0, 0])
    np.testing.assert_array_equal(instances_from_mask(mask), label_components(mask))


def test_regrow_undoes_the_symmetric_ridge():
    labels = np.pad(np.kron([[1, 2, 3, 4]], np.ones((7, 8), int)), 4)
    np.testing.assert_array_equal(regrow(separate(labels)), labels)
    four = np.pad(np.kron([[1, 2], [3, 4]], np.ones((7, 8), int)), 4)
    lost = np.argwhere(regrow(separate(four)) != four)
    np.testing.assert_array_equal(lost, [[10, 11], [10, 12], [11, 11], [11, 12]])  # the corner


@pytest.mark.data
def test_regrow_beats_plain_growth_on_real_cells(shared):
    """The reason for `grow=1`: more comes back than gaps of the annotation are closed."""
    truth = io.imread(shared / "data/stardist/mask2d.tif").astype(np.int32)
    taken = separate(truth)
    wrong = [(labels != truth).sum() for labels in (regrow(taken), taken, expand_labels(taken, 1))]
    assert wrong == sorted(wrong)


def test_regrow_fills_gaps_up_to_twice_the_distance():
    line = np.array([0, 1, 0, 0, 0, 0, 2, 0, 0])
    np.testing.assert_array_equal(regrow(line, 1), line)
    np.testing.assert_array_equal(regrow(line, 2), [0, 1, 1, 1, 2, 2, 2, 0, 0])
    np.testing.assert_array_equal(regrow(line, 0), line)


@pytest.mark.parametrize("gap", [1, 2, 3, 4])
@pytest.mark.parametrize("distance", [1, 2, 3])
def test_regrow_fills_what_lies_between_and_nothing_at_the_ends_of_a_contact(gap, distance):
    """Two squares side by side: the same rows between them, and no row above or below."""
    for top in (0, 5):  # at the image's border and away from it
        labels = np.zeros((24, 16 + gap), int)
        labels[top : top + 9, 2:8], labels[top : top + 9, 8 + gap : 14 + gap] = 1, 2
        found = regrow(labels, distance)
        expected = labels.copy()
        for px in range(gap):  # each from the nearer square, where both reach it
            near, far = px + 1, gap - px
            if gap <= 2 * distance and near != far:
                expected[top : top + 9, 8 + px] = 1 if near < far else 2
        between = np.s_[top : top + 9, 8 : 8 + gap]
        told = expected[between] > 0  # a tie is of either
        np.testing.assert_array_equal(found[between][told], expected[between][told])
        assert (found[between] > 0).all() == (gap <= 2 * distance)
        found[between] = 0
        np.testing.assert_array_equal(found, labels)


def test_thick_slices_grow_by_fewer_px():
    """Two cells of 4 slices, a slice of each taken between them, two px beside each other."""
    cells = np.zeros((12, 12, 10), np.int32)
    cells[1:6, 2:10, 1:5], cells[1:6, 2:10, 5:9] = 1, 2  # one on the other
    cells[6:11, 2:10, 1:5] = 3  # beside the first
    parted = separate(cells)
    parted[2:10, 9] = 0  # and drawn a pixel too small where they are free
    found = regrow(parted, (2, 2, 1))
    for place in np.argwhere(found != parted):  # by loops: an ellipsoid around each pixel
        steps = (np.argwhere(parted > 0) - place) / (2, 2, 1)
        far = np.square(steps).sum(axis=1)
        assert far.min() <= 1
        nearest = parted[parted > 0][np.isclose(far, far.min())]
        assert found[tuple(place)] in nearest
    inside = cells > 0
    inside[:, 9] = False  # an outline towards open background: nothing grows there
    assert np.mean(found[inside] == cells[inside]) > 0.9
    assert not found[..., [0, 9]].any()  # no slice more
    np.testing.assert_array_equal(regrow(parted, (1, 1, 1)), regrow(parted, 1))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("connectivity", [1, 3])
def test_planes_apart_are_numbered_one_by_one(rng, axis, connectivity):
    """Objects of each plane as by itself, those of the first plane first; small ones go there."""
    from unet_med.instances import instances_from_classes

    stack = rng.random((9, 8, 7)) < 0.5
    expected, count = [], 0
    for plane in np.moveaxis(stack, axis, 0):
        found = instances_from_mask(plane, 3, connectivity=min(connectivity, 2))
        expected.append(np.where(found > 0, found + count, 0))
        count += found.max()
    axes = [each for each in range(3) if each != axis]
    rule = {"connectivity": connectivity, "axes": axes, "planes": "apart"}
    found = instances_from_classes(stack, 3, **rule)
    np.testing.assert_array_equal(found, np.stack(expected, axis))
    joined = instances_from_classes(stack, 3, **{**rule, "planes": "joined"})
    assert joined.max() < found.max()


def test_planes_of_a_stack_do_not_grow_into_each_other():
    stack = np.stack([[[1, 0, 0, 2]], [[0, 0, 0, 0]], [[3, 0, 4, 0]]], axis=-1)  # (1, 4, 3)
    expected = np.stack([regrow(stack[..., z], 2) for z in range(3)], axis=-1)
    np.testing.assert_array_equal(regrow(stack, (2, 2, 0)), expected)
    assert along_axes(2, 3, (0, 1)) == (2, 2, 0)
    found = instances_from_classes(stack > 0, grow=2, axes=(0, 1))
    assert not found[..., 1].any()
    with pytest.raises(ValueError, match=r"\[1, 1\] px for 3 axes"):
        regrow(stack, [1, 1])


def test_regrow_leaves_ignored_pixels_and_lonely_instances():
    np.testing.assert_array_equal(regrow([1, -1, 2, 0, 3]), [1, -1, 2, 2, 3])
    np.testing.assert_array_equal(regrow([1, 0, -1, 2]), [1, 0, -1, 2])
    np.testing.assert_array_equal(regrow([0, 1, 0]), [0, 1, 0])
    np.testing.assert_array_equal(regrow([0, -1, 0]), [0, -1, 0])


def test_whole_floats_are_labels():
    labels = as_integers(np.array([0.0, 3.0, -1.0], np.float32))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [0, 3, -1])
    np.testing.assert_array_equal(as_integers(np.array([2.0**40])), [2**40])
    assert as_integers(np.array([True])).dtype == np.int32
    assert as_integers(np.array([7], np.float16)).tolist() == [7]  # which has no 2**31


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf, -np.inf])
def test_other_floats_are_not(wrong):
    with pytest.raises(ValueError, match=rf"label value {wrong} is not a whole number"):
        as_integers(np.array([0.0, wrong]))


@st.composite
def seeded_maps(draw):
    """Classes of seeds, -classes of the mask around them, and the objects of the seeds."""
    shape = draw(st.lists(st.integers(1, 9), min_size=2, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    p = draw(st.sampled_from([(0.2, 0.7, 0.1), (0.5, 0.4, 0.1), (0.1, 0.88, 0.02)]))
    kinds = rng.integers(1, 3, shape)
    return kinds * rng.choice([0, -1, 1], shape, p=p)


@given(classes=seeded_maps(), longest=st.integers(0, 5), data=st.data())
def test_seeds_walk_through_their_mask(classes, longest, data):
    """Against a loop over pixels and steps; objects are numbered by class, as scikit-image does."""
    each = st.tuples(*[st.integers(0, longest)] * classes.ndim)
    reach = data.draw(st.one_of(st.just(longest), each))
    labels = np.zeros(classes.shape, int)
    for kind in (1, 2):
        found = measure.label(classes == kind, connectivity=1)
        labels[found > 0] = found[found > 0] + labels.max()
    kinds = [0, *(int(classes[labels == n].max()) for n in range(1, labels.max() + 1))]
    expected = spread_by_loops(np.where(classes < 0, classes, labels), kinds, reach)
    found = spread(np.where(classes < 0, classes, labels), np.array(kinds), reach)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(instances_from_classes(classes, reach=reach), expected)


def test_seeds_walk_as_far_as_their_reach_along_each_axis():
    """Thick slices: a slice in the time of three pixels, and no slice more than is said."""
    line = np.full(9, -1)
    line[0] = 1
    for axis, reach, taken in ((0, (6, 2), 6), (1, (6, 2), 2), (0, (0, 3), 0), (1, 3, 3)):
        column = line.reshape((-1, 1) if axis == 0 else (1, -1))
        assert np.count_nonzero(spread(column, np.array([0, 1]), reach)) == 1 + taken
    plane = np.full((9, 9), -1)
    plane[8, 4], plane[4, 1] = 1, 2  # 4 px along the first axis, 3 slices along the second
    found = spread(plane, np.array([0, 1, 1]), (6, 2))
    assert found[4, 2] == 2  # a slice at step 3; the first comes at step 6
    assert found[4, 3] == 1  # a slice and 4 px, at step 5; the second's 2 slices are at step 6
    assert (found[8 - 6, 4], found[1, 4]) == (1, 0)


@given(classes=seeded_maps(), reach=st.integers(0, 5))
def test_one_reach_is_that_reach_along_every_axis(classes, reach):
    each = instances_from_classes(classes, reach=(reach,) * classes.ndim)
    np.testing.assert_array_equal(each, instances_from_classes(classes, reach=reach))
    if classes.ndim == 3:
        planes = instances_from_classes(classes, reach=(reach, reach, 0))
        expected = instances_from_classes(classes, reach=reach, axes=(0, 1))
        np.testing.assert_array_equal(planes, expected)


@given(classes=seeded_maps(), seed=st.integers(0, 99))
def test_what_a_seed_takes_does_not_depend_on_numbers(classes, seed):
    labels = label_components(classes > 0)
    numbers = np.append(0, np.random.default_rng(seed).permutation(labels.max()) + 1)
    values = np.where(classes < 0, -1, labels)
    kinds = np.ones(labels.max() + 1, int)
    shuffled = np.where(classes < 0, -1, numbers[labels])
    np.testing.assert_array_equal(spread(shuffled, kinds, 3), numbers[spread(values, kinds, 3)])


def test_small_objects_are_weighed_with_what_they_took():
    classes = np.array([[-1, 1, -1, 0, 1, 0, -1, -1, -1]])
    found = instances_from_classes(classes, 2, reach=1)
    np.testing.assert_array_equal(found, [[1, 1, 1, 0, 0, 0, 0, 0, 0]])


def test_what_marks_unknown_pixels_is_said_once() -> None:
    """No module has a number of its own for them, by whatever name."""
    own = re.compile(r"\b(ignore\w*|IGNORED\w*|UNKNOWN)(: int)? = -?\d")
    package = Path(unet_med.__file__).parent
    found = {
        (path.relative_to(package).as_posix(), line.strip().partition("  #")[0])
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if own.search(line)
    }
    home = "instances/numbers.py"
    assert found == {(home, "UNKNOWN = -1"), (home, "IGNORED = 255")}
