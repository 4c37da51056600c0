"""Batch normalisation by the statistics of the image at hand.

In training, batch normalisation sees the statistics of a few tiles; afterwards it is given the
mean over all images. What it mostly corrects are differences between images, so that the image's
own statistics serve better where images differ (Li et al. 2016, "Revisiting batch normalization
for practical domain adaptation"). Found once and then fixed, they leave the network local: tiles
still equal one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from unet_med.inferers.tiling import Tiling

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
KINDS = (None, "image")
WINDOW = {2: 512, 3: 96}  # px by spatial dims: a whole image, mostly, and never much memory


def window_sides(shape: Sequence[int], tiling: Tiling) -> list[int]:
    """Input sides of the windows in which statistics are looked for, px."""
    limit = tiling.whole_side(WINDOW[tiling.spatial_dims] - 2 * tiling.lost)
    return [min(tiling.whole_side(length), limit) for length in shape]


def batch_norms(network: Callable[..., Any]) -> list[BatchNorm]:
    """The layers of a network that keep statistics; none of a plain function."""
    modules = network.modules() if isinstance(network, nn.Module) else ()
    return [m for m in modules if isinstance(m, BatchNorm) and m.track_running_stats]


@contextmanager
def own_statistics(layers: Sequence[BatchNorm], look: Callable[[], Any]) -> Iterator[None]:
    """Within the context, batch normalisation has the statistics of what `look` runs.

    Args:
        layers: of `batch_norms`; they are given back as they were.
        look: runs the network over the image, in one pass or several; of several the mean of
            their statistics counts.
    """
    before = [(layer.training, layer.momentum, _copy(layer)) for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all passes
            layer.train()
        look()
        for layer in layers:
            layer.eval()
        yield
    finally:
        for layer, (training, momentum, statistics) in zip(layers, before, strict=True):
            layer.train(training)
            layer.momentum = momentum
            layer.load_state_dict(statistics, strict=False)


def _copy(layer: BatchNorm) -> dict[str, Any]:
    return {name: buffer.clone() for name, buffer in layer.named_buffers()}
