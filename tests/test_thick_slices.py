"""Networks that treat axes differently: their arithmetic, and tiles that equal the whole."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import reach_of_padded_axis, unet_pass, walk_valid_axis
from strategies import thick_axes, thick_nets

from unet_med.export.bioimageio import block_sides, by_axis
from unet_med.export.wrapper import MirrorPadded
from unet_med.geometry import Axis, alike, axes_of
from unet_med.inferers import OverlapTileInferer
from unet_med.inferers.overlap_tile import _turned
from unet_med.inferers.test_time_augmentation import View
from unet_med.inferers.tile_size import automatic_sides, smaller_sides
from unet_med.inferers.tiling import tiling_of
from unet_med.networks import UNet

TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-12}
UPSAMPLES = ("deconv", "bilinear", "unpool", "pixelshuffle")
THICK = {"pool": [(2, 2, 1), 2], "kernel_size": [(3, 3, 1), 3, 3]}


def tiling_for(net: Any, dims: int = 3) -> Any:
    return tiling_of(net, torch.empty([1] * (2 + dims)), margin=None, stride=None)


def built(options: dict[str, Any], dtype: torch.dtype = torch.float64) -> UNet:
    torch.manual_seed(0)
    return UNet(**options, out_channels=3).to(dtype).eval()


def require_equal(got: torch.Tensor, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    limit = TOLERANCE[got.dtype] * float(expected.std())
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=limit)


# --- arithmetic -----------------------------------------------------------------------------


@given(side=st.integers(1, 400), levels=thick_axes())
def test_an_axis_is_the_walk_through_its_levels(side: int, levels: Any) -> None:
    pools, kernels, convs, crops = levels
    axis = Axis(pools, kernels, convs, crops)
    expected = walk_valid_axis(side, pools, kernels, crops, convs)
    if expected is None:
        with pytest.raises(ValueError, match=f"^input side {side} px "):
            axis.output_size(side)
    else:
        assert axis.output_size(side) == expected == side - 2 * axis.margin
    smaller = (walk_valid_axis(n, pools, kernels, crops, convs) for n in range(1, axis.smallest))
    assert not any(smaller)
    assert walk_valid_axis(axis.smallest, pools, kernels, crops, convs)


@given(levels=thick_axes())
def test_the_halo_of_an_axis_covers_what_an_output_pixel_can_see(levels: Any) -> None:
    pools, kernels, convs, crops = levels
    axis = Axis(pools, kernels, convs, crops, "same")
    reach = reach_of_padded_axis(pools, kernels, crops, convs)
    assert reach <= axis.margin < reach + axis.stride
    assert axis.margin % axis.stride == 0
    assert (axis.lost, axis.smallest) == (0, axis.stride)


def test_one_number_stands_for_all_levels_and_axes() -> None:
    one = axes_of(3, 2, pool=2, kernel_size=3, bilinear=True)
    each = axes_of(3, 2, pool=[(2, 2, 2), [2, 2, 2]], kernel_size=[3, (3, 3, 3), 3], bilinear=True)
    assert one == each
    assert one == (Axis((2, 2), (3, 3, 3), 2, (1, 1)),) * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": [(2, 2, 1)]}, r"pool \[\(2, 2, 1\)\] has 1 entries for 2 poolings: give one"),
        ({"pool": (2, 2, 1)}, r"pool \(2, 2, 1\) has 3 entries for 2 poolings"),
        ({"pool": [(2, 2), 2]}, r"pool \(2, 2\) has 2 values for 3 axes"),
        ({"pool": [2, (1, 1, 1)]}, "pool 1 is less than 2 along every axis: take out this pooling"),
        ({"pool": [2, (2, 0, 2)]}, "pool 0 is less than 1"),
        ({"kernel_size": [3, 3]}, r"kernel_size \[3, 3\] has 2 entries for 3 levels"),
        ({"kernel_size": [3, 3, (3, 3, 2)]}, "kernel_size 2 has no middle; it must be odd"),
        ({"kernel_size": 0}, "kernel_size 0 is less than 1"),
    ],
)
def test_levels_that_cannot_be_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(3, features=(2, 2, 2), **options)


# --- the network ----------------------------------------------------------------------------


def test_a_network_says_one_number_where_axes_agree_and_one_an_axis_elsewhere() -> None:
    net = UNet(3, features=(2, 2, 2), **THICK)
    assert (net.stride, net.margin) == ((4, 4, 2), (20, 20, 8))
    assert net.input_size_for(1) == (44, 44, 18)
    assert net.output_size((44, 60, 18)) == (4, 20, 2)
    even = UNet(3, features=(2, 2, 2), pool=[2, 2], kernel_size=[3, 3, 3])
    assert (even.stride, even.margin, even.output_size(44)) == (4, 20, 4)
    assert even.output_size((44, 60, 44)) == (4, 20, 4)
    with pytest.raises(ValueError, match=r"^axis 2: input side 17 px is odd .* poolings by 1, 2: "):
        net(torch.zeros(1, 1, 44, 44, 17))


def test_the_papers_network_has_the_same_weights_by_name_and_value() -> None:
    torch.manual_seed(0)
    plain = UNet(3, features=(2, 3, 4)).state_dict()
    torch.manual_seed(0)
    spelled = UNet(3, features=(2, 3, 4), pool=[2, (2, 2, 2)], kernel_size=[3, 3, (3, 3, 3)])
    assert list(plain) == list(spelled.state_dict())
    for name, weight in spelled.state_dict().items():
        assert torch.equal(weight, plain[name])


@pytest.mark.parametrize("upsample", UPSAMPLES)
def test_slices_that_no_level_pools_or_joins_are_images_by_themselves(upsample: str) -> None:
    """A 3-D network that leaves an axis alone is the 2-D one, slice by slice."""
    common = {"features": (2, 3, 4), "upsample": upsample, "padding": "same", "dropout": 0.0}
    flat = UNet(2, **common).double()
    deep = UNet(3, pool=[(2, 2, 1)] * 2, kernel_size=[(3, 3, 1)] * 3, **common).double()
    weights = flat.state_dict()
    deep.load_state_dict({name: w[..., None] if w.ndim == 4 else w for name, w in weights.items()})
    x = torch.randn(1, 1, 16, 24, 3, dtype=torch.float64)
    with torch.no_grad():
        slices = torch.stack([flat(x[..., z]) for z in range(3)], dim=-1)
        torch.testing.assert_close(deep(x), slices, rtol=0, atol=1e-13)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("upsample", UPSAMPLES)
def test_a_scripted_network_carries_its_rules(upsample: str, padding: str) -> None:
    net = built({"spatial_dims": 3, "features": (2, 2, 2), **THICK, "upsample": upsample,
                 "padding": padding, "convs_per_level": 1}, torch.float32)  # fmt: skip
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(net), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    x = torch.randn(1, 1, *net.input_size_for((9, 5, 6)))
    with torch.no_grad():
        assert torch.equal(loaded(x), net(x))
    assert (loaded.stride, loaded.margin) == (net.stride, net.margin)
    ours, theirs = tiling_for(net), tiling_for(loaded)
    for one, other in zip(ours.axes, theirs.axes, strict=True):
        assert replace(one, output_size=abs) == replace(other, output_size=abs)
        assert one.output_size(one.smallest + one.stride) == other.output_size(
            other.smallest + other.stride
        )
    if padding == "valid":
        with pytest.raises(ValueError, match="before pooling"):
            theirs.axes[0].output_size(theirs.axes[0].smallest + 1)


def test_a_scripted_network_without_rules_is_to_be_exported_anew() -> None:
    net = torch.nn.Conv2d(1, 1, 1)
    net.margin, net.stride, net.padding = 4, 2, "valid"
    with pytest.raises(ValueError, match="is to be exported anew"):
        tiling_for(net, 2)


# --- tiled equals whole ---------------------------------------------------------------------


@settings(max_examples=30)
@given(st.data(), thick_nets(), st.sampled_from([torch.float32, torch.float64]))
def test_tiles_equal_the_whole(data: Any, options: dict[str, Any], dtype: torch.dtype) -> None:
    net, dims = built(options, dtype), options["spatial_dims"]
    longest = 60 if dims == 2 else 20
    shape = [data.draw(st.integers(1, longest)) for _ in range(dims)]
    steps = [data.draw(st.integers(0, 4 if dims == 2 else 2)) for _ in range(dims)]
    tiling = tiling_for(net, dims)
    sides = [
        least + n * axis.stride
        for least, n, axis in zip(tiling.stepping_sides(), steps, tiling.axes, strict=True)
    ]
    image = torch.randn(1, 1, *shape, dtype=dtype)
    with torch.no_grad():
        got = OverlapTileInferer(sides, data.draw(st.integers(1, 3)))(image, net)
    require_equal(got, unet_pass(image, net))


@settings(max_examples=20)
@given(
    st.data(),
    thick_nets(),
    st.sampled_from([None, "flips", "rotations"]),
    st.sampled_from(["reflect", "replicate"]),
)
def test_boxes_equal_the_whole(data: Any, options: dict[str, Any], tta: Any, mode: str) -> None:
    """What prediction block by block stands on."""
    net, dims = built(options), options["spatial_dims"]
    shape = [data.draw(st.integers(2, 50 if dims == 2 else 14)) for _ in range(dims)]
    ends = [data.draw(st.tuples(st.integers(0, n - 1), st.integers(1, n))) for n in shape]
    box = tuple((min(a, b - 1), max(a + 1, b)) for a, b in ends)
    image = torch.randn(1, 1, *shape, dtype=torch.float64)
    inferer = OverlapTileInferer(-1, tta=tta, mode=mode)
    tiling = tiling_for(net, dims)
    steps = data.draw(st.integers(0, 3))
    sides = [
        least + steps * axis.stride
        for least, axis in zip(tiling.stepping_sides(), tiling.axes, strict=True)
    ]

    def read(inner: Any) -> torch.Tensor:
        assert all(0 <= a < b <= n for (a, b), n in zip(inner, shape, strict=True))
        return image[(..., *(slice(*side) for side in inner))]

    with torch.no_grad():
        whole = inferer(image, net)
        part = inferer.region(read, shape, box, net, tile=sides)
    expected = whole[(..., *(slice(*side) for side in box))]
    torch.testing.assert_close(part, expected, rtol=0, atol=1e-12 * float(whole.std()))


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_step_or_a_margin_of_another_axis_is_wrong(padding: str) -> None:
    net = built({"spatial_dims": 2, "features": (3, 3, 3), "padding": padding,
                 "pool": [(2, 1), 2], "kernel_size": [(3, 1), 3, 3]})  # fmt: skip
    image = torch.randn(1, 1, 90, 90, dtype=torch.float64)
    expected = unet_pass(image, net)
    tiling = tiling_for(net, 2)
    sides = [
        n + 2 * axis.stride for n, axis in zip(tiling.stepping_sides(), tiling.axes, strict=True)
    ]
    with torch.no_grad():
        require_equal(OverlapTileInferer(sides)(image, net), expected)
        if padding == "valid":
            wrong = OverlapTileInferer(sides, stride=(2, 2))(image, net)
        else:
            short = (net.margin[0] - net.stride[0], net.margin[1])
            wrong = OverlapTileInferer(sides, margin=short)(image, net)
    assert np.abs(wrong.numpy() - expected).max() > 1e-6


def test_a_foreign_network_may_have_a_margin_and_a_stride_an_axis() -> None:
    mean = torch.nn.AvgPool2d((5, 1), stride=1)
    image = torch.randn(1, 1, 30, 20)
    expected = mean(torch.nn.functional.pad(image, (0, 0, 2, 2), mode="reflect"))
    for size in ((9, 8), (9, -1)):
        got = OverlapTileInferer(size, margin=(2, 0), stride=[1, 1])(image, mean)
        np.testing.assert_allclose(got.numpy(), expected.numpy(), atol=1e-6)
    with pytest.raises(ValueError, match=r"margin \(2, 0, 1\) has 3 values for 2 axes"):
        OverlapTileInferer(9, margin=(2, 0, 1), stride=1)(image, mean)


def test_statistics_of_an_image_of_few_slices() -> None:
    net = built({"spatial_dims": 3, "features": (2, 2, 2), **THICK, "padding": "same",
                 "norm": "batch"}, torch.float32)  # fmt: skip
    for shape in ((1, 1, 1), (9, 30, 3)):
        with torch.no_grad():
            found = OverlapTileInferer(statistics="image")(torch.randn(1, 1, *shape), net)
        assert found.shape[2:] == shape
        assert torch.isfinite(found).all()


def test_automatic_tiles_take_all_of_a_thin_axis() -> None:
    net = UNet(3, features=[2] * 4, pool=[(2, 2, 1), (2, 2, 1), 2], padding="same",
               kernel_size=[(3, 3, 1), (3, 3, 1), 3, 3])  # fmt: skip
    tiling = tiling_for(net)
    sides = automatic_sides((512, 512, 20), tiling, pixels=200 * 200 * 20, fast_pixels=10**9)
    assert sides[2] == 20
    assert math.prod(sides) <= 200 * 200 * 20
    assert min(sides[:2]) >= 120
    fewer = smaller_sides([256, 128, 20], tiling)
    assert fewer == [128, 128, 20]
    assert smaller_sides(tiling.stepping_sides(), tiling) is None
    assert alike(tiling.stepping_sides()[:2]) == 120


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_blocks_of_other_programs_equal_one_pass(padding: str) -> None:
    """What a package of the BioImage Model Zoo declares: sides, and a halo an axis."""
    net = built({"spatial_dims": 3, "features": (2, 2, 2), **THICK, "padding": padding})
    model = MirrorPadded(net, tiling_for(net)).eval()
    assert (model.stride, model.halo) == (
        (4, 4, 2),
        (20, 20, 8) if padding == "valid" else (24, 24, 10),
    )
    halos, strides = by_axis(model)  # (Z, Y, X)
    image = torch.rand(1, 1, *(2 * h + 6 * s for h, s in zip(halos, strides, strict=True)))
    image = image.double()
    with torch.no_grad():
        logits = OverlapTileInferer(-1)(image.permute(0, 1, 4, 3, 2), net)
        whole = torch.softmax(logits, dim=1).permute(0, 1, 4, 3, 2)
        torch.testing.assert_close(model(image), whole, rtol=0, atol=1e-12)
        assert torch.equal(torch.jit.script(model)(image), model(image))
        sides = block_sides(model)
        first = [2 * step for step in strides]
        block = image[(..., *(slice(a, a + n) for a, n in zip(first, sides, strict=True)))]
        inner = [slice(halo, halo + 4 * step) for halo, step in zip(halos, strides, strict=True)]
        place = [slice(a + i.start, a + i.stop) for a, i in zip(first, inner, strict=True)]
        found, expected = model(block)[(..., *inner)], whole[(..., *place)]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_axes_of_one_geometry_are_alike(padding: str) -> None:
    """Tiles of a box turn with the image where they are: long ones would not fit otherwise."""
    net = UNet(features=(2, 4, 8), padding=padding).eval()
    tiling = tiling_of(net, torch.empty(1, 1, 1, 1), margin=None, stride=None)
    first, second = tiling.axes
    assert first == second
    assert replace(first, stride=2) != second
    assert list(_turned([608, 64], View(turns=1), tiling)) == [64, 608]


@pytest.mark.parametrize(("thick", "count"), [(0, 8), (2, 16)])
def test_slices_are_not_turned_into_another_axis(thick: int, count: int) -> None:
    """Averaging over rotations turns within the plane of axes 0 and 1, where these are alike."""
    side = tuple(1 if axis == thick else 2 for axis in range(3))
    net = UNet(3, features=(2, 4), pool=[side], padding="same", dropout=0.0).eval()
    seen: list[tuple[int, ...]] = []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[2:])))
    with torch.no_grad():
        OverlapTileInferer(tta="rotations")(torch.rand(1, 1, 8, 6, 4), net)
    assert len(seen) == count
    assert {shape[thick] for shape in seen} == {(8, 6, 4)[thick]}
