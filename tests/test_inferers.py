"""Tiled equals whole: against one pass over an image that numpy mirrored."""

from __future__ import annotations

import copy
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import BasicUNet
from oracles import unet_pass, whole_pass
from simulated_cuda import is_simulated
from torch import nn

from unet_med import memory
from unet_med.inferers import OverlapTileInferer
from unet_med.inferers.batch_statistics import batch_norms, find_statistics
from unet_med.inferers.pixels import BORDERS, Pixels, in_memory
from unet_med.inferers.test_time_augmentation import View, views
from unet_med.inferers.tile_size import affordable_pixels, automatic_sides
from unet_med.inferers.tiling import tiling_of
from unet_med.networks import UNet

UPSAMPLES = ["deconv", "bilinear", "unpool", "pixelshuffle"]
PADDINGS = ["valid", "same"]
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-12}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def unet(spatial_dims=2, features=(4, 8, 16), **options) -> UNet:
    """A small network with random He weights."""
    return UNet(spatial_dims, 1, 3, features, **options).eval()


def smallest_tile(net: UNet, steps: int = 1) -> int:
    """Input side that keeps so many strides between its margins, px."""
    kept = steps * net.stride
    return net.input_size_for(kept + (2 * net.margin if net.padding == "same" else 0))


def run(inferer: OverlapTileInferer, image: torch.Tensor, net, *args, **kwargs) -> torch.Tensor:
    with torch.inference_mode():
        return inferer(image, net, *args, **kwargs)


