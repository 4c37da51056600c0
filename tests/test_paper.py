"""Every number of the paper that the package reproduces, with its place.

Ronneberger, Fischer, Brox: U-Net (2015). Others are named where they come.
"""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from unet_med import geometry
from unet_med.handlers import TrainingBudget
from unet_med.networks import UNet, unet
from unet_med.transforms import RandElasticDeform, RandElasticDeformd
from unet_med.weights import border_weight_map

FEATURES = (64, 128, 256, 512, 1024)  # figure 1
TRAIN = json.loads(Path(__file__).parents[1].joinpath("configs/train.json").read_text("utf-8"))


def defaults(function: Any) -> dict[str, Any]:
    return {name: p.default for name, p in inspect.signature(function).parameters.items()}


@pytest.fixture(scope="module")
def net() -> UNet:
    """Figure 1, without its 31 million numbers: shapes are all these tests ask."""
    with torch.device("meta"):
        return UNet()


def maps(net: UNet, side: int) -> list[tuple[int, int]]:
    """(channels, side) after every convolution, in the order of use."""
    seen: list[tuple[int, int]] = []
    convolutions = [m for m in net.modules() if isinstance(m, _ConvNd)]
    hooks = [
        m.register_forward_hook(lambda _m, _i, y: seen.append((y.shape[1], y.shape[-1])))
        for m in convolutions
    ]
    net(torch.zeros(1, 1, side, side, device="meta"))
    for hook in hooks:
        hook.remove()
    return seen


# --- section 2, figure 1: the network ---------------------------------------------------------


def test_section_2_in_total_the_network_has_23_convolutional_layers(net):
    convolutions = [m for m in net.modules() if isinstance(m, _ConvNd)]
    sizes = [m.kernel_size for m in convolutions]
    assert len(convolutions) == 23
    assert sizes.count((3, 3)) == 18
    assert sizes.count((2, 2)) == 4
    assert sizes.count((1, 1)) == 1
    assert all(m.padding == (0, 0) for m in convolutions)  # "unpadded convolutions"


def test_figure_1_parameters_by_arithmetic(net):
    def conv(before: int, after: int, width: int) -> int:
        return after * (before * width**2 + 1)

    down = sum(
        conv(before, after, 3) + conv(after, after, 3)
        for before, after in zip((1, *FEATURES), FEATURES, strict=False)
    )
    up = sum(
        conv(2 * after, after, 2) + conv(2 * after, after, 3) + conv(after, after, 3)
        for after in FEATURES[:-1]
    )
    assert down + up + conv(64, 2, 1) == 31_030_658
    assert sum(p.numel() for p in net.parameters()) == 31_030_658


def test_figure_1_every_map_has_the_size_it_is_drawn_with(net):
    contracting = [(64, 570), (64, 568), (128, 282), (128, 280), (256, 138), (256, 136)]
    contracting += [(512, 66), (512, 64), (1024, 30), (1024, 28)]
    # the up-convolution halves the channels; its half of each drawn concatenation
    expanding = [(512, 56), (512, 54), (512, 52), (256, 104), (256, 102), (256, 100)]
    expanding += [(128, 200), (128, 198), (128, 196), (64, 392), (64, 390), (64, 388)]
    assert maps(net, 572) == [*contracting, *expanding, (2, 388)]


def test_section_2_relu_follows_the_3x3_convolutions_only(net):
    assert sum(isinstance(m, torch.nn.ReLU) for m in net.modules()) == 18
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.ReLU):
            before = net.get_submodule(name.removesuffix(".adn.A") + ".conv")
            assert before.kernel_size == (3, 3)


def test_section_2_up_convolutions_halve_the_channels(net):
    ups = [m for m in net.modules() if isinstance(m, _ConvTransposeNd)]
    assert [(m.in_channels, m.out_channels) for m in ups] == [
        (1024, 512),
        (512, 256),
        (256, 128),
        (128, 64),
    ]
    assert {m.stride for m in ups} == {(2, 2)}


def test_section_2_no_normalisation(net):
    kinds = {type(m).__name__ for m in net.modules()}
    assert not any("Norm" in kind for kind in kinds)


def test_section_3_dropout_at_the_end_of_the_contracting_path(net):
    dropouts = [name for name, m in net.named_modules() if isinstance(m, torch.nn.Dropout)]
    assert dropouts == ["bottom.1"]


