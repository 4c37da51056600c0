"""Instances found block by block equal those of the whole volume."""

from __future__ import annotations

import pickle
import re
import tracemalloc
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unet_med.volumes.blocks import split
from unet_med.volumes.components import around
from unet_med.volumes.instances import (
    Components,
    find_components,
    instances_of_block,
    label_blocks,
    merge_components,
    sizes_of_block,
)


def canonical(labels: np.ndarray) -> np.ndarray:
    """Labels renumbered 1..N in the order of their first pixels, the slow obvious way."""
    numbers: dict[int, int] = {0: 0}
    return np.array([numbers.setdefault(n, len(numbers)) for n in labels.ravel().tolist()]).reshape(
        labels.shape
    )


def whole(mask: np.ndarray, connectivity: int) -> np.ndarray:
    structure = ndimage.generate_binary_structure(mask.ndim, connectivity)
    return canonical(ndimage.label(mask, structure)[0])


def blockwise(classes: np.ndarray, block: Any, *, min_size: int = 0, **rules: int) -> np.ndarray:
    """The three steps, with tables in memory."""
    blocks = split(classes.shape, block)
    tables = {part.index: find_components(classes, part, **rules) for part in blocks}
    numbering = merge_components(blocks, tables.__getitem__, min_size=min_size)
    if np.any(rules.get("reach", 0)):
        numbering = merge_components(blocks, tables.__getitem__)
        sizes = np.zeros(len(numbering.numbers), np.int64)
        for part in blocks:
            objects, found = sizes_of_block(classes, part, numbering, tables.__getitem__)
            assert len(objects) <= classes[part.slices].size  # not all there are
            sizes[objects] += found
        numbering = numbering.without_small(sizes, min_size)
    out = np.full(classes.shape, -7, np.int32)
    for part in blocks:
        out[part.slices] = instances_of_block(classes, part, numbering, tables.__getitem__)
    assert numbering.count == out.max(initial=0)
    return out


def spiral(side: int) -> np.ndarray:
    """One line of 1 px that winds inwards, 1 px from its last turn: it turns before it touches."""
    mask = np.zeros((side, side), bool)

    def free(place: np.ndarray) -> bool:
        return bool((place >= 0).all() and (place < side).all() and not mask[tuple(place)])

    place, step = np.array([0, 0]), np.array([0, 1])
    mask[0, 0] = True
    while True:
        if not free(place + step) or (not free(place + 2 * step) and _inside(place, step, side)):
            step = np.array([step[1], -step[0]])  # right
            if not free(place + 2 * step):
                return mask
        place = place + step
        mask[tuple(place)] = True


def _inside(place: np.ndarray, step: np.ndarray, side: int) -> bool:
    ahead = place + 2 * step
    return bool((ahead >= 0).all() and (ahead < side).all())


def helix(side: int, turns: int) -> np.ndarray:
    """A spiral in each other slice, joined to the next at its inner and outer end in turn."""
    plane = spiral(side)
    mask = np.zeros((2 * turns - 1, side, side), bool)
    mask[::2] = plane
    ends = [tuple(p) for p in np.argwhere(plane) if plane[_around(p)].sum() == 2]
    for k in range(turns - 1):
        mask[(2 * k + 1, *ends[k % 2])] = True
    return mask


def _around(place: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(max(0, p - 1), p + 2) for p in place)


