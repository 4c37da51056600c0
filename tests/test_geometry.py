"""Sizes, margins and tiles against a walk through the levels, step by step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import reach_of_padded_unet, walk_valid_unet
from strategies import tilings, valid_nets

from unet_med.geometry import (
    Tile,
    cheapest_tile,
    halo,
    input_size_for,
    margin,
    mirror_index,
    output_size,
    per_axis,
    same_size,
    tile_grid,
    valid_input_sizes,
)

PADDINGS = ["valid", "same"]


@pytest.mark.parametrize(
    ("side", "out"), [(188, 4), (204, 20), (444, 260), (572, 388), (700, 516), (892, 708)]
)
def test_sizes_of_the_paper_and_its_release(side, out):
    assert output_size(side) == out
    assert input_size_for(out) == side
    assert side - out == 2 * margin()


@pytest.mark.parametrize("depth", range(7))
def test_closed_forms_of_the_contract(depth):
    assert margin(depth) == 6 * 2**depth - 4
    assert margin(depth, upsample_crop=1) == 7 * 2**depth - 5
    stride = 2**depth
    assert halo(depth) == -(-(7 * stride - 5) // stride) * stride
    assert halo(depth, upsample_crop=1) == -(-(8 * stride - 6) // stride) * stride
    assert all(
        side % stride == 4 * (stride - 1) % stride for side in valid_input_sizes(1, 999, depth)
    )


@given(side=st.integers(1, 700), net=valid_nets())
def test_output_size_is_the_walk_through_the_levels(side, net):
    expected = walk_valid_unet(side, **net)
    if expected is None:
        with pytest.raises(ValueError, match=f"^input side {side} px "):
            output_size(side, **net)
    else:
        assert output_size(side, **net) == expected == side - 2 * margin(**net)


@given(out=st.integers(1, 300), net=valid_nets())
def test_input_size_for_is_the_first_that_suffices(out, net):
    found = input_size_for(out, **net)
    smaller = (walk_valid_unet(side, **net) for side in range(1, found))
    assert output_size(found, **net) >= out
    assert all(size is None or size < out for size in smaller)


@given(lo=st.integers(-5, 300), extent=st.integers(0, 400), net=valid_nets())
def test_valid_input_sizes_are_all_of_them(lo, extent, net):
    hi = lo + extent
    expected = [n for n in range(max(1, lo), hi + 1) if walk_valid_unet(n, **net) is not None]
    assert list(valid_input_sizes(lo, hi, **net)) == expected


@given(net=valid_nets(max_depth=3))
def test_halo_covers_what_an_output_pixel_can_see(net):
    stride = net["pool"] ** net["depth"]
    reach = reach_of_padded_unet(**net)
    assert reach <= halo(**net) < reach + stride
    assert halo(**net) % stride == 0


@pytest.mark.parametrize(
    ("side", "message"),
    [
        (512, "input side 512 px is odd (121) before pooling 3; "
              "nearest valid sides for depth 4: 508, 524"),
        (172, "input side 172 px leaves no output (-12 px); "
              "nearest valid side for depth 4: 188"),
        (3, "input side 3 px leaves no output (-181 px); nearest valid side for depth 4: 188"),
    ],
)  # fmt: skip
def test_errors_name_the_level_and_the_nearest_sides(side, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
        output_size(side)
    assert str(caught.value) == message


def test_error_for_a_pooling_by_three():
    with pytest.raises(ValueError, match=r"44 px is no multiple of 3 \(40\) before pooling 1"):
        output_size(44, 1, pool=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": -1}, "depth -1 is less than 0"),
        ({"convs_per_level": 0}, "convs_per_level 0 is less than 1"),
        ({"pool": 1}, "pool 1 is less than 2"),
        ({"upsample_crop": -1}, "upsample_crop -1 is less than 0"),
    ],
)
def test_impossible_networks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        margin(**arguments)


def test_an_output_of_nothing_is_refused():
    with pytest.raises(ValueError, match="output side 0 px is less than 1"):
        input_size_for(0)


@given(tiling=tilings())
def test_every_pixel_is_written_once_and_only_from_what_may_be_trusted(tiling):
    shape, sides, rules = tiling
    tiles = tile_grid(shape, sides, **rules)
    lost, stride, same = rules["margin"], rules["stride"], rules["padding"] == "same"

    written = [0] * len(list(itertools.product(*map(range, shape))))
    index = {pixel: i for i, pixel in enumerate(itertools.product(*map(range, shape)))}
    for tile in tiles:
        for pixel in itertools.product(*(range(*window) for window in tile.write)):
            written[index[pixel]] += 1
    assert written == [1] * len(written)

    assert len({tuple(stop - start for start, stop in tile.read) for tile in tiles}) == 1
    for tile in tiles:
        for (first, stop), (start, end), length in zip(tile.read, tile.write, shape, strict=True):
            whole = -(-length // stride) * stride
            assert first % stride == (0 if same else -lost % stride)
            assert start >= first + lost or (same and first == 0)
            assert end <= stop - lost or (same and stop == whole)
            assert not same or (first >= 0 and stop <= whole)


@given(tiling=tilings(max_axes=1))
def test_a_grid_has_no_tile_too_many(tiling):
    (length,), (side,), rules = tiling
    tiles = tile_grid((length,), (side,), **rules)
    step = (side - 2 * rules["margin"]) // rules["stride"] * rules["stride"]
    # Laid end to end at the longest step, one tile fewer would leave pixels bare.
    reads = [tile.read[0] for tile in tiles]
    if len(tiles) > 1:
        end = length + (rules["margin"] if rules["padding"] == "valid" else 0)
        assert reads[0][1] + (len(tiles) - 2) * step < end
        steps = [b[0] - a[0] for a, b in itertools.pairwise(reads)]
        assert max(steps) - min(steps) <= rules["stride"]


def test_known_grid_of_the_paper():
    tiles = tile_grid((1024,), (700,), margin=92, stride=16)
    assert tiles == [
        Tile(read=((-92, 608),), write=((0, 512),)),
        Tile(read=((420, 1120),), write=((512, 1024),)),
    ]
    assert tiles[1].crop(92) == (slice(0, 512),)
    assert tiles[1].crop() == (slice(92, 604),)


def test_a_padded_network_reads_no_further_than_the_next_multiple():
    (tile,) = tile_grid((50, 16), (512, 512), margin=112, stride=16, padding="same")
    assert tile.read == ((0, 64), (0, 16))
    assert tile.write == ((0, 50), (0, 16))


@pytest.mark.parametrize(
    ("side", "options", "message"),
    [
        (188, {"margin": 92}, "188 px keeps 4 px between margins of 92 px, less than one step of "
         "16 px; smallest side that tiles 600 px: 204"),
        (160, {"margin": 112, "padding": "same"}, "smallest side that tiles 600 px: 240"),
    ],
)  # fmt: skip
def test_tiles_too_small_to_step_are_refused(side, options, message):
    with pytest.raises(ValueError, match=message):
        tile_grid((600,), (side,), stride=16, **options)
    smallest = int(message.rsplit(" ", 1)[1])
    assert len(tile_grid((600,), (smallest,), stride=16, **options)) > 1


@given(
    length=st.integers(1, 900), depth=st.integers(1, 4), padding=st.sampled_from(["valid", "same"])
)
def test_the_cheapest_tile_reads_least(length, depth, padding):
    stride = 2**depth
    lost = margin(depth) if padding == "valid" else halo(depth)
    first = input_size_for(stride, depth) if padding == "valid" else 2 * lost + stride
    sides = range(first, first + 20 * stride, stride)
    rules = {"margin": lost, "stride": stride, "padding": padding}

    def pixels_read(side: int) -> int:
        tiles = tile_grid((length,), (side,), **rules)
        return len(tiles) * side

    assert pixels_read(cheapest_tile(length, sides, **rules)) == min(map(pixels_read, sides))


def test_a_thin_last_tile_becomes_an_even_split():
    side = cheapest_tile(530, valid_input_sizes(204, 700), margin=92, stride=16)
    writes = [tile.write[0] for tile in tile_grid((530,), (side,), margin=92, stride=16)]
    assert (side, writes) == (460, [(0, 256), (256, 530)])  # not 700 with (0, 512), (512, 530)


@given(length=st.integers(1, 12), i=st.integers(-60, 60))
def test_mirror_index_bounces_between_the_edges(length, i):
    position, step = 0, 1
    for _ in range(abs(i)):  # a mirror is symmetric about pixel 0
        if length > 1 and not 0 <= position + step < length:
            step = -step
        position += step if length > 1 else 0
    assert mirror_index(i, length) == position


def test_same_padding_keeps_multiples_of_the_stride():
    assert same_size(512) == 512
    with pytest.raises(
        ValueError, match="250 px is no multiple of 16; nearest sides for same padding: 240, 256"
    ):
        same_size(250)
    with pytest.raises(ValueError, match="nearest side for same padding: 8"):
        same_size(7, 8)
    with pytest.raises(ValueError, match="nearest side for same padding: 8"):
        same_size(0, 8)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(8), (8, 8)),
        (np.array(8), (8, 8)),
        (torch.tensor(8), (8, 8)),
        (np.array([8, 4]), (8, 4)),
        ([np.int64(8), torch.tensor(4)], (8, 4)),
        (range(2), (0, 1)),
    ],
)
def test_numbers_of_numpy_and_torch_are_pythons(value, expected):
    found = per_axis("margin", value, 2)
    assert found == expected
    assert {type(number) for number in found} == {int}


@pytest.mark.parametrize("value", [8.0, "8", [8, 4.5], [None, 8], np.array([1.0, 2.0])])
def test_what_is_no_whole_number_is_refused_by_name(value):
    count = 1 if isinstance(value, str) else 2
    with pytest.raises(TypeError, match=r"^margin .* is no whole number"):
        per_axis("margin", value, count)
