"""Weights of an earlier training, loaded strictly or to start a new one from."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from monai.networks.utils import freeze_layers
from torch import Tensor, nn

LAST_LAYER = "logits."


def load_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a state dictionary into a network, all of it.

    Args:
        network: takes the weights in place.
        path: file of a state dictionary, as `models/model.pt` of a bundle.

    Raises:
        ValueError: a name or a shape differs; the message has the first one.
    """
    state = _read(path)
    _refuse(_misfits(network.state_dict(), state), path)
    network.load_state_dict(state)


def start_from(
    network: nn.Module,
    weights: str | os.PathLike[str] | None = None,
    frozen: str | None = None,
) -> None:
    """Begin a training with the weights of another, some of them fixed.

    Falk et al. 2019 adapt trained networks to new data in this way. The last layer starts anew
    where the number of classes differs.

    Args:
        network: takes the weights in place.
        weights: file of a state dictionary; None: the network stays as it is.
        frozen: regular expression of the parameters that do not learn, such as
            `"^contracting"`; running means of a batch normalisation go on. None: all learn.

    Raises:
        ValueError: weights other than the last layer's do not fit, or `frozen` fits none.
    """
    if weights is not None:
        state, own = _read(weights), network.state_dict()
        misfits = _misfits(own, state)
        anew = {name for name in misfits if name.startswith(LAST_LAYER) and name in state}
        _refuse([name for name in misfits if name not in anew], weights)
        network.load_state_dict({**state, **{name: own[name] for name in anew}})
    if frozen is not None:
        freeze_layers(network, freeze_vars=frozen)
        if all(parameter.requires_grad for parameter in network.parameters()):
            names = sorted({name.split(".")[0] for name, _ in network.named_parameters()})
            raise ValueError(f"frozen={frozen!r} fits no parameter; they begin with {names}")


def _read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no state dictionary: give the model.pt of a bundle")
    return dict(state)


def _misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Names that one side lacks, or whose shapes differ."""
    both = dict.fromkeys([*own, *state])
    return [n for n in both if n not in own or n not in state or own[n].shape != state[n].shape]


def _refuse(misfits: list[str], path: str | os.PathLike[str]) -> None:
    if misfits:
        more = f" and {len(misfits) - 1} more" if len(misfits) > 1 else ""
        raise ValueError(
            f"{path} does not fit the network at {misfits[0]}{more}: give the preset, features and "
            "channels of the training that made it"
        )