def deviation(got: torch.Tensor, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    return float(np.abs(got.numpy() - expected).max() / expected.std())


class Crop(nn.Module):
    """The identity as a valid network: gives back its input less a margin."""

    def __init__(self, margin: int, stride: int, smallest: int) -> None:
        super().__init__()
        self.margin, self.stride, self.smallest = margin, stride, smallest
        self.padding, self.tileable = "valid", True

    def output_size(self, n: int) -> int:
        return n - 2 * self.margin

    def input_size_for(self, out: int) -> int:
        return next(
            n
            for n in range(self.smallest, 10**6, self.stride)
            if self.smallest <= n and n - 2 * self.margin >= out
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert all((side - self.smallest) % self.stride == 0 for side in x.shape[2:])
        m = self.margin
        return x[(..., *(slice(m, side - m) for side in x.shape[2:]))]


# --- tiled equals whole -----------------------------------------------------------------


@pytest.mark.parametrize("upsample", UPSAMPLES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_tiles_equal_the_whole_in_2d(upsample, padding, dtype):
    net = unet(upsample=upsample, padding=padding).to(dtype)
    for shape in [(77, 91), (64, 50), (33, 101)]:
        image = torch.randn(2, 1, *shape, dtype=dtype)
        expected = unet_pass(image, net)
        for steps in (5, 9):
            tiled = run(OverlapTileInferer(smallest_tile(net, steps), 3), image, net)
            assert tiled.dtype == dtype
            assert deviation(tiled, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("upsample", UPSAMPLES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_tiles_equal_the_whole_in_3d(upsample, padding, dtype):
    net = unet(3, (2, 4), upsample=upsample, padding=padding).to(dtype)
    image = torch.randn(1, 1, 25, 19, 45, dtype=dtype)
    expected = unet_pass(image, net)
    for steps in (4, (5, 6, 7)):
        sides = [smallest_tile(net, s) for s in ([steps] * 3 if isinstance(steps, int) else steps)]
        tiled = run(OverlapTileInferer(sides, 2), image, net)
        assert deviation(tiled, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("depth", [3, 4])
def test_tiles_equal_the_whole_at_the_papers_depth(padding, depth):
    net = unet(features=[2] * (depth + 1), padding=padding).double()
    image = torch.randn(1, 1, 130, 243, dtype=torch.float64)
    tiled = run(OverlapTileInferer(smallest_tile(net, 4)), image, net)
    assert deviation(tiled, unet_pass(image, net)) <= 1e-12


@pytest.mark.parametrize(
    "options",
    [
        {"pool": 3, "features": (4, 8)},
        {"convs_per_level": 3},
        {"residual_levels": (0, 1), "attention_levels": (0,), "skip": "add"},
        {"norm": "batch", "upsample": "bilinear", "pool": 3, "features": (4, 8)},
    ],
)
@pytest.mark.parametrize("padding", PADDINGS)
def test_tiles_equal_the_whole_in_other_networks(options, padding):
    net = unet(padding=padding, **options).double()
    image = torch.randn(1, 1, 121, 83, dtype=torch.float64)
    tiled = run(OverlapTileInferer(smallest_tile(net, 2)), image, net)
    assert deviation(tiled, unet_pass(image, net)) <= 1e-12


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (5, 40), (1, 1, 1), (3, 1, 20)])
@pytest.mark.parametrize("tile_size", ["auto", -1, None])
def test_images_smaller_than_their_border(padding, shape, tile_size):
    net = unet(len(shape), (4, 8), padding=padding).double()
    image = torch.randn(1, 1, *shape, dtype=torch.float64)
    size = smallest_tile(net, 2) if tile_size is None else tile_size
    result = run(OverlapTileInferer(size), image, net)
    np.testing.assert_allclose(result.numpy(), unet_pass(image, net), atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
def test_two_runs_of_one_grid_are_equal_to_the_bit(padding):
    net = unet(padding=padding)
    image = torch.randn(2, 1, 90, 101)
    inferer = OverlapTileInferer(smallest_tile(net, 2), 3)
    first, second = run(inferer, image, net), run(inferer, image.clone(), net)
    np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_steps_that_are_no_multiples_of_the_stride_are_wrong():
    net = unet(features=(4, 4, 4, 4)).double()  # depth 3: a tile of 100 px gives 12
    image = torch.randn(1, 1, 60, 60, dtype=torch.float64)
    expected = unet_pass(image, net)
    assert deviation(run(OverlapTileInferer(100), image, net), expected) <= 1e-12
    assert deviation(run(OverlapTileInferer(100, stride=1), image, net), expected) > 0.05


def test_a_halo_one_stride_too_small_is_wrong():
    net = unet(padding="same").double()
    image = torch.randn(1, 1, 150, 150, dtype=torch.float64)
    expected = unet_pass(image, net)
    side = smallest_tile(net, 6)
    assert deviation(run(OverlapTileInferer(side), image, net), expected) <= 1e-12
    short = OverlapTileInferer(side, margin=net.margin - net.stride)
    assert deviation(run(short, image, net), expected) > 1e-6


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")  # MONAI's own slicing
def test_monais_own_inferer_is_silently_wrong_with_a_valid_network():
    net = unet()
    image = torch.randn(1, 1, 120, 120)
    theirs = run(SlidingWindowInferer(roi_size=60, overlap=0), image, net)
    assert theirs.shape == (1, 3, 40, 40)  # as 1144 px with tiles of 572 come back as 776
    ours = run(OverlapTileInferer(60), image, net)
    assert deviation(ours, unet_pass(image, net)) <= 5e-5


# --- every pixel, once ------------------------------------------------------------------


@settings(max_examples=25)
@given(
    shape=st.lists(st.integers(1, 30), min_size=2, max_size=3),
    margin=st.integers(0, 9),
    stride=st.sampled_from([1, 2, 4]),
    rest=st.integers(1, 4),
    steps=st.integers(1, 4),
    batch_size=st.integers(1, 5),
)
def test_an_identity_network_gives_the_image_back(shape, margin, stride, rest, steps, batch_size):
    net = Crop(margin, stride, smallest=2 * margin + min(rest, stride))
    image = torch.arange(2.0 * np.prod(shape)).reshape(2, 1, *shape)
    side = net.input_size_for(steps * stride)
    for size in (side, "auto"):
        result = run(OverlapTileInferer(size, batch_size), image, net)
        np.testing.assert_array_equal(result.numpy(), image.numpy())


def test_every_pixel_is_written_by_one_tile():
    class Number(Crop):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return torch.full_like(super().forward(x), self.calls)

    net = Number(3, 4, smallest=8)
    written = run(OverlapTileInferer(16), torch.zeros(1, 1, 21, 30), net)[0, 0]
    numbers, counts = written.unique(return_counts=True)
    assert numbers.tolist() == list(range(1, net.calls + 1))
    assert counts.sum() == 21 * 30


@given(
    length=st.integers(1, 7),
    start=st.integers(-30, 30),
    side=st.integers(1, 30),
    border=st.sampled_from(["reflect", "replicate"]),
)
def test_windows_are_numpys_padding(length, start, side, border):
    row = np.arange(length)
    padded = np.pad(row, (30, 60), mode={"reflect": "reflect", "replicate": "edge"}[border])
    image = torch.from_numpy(np.stack([row] * 2))[None]  # (1, 2, length)
    box = ((0, 2), (start, start + side))
    window = Pixels.load(in_memory(image[None]), (2, length), box, BORDERS[border]).window(0, box)
    np.testing.assert_array_equal(window[0, 0].numpy(), padded[30 + start : 30 + start + side])
    np.testing.assert_array_equal(window[0, 0].numpy(), window[0, 1].numpy())


def test_a_window_inside_the_image_copies_nothing():
    image = torch.randn(1, 20, 20)
    box = ((3, 9), (5, 12))
    window = Pixels.load(in_memory(image[None]), (20, 20), box, BORDERS["reflect"]).window(0, box)
    assert window.data_ptr() == image[:, 3:9, 5:12].data_ptr()


def test_mode_replicate_reaches_the_windows():
    mean = nn.AvgPool2d(5, stride=1)  # looks 2 px further
    image = torch.randn(1, 1, 12, 12)
    expected = mean(nn.functional.pad(image, (2,) * 4, mode="replicate"))
    result = run(OverlapTileInferer(9, margin=2, stride=1, mode="replicate"), image, mean)
    np.testing.assert_allclose(result.numpy(), expected.numpy(), atol=1e-6)


# --- inputs and outputs -----------------------------------------------------------------


def test_metadata_stays():
    net = unet(features=(4, 8))
    affine = np.diag([2.0, 3.0, 1.0, 1.0])
    image = MetaTensor(torch.randn(1, 1, 20, 30), affine=affine, meta={"spatial_unit": "um"})
    result = run(OverlapTileInferer(), image, net)
    assert isinstance(result, MetaTensor)
    assert result.meta["spatial_unit"] == "um"
    np.testing.assert_array_equal(result.affine, affine)
    plain = run(OverlapTileInferer(), image.as_tensor(), net)
    assert type(plain) is torch.Tensor
    np.testing.assert_array_equal(result.numpy(), plain.numpy())


@pytest.mark.parametrize("weights", TOLERANCE)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool])
def test_integers_are_cast_to_the_networks_type(weights, dtype):
    net = unet(features=(4, 8)).to(weights)
    image = torch.randint(0, 2, (1, 1, 20, 30)).to(dtype)
    result = run(OverlapTileInferer(smallest_tile(net, 3)), image, net)
    assert result.dtype == weights
    same = run(OverlapTileInferer(smallest_tile(net, 3)), image.to(weights), net)
    np.testing.assert_array_equal(result.numpy(), same.numpy())


@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float32, torch.float64])
def test_images_of_floats_are_cast_to_the_networks_type_too(weights):
    net = unet(features=(4, 8)).to(weights)
    image = torch.randn(1, 1, 20, 30, dtype=torch.float32)
    for floats in (image, image.double()):
        result = run(OverlapTileInferer(smallest_tile(net, 3)), floats, net)
        assert result.dtype == weights
        same = run(OverlapTileInferer(smallest_tile(net, 3)), image.to(weights), net)
        assert torch.equal(result, same)


def test_arguments_are_passed_on():
    def affine(x, scale, *, offset):
        return x * scale + offset

    image = torch.randn(1, 2, 9, 11)
    inferer = OverlapTileInferer(4, margin=0, stride=1)
    result = run(inferer, image, affine, 3.0, offset=1.0, device="cpu")
    np.testing.assert_array_equal(result.numpy(), (image * 3 + 1).numpy())


class Conditioned(nn.Module):
    """Sees an image beside its condition, as MONAI's networks take one."""

    margin, stride, padding, spatial_dims = 1, 1, "same", 2

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: torch.Tensor, *, condition: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([x, condition], dim=1))