def comb(shape: tuple[int, ...]) -> np.ndarray:
    """Teeth along the last axis that only meet in a spine at its far end."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(None, None, 2) for _ in shape[:-1])] = True
    mask[..., -1] = True
    return mask


def checkerboard(shape: tuple[int, ...], cell: int) -> np.ndarray:
    """Cubes that touch one another at edges and corners only."""
    return sum(np.indices(shape) // cell) % 2 == 0


SHAPES = {
    "spiral": spiral(41),
    "helix": helix(17, 5),
    "comb 2-D": comb((23, 19)),
    "comb 3-D": comb((9, 11, 13)),
    "checkerboard 2-D": checkerboard((24, 20), 4),
    "checkerboard 3-D": checkerboard((12, 12, 8), 2),
    "checkerboard of single voxels": checkerboard((7, 9, 8), 1),
}


@pytest.mark.parametrize("side", [3, 4])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_cross_many_blocks(name: str, side: int) -> None:
    mask = SHAPES[name]
    for connectivity in range(1, mask.ndim + 1):
        found = blockwise(mask, (side,) * mask.ndim, connectivity=connectivity)
        np.testing.assert_array_equal(found, whole(mask, connectivity))


def test_the_shapes_are_what_they_say() -> None:
    assert whole(SHAPES["spiral"], 2).max() == 1
    assert SHAPES["spiral"].sum() > 41 * 41 * 0.45
    assert whole(SHAPES["helix"], 3).max() == 1
    assert whole(SHAPES["comb 3-D"], 1).max() == 1
    assert whole(SHAPES["checkerboard 2-D"], 1).max() == 15
    assert whole(SHAPES["checkerboard 3-D"], 3).max() == 1


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_neighbour_is_met(ndim: int) -> None:
    """Two voxels either side of a face, an edge, a corner: one, if the connectivity says so."""
    for step in product((-1, 0, 1), repeat=ndim):
        if not any(step):
            continue
        mask = np.zeros((6,) * ndim, np.uint8)
        here = tuple(2 if s > 0 else 3 if s < 0 else 4 for s in step)  # at the end of its block
        mask[here] = mask[tuple(h + s for h, s in zip(here, step, strict=True))] = 1
        for connectivity in range(1, ndim + 1):
            expected = 1 if np.count_nonzero(step) <= connectivity else 2
            assert blockwise(mask, (3,) * ndim, connectivity=connectivity).max() == expected


@st.composite
def fields(draw: Any) -> tuple[np.ndarray, tuple[int, ...], int]:
    """Classes of a random field, sides of a block, a connectivity."""
    ndim = draw(st.integers(2, 3))
    shape = tuple(draw(st.integers(1, 14 if ndim == 2 else 8)) for _ in range(ndim))
    block = tuple(draw(st.integers(2, 6)) for _ in range(ndim))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    density = draw(st.sampled_from([0.05, 0.3, 0.5, 0.6, 0.9]))
    kinds = rng.integers(1, draw(st.integers(1, 3)), shape, endpoint=True)
    classes = np.where(rng.random(shape) < density, kinds, 0).astype(np.uint8)
    return classes, block, draw(st.integers(1, ndim))


@given(fields())
def test_random_fields(field: tuple[np.ndarray, tuple[int, ...], int]) -> None:
    classes, block, connectivity = field
    found = blockwise(classes, block, connectivity=connectivity)
    number = 0
    for kind in range(1, 4):  # one class after another
        expected = whole(classes == kind, connectivity)
        expected[expected > 0] += number
        np.testing.assert_array_equal(found[classes == kind], expected[classes == kind])
        number = max(number, int(expected.max(initial=0)))
    assert not found[classes == 0].any()


@settings(max_examples=50)
@given(fields(), st.integers(0, 12), st.integers(0, 3))
def test_a_prediction_gives_the_same_instances(
    field: tuple[np.ndarray, tuple[int, ...], int], min_size: int, grow: int
) -> None:
    """Sizes are counted over all blocks, and growth passes their borders."""
    from unet_med.transforms import InstancesFromLogits

    classes, block, connectivity = field
    block = tuple(max(side, 2 * grow) for side in block)
    rules = {"min_size": min_size, "grow": grow, "connectivity": connectivity}
    scores = np.stack([classes == kind for kind in range(4)]).astype(np.float32)
    expected = InstancesFromLogits(**rules, softmax=False)(scores)[0]  # type: ignore[arg-type]
    np.testing.assert_array_equal(blockwise(classes, block, **rules), expected)


@settings(max_examples=30)
@given(fields(), st.integers(0, 12), st.integers(0, 3), st.integers(0, 4), st.data())
def test_seeds_that_take_their_mask(
    field: tuple[np.ndarray, tuple[int, ...], int], min_size: int, grow: int, reach: int, data: Any
) -> None:
    """What a seed takes crosses the borders of blocks, and counts for its object's size."""
    from unet_med.instances import along_axes, instances_from_classes

    classes, block, connectivity = field
    each = st.lists(st.integers(0, 4), min_size=classes.ndim, max_size=classes.ndim)
    grows, walks = (data.draw(st.one_of(st.just(one), each)) for one in (grow, reach))
    mask_only = np.random.default_rng(data.draw(st.integers(0, 99))).random(classes.shape) < 0.6
    classes = np.where(mask_only, -1, 1).astype(np.int16) * classes
    axes = data.draw(st.sampled_from([None, (0, 1), (0, classes.ndim - 1)]))
    needed = around(*(along_axes(px, classes.ndim, axes) for px in (grows, walks)))
    block = tuple(max(sides) for sides in zip(block, needed, strict=True))
    rules = {"grow": grows, "connectivity": connectivity, "reach": walks, "axes": axes}
    rules["min_size"] = min_size
    rules["planes"] = data.draw(st.sampled_from(["apart", "joined"]))
    expected = instances_from_classes(classes, **rules)
    np.testing.assert_array_equal(blockwise(classes, block, **rules), expected)
    out = np.zeros(classes.shape, np.int32)
    assert label_blocks(classes, out, block, **rules) == expected.max()
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_each_axis_has_its_own_reach_and_growth(dims: int) -> None:
    """Blocks as thin along each axis as its own sizes allow, so that a halo too thin is seen."""
    from unet_med.instances import instances_from_classes

    rng = np.random.default_rng(dims)
    for _ in range(40):
        shape = tuple(rng.integers(5, 16 if dims == 2 else 10, dims))
        kinds = rng.integers(1, 3, shape) * rng.choice([0, 1, -1], shape, p=[0.4, 0.1, 0.5])
        grow, reach = rng.integers(0, [[2], [5]], (2, dims)).tolist()
        rules = {"grow": grow, "reach": reach, "min_size": int(rng.integers(0, 5))}
        block = [max(2, 2 * px + walk) for px, walk in zip(grow, reach, strict=True)]
        expected = instances_from_classes(kinds, **rules)
        np.testing.assert_array_equal(blockwise(kinds, block, **rules), expected)


