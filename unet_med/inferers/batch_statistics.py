"""Batch normalisation by the statistics of the image at hand.

In training, batch normalisation sees the statistics of a few tiles; afterwards it is given the
mean over all images. What it mostly corrects are differences between images, so that the image's
own statistics serve better where images differ (Li et al. 2016, "Revisiting batch normalization
for practical domain adaptation"). Found once and then fixed, they leave the network local: tiles
still equal one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from unet_med.inferers.tiling import Tiling
from unet_med.turns import turn_with

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
KINDS = (None, "image")
Statistics = dict[str, Tensor]  # of one layer, its buffers by name
WINDOW = {2: 512, 3: 96}  # px by spatial dims: a whole image, mostly, and never much memory


def window_sides(shape: Sequence[int], tiling: Tiling) -> list[int]:
    """Input sides of the windows in which statistics are looked for, px."""
    window = WINDOW[tiling.spatial_dims]
    return [
        min(axis.whole_side(length), axis.whole_side(window - 2 * axis.lost))
        for axis, length in zip(tiling.axes, shape, strict=True)
    ]


def batch_norms(network: Callable[..., Any]) -> list[BatchNorm]:
    """The layers of a network that keep statistics; none of a plain function."""
    modules = network.modules() if isinstance(network, nn.Module) else ()
    return [m for m in modules if isinstance(m, BatchNorm) and m.track_running_stats]


def find_statistics(layers: Sequence[BatchNorm], look: Callable[[], Any]) -> list[Statistics]:
    """Statistics that layers of batch normalisation have of what `look` runs.

    Args:
        layers: of `batch_norms`; they are given back as they were.
        look: runs the network over the image, in one pass or several; of several the mean of
            their statistics counts.

    Returns:
        The buffers of each layer by name.
    """
    with torch.no_grad(), _kept(layers), ExitStack() as hooks:
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
            hooks.callback(layer.register_forward_pre_hook(_MeanOfPasses()).remove)
        look()
        return [_copy(layer) for layer in layers]


class _MeanOfPasses:
    """Lets a layer keep the mean over all passes, as `momentum = None` would.

    For that PyTorch asks a GPU in every pass how many there were.
    """

    def __init__(self) -> None:
        self.passes = 0

    def __call__(self, layer: BatchNorm, inputs: Any) -> None:
        self.passes += 1
        layer.momentum = 1.0 / self.passes


@contextmanager
def use_statistics(layers: Sequence[BatchNorm], found: Sequence[Statistics]) -> Iterator[None]:
    """Within the context, batch normalisation has the statistics of `find_statistics`.

    Gradients flow through the layers; the statistics count as constants.
    """
    with _kept(layers):
        for layer, statistics in zip(layers, found, strict=True):
            layer.load_state_dict(statistics, strict=False)
            layer.eval()
        yield


@contextmanager
def _kept(layers: Sequence[BatchNorm]) -> Iterator[None]:
    """Give the layers back as they were.

    Within they have buffers of their own: a gradient that is asked for later needs both as they
    were when the network ran. Threads that share a network take turns.
    """
    with turn_with(layers[0]) if layers else nullcontext():
        before = [(layer.training, layer.momentum, dict(layer.named_buffers())) for layer in layers]
        try:
            for layer in layers:
                _set_buffers(layer, _copy(layer))
            yield
        finally:
            for layer, (training, momentum, buffers) in zip(layers, before, strict=True):
                layer.train(training)
                layer.momentum = momentum
                _set_buffers(layer, buffers)


def _set_buffers(layer: BatchNorm, buffers: Statistics) -> None:
    for name, buffer in buffers.items():
        setattr(layer, name, buffer)


def _copy(layer: BatchNorm) -> Statistics:
    return {name: buffer.clone() for name, buffer in layer.named_buffers()}
