"""The coarse-grid field and the warp, against loops, scipy and torch's own bicubic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import displacement_by_loops, warp_by_scipy
from torch.nn import functional as F

from unet_med.deformation import (
    Field,
    draw_nodes,
    farthest,
    interpolate_nodes,
    motion_of,
    moved_by,
    node_grid,
    random_displacement,
    warp,
)

KERNELS = ["bicubic", "bspline"]


def seeded(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("grid", [3, (2, 4)])
def test_field_is_the_double_loop(kernel, grid):
    nodes = draw_nodes(2, grid, kernel=kernel, rng=seeded()).double()
    field = interpolate_nodes(nodes, (16, 13), kernel=kernel)
    expected = displacement_by_loops(nodes.numpy(), (16, 13), kernel)
    np.testing.assert_allclose(field.numpy(), expected, rtol=0, atol=1e-12)


def test_bicubic_field_is_torchs_interpolation_of_displacements():
    nodes = draw_nodes(2, 3, rng=seeded())
    expected = F.interpolate(nodes[None], (57, 64), mode="bicubic", align_corners=True)[0]
    torch.testing.assert_close(interpolate_nodes(nodes, (57, 64)), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", [(9, 17), (5, 9, 13)])
def test_bicubic_passes_exactly_through_the_nodes(shape):
    nodes = draw_nodes(len(shape), 3, rng=seeded())
    field = interpolate_nodes(nodes, shape)
    on_nodes = field[(slice(None), *(slice(None, None, (n - 1) // 2) for n in shape))]
    torch.testing.assert_close(on_nodes, nodes, rtol=0, atol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_equal_nodes_shift_every_pixel_alike(kernel):
    grid = (5, 5) if kernel == "bspline" else (3, 3)
    nodes = torch.tensor([2.0, -3.0], dtype=torch.float64).view(2, 1, 1).expand(2, *grid)
    field = interpolate_nodes(nodes, (10, 11), kernel=kernel)
    expected = nodes[:, :1, :1].expand(2, 10, 11)
    torch.testing.assert_close(field, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "dims", "rms"),
    [
        ("bicubic", 2, 7.8),  # DESIGN: about 7.8 px on 3x3 with clamped ends
        ("bicubic", 3, 6.9),
        ("bspline", 2, 4.80),  # the authors' kernel: 0.479
        ("bspline", 3, 3.32),  # 0.332
    ],
)
def test_strength_at_sigma_10(kernel, dims, rms):
    rng = seeded()
    draws, side = (3000, 33) if dims == 2 else (800, 17)
    nodes = torch.stack([draw_nodes(dims, kernel=kernel, rng=rng) for _ in range(draws)])
    field = interpolate_nodes(nodes, (side,) * dims, kernel=kernel)
    assert field.pow(2).mean().sqrt().item() == pytest.approx(rms, rel=0.02)


def test_strength_of_the_bicubic_kernel_on_an_endless_grid():
    rng = seeded()
    nodes = torch.stack([draw_nodes(2, 7, rng=rng) for _ in range(1500)])
    inner = interpolate_nodes(nodes, (49, 49))[..., 16:32, 16:32]  # two whole cells
    assert inner.pow(2).mean().sqrt().item() == pytest.approx(8.6, rel=0.02)


def test_sigma_scales_each_axis():
    one = draw_nodes(2, sigma=1.0, rng=seeded())
    two = draw_nodes(2, sigma=(0.0, 5.0), rng=seeded())
    torch.testing.assert_close(two, one * torch.tensor([0.0, 5.0]).view(2, 1, 1), rtol=1e-6, atol=0)


def test_any_leading_batch():
    nodes = draw_nodes(3, rng=seeded()).expand(2, 4, 3, 3, 3, 3)
    field = interpolate_nodes(nodes, (4, 5, 6))
    assert field.shape == (2, 4, 3, 4, 5, 6)
    torch.testing.assert_close(field[1, 2], interpolate_nodes(nodes[0, 0], (4, 5, 6)))


@pytest.mark.parametrize("grid", [1, 2, 3])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (2, 3)])
def test_tiles_of_few_pixels(shape, kernel, grid):
    field = random_displacement(shape, grid, kernel=kernel, rng=seeded())
    assert field.shape == (2, *shape)
    assert field.isfinite().all()


def test_places_of_pixels_are_not_rounded_in_an_autocast():
    rotation = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    motion = motion_of(rotation, torch.randn(2, 3, 3))
    free = moved_by(motion, (200, 150), (3, 3))
    with torch.autocast("cpu", torch.bfloat16):
        held = moved_by(motion, (200, 150), (3, 3))
    assert held.dtype == torch.float32
    assert torch.equal(held, free)


def test_draw_and_interpolation_make_the_whole():
    whole = random_displacement((20, 30), rng=seeded(), dtype=torch.float64)
    nodes = draw_nodes(2, rng=seeded())
    torch.testing.assert_close(whole, interpolate_nodes(nodes.double(), (20, 30)), rtol=0, atol=0)


def test_matrices_cached_in_inference_mode_serve_gradients():
    with torch.inference_mode():
        interpolate_nodes(torch.zeros(2, 3, 3), (21, 22))
    nodes = torch.zeros(2, 3, 3, requires_grad=True)
    interpolate_nodes(nodes, (21, 22)).sum().backward()
    assert nodes.grad is not None
    assert nodes.grad.sum().item() == pytest.approx(2 * 21 * 22, rel=1e-5)


def rotation(dims: int, angle: float) -> np.ndarray:
    """By an angle in the plane of the last two axes."""
    matrix = np.eye(dims)
    cos, sin = math.cos(angle), math.sin(angle)
    matrix[-2:, -2:] = [[cos, -sin], [sin, cos]]
    return matrix


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(24, 19), (7, 12, 10)])
def test_rotation_and_deformation_in_one_resampling(shape, kernel, rng):
    """Pixel by pixel: where does the deformed one lie in the rotated image, and that in ours?"""
    dims, image, labels = len(shape), rng.random(shape), rng.integers(0, 2**30, shape)
    nodes = draw_nodes(dims, sigma=2.0, kernel=kernel, rng=seeded())
    turn, centre = rotation(dims, 0.6), (np.array(shape) - 1) / 2
    if dims == 2:
        drawn = displacement_by_loops(nodes.numpy(), shape, kernel)
    else:
        drawn = interpolate_nodes(nodes.double(), shape, kernel=kernel).numpy()
    where = np.empty((dims, *shape))
    for pixel in np.ndindex(shape):
        there = turn @ (np.array(pixel) + drawn[(slice(None), *pixel)] - centre) + centre
        where[(slice(None), *pixel)] = there - pixel
    motion = motion_of(torch.from_numpy(turn), nodes)
    field = moved_by(motion, shape, node_grid(dims, 3, kernel), kernel=kernel)
    np.testing.assert_allclose(field.numpy(), where, atol=2e-5)
    found = warp(torch.from_numpy(image)[None].float(), field)[0].numpy()
    np.testing.assert_allclose(found, warp_by_scipy(image, where, order=1), atol=1e-4)
    assert np.abs(where).max() > min(shape) / 3  # some pixels come from the mirror
    copied = warp(torch.from_numpy(labels)[None].int(), field, mode="nearest")[0].numpy()
    assert (copied == warp_by_scipy(labels, where, order=0)).mean() > 0.999  # but for ties


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(57, 40), (9, 14, 11)])
def test_without_rotation_the_field_is_that_of_the_nodes(shape, kernel):
    dims, grid = len(shape), node_grid(len(shape), 4, kernel)
    nodes = [draw_nodes(dims, 4, kernel=kernel, rng=seeded(k)) for k in range(3)]
    alone = [motion_of(None, each) for each in nodes]
    fields = moved_by(torch.stack(alone), shape, grid, kernel=kernel)
    for field, motion, each in zip(fields, alone, nodes, strict=True):
        expected = interpolate_nodes(each, shape, kernel=kernel)
        assert torch.equal(moved_by(motion, shape, grid, kernel=kernel), expected)
        torch.testing.assert_close(field, expected, rtol=0, atol=1e-5)


@given(
    st.integers(0, 10**6),
    st.floats(-3.2, 3.2),
    st.sampled_from(KERNELS),
    st.sampled_from([(9, 30), (1, 5), (4, 6, 9)]),
)
def test_nothing_moves_farther_than_is_said(seed, angle, kernel, shape):
    dims = len(shape)
    nodes = draw_nodes(dims, sigma=2.0, kernel=kernel, rng=seeded(seed))
    motions = torch.stack(
        [
            motion_of(torch.from_numpy(rotation(dims, angle)), nodes),
            motion_of(None, nodes),
            motion_of(torch.from_numpy(rotation(dims, angle)), torch.zeros_like(nodes)),
            motion_of(None, torch.zeros_like(nodes)),
        ]
    )
    fields = moved_by(motions, shape, node_grid(dims, 3, kernel), kernel=kernel)
    longest, said = fields.abs().flatten(1).amax(dim=1), farthest(motions, shape, kernel=kernel)
    assert (longest <= said + 1e-4).all()
    assert said[-1] == 0


@st.composite
def warps(draw):
    """An image `(*S)` and a displacement of it, some of it far beyond the border."""
    dims = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(dims))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    reach = draw(st.sampled_from([0.5, 3.0, 40.0]))
    return rng.random(shape), rng.normal(0, reach, (dims, *shape))


@given(warps())
def test_linear_warp_is_scipys(case):
    image, displacement = case
    out = warp(torch.from_numpy(image)[None], torch.from_numpy(displacement))
    np.testing.assert_allclose(out[0].numpy(), warp_by_scipy(image, displacement, 1), atol=1e-9)


@given(warps())
def test_nearest_warp_is_scipys(case):
    image, displacement = case
    labels = np.arange(image.size).reshape(image.shape) + 2**40
    out = warp(torch.from_numpy(labels)[None], torch.from_numpy(displacement), mode="nearest")
    expected = warp_by_scipy(np.arange(image.size).reshape(image.shape), displacement, 0) + 2**40
    np.testing.assert_array_equal(out[0].numpy(), expected)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_whole_pixel_shift_moves_the_image_against_the_displacement(mode):
    x = torch.rand(2, 12, 10, generator=torch.Generator().manual_seed(0))
    displacement = torch.zeros(2, 12, 10)
    displacement[0], displacement[1] = 3, -2  # output(y, x) = input(y + 3, x - 2)
    out = warp(x, displacement, mode=mode)
    torch.testing.assert_close(out[:, :9, 2:], x[:, 3:, :-2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool, torch.half])
@pytest.mark.parametrize("scale", [0.0, 5.0])
def test_nearest_keeps_dtype_and_values(dtype, scale):
    x = (torch.rand(1, 8, 9) * 200).to(dtype)
    out = warp(x, random_displacement((8, 9), sigma=scale, rng=seeded()), mode="nearest")
    assert out.dtype == dtype
    assert set(out.flatten().tolist()) <= set(x.flatten().tolist())


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize("shape", [(8, 9), (6, 5, 7)])
def test_unsigned_labels_move_as_signed_ones(dtype, shape):
    labels = torch.randint(0, 2**16, (1, *shape))
    field = random_displacement(shape, sigma=3.0, rng=seeded())
    found = warp(labels.to(dtype), field, mode="nearest")
    assert found.dtype == dtype
    assert torch.equal(found.long(), warp(labels, field, mode="nearest"))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.uint8, torch.float32), (torch.half, torch.half), (torch.float64, torch.float64)],
)
@pytest.mark.parametrize("scale", [0.0, 5.0])
def test_linear_returns_a_floating_dtype(dtype, expected, scale):
    x = (torch.rand(1, 8, 9) * 200).to(dtype)
    out = warp(x, random_displacement((8, 9), sigma=scale, rng=seeded()))
    assert out.dtype == expected


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_no_displacement_is_the_identity_to_the_last_bit(mode):
    x = torch.rand(1, 37, 41) * math.pi
    out = warp(x, random_displacement((37, 41), sigma=0.0, rng=seeded()), mode=mode)
    torch.testing.assert_close(out, x, rtol=0, atol=0)


def test_displacement_of_one_pixel_leaves_the_others_alone():
    x = torch.rand(1, 572, 572)
    displacement = torch.zeros(2, 572, 572)
    displacement[:, 7, 7] = 1.0
    out = warp(x, displacement)
    assert out[0, 7, 7].item() == pytest.approx(x[0, 8, 8].item(), abs=1e-4)
    assert (out - x).abs().max(dim=2).values[0, 8:].max() < 1e-4


def test_border_mode_repeats_the_edge():
    x = torch.arange(6.0).view(1, 2, 3)
    right = torch.zeros(2, 2, 3)
    right[1] = 10
    for mode in ("bilinear", "nearest"):
        out = warp(x, right, mode=mode, padding_mode="border")
        torch.testing.assert_close(out, torch.tensor([[[2.0] * 3, [5.0] * 3]]))


def test_batches_share_a_field_or_bring_their_own():
    rng = seeded()
    x = torch.rand(3, 2, 11, 12)
    fields = torch.stack([random_displacement((11, 12), rng=rng) for _ in range(3)])
    for mode in ("bilinear", "nearest"):
        own = warp(x, fields, mode=mode)
        shared = warp(x, fields[1], mode=mode)
        for item in range(3):
            torch.testing.assert_close(own[item], warp(x[item], fields[item], mode=mode))
            torch.testing.assert_close(shared[item], warp(x[item], fields[1], mode=mode))


@pytest.mark.parametrize(
    ("x", "displacement", "message"),
    [
        (
            (1, 8, 8),
            (2, 8, 9),
            r"\(2, 8, 9\) for an image of shape \(1, 8, 8\); the rule is \(d, \*S\)",
        ),
        ((1, 8, 8), (3, 8, 8), r"for an image"),
        ((2, 1, 8, 8), (3, 2, 8, 8), r"for an image"),
        ((8, 8), (2, 8, 8), r"for an image"),
    ],
)
def test_shapes_that_do_not_fit(x, displacement, message):
    with pytest.raises(ValueError, match=message):
        warp(torch.zeros(x), torch.zeros(displacement))


def test_a_volume_has_no_bicubic():
    with pytest.raises(ValueError, match="use 'bilinear' in 3-D"):
        warp(torch.zeros(1, 4, 4, 4), torch.zeros(3, 4, 4, 4), mode="bicubic")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "linear"}, "mode 'linear' is none of 'bilinear'"),
        ({"padding_mode": "zeros"}, "padding_mode 'zeros' is neither 'reflection'"),
    ],
)
def test_unknown_modes_of_the_warp(options, message):
    with pytest.raises(ValueError, match=message):
        warp(torch.zeros(1, 4, 4), torch.zeros(2, 4, 4), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "linear"}, "kernel 'linear' is neither 'bicubic' nor 'bspline'"),
        ({"grid": 0}, "grid 0 has an axis without a node; at least 1"),
        ({"grid": (3, 3, 3)}, "3 values for 2 axes"),
        ({"sigma": -1.0}, "sigma -1.0 px is negative"),
        ({"sigma": math.nan}, "not finite"),
        ({"sigma": (1.0,)}, "1 values for 2 axes"),
    ],
)
def test_fields_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        random_displacement((8, 8), rng=seeded(), **options)


def test_nodes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"the rule is \(\.\.\., 2, \*grid\)"):
        interpolate_nodes(torch.zeros(3, 3), (8, 8))
    with pytest.raises(ValueError, match="too small"):
        interpolate_nodes(torch.zeros(2, 2, 2), (8, 8), kernel="bspline")


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(64, 48), (16, 20, 24)])
def test_gpu_equals_cpu(shape):
    field = random_displacement(shape, rng=seeded())
    on_gpu = random_displacement(shape, rng=seeded(), device="cuda")
    # products in float32 of some 10 px; TF32, which torch does not take by itself, is 5e-3 off
    torch.testing.assert_close(on_gpu.cpu(), field, rtol=0, atol=1e-3)
    x = torch.rand(1, *shape)
    # places of up to 64 px that differ by their last digits, 1e-5 px, in an image of slope 1
    torch.testing.assert_close(
        warp(x.cuda(), field.cuda()).cpu(), warp(x, field), atol=1e-4, rtol=0
    )
    # labels of many digits are looked up by an index, a single sum, which all devices round alike
    labels = (x * 2**30).long()
    moved = warp(labels.cuda(), field.cuda(), mode="nearest").cpu()
    torch.testing.assert_close(moved, warp(labels, field, mode="nearest"), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(11, 12), (5, 6, 7)])
def test_a_field_shared_by_images_warps_as_its_displacement(shape):
    displacement = random_displacement(shape, sigma=4.0, rng=seeded())
    field = Field(displacement)
    image = torch.rand(2, *shape)
    label = (image * 9).int()
    for x in (image, image.double(), image[None]):  # either dtype first, with or without a batch
        torch.testing.assert_close(warp(x, field), warp(x, displacement), rtol=0, atol=0)
    for x in (label, label.long() + 2**40):
        own = warp(x, displacement, mode="nearest")
        torch.testing.assert_close(warp(x, field, mode="nearest"), own, rtol=0, atol=0)
    assert field.reach == displacement.abs().max()


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("shape", [(12, 11), (6, 5, 7), (13, 4)])
def test_any_number_of_cores_gives_one_result(mode, shape, monkeypatch):
    displacement = random_displacement(shape, sigma=4.0, rng=seeded())
    x = torch.rand(2, *shape)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    whole = warp(x, displacement, mode=mode)
    for cores in (2, 4, 16):  # 13 px are cut into 13 bands or none
        monkeypatch.setattr(torch, "get_num_threads", lambda cores=cores: cores)
        torch.testing.assert_close(warp(x, displacement, mode=mode), whole, rtol=0, atol=0)


def test_any_integer_of_32_bits_is_copied():
    # as floats: signalling and quiet not-a-number, the least positive number, minus zero
    values = torch.tensor([2139095041, -1, 1, -(2**31), 2**31 - 1], dtype=torch.int32)
    label = values[torch.arange(11 * 12) % 5].reshape(1, 11, 12)
    displacement = random_displacement((11, 12), sigma=4.0, rng=seeded())
    wide = warp(label.long(), displacement, mode="nearest")
    torch.testing.assert_close(warp(label, displacement, mode="nearest").long(), wide)


@pytest.mark.parametrize("sigma", [0.3, 2.0, 30.0])  # no mirror, one mirror, many
def test_a_volume_is_mirrored_as_torch_mirrors_it(sigma):
    displacement = random_displacement((8, 9, 7), sigma=sigma, rng=seeded()).double()
    x = torch.rand(1, 8, 9, 7, dtype=torch.float64)
    places = Field(displacement).places(3, torch.float64)
    options = {"padding_mode": "reflection", "align_corners": True}
    expected = F.grid_sample(x[None], places, "bilinear", **options)[0]
    torch.testing.assert_close(warp(x, displacement), expected, rtol=0, atol=1e-13)


def test_numbers_of_numpy_are_those_of_python():
    given = draw_nodes(2, np.array([3, 4]), sigma=np.array([2.0, 3.0]), rng=seeded())
    assert torch.equal(given, draw_nodes(2, (3, 4), sigma=(2.0, 3.0), rng=seeded()))
    with pytest.raises(TypeError, match=r"^grid 3\.5 is no whole number"):
        draw_nodes(2, 3.5, rng=seeded())