def cells(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Blobs with gaps of a pixel or two between them, as a network trained with borders leaves."""
    rng = np.random.default_rng(seed)
    seeds = rng.random(shape) < 0.004
    labels, _ = ndimage.label(seeds)
    far, nearest = ndimage.distance_transform_edt(~seeds, return_indices=True)
    labels = labels[tuple(nearest)]
    edge = ndimage.grey_dilation(labels, size=3) != ndimage.grey_erosion(labels, size=3)
    return (~edge & (far < 9)).astype(np.uint8)


@pytest.mark.parametrize("grow", [1, 2])
@pytest.mark.parametrize("shape", [(301, 170), (40, 150, 33)])
def test_cells_grow_into_their_borders(shape: tuple[int, ...], grow: int) -> None:
    """Volumes larger than the parts in which a block's instances grow."""
    from unet_med.instances import instances_from_mask, regrow

    mask = cells(shape)
    expected = regrow(instances_from_mask(mask, 20), grow)
    grown = np.count_nonzero((expected > 0) > (mask > 0))
    assert grown > 1000  # between cells alone, so that there is something to compare
    for block in ((200,) * len(shape), (64,) * len(shape), (2 * grow, *shape[1:])):
        found = blockwise(mask, block, min_size=20, grow=grow)
        np.testing.assert_array_equal(found, expected)


class Guarded:
    """An array that notes how much of it is read or written at once."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.largest = 0

    def __getitem__(self, key: Any) -> np.ndarray:
        part = self.array[key]
        self.largest = max(self.largest, part.size)
        return part

    def __setitem__(self, key: Any, value: np.ndarray) -> None:
        self.largest = max(self.largest, value.size)
        self.array[key] = value


def test_no_step_reads_more_than_a_block() -> None:
    mask = cells((40, 30, 20))
    source, out = Guarded(mask), Guarded(np.zeros(mask.shape, np.uint16))
    label_blocks(source, out, (8, 10, 7), grow=2)
    assert source.largest == out.largest == 8 * 10 * 7


def test_memory_does_not_grow_with_the_volume(tmp_path: Path) -> None:
    def peak(slices: int) -> float:
        shape = (slices, 96, 96)
        source = np.memmap(tmp_path / f"{slices}.mask", np.uint8, "w+", shape=shape)
        out = np.memmap(tmp_path / f"{slices}.out", np.int32, "w+", shape=shape)
        cubes = checkerboard((32, 96, 96), 16)
        for start in range(0, slices, 32):
            source[start : start + 32] = cubes
        tracemalloc.start()
        label_blocks(source, out, (32, 96, 96), grow=1)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(32)  # imports
    assert peak(256) < 1.1 * peak(64)


@pytest.mark.parametrize("kind", ["memmap", "zarr"])
def test_array_likes(kind: str, tmp_path: Path) -> None:
    mask = cells((50, 40))
    if kind == "memmap":
        source = np.memmap(tmp_path / "mask", np.uint8, "w+", shape=mask.shape)
        out = np.memmap(tmp_path / "out", np.uint32, "w+", shape=mask.shape)
    else:
        zarr = pytest.importorskip("zarr")
        layout = {"shape": mask.shape, "chunks": (8, 8), "shards": (16, 16)}
        source = zarr.create_array(tmp_path / "mask", dtype="uint8", **layout)
        out = zarr.create_array(tmp_path / "out", dtype="uint32", **layout)
    source[...] = mask
    label_blocks(source, out, (16, 16))
    np.testing.assert_array_equal(out[...], whole(mask, 1))


def test_steps_run_in_any_order_and_again(tmp_path: Path) -> None:
    """As an engine runs them: each from its file, shuffled, some of them twice."""
    mask = cells((30, 28, 26))
    blocks = split(mask.shape, (8, 9, 10))

    def load(index: tuple[int, ...]) -> Components:
        return Components.load(tmp_path / f"{index}.npz")

    order = np.random.default_rng(0).permutation([*range(len(blocks)), 3, 5])
    for k in order:
        found = find_components(mask, blocks[k], connectivity=3, grow=1)
        found.save(tmp_path / f"{blocks[k].index}.npz")
    numbering = pickle.loads(pickle.dumps(merge_components(blocks, load, min_size=9)))
    out = np.zeros(mask.shape, np.int64)
    for k in order[::-1]:
        out[blocks[k].slices] = instances_of_block(mask, blocks[k], numbering, load)
    expected = blockwise(mask, mask.shape, connectivity=3, grow=1, min_size=9)
    np.testing.assert_array_equal(out, expected)
    assert numbering.count == expected.max()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{block.index}.npz" for block in blocks}


def test_empty_full_and_single(tmp_path: Path) -> None:
    assert not blockwise(np.zeros((5, 5), bool), (2, 2)).any()
    assert (blockwise(np.ones((5, 4, 3), bool), (2, 2, 2), grow=1) == 1).all()
    assert blockwise(np.ones((1, 1), np.uint8), (4, 4)).tolist() == [[1]]
    assert not blockwise(np.ones((3, 3), np.uint8), (2, 2), min_size=10).any()


def test_numbers_follow_the_first_pixel_not_the_block() -> None:
    mask = np.zeros((4, 8), np.uint8)
    mask[2, 1] = 1  # in the first block, on a later line
    mask[0, 6] = 1  # in the second block
    assert blockwise(mask, (4, 4))[2, 1] == 2


def test_wrong_input_is_refused() -> None:
    mask = np.ones((4, 6), np.uint8)
    out = np.zeros((4, 6), np.uint8)
    with pytest.raises(ValueError, match=re.escape("instances of shape (4, 5) for classes of")):
        label_blocks(mask, out[:, :5], (2, 2))
    with pytest.raises(ValueError, match=re.escape("connectivity 3 in 2 dimensions; 1 joins")):
        label_blocks(mask, out, (2, 2), connectivity=3)
    with pytest.raises(
        ValueError, match=re.escape("blocks of 3 px along axis 1, and instances grow within 4 px: ")
    ):
        label_blocks(mask, out, (4, 3), grow=2)
    many = checkerboard((40, 40), 1)
    with pytest.raises(ValueError, match="800 instances do not fit into uint8: use uint32"):
        label_blocks(many, np.zeros(many.shape, np.uint8), (8, 8))


def test_tables_that_do_not_fit_are_refused() -> None:
    mask = np.ones((4, 6), np.uint8)
    blocks = split(mask.shape, (2, 3))
    tables = {b.index: find_components(mask, b, grow=b.index[0]) for b in blocks}
    with pytest.raises(
        ValueError,
        match=re.escape("(connectivity, grow, reach, apart): [(1, (0, 0), (0, 0), (False,"),
    ):
        merge_components(blocks, tables.__getitem__)
    with pytest.raises(ValueError, match="3 blocks are not a whole grid"):
        merge_components(blocks[1:], tables.__getitem__)
    tables = {b.index: find_components(mask, b) for b in blocks}
    numbering = merge_components(blocks, tables.__getitem__)
    mask[0, 1] = mask[1, 1] = 0
    with pytest.raises(ValueError, match=re.escape("block (0, 0) has 2 components, and had 1")):
        instances_of_block(mask, blocks[0], numbering, tables.__getitem__)
