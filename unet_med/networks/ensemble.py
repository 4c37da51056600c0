"""Networks of one architecture that answer together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from unet_med.networks.state_dict import read_weights


class Ensemble(nn.Module):
    """The mean of the logits of several networks.

    Its geometry is that of each: tiles are as exact as with one. Its state dictionary has those of
    the networks, as `members.0.*`, `members.1.*` and so on.

    Args:
        network: one of them, the others become copies, until weights are loaded.
        count: how many.
    """

    def __init__(self, network: nn.Module, count: int) -> None:
        super().__init__()
        self.members = nn.ModuleList([network, *(deepcopy(network) for _ in range(count - 1))])

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(B, K, *S)` of images `(B, C, *S)`."""
        first, *others = self.members
        total = _wide(first(x))
        for member in others:  # one after the other: no more memory than one takes
            total = total + _wide(member(x))
        return total / len(self.members)

    def __getattr__(self, name: str) -> Any:
        """What an inferer asks, such as `margin` and `stride`, is answered by the first network."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "members":
                raise
            return getattr(self.members[0], name)


def _wide(logits: Tensor) -> Tensor:
    """At least float32: seven bits of bfloat16 do not add up."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def together(network: nn.Module, members: int = 1) -> nn.Module:
    """The `Ensemble` of several networks like this one, or the network itself.

    Args:
        network: the pattern of all.
        members: how many there are; 1: the network itself.
    """
    return network if members == 1 else Ensemble(network, members)


def members_of(network: Any) -> list[Any]:
    """The networks that answer together, each by itself; of any other network it alone."""
    return list(network.members) if isinstance(network, Ensemble) else [network]


def joined_weights(files: Sequence[str | os.PathLike[str]]) -> dict[str, torch.Tensor]:
    """State dictionary of the `Ensemble` of the networks whose weights files hold."""
    return {
        f"members.{k}.{name}": tensor
        for k, file in enumerate(files)
        for name, tensor in read_weights(file).items()
    }