@pytest.mark.parametrize("condition_dtype", [torch.float32, torch.uint8])
def test_a_condition_is_cut_as_its_images_are(condition_dtype):
    """As MONAI's `SlidingWindowInferer` does; each image has its own."""
    net = Conditioned().eval().requires_grad_(False)
    image, condition = torch.rand(2, 1, 19, 23), 9 * torch.rand(2, 2, 19, 23)
    condition = condition.to(condition_dtype)
    whole = net(image, condition=condition.float())
    for batch_size in (1, 3):
        inferer = OverlapTileInferer(8, batch_size)
        tiled = run(inferer, image, net, condition=MetaTensor(condition))
        torch.testing.assert_close(tiled, whole)
    turned = run(OverlapTileInferer(8, tta="rotations"), image, net, condition=condition)
    both = torch.cat([image, condition.float()], dim=1)
    plain = run(OverlapTileInferer(8, tta="rotations", margin=1, stride=1), both, net.conv)
    torch.testing.assert_close(turned, plain)


def test_planes_of_a_volume_have_their_condition():
    net, image = Conditioned().requires_grad_(False), torch.rand(1, 1, 9, 8, 3)
    condition = torch.rand(1, 2, 9, 8, 3)
    planes = [net(image[..., z], condition=condition[..., z]) for z in range(3)]
    tiled = run(OverlapTileInferer(6), image, net, condition=condition)
    torch.testing.assert_close(tiled, torch.stack(planes, dim=-1))


@pytest.mark.parametrize("shape", [(2, 4), (1, 1, 9, 11), (2, 1, 9, 10), (2, 1, 9)])
def test_a_condition_that_does_not_lie_on_the_pixels_is_refused(shape):
    image = torch.rand(2, 1, 9, 11)
    with pytest.raises(
        ValueError, match=r"condition of shape .* for images of shape \(2, 1, 9, 11"
    ):
        run(OverlapTileInferer(8), image, Conditioned(), condition=torch.rand(shape))


def test_an_argument_with_an_entry_an_image_is_refused():
    """Of one tile and two embeddings a network makes two results."""
    image, shift = torch.rand(2, 1, 9, 11), torch.rand(2, 1, 1, 1)
    with pytest.raises(ValueError, match=r"1 tiles into 2 results.*one image at a time"):
        run(OverlapTileInferer(4, margin=0, stride=1), image, torch.add, shift)


def test_a_2d_network_runs_over_the_slices_of_a_volume():
    net = unet(features=(4, 8))
    volume = torch.randn(2, 1, 23, 31, 4)
    inferer = OverlapTileInferer(smallest_tile(net, 8), 3)
    result = run(inferer, volume, net)
    assert result.shape == (2, 3, 23, 31, 4)
    for z in range(4):
        alone = run(inferer, volume[..., z], net)
        assert deviation(result[..., z], alone.numpy()) <= 5e-5


@pytest.mark.parametrize("shape", [(1, 1, 40), (1, 40, 40), (1, 1, 2, 2, 2, 2), (1, 1, 0, 40)])
def test_inputs_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"is no batch of 2-D images \(B, C, \*S\)"):
        OverlapTileInferer()(torch.zeros(shape), unet())


