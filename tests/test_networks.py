from __future__ import annotations

import inspect
import json
import math
import re

import numpy as np
import pytest
import torch
from monai.networks.utils import pixelshuffle
from oracles import figure_1
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from unet_med import geometry
from unet_med.inferers import OverlapTileInferer
from unet_med.networks import PRESETS, UNet, presets, unet
from unet_med.networks.blocks import (
    AttentionGate,
    ConvBlock,
    Expand,
    centre_crop,
    max_unpool,
    up_layer,
)

UPSAMPLES = ("deconv", "bilinear", "unpool", "pixelshuffle")
SMALL = (4, 6, 8)  # depth 2


def count(net: nn.Module, without: str = "\0") -> int:
    return sum(p.numel() for name, p in net.named_parameters() if without not in name)


def image(net: UNet, out: int = 0, channels: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Noise of the smallest size that gives `out` px a side (at the bottom, more than one)."""
    side = net.input_size_for(out or (1 if net.padding == "valid" else 8))
    shape = (2, channels, *[side] * net.spatial_dims)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# --- the paper's network ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "departures"),
    [
        ("paper2015", {}),
        ("release2015", {"up_act": True}),
        ("falk2019", {"up_act": True, "slope": 0.1}),
    ],
)
def test_published_networks_are_figure_1_with_copied_weights(preset, departures):
    net = unet(preset, features=(2, 4, 8, 16, 32)).double().eval()
    layers = list(net.parameters())
    for bias in layers[1::2]:
        nn.init.normal_(bias)
    x = torch.randn(1, 1, 204, 204, dtype=torch.float64)
    torch.testing.assert_close(net(x), figure_1(x, layers, **departures), rtol=0, atol=1e-12)


def test_dropout_acts_in_training_only():
    net = UNet(features=(2, 4, 8, 16, 32))
    x = torch.randn(1, 1, 188, 188)
    assert not torch.equal(net(x), net(x))
    torch.testing.assert_close(net.eval()(x), figure_1(x, list(net.parameters())))
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.5]


def test_weights_are_gaussian_with_the_papers_std():
    net = UNet(features=(32, 64, 128))
    for module in net.modules():
        if isinstance(module, _ConvNd):
            assert module.bias is not None
            assert torch.count_nonzero(module.bias) == 0
            if module.weight.numel() < 2000:
                continue
            # section 3: N incoming nodes; the release counts C_out k^2 for up-convolutions
            nodes = module.weight[0].numel()
            std = module.weight.std().item() / math.sqrt(2 / nodes)
            kurtosis = (module.weight**4).mean() / (module.weight**2).mean() ** 2
            assert std == pytest.approx(1, abs=6 / math.sqrt(2 * module.weight.numel()))
            assert kurtosis.item() == pytest.approx(3, abs=0.4)  # a uniform one has 1.8


def test_xavier_is_uniform_and_smaller():
    net = UNet(features=(32, 64), init="xavier")
    weight = net.bottom[0].convs[1].conv.weight
    assert weight.abs().max().item() == pytest.approx(math.sqrt(6 / (2 * 576)), rel=0.01)
    assert count(net) == count(UNet(features=(32, 64)))


# --- options ---------------------------------------------------------------------------------

OPTIONS = [
    *[{"padding": p, "upsample": u} for p in ("valid", "same") for u in UPSAMPLES],
    {"features": (4,)},
    {"features": (4, 6)},
    {"features": (3, 4, 4, 4), "convs_per_level": 1},
    {"convs_per_level": 1},
    {"convs_per_level": 3, "double_before_pool": True},
    {"convs_per_level": 1, "double_before_pool": True, "padding": "same"},
    {"norm": "batch"},
    {"norm": ("group", {"num_groups": 2})},
    {"norm": ("instance", {"affine": True}), "padding": "same"},
    {"act": ("leakyrelu", {"negative_slope": 0.1}), "up_act": "prelu"},
    {"act": None},
    {"skip": "add"},
    {"skip": "none"},
    {"skip": "none", "upsample": "unpool"},
    {"residual_levels": (0, 1, -1)},
    {"residual_levels": (2,), "padding": "same", "norm": "batch"},
    {"attention_levels": (0, 1)},
    {"attention_levels": (-1,), "skip": "add", "upsample": "bilinear"},
    {"pool": 3},
    *[{"pool": 3, "upsample": u, "padding": "same"} for u in UPSAMPLES],
    {"pool": 3, "upsample": "bilinear"},
    {"up_channels": "keep", "up_bias": False},
    {"up_channels": "keep-last", "up_act": "relu", "dropout_levels": (0, -2, -1)},
    {"init": "xavier"},
    {"in_channels": 3, "out_channels": 5},
]


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_give_the_stated_shape_and_a_gradient_everywhere(options, spatial_dims):
    arguments = {"features": SMALL, **options}
    net = UNet(spatial_dims, **arguments)
    x = image(net, channels=arguments.get("in_channels", 1))
    y = net(x)
    side = net.output_size(x.shape[-1])
    assert y.shape == (2, arguments.get("out_channels", 2), *[side] * spatial_dims)
    lost = 2 * net.margin if net.padding == "valid" else 0
    assert side == x.shape[-1] - lost

    (y * torch.randn_like(y)).sum().backward()
    # a bias before a normalisation is subtracted again
    cancelled = ".conv.bias" if arguments.get("norm") else "\0"
    zero = [
        name
        for name, p in net.named_parameters()
        if (p.grad is None or not p.grad.any()) and not (".convs." in name and cancelled in name)
    ]
    assert zero == []


def test_residual_and_attention_blocks_are_at_the_named_levels_only():
    net = UNet(features=(2, 2, 2, 2), residual_levels=(1, -1), attention_levels=(0, 2))
    down = [level[0].shortcut is not None for level in (*net.contracting, net.bottom)]
    assert down == [False, True, False, True]
    assert [level.block.shortcut is not None for level in net.expanding] == [False, True, False]
    assert [level.gate is not None for level in net.expanding] == [True, False, True]


def test_rectangular_images_keep_their_axes():
    net = UNet(features=SMALL)
    assert net(torch.zeros(1, 1, 44, 60)).shape == (1, 2, 4, 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "reflect"}, "reflect.*valid"),
        ({"upsample": "nearest"}, "deconv"),
        ({"skip": "mul"}, "crop-concat"),
        ({"up_channels": "double"}, "keep-last"),
        ({"init": "zeros"}, "xavier"),
        ({"up_channels": "keep", "skip": "add"}, "use up_channels='halve'"),
        ({"up_channels": "keep-last", "upsample": "unpool"}, "use up_channels='halve'"),
        ({"skip": "none", "attention_levels": (0,)}, "attention_levels gate the skips"),
        ({"residual_levels": (5,)}, "level 5 is none of the 5: 0 to 4"),
        ({"attention_levels": (4,)}, "level 4 is none of the 4: 0 to 3"),
        ({"dropout_levels": (-6,)}, "level -6"),
        ({"spatial_dims": 4}, "spatial_dims is 4; it must be 2 or 3"),
        ({"features": ()}, "features is empty"),
        ({"convs_per_level": 0}, "convs_per_level 0 is less than 1"),
        ({"pool": 1}, "pool 1 is less than 2"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        UNet(**{"features": (2, 2, 2, 2, 2), **options})


@pytest.mark.parametrize("shape", [(1, 44, 44), (1, 1, 44, 44, 44)])
def test_what_is_no_batch_of_its_images_is_refused(shape):
    message = rf"input of shape {re.escape(str(shape))} is no batch of 2-D images \(B, C, \*S\)"
    with pytest.raises(ValueError, match=message):
        UNet(features=(2, 4, 8))(torch.zeros(shape))


def test_illegal_sides_get_geometrys_error():
    net = UNet(features=(1, 1, 1, 1, 1))
    message = (
        r"input side 512 px is odd \(121\) before pooling 3; "
        r"nearest valid sides for depth 4: 508, 524"
    )
    for shape in [(512, 572), (572, 512)]:
        for words in [(torch.zeros(1, 1, *shape),), ()]:
            by_name = {} if words else {"x": torch.zeros(1, 1, *shape)}
            with pytest.raises(ValueError, match=message):
                net(*words, **by_name)


def test_same_padding_wants_multiples_of_the_stride():
    net = UNet(features=SMALL, padding="same")
    with pytest.raises(
        ValueError, match=r"side 30 px is no multiple of 4; nearest sides.*: 28, 32"
    ):
        net(torch.zeros(1, 1, 32, 30))


# --- exactness -------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [2, 3])
@pytest.mark.parametrize("upsample", UPSAMPLES)
def test_valid_tile_equals_the_whole(upsample, pool):
    net = UNet(features=SMALL, upsample=upsample, pool=pool, attention_levels=(0,)).double().eval()
    x = image(net, 30 if pool == 2 else 60, dtype=torch.float64)
    whole = net(x)
    out = net.output_size(net.input_size_for(1))
    for corner in (0, net.stride, 2 * net.stride):
        tile = net(x[:, :, corner : corner + out + 2 * net.margin, : out + 2 * net.margin])
        expected = whole[:, :, corner : corner + out, :out]
        torch.testing.assert_close(tile, expected, rtol=0, atol=1e-12)
    shifted = net(x[:, :, 1 : 1 + out + 2 * net.margin, : out + 2 * net.margin])
    assert (shifted - whole[:, :, 1 : 1 + out, :out]).abs().max() > 1e-3  # not at any other step


@pytest.mark.parametrize("pool", [2, 3])
@pytest.mark.parametrize("upsample", UPSAMPLES)
def test_same_padding_tile_with_margin_equals_the_whole(upsample, pool):
    net = UNet(features=SMALL, upsample=upsample, pool=pool, padding="same").double().eval()
    m, step = net.margin, net.stride
    assert m % step == 0
    side = 2 * m + 4 * step
    x = torch.randn(1, 1, side, side, dtype=torch.float64)
    whole = net(x)
    tile = net(x[:, :, step:-step, : m + step])  # the left side is the image's own edge
    torch.testing.assert_close(
        tile[:, :, m:-m, :step],
        whole[:, :, step + m : -step - m, :step],
        rtol=0,
        atol=1e-12,
    )


def linear(**options) -> UNet:
    """A U-Net without ReLU, maxima or negative weights: its gradient is its reach."""
    net = UNet(features=(2, 2, 2), act=None, dropout=0, **options)
    net.poolings = nn.ModuleList(nn.AvgPool2d(pool.kernel_size) for pool in net.poolings)
    for p in net.parameters():
        p.data.abs_()
    return net.double()


def support(net: UNet, side: int, window: slice) -> tuple[int, int]:
    """First and one past the last input row that outputs of a window of rows depend on."""
    x = torch.randn(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    net(x)[:, :, window, window].sum().backward()
    assert x.grad is not None
    rows = x.grad.ne(0).any(dim=3).flatten().nonzero()
    return int(rows[0]), int(rows[-1]) + 1


VARIANTS = [{}, {"pool": 3}, {"convs_per_level": 1}, {"convs_per_level": 3}]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("upsample", UPSAMPLES)
def test_valid_margin_by_gradients(upsample, options):
    net = linear(upsample=upsample, **options)
    out = net.output_size(net.input_size_for(1))
    start = net.stride
    side = net.input_size_for(out + 2 * net.stride)
    first, last = support(net, side, slice(start, start + out))
    reach = (start - first, last - (start + out + 2 * net.margin))
    if upsample == "unpool":  # the gradient shows the winners of each window only
        assert reach[0] <= 0
        assert reach[1] <= 0
    else:
        assert reach == (0, 0)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("upsample", UPSAMPLES)
def test_same_padding_margin_by_gradients(upsample, options):
    net = linear(upsample=upsample, padding="same", **options)
    middle = net.margin + net.stride
    side = 2 * middle + net.stride
    reach = 0
    for pixel in range(middle, middle + net.stride):
        first, last = support(net, side, slice(pixel, pixel + 1))
        reach = max(reach, pixel - first, last - 1 - pixel)
    assert reach <= net.margin
    if upsample != "unpool":
        assert net.margin - reach < net.stride  # and not more than the rounding


@pytest.mark.parametrize(
    ("upsample", "valid", "same"),
    [("deconv", 92, 112), ("bilinear", 107, 128), ("unpool", 92, 112), ("pixelshuffle", 92, 112)],
)
def test_margins_at_depth_4(upsample, valid, same):
    features = (1, 1, 1, 1, 1)
    assert UNet(features=features, upsample=upsample).margin == valid
    assert UNet(features=features, upsample=upsample, padding="same").margin == same


def test_attributes_an_inferer_asks_are_plain():
    net = UNet(3, features=SMALL, pool=3, padding="same")
    attributes = (net.spatial_dims, net.depth, net.stride, net.padding, net.tileable)
    assert attributes == (3, 2, 9, "same", True)
    assert net.output_size(18) == 18
    assert net.input_size_for(10) == 18
    assert UNet(features=SMALL).input_size_for(5) == geometry.input_size_for(5, 2)


@pytest.mark.parametrize(
    ("norm", "tileable"),
    [
        (None, True),
        ("batch", True),
        (("batch", {"track_running_stats": False}), False),
        ("instance", False),
        (("instance", {"track_running_stats": True}), True),
        (("group", {"num_groups": 2}), False),
        (("layer", {"normalized_shape": (4, 4)}), False),
        (("localresponse", {"size": 3}), True),
    ],
)
def test_tileable_is_false_where_statistics_are_of_the_image(norm, tileable):
    assert UNet(features=SMALL, norm=norm).tileable is tileable


# --- blocks ----------------------------------------------------------------------------------


def test_centre_crop_is_centred():
    x = torch.arange(30).reshape(1, 1, 5, 6)
    torch.testing.assert_close(centre_crop(x, [1, 2]), torch.tensor([[[[14, 15]]]]))


@pytest.mark.parametrize("dims", [2, 3])
def test_max_unpool_puts_values_back_where_the_maxima_were(dims):
    skip = torch.randn(2, 3, *[12] * dims)
    pool = F.max_pool2d if dims == 2 else F.max_pool3d
    window = (..., *[slice(2, 10)] * dims)
    whole = torch.where(skip >= F.interpolate(pool(skip, 2), scale_factor=2), skip, 0)
    pooled = pool(skip, 2)[(..., *[slice(1, 5)] * dims)]
    torch.testing.assert_close(max_unpool(pooled, skip, [2] * dims), whole[window], rtol=0, atol=0)


def test_max_unpool_of_a_tie_takes_the_first_as_pooling_does():
    out = max_unpool(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 2, 2), [2, 2])
    assert out.flatten().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("dims", [2, 3])
def test_max_unpool_is_deterministic(dims):
    torch.use_deterministic_algorithms(True)  # raises where an operation is not
    try:
        skip = torch.randn(1, 2, *[4] * dims, requires_grad=True)
        x = torch.randn(1, 2, *[2] * dims, requires_grad=True)
        max_unpool(x, skip, [2] * dims).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("dims", [2, 3])
def test_bilinear_is_interpolation_then_1x1_convolution(dims):
    up = up_layer("bilinear", dims, 3, 2, factor=2, crop=1).double()
    nn.init.normal_(up.conv.conv.bias)
    x = torch.randn(1, 3, *[5] * dims, dtype=torch.float64)
    mode = "bilinear" if dims == 2 else "trilinear"
    expected = up.conv(F.interpolate(x, scale_factor=2, mode=mode, align_corners=False))
    inner = expected[(..., *[slice(1, -1)] * dims)]
    torch.testing.assert_close(up(x), inner, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dims", [2, 3])
def test_pixelshuffle_is_1x1_convolution_then_shuffle(dims):
    up = up_layer("pixelshuffle", dims, 3, 2, factor=2)
    x = torch.randn(1, 3, *[4] * dims)
    weight, bias = up.conv_block.conv.weight, up.conv_block.conv.bias
    low = torch.einsum("oi,bi...->bo...", weight.flatten(1), x)
    expected = pixelshuffle(low + bias.reshape(-1, *[1] * dims), dims, 2)
    torch.testing.assert_close(up(x), expected)


def test_residual_block_adds_its_cropped_input_before_the_last_activation():
    block = ConvBlock(2, (3, 3, 3), residual=True)
    x = torch.randn(1, 3, 9, 9)
    first, second = block.convs[0].conv, block.convs[1].conv
    expected = F.relu(second(F.relu(first(x))) + x[:, :, 2:-2, 2:-2])
    torch.testing.assert_close(block(x), expected)


def test_an_added_skip_is_cropped_and_added():
    expand = Expand(nn.Identity(), nn.Identity(), nn.Identity(), skip="add")
    x, skip = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 8, 6)
    torch.testing.assert_close(expand(x, skip), x + skip[..., 2:-2, 1:-1], rtol=0, atol=0)


def test_attention_gate_is_oktays_equations_1_and_2():
    gate = AttentionGate(2, 4, 3).double()
    skip, signal = (torch.randn(2, n, 5, 6, dtype=torch.float64) for n in (4, 3))

    def linear(layer: nn.Module, x: Tensor) -> Tensor:
        nn.init.normal_(layer.conv.bias)
        product = torch.einsum("oi,bi...->bo...", layer.conv.weight.flatten(1), x)
        return product + layer.conv.bias.reshape(-1, 1, 1)

    both = linear(gate.from_skip, skip) + linear(gate.from_gate, signal)
    coefficient = 1 / (1 + torch.exp(-linear(gate.score, both.clamp(min=0))))
    torch.testing.assert_close(gate(skip, signal), skip * coefficient, rtol=0, atol=1e-13)


def test_attention_gate_is_pixelwise():
    gate = AttentionGate(2, 3, 4).double()
    signal = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    skip = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    out = gate(skip, signal)
    ratio = out / skip
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))  # one coefficient a pixel
    assert ratio.min() > 0
    assert ratio.max() < 1
    one = gate(skip[..., 2:3, 2:3], signal[..., 2:3, 2:3])
    torch.testing.assert_close(out[..., 2:3, 2:3], one)


# --- TorchScript -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        *[{"padding": p, "upsample": u} for p in ("valid", "same") for u in UPSAMPLES],
        {"residual_levels": (0, 1, 2), "attention_levels": (0, 1), "norm": "batch"},
        {"skip": "add"},
        {"skip": "none"},
    ],
    ids=str,
)
def test_scripted_network_gives_the_same(options, spatial_dims):
    net = UNet(spatial_dims, features=(2, 3, 4), **options).eval()
    x = image(net)
    scripted = torch.jit.script(net)
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), net(x), rtol=0, atol=0)
    assert scripted.margin == net.margin


# --- presets ---------------------------------------------------------------------------------


def test_parameter_counts_of_the_presets():
    with torch.device("meta"):
        assert count(unet()) == 31_030_658
        assert count(unet("release2015")) == 31_100_354
        assert count(unet("falk2019")) == 31_030_658
        cicek = unet("cicek2016")
        assert count(cicek, without=".adn.N") == 19_069_955
        assert cicek(torch.zeros(1, 3, 132, 132, 116)).shape == (1, 3, 44, 44, 28)


def test_weights_without_memory_are_not_drawn(monkeypatch):
    """Numbers that nobody keeps, for which torch imports its compiler, half a second."""
    drawn = []
    monkeypatch.setattr(nn.init, "kaiming_normal_", lambda weight, **_: drawn.append(weight.device))
    UNet(features=SMALL)
    with torch.device("meta"):
        UNet(features=SMALL)
    kernels = {nn.Conv2d, nn.ConvTranspose2d}
    count = sum(type(module) in kernels for module in UNet(features=SMALL).modules())
    assert [place.type for place in drawn] == ["cpu"] * 2 * count


def test_release_drops_what_the_skip_carries():
    net = unet("release2015", features=(2, 3, 4, 5))
    skips = []
    net.contracting[2].register_forward_hook(lambda _module, _args, out: skips.append(out))
    net(image(net))
    assert 0.3 < (skips[0] == 0).float().mean() < 0.95
    assert [type(level[-1]) is nn.Dropout for level in [*net.contracting, net.bottom]] == [
        False,
        False,
        True,
        True,
    ]
    acts = [type(level.up_act) for level in net.expanding]
    assert acts == [nn.ReLU] * 3
    assert [level.up.conv.out_channels for level in net.expanding] == [4, 3, 3]


def test_falk_uses_leaky_relu_everywhere_and_no_dropout():
    net = unet("falk2019", features=SMALL)
    slopes = [m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.1] * (10 + 2)
    assert not any(isinstance(m, nn.ReLU | nn.Dropout) for m in net.modules())


def test_cicek_normalises_before_each_relu():
    net = unet("cicek2016", features=SMALL)
    assert [type(layer).__name__ for layer in net.bottom[0].convs[0].adn] == ["BatchNorm3d", "ReLU"]
    assert all(level.up.conv.bias is None for level in net.expanding)
    assert [level[0].convs[0].conv.out_channels for level in net.contracting] == [2, 3]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_take_overrides_and_stay_tileable(name):
    net = unet(name, spatial_dims=2, in_channels=2, out_channels=4, features=SMALL, pool=3)
    assert net.tileable
    assert net(image(net, channels=2)).shape[1] == 4


def test_override_may_be_none():
    assert count(unet("cicek2016", features=SMALL, norm=None), without=".adn.N") == count(
        unet("cicek2016", features=SMALL), without=".adn.N"
    )
    assert not any("adn.N" in name for name, _ in unet("cicek2016", norm=None).named_modules())


def test_unknown_preset_lists_the_known():
    message = "paper2016.*paper2015, release2015, falk2019, cicek2016, modern"
    with pytest.raises(ValueError, match=message):
        unet("paper2016")


def test_presets_say_everything_they_fix():
    fixed = presets()
    assert fixed["paper2015"]["up_act"] is None
    assert fixed["release2015"]["up_channels"] == "keep-last"
    for name, arguments in fixed.items():
        with torch.device("meta"):
            assert count(UNet(**arguments)) == count(unet(name))


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_network_is_rebuilt_from_its_attributes(name):
    """NVFlare sends the class and, as JSON, the attributes that are called like arguments."""
    options = {"features": SMALL, "norm": ("group", {"num_groups": 1}), "residual_levels": (0,)}
    net = unet(name, **options).eval()
    asked = {arg: vars(net)[arg] for arg in inspect.signature(UNet).parameters}
    again = UNet(**json.loads(json.dumps(asked))).eval()
    again.load_state_dict(net.state_dict())
    x = image(net, channels=net.in_channels)
    torch.testing.assert_close(again(x), net(x), rtol=0, atol=0)
    torch.jit.script(net)


def test_any_size_is_the_mirrored_image_cut_back():
    options = {"features": SMALL, "padding": "same", "dropout": 0.0}
    net, strict = UNet(any_size=True, **options).eval(), UNet(**options).eval()
    strict.load_state_dict(net.state_dict())
    x = torch.randn(1, 1, 13, 18)
    mirrored = torch.cat([x, x[:, :, [11, 10, 9]]], dim=2)  # 16 rows
    mirrored = torch.cat([mirrored, mirrored[..., [16, 15]]], dim=3)  # 20 columns
    torch.testing.assert_close(net(x), strict(mirrored)[:, :, :13, :18], rtol=0, atol=0)
    torch.testing.assert_close(torch.jit.script(net)(x), net(x), rtol=0, atol=0)
    tiled = OverlapTileInferer()(x, strict)
    torch.testing.assert_close(net(x), tiled, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"same padding: (12, 16|16, 20), or any_size=True"):
        strict(x)
    with pytest.raises(ValueError, match=r"input side 1 px is no multiple"):
        net(x[:, :, :1])
    with pytest.raises(ValueError, match="any_size=True needs padding='same'"):
        UNet(any_size=True)


def test_numbers_of_numpy_are_those_of_python():
    """A network keeps Python's, with which NVFlare rebuilds it from JSON."""
    expected = UNet(features=(2, 4), pool=2, kernel_size=[3, 3])
    found = UNet(features=np.array([2, 4]), pool=np.int64(2), kernel_size=np.array([3, 3]))
    for name in ("features", "pool", "kernel_size", "rules", "stride", "margin"):
        assert json.dumps(getattr(found, name)) == json.dumps(getattr(expected, name))
    assert found.output_size(np.int64(44)) == expected.output_size(44)
    assert found.output_size(np.array([44, 46])) == expected.output_size((44, 46))
    with pytest.raises(TypeError, match=r"^features 2\.0 is no whole number"):
        UNet(features=[2.0, 4])