def test_section_3_nodes_of_a_3x3_convolution_of_64_channels():
    weight = UNet(features=(64, 1)).contracting[0][0].convs[1].conv.weight
    assert weight[0].numel() == 9 * 64 == 576
    assert weight.std().item() == pytest.approx(math.sqrt(2 / 576), rel=0.02)


# --- section 2: sizes -------------------------------------------------------------------------


def test_figure_1_tile_and_context():
    assert geometry.output_size(572) == 388
    assert geometry.margin() == (572 - 388) // 2 == 92


def test_section_2_every_pooling_sees_an_even_size():
    assert {n % 16 for n in geometry.valid_input_sizes(188, 1000)} == {12}
    assert geometry.output_size(188) == 4  # the smallest


def test_section_3_a_512_slice_fits_one_tile_of_700():
    assert geometry.input_size_for(512) == 700
    with pytest.raises(ValueError, match="508, 524"):
        geometry.output_size(512)


# --- section 3, the default config: training --------------------------------------------------


def test_section_3_large_tiles_one_at_a_time_with_momentum():
    optimizer = TRAIN["optimizer"]
    assert (TRAIN["tile_size"], TRAIN["batch_size"]) == (572, 1)
    assert (optimizer["_target_"], optimizer["momentum"]) == ("torch.optim.SGD", 0.99)


def test_section_3_border_weights():
    border, default = TRAIN["weigh"]["border"], defaults(border_weight_map)
    assert (border["w0"], border["sigma"]) == ("@w0", "@sigma")
    for numbers in (TRAIN, default):
        assert (numbers["w0"], numbers["sigma"]) == (10.0, 5.0)


def test_section_3_1_vectors_of_10_px_on_a_3x3_grid_bicubic():
    elastic = TRAIN["augment"]["elastic"]
    assert elastic["_target_"] == "unet_med.transforms.RandElasticDeformd"
    assert elastic["prob"] == 1.0  # every tile
    for transform in (RandElasticDeform, RandElasticDeformd):
        default = defaults(transform)
        for numbers in (default, {**default, **elastic}):
            chosen = numbers["sigma"], numbers["grid"], numbers["kernel"]
            assert chosen == (10.0, 3, "bicubic")


def test_departures_turns_of_the_default_config():
    rotate, quarter_turn = TRAIN["augment"]["rotate"], TRAIN["augment"]["quarter_turn"]
    assert math.degrees(rotate["range_x"]) == pytest.approx(45, abs=0.1)
    assert rotate["prob"] == 0.5
    assert quarter_turn["prob"] == 0.75  # one, two or three of four, no turn as likely as each


def test_departures_learning_rate_of_the_default_config():
    assert (TRAIN["learning_rate"], TRAIN["epochs"]) == (0.01, 300)
    assert set(TRAIN["budget"]) == {"_target_", "optimizer", "minutes"}  # the rest by default
    default = defaults(TrainingBudget)
    assert (default["warmup"], default["final"]) == (0.02, 0.01)


# --- the release of October 2015, Falk et al. 2019, Çiçek et al. 2016 -------------------------


def test_release_keeps_128_channels_at_the_top():
    with torch.device("meta"):
        release = unet("release2015")
    extra = (128 * 64 * 4 + 64) + 64 * 64 * 9  # wider up-convolution, 192 channels to convolve
    assert sum(p.numel() for p in release.parameters()) == 31_030_658 + extra == 31_100_354
    assert release.expanding[-1].block.convs[0].conv.in_channels == 192


def test_falk_2019_has_the_papers_topology():
    with torch.device("meta"):
        assert sum(p.numel() for p in unet("falk2019").parameters()) == 31_030_658


def test_cicek_2016_section_2_voxels_channels_and_parameters():
    with torch.device("meta"):
        net = unet("cicek2016")
        out = net(torch.zeros(1, 3, 132, 132, 116))
    assert out.shape == (1, 3, 44, 44, 28)
    assert net.margin == 44
    trained = {name: p.numel() for name, p in net.named_parameters()}
    assert sum(n for name, n in trained.items() if ".adn.N." not in name) == 19_069_955
    channels = [
        tuple(conv.conv.out_channels for conv in level[0].convs)
        for level in (*net.contracting, net.bottom)
    ]
    assert channels == [(32, 64), (64, 128), (128, 256), (256, 512)]  # figure 2