@pytest.mark.parametrize(("axes", "wrong"), [([-1], "-1"), ([1, 2, 3], "3"), (np.array([7]), "7")])
def test_axes_to_mirror_that_no_image_has_are_refused(axes, wrong):
    """None was mirrored, or another than was meant, in silence: axes count from 0."""
    with pytest.raises(ValueError, match=rf"mirror_axes \[.*\]: {wrong} is no spatial axis"):
        OverlapTileInferer(tta="flips", mirror_axes=axes)
    OverlapTileInferer(tta="flips", mirror_axes=[0, 1, 2])


def test_a_volume_through_a_3d_network_needs_a_batch_axis():
    with pytest.raises(ValueError, match=r"input of shape \(1, 9, 9, 9\) is no batch of 3-D"):
        OverlapTileInferer()(torch.zeros(1, 9, 9, 9), unet(3, (2, 4)))


def test_progress_counts_tiles(capsys, monkeypatch):
    for module in ("overlap_tile", "stitch"):  # as on a terminal
        monkeypatch.setattr(f"unet_med.inferers.{module}.no_bar", lambda wanted=True: not wanted)
    net = Crop(2, 1, smallest=5)
    run(OverlapTileInferer(9, 3, progress=True, tta="flips"), torch.zeros(1, 1, 10, 10), net)
    bars = capsys.readouterr().err
    assert "view 4 of 4" in bars
    assert "4/4" in bars
    run(OverlapTileInferer(9), torch.zeros(1, 1, 10, 10), net)
    assert capsys.readouterr().err == ""


def test_2d_tiles_on_a_cpu_are_channels_last():
    class Look(Crop):
        def forward(self, x):
            self.seen = x.stride()
            return super().forward(x)

    flat, deep = Look(0, 1, 1), Look(0, 1, 1)
    run(OverlapTileInferer(6), torch.zeros(1, 1, 9, 9), flat)
    run(OverlapTileInferer(6), torch.zeros(1, 1, 9, 9, 9), deep)
    assert flat.seen == (
        36,
        1,
        6,
        1,
    )  # also for one channel, where torch calls both orders the same
    assert deep.seen == (216, 216, 36, 6, 1)


# --- test-time averaging ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "dims", "count"),
    [(None, 2, 1), ("flips", 2, 4), ("flips", 3, 8), ("rotations", 2, 8), ("rotations", 3, 16)],
)
def test_views_are_the_group_without_repetition(kind, dims, count):
    image = torch.randn(1, 1, *(5, 4, 3)[:dims])
    seen = [view.apply(image) for view in views(kind, dims)]
    assert views(kind, dims)[0] == View()
    assert len(seen) == len({(x.shape, tuple(x.flatten().tolist())) for x in seen}) == count
    for view, x in zip(views(kind, dims), seen, strict=True):
        np.testing.assert_array_equal(view.undo(x).numpy(), image.numpy())


@pytest.mark.parametrize(("kind", "dims"), [("flips", 2), ("rotations", 2), ("flips", 3)])
def test_averaging_is_the_mean_over_the_group(kind, dims):
    net = unet(dims, (4, 8), padding="same").double()
    image = torch.randn(1, 1, *(21, 14, 9)[:dims], dtype=torch.float64)
    inferer = OverlapTileInferer(tta=kind)
    plain = OverlapTileInferer()
    expected = sum(
        view.undo(torch.from_numpy(unet_pass(view.apply(image).contiguous(), net)))
        for view in views(kind, dims)
    ) / len(views(kind, dims))
    result = run(inferer, image, net)
    np.testing.assert_allclose(result.numpy(), expected.numpy(), atol=1e-12)
    assert (result - run(plain, image, net)).abs().max() > 1e-3
    # The mean over a group follows the image through each of its elements.
    for view in views(kind, dims):
        turned = view.undo(run(inferer, view.apply(image), net))
        np.testing.assert_allclose(turned.numpy(), result.numpy(), atol=1e-12)


# --- networks ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # scripting is what we test
@pytest.mark.parametrize("options", [{"upsample": "bilinear"}, {"padding": "same"}])
def test_wrapped_networks_are_asked_inside(options):
    net = unet(features=(4, 8), **options)  # compiled layer by layer
    image = torch.randn(1, 1, 70, 50)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(net), buffer)
    buffer.seek(0)
    inferer = OverlapTileInferer(smallest_tile(net, 4))
    expected = run(inferer, image, net)
    scripted = torch.jit.load(buffer)
    for off in (1, -max(net.steps)):  # of which the result would lie a little aside, or be nothing
        smallest = net.input_size_for(1)
        with pytest.raises(torch.jit.Error, match=rf"side {smallest + off} px does not fit"):
            scripted(torch.zeros(1, 1, smallest, smallest + off))
    for wrapped in (
        nn.DataParallel(net),
        scripted,
        torch.compile(net, backend="eager"),
    ):
        ours, theirs = (tiling_of(n, image, margin=None, stride=None) for n in (net, wrapped))
        assert (ours.smallest, ours.margin, ours.stride) == (
            theirs.smallest,
            theirs.margin,
            theirs.stride,
        )
        assert (ours.padding, ours.spatial_dims) == (theirs.padding, theirs.spatial_dims)
        assert ours.channels == theirs.channels == 4
        np.testing.assert_allclose(run(inferer, image, wrapped).numpy(), expected, atol=1e-5)


