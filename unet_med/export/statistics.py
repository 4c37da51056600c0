"""Batch normalisation by an image's own statistics, as graphs that take them and that find them.

A bundle with `"statistics": "image"` finds the statistics of an image before it predicts
(`unet_med.inferers.batch_statistics`). A file with fixed weights cannot do that by itself: so one
graph finds them, and the other takes them beside the image.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from unet_med.inferers.batch_statistics import BatchNorm, batch_norms


class WithStatistics(nn.Module):
    """Logits of an image under given statistics of batch normalisation.

    Args:
        network: in evaluation; maps `(B, C, *S)` to logits.

    Attributes:
        channels: of each layer of batch normalisation, in the order of the statistics.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        layers = batch_norms(network)
        self.names = [name for name, m in network.named_modules() if m in layers]
        self.channels = [layer.num_features for layer in layers]

    def forward(self, image: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """`(B, C, *S)` with `mean` and `variance` of all layers, `(N,)` each, to logits."""
        parts = zip(mean.split(self.channels), variance.split(self.channels), strict=True)
        buffers = {}
        for name, (of_mean, of_variance) in zip(self.names, parts, strict=True):
            buffers[f"{name}.running_mean"] = of_mean
            buffers[f"{name}.running_var"] = of_variance
        logits: Tensor = functional_call(self.network, buffers, (image,))
        return logits


class FindStatistics(nn.Module):
    """Mean and variance of an image in every layer of batch normalisation.

    What `WithStatistics` takes, of one window of an image; of several windows the mean of their
    statistics counts, as in `find_statistics`.

    Args:
        network: in evaluation; a copy of it is kept.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.layers = batch_norms(self.network)
        for layer in self.layers:
            _forget(layer)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, *S)` to `mean` and `variance`, `(N,)` each."""
        found: dict[nn.Module, tuple[Tensor, Tensor]] = {}

        def look(layer: nn.Module, args: tuple[Tensor]) -> None:
            axes = [0, *range(2, args[0].dim())]  # of (B, C, *S)
            found[layer] = torch.var_mean(args[0], axes, correction=1)  # as running_var is

        hooks = [layer.register_forward_pre_hook(look) for layer in self.layers]
        self.network(image)
        for hook in hooks:
            hook.remove()
        variances, means = zip(*(found[layer] for layer in self.layers), strict=True)
        return torch.cat(means), torch.cat(variances)


def _forget(layer: BatchNorm) -> None:
    """Let a layer normalise by what it sees, and keep nothing."""
    layer.track_running_stats = False
    layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    layer.train()