def test_networks_of_lines_are_refused():
    with pytest.raises(ValueError, match="network takes images of 1 axes; tiles are of 2 or 3"):
        run(OverlapTileInferer(8, margin=0, stride=1), torch.ones(1, 1, 16), nn.Conv1d(1, 2, 1))


def test_a_compiled_network_is_asked_inside():
    net = unet(features=(4, 8))
    compiled = torch.compile(net, backend="eager")
    assert tiling_of(compiled, torch.zeros(1, 1, 1, 1), margin=None, stride=None).smallest == 18


def basic_unet(**options) -> BasicUNet:
    return BasicUNet(
        spatial_dims=2, features=(4, 4, 8, 8, 16, 4), act="relu", **options
    ).eval()  # fmt: skip


def test_monais_basic_unet_is_tiled_exactly():
    net = basic_unet(norm=None).double()
    image = torch.randn(1, 1, 270, 243, dtype=torch.float64)
    expected = whole_pass(
        image.numpy(), net, first=0, side_for=lambda shape: [-(-n // 16) * 16 for n in shape]
    )
    tiled = run(OverlapTileInferer(256, margin=112, stride=16), image, net)
    assert deviation(tiled, expected) <= 1e-12
    small = image[..., :50, :40]
    expected = whole_pass(
        small.numpy(), net, first=0, side_for=lambda shape: [-(-n // 16) * 16 for n in shape]
    )
    for size in (256, "auto"):
        alone = run(OverlapTileInferer(size, margin=112, stride=16), small, net)
        np.testing.assert_allclose(alone.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("given", [{}, {"margin": 112}, {"stride": 16}])
def test_a_foreign_network_needs_margin_and_stride(given):
    with pytest.raises(ValueError, match=r"does not say its margin and stride; .* are 112 and 16"):
        OverlapTileInferer(256, **given)(torch.zeros(1, 1, 64, 64), basic_unet())


@pytest.mark.parametrize("shape", [(5, 6), (40, 33)])
def test_a_foreign_valid_network_shows_it_in_its_first_tile(shape):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).double()
    image = torch.randn(1, 1, *shape, dtype=torch.float64)
    expected = whole_pass(
        image.numpy(), net, first=2, side_for=lambda shape: [n + 4 for n in shape]
    )
    tiled = run(OverlapTileInferer(12, margin=2, stride=1), image, net)
    np.testing.assert_allclose(tiled.numpy(), expected, atol=1e-12)


def test_a_foreign_valid_unet_with_a_tile_that_is_no_multiple_of_its_stride():
    net = unet(features=(2, 2, 2, 2)).double()
    image = torch.randn(1, 1, 70, 50, dtype=torch.float64)
    tiled = run(OverlapTileInferer(132, margin=44, stride=8), image, lambda x: net(x))
    assert deviation(tiled, unet_pass(image, net)) <= 1e-12


@pytest.mark.parametrize(("shape", "side"), [((4, 4), 12), ((40, 40), 12), ((4, 4), 4)])
def test_a_network_that_is_neither_is_refused(shape, side):
    net = nn.AvgPool2d(2)
    with pytest.raises(
        ValueError, match=r"turns a tile of \(\d+, \d+\) px into .* margin of 2 px .* loses 4 px"
    ):
        OverlapTileInferer(side, margin=2, stride=1)(torch.zeros(1, 1, *shape), net)


def test_a_network_with_several_outputs_is_refused():
    with pytest.raises(TypeError, match="returned list, not one tensor; wrap it"):
        OverlapTileInferer(4, margin=0, stride=1)(torch.zeros(1, 1, 4, 4), lambda x: [x])


@pytest.mark.parametrize(
    ("norm", "layer"),
    [
        ("instance", "InstanceNorm2d"),
        (("group", {"num_groups": 2}), "GroupNorm"),
        ("batch", "BatchNorm2d, in training mode"),
    ],
)
def test_normalisation_over_the_whole_image_cannot_be_tiled(norm, layer):
    net = unet(padding="same", norm=norm)
    if norm == "batch":
        net.train()
    image = torch.randn(1, 1, 70, 50)
    with pytest.raises(ValueError, match=rf"layer .*\({layer}\) computes statistics over"):
        OverlapTileInferer(smallest_tile(net))(image, net)
    assert run(OverlapTileInferer(96), image, net).shape == (1, 3, 70, 50)
    assert run(OverlapTileInferer(-1), image, net).shape == (1, 3, 70, 50)
    assert run(OverlapTileInferer(), image, net).shape == (1, 3, 70, 50)


def test_foreign_instance_normalisation_is_noticed():
    inferer = OverlapTileInferer(240, margin=112, stride=16)
    with pytest.raises(ValueError, match=r"\(InstanceNorm2d\) computes statistics"):
        inferer(torch.zeros(1, 1, 270, 240), basic_unet())


def test_a_network_that_says_it_is_not_tileable_is_believed():
    net = Crop(2, 1, smallest=5)
    net.tileable = False
    with pytest.raises(ValueError, match=r"Crop computes statistics .* 4 tiles of \[9, 9\] px"):
        OverlapTileInferer(9)(torch.zeros(1, 1, 10, 10), net)


def test_batch_normalisation_after_eval_is_tiled_exactly():
    net = unet(norm="batch").double()
    with torch.no_grad():
        net.train()(torch.randn(2, 1, 60, 60, dtype=torch.float64))  # statistics of its own
    net.eval()
    image = torch.randn(1, 1, 70, 50, dtype=torch.float64)
    tiled = run(OverlapTileInferer(smallest_tile(net, 2)), image, net)
    assert deviation(tiled, unet_pass(image, net)) <= 1e-12


@pytest.mark.parametrize(("padding", "dims"), [("same", 2), ("valid", 2), ("same", 3)])
def test_statistics_of_the_image_are_those_of_one_pass_in_training_mode(padding, dims):
    net = unet(dims, norm="batch", padding=padding, dropout=0.0).double().eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    sides = (200, 136) if dims == 2 else (72, 40, 24)
    images = torch.randn(2, 1, *sides, dtype=torch.float64) * torch.tensor([1.0, 5.0]).view(
        2, 1, *[1] * dims
    )
    inferer = OverlapTileInferer(smallest_tile(net, 2), statistics="image")
    got = run(inferer, images, net)
    for image, logits in zip(images.split(1), got.split(1), strict=True):
        own = copy.deepcopy(net).train()  # an image alone, normalised by itself in each layer
        # training divides by n, what is kept by n - 1
        far = deviation(logits, unet_pass(image, net))
        assert deviation(logits, unet_pass(image, own)) <= 0.02 < far
    assert not net.training
    assert not any(module.training for module in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert {m.momentum for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)} <= {0.1}


def test_statistics_are_the_images_mean_and_variance():
    net = unet(norm="batch", padding="same").double().eval()
    [first, *_] = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    seen, kept = [], []
    first.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    first.register_forward_hook(
        lambda layer, *_: kept.append((layer.running_mean.clone(), layer.running_var.clone()))
    )
    image = 3 + 2 * torch.randn(1, 1, 40, 64, dtype=torch.float64)
    run(OverlapTileInferer(statistics="image"), image, net)
    assert len(seen) == 2  # the statistics, then the prediction
    assert torch.allclose(kept[1][0], seen[0].mean(dim=(0, 2, 3)))
    assert torch.allclose(kept[1][1], seen[0].var(dim=(0, 2, 3)))


def test_statistics_of_an_image_of_several_windows_do_not_depend_on_the_tiles(monkeypatch):
    monkeypatch.setattr("unet_med.inferers.batch_statistics.WINDOW", {2: 48})
    net = unet(norm="batch").double().eval()
    image = torch.randn(1, 1, 100, 60, dtype=torch.float64)
    small, large = (
        run(OverlapTileInferer(smallest_tile(net, k), statistics="image"), image, net)
        for k in (1, 6)
    )
    assert deviation(small, large.numpy()) <= 1e-12
    assert deviation(small, run(OverlapTileInferer(statistics=None), image, net).numpy()) > 0.01


def test_threads_that_share_a_network_keep_their_statistics_apart():
    layer = torch.nn.BatchNorm2d(1).eval()
    images = {name: torch.randn(1, 1, 8, 8) + 5 * k for k, name in enumerate("ab", start=1)}
    inside = {name: threading.Event() for name in images}
    done = threading.Event()

    def look(name):
        inside[name].set()
        # were both let in, the first would leave while the second is within
        (inside["b"] if name == "a" else done).wait(0.2)
        layer(images[name])

    def of(name):
        try:
            return find_statistics([layer], partial(look, name))
        finally:
            done.set()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(of, "a")
        assert inside["a"].wait(10)
        second = threads.submit(of, "b")
    for name, found in (("a", first.result()), ("b", second.result())):
        assert torch.allclose(found[0]["running_mean"], images[name].mean(), atol=1e-6), name
    assert not layer.training
    assert layer.running_mean == 0


@pytest.mark.parametrize("side", [1, 3, 17])
def test_statistics_of_a_tiny_image(side):
    net = unet(norm="batch", padding="same").eval()
    logits = run(OverlapTileInferer(statistics="image"), torch.randn(1, 1, side, side), net)
    assert logits.shape == (1, 3, side, side)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("norm", [None, ("batch", {"track_running_stats": False}), "instance"])
def test_networks_that_keep_no_statistics_are_left_alone(norm):
    net, image = unet(norm=norm, padding="same"), torch.randn(1, 1, 40, 40)
    expected = run(OverlapTileInferer(-1), image, net)
    assert torch.equal(run(OverlapTileInferer(-1, statistics="image"), image, net), expected)


# --- gradients --------------------------------------------------------------------------


def mirrored_pass(image: torch.Tensor, net: UNet) -> torch.Tensor:
    """One pass over an image that torch mirrored; whole strides, so that nothing is cut off."""
    return net(nn.functional.pad(image, [net.margin] * 4, mode="reflect"))


@pytest.mark.parametrize("tta", [None, "rotations"])
@pytest.mark.parametrize("norm", [None, "batch"])
def test_gradients_are_those_of_one_pass(norm, tta):
    net = unet(norm=norm, dropout=0.0).double()
    side = 2 * smallest_tile(net) - 2 * net.margin  # what a valid pass gives back whole
    side = net.output_size(net.input_size_for(side))
    image = torch.randn(2, 1, side, side, dtype=torch.float64)
    pull = torch.randn(2, 3, side, side, dtype=torch.float64)

    def gradients(run):
        x = image.clone().requires_grad_()
        loss = (run(x) * pull).sum()
        return torch.autograd.grad(loss, [x, *net.parameters()])

    inferer = OverlapTileInferer(smallest_tile(net, 2), 2, tta=tta)
    ways = [View()] if tta is None else views(tta, 2)
    found = gradients(lambda x: inferer(x, net))
    expected = gradients(
        lambda x: sum(way.undo(mirrored_pass(way.apply(x), net)) for way in ways) / len(ways)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_gradients_flow_where_only_one_side_requires_them():
    net, image = unet(), torch.rand(1, 1, 60, 60)
    frozen = copy.deepcopy(net).requires_grad_(False)
    wanted = MetaTensor(image.clone().requires_grad_(), meta={"a": 1})
    assert OverlapTileInferer()(wanted, frozen).requires_grad
    assert OverlapTileInferer()(image, net).requires_grad
    assert not OverlapTileInferer()(image, frozen).requires_grad
    volume = torch.rand(1, 1, 60, 60, 2, requires_grad=True)
    [slope] = torch.autograd.grad(OverlapTileInferer()(volume, frozen).sum(), volume)
    assert slope.abs().amin(dim=(0, 1, 2, 3)).shape == (2,)
    assert slope.any()


def test_gradients_under_statistics_of_the_image():
    """The statistics are constants: as with a network that keeps them."""
    net = unet(norm="batch", padding="same", dropout=0.0).double().eval()
    image = torch.randn(1, 1, 64, 48, dtype=torch.float64, requires_grad=True)
    inferer = OverlapTileInferer(smallest_tile(net, 3), statistics="image")
    found = inferer(image, net)
    again = inferer(image, net)  # before the first one's gradient is asked for
    fixed = copy.deepcopy(net)
    statistics = inferer.image_statistics(in_memory(image.detach()), image.shape[2:], net)
    for layer, own in zip(batch_norms(fixed), statistics, strict=True):
        layer.load_state_dict(own, strict=False)
    expected = fixed(image)
    [one, two, three] = (torch.autograd.grad(y.sum(), image)[0] for y in (found, again, expected))
    torch.testing.assert_close(one, three, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(two, three, rtol=1e-9, atol=1e-9)


# --- tile sizes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "size", "message"),
    [
        (partial(unet, features=[2] * 5), 512, r"tile_size 512: input side 512 px is odd \(121\) "
         "before pooling 3; nearest valid sides for depth 4: 508, 524"),
        (partial(unet, padding="same"), 250, r"tile_size 250: .* no multiple of 4; .* 248, 252"),
        (lambda: nn.Conv2d(1, 2, 5, padding=2), 6, "tile_size 6: input side 6 px is no multiple"),
        (unet, (60, 60, 60), r"tile_size \(60, 60, 60\) has 3 sides for 2 axes"),
        (partial(unet, features=[2] * 5), 188, "tile_size 188: .* smallest side .*: 204"),
    ],
)  # fmt: skip
def test_illegal_tile_sizes_are_refused_with_the_nearest(net, size, message):
    network = net()
    foreign = {} if isinstance(network, UNet) else {"margin": 4, "stride": 4}
    inferer = OverlapTileInferer(size, **foreign)
    with pytest.raises(ValueError, match=message):
        inferer(torch.zeros(1, 1, 300, 300), network)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_size": "large"}, "tile_size 'large' is neither 'auto' nor"),
        ({"sw_batch_size": 0}, "sw_batch_size 0 is less than 1"),
        ({"mode": "constant"}, "constant"),
        ({"tta": "mirror"}, "mirror"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OverlapTileInferer(**options)


@pytest.mark.parametrize(
    "size", [np.int64(60), np.array([60, 60]), torch.tensor(60), (np.int64(60), torch.tensor(60))]
)
def test_sides_of_numpy_and_torch_are_sides(size):
    """And not the whole axis, which would take any memory."""
    net, image = unet(), torch.zeros(1, 1, 130, 130)
    inferer, later = OverlapTileInferer(size), OverlapTileInferer(sw_batch_size=2)
    later.roi_size = size
    for each in (inferer, later):
        run(each, image, net)
        assert each.sides == [60, 60]
    box = ((0, 130), (0, 130))
    later = OverlapTileInferer()
    later.region(in_memory(image), (130, 130), box, net, tile=size)
    assert later.sides == [60, 60]


@pytest.mark.parametrize("size", [60.0, ["60", 60], (60, 60.5), None, torch.tensor(60.0)])
def test_sides_that_are_no_whole_numbers_are_refused(size):
    with pytest.raises(TypeError, match=r"tile_size .*: a side is a whole number of px, or among"):
        OverlapTileInferer(size)


def test_margin_and_stride_of_numpy():
    net, image = nn.Conv2d(1, 2, 5, padding=2), torch.randn(1, 1, 20, 30)
    inferer = OverlapTileInferer(12, margin=np.int64(2), stride=np.array([1, 1]))
    assert torch.equal(
        run(inferer, image, net), run(OverlapTileInferer(12, margin=2, stride=1), image, net)
    )


def test_it_is_monais_inferer_and_roi_size_is_an_alias():
    inferer = OverlapTileInferer(roi_size=[60, -1], sw_batch_size=2)
    assert isinstance(inferer, SlidingWindowInferer)
    assert inferer.roi_size == [60, -1]
    seen = []
    net = unet()
    net.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape))
    run(inferer, torch.zeros(1, 1, 30, 50), net)
    assert seen == [(2, 1, 60, 92)]
    inferer.roi_size = 92  # as MONAI's tools override it
    run(inferer, torch.zeros(1, 1, 30, 50), net)
    assert seen[1:] == [(1, 1, 92, 92)]


def facts_of(net) -> object:
    image = torch.zeros(1, 1, *[1] * net.spatial_dims)
    return tiling_of(net, image, margin=None, stride=None)


def test_automatic_tiles_on_a_cpu_are_about_700_px():
    tiling = facts_of(unet(features=[2] * 5))
    budget = {"pixels": 10**9, "fast_pixels": 700**2}
    assert automatic_sides((1024, 1024), tiling, **budget) == [700, 700]
    assert automatic_sides((512, 512), tiling, **budget) == [700, 700]  # one tile
    assert automatic_sides((530, 10), tiling, **budget) == [716, 204]
    assert automatic_sides((700, 700), tiling, **budget) == [540, 892]  # 2 x 1, not 2 x 2
    assert automatic_sides((1100, 1100), tiling, **budget) == [556, 748]  # even splits: 3 x 2
    assert automatic_sides((10, 10), tiling, **budget) == [204, 204]
    assert automatic_sides((10, 4000), tiling, **budget) == [204, 2188]  # 2 x 2004 px


def test_automatic_tiles_keep_to_the_memory():
    tiling = facts_of(unet(3, [2] * 4))
    budget = {"pixels": 200**3, "fast_pixels": 200**3}
    sides = automatic_sides((512, 512, 30), tiling, **budget)
    assert np.prod(sides) <= 200**3
    assert sides[2] == 124  # the whole short axis; what it leaves goes to the others
    assert min(sides[:2]) > 200
    # Less memory than any tile needs: the smallest that can step.
    tiny = automatic_sides((512, 512, 512), tiling, pixels=1000, fast_pixels=1000)
    assert tiny == [100, 100, 100]


def test_a_network_that_cannot_be_tiled_gets_one_tile_if_memory_allows():
    tiling = facts_of(unet(padding="same", norm="instance"))
    sides = automatic_sides((2000, 2000), tiling, pixels=2000**2, fast_pixels=700**2)
    assert sides == [2000, 2000]
    assert automatic_sides((2000, 2000), tiling, pixels=1000**2, fast_pixels=700**2) != sides


def test_free_memory_is_asked_for_once_an_image(monkeypatch):
    """So that all views have one grid, whatever else begins meanwhile."""
    net, asked = unet(features=[2, 2]), []
    monkeypatch.setattr(memory, "available_bytes", lambda: asked.append(1) or 20 << 30)
    OverlapTileInferer(tta="rotations")(torch.zeros(2, 1, 20, 24), net)
    assert len(asked) == 1


def test_affordable_pixels_follow_the_free_memory(monkeypatch):
    flat, deep = facts_of(unet(features=[64, 2])), facts_of(unet(3, [64, 2]))
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "available_bytes", lambda: 20 << 30)
    by_memory = (8 << 30) // (10 * 64 * 4)
    assert affordable_pixels(flat, cpu, batch_size=1, itemsize=4) == (by_memory, 700**2)
    assert affordable_pixels(deep, cpu, batch_size=1, itemsize=4) == (by_memory, by_memory)
    assert affordable_pixels(deep, cpu, batch_size=2, itemsize=8)[0] == by_memory // 4
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6 << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 8 << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 << 30)
    gpu = torch.device("cuda:0")
    by_memory = (8 << 30) // (10 * 64 * 4)  # 0.8 * 12 GiB, down to a power of two
    assert affordable_pixels(flat, gpu, batch_size=1, itemsize=4) == (by_memory, by_memory)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (139 << 30, 140 << 30))
    pixels, _ = affordable_pixels(flat, gpu, batch_size=1, itemsize=4)
    assert pixels * 128 < 2**31 <= (pixels + 1) * 128


@pytest.mark.gpu
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("upsample", UPSAMPLES)
def test_tiles_equal_the_whole_on_a_gpu(padding, upsample, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    net = unet(padding=padding, upsample=upsample).cuda()
    image = torch.randn(1, 1, 301, 257)
    there = {"sw_device": "cuda", "device": "cpu"}
    whole = run(OverlapTileInferer(-1, **there), image, net)
    tiled = run(OverlapTileInferer(smallest_tile(net, 5), 4, **there), image, net)
    again = run(OverlapTileInferer(smallest_tile(net, 5), 4, **there), image, net)
    # Kernels of cuDNN are chosen by size, and in those of Winograd float32 loses a digit a layer.
    # TF32 would be 3e-3 off.
    assert deviation(tiled, whole.numpy()) <= (5e-5 if is_simulated() else 3e-4)
    np.testing.assert_array_equal(tiled.numpy(), again.numpy())
    assert tiled.device.type == "cpu"
    assert run(OverlapTileInferer(), image.cuda(), net).device.type == "cuda"
