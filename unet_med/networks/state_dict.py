"""Load the weights of a training: strictly, or to start a new training from."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from monai.networks.utils import freeze_layers
from torch import Tensor, nn

LAST_LAYER = "logits."
RESUMED = {"network", "optimizer", "random", "iteration"}  # what `Checkpoints` keeps to resume


def load_weights(
    network: nn.Module, path: str | os.PathLike[str], *, missing_ok: bool = False
) -> None:
    """Load a state dictionary into a network, all of it.

    Args:
        network: takes the weights in place.
        path: what `read_weights` reads, as `models/model.pt` of a bundle.
        missing_ok: leave the network as it is where there is no such file.

    Raises:
        ValueError: a name or a shape differs; the message has the first one.
    """
    if missing_ok and not os.path.exists(path):
        return
    state = read_weights(path)
    _refuse(_misfits(network.state_dict(), state), path)
    network.load_state_dict(state)


def start_from(
    network: nn.Module,
    weights: str | os.PathLike[str] | None = None,
    frozen: str | None = None,
) -> nn.Module:
    """Begin a training with the weights of another, some of them fixed.

    Falk et al. 2019 adapt trained networks to new data in this way. The last layer starts anew
    where the number of classes differs.

    Args:
        network: takes the weights in place.
        weights: what `read_weights` reads; None: the network stays as it is.
        frozen: regular expression of the parameters that do not learn, such as
            `"^contracting"`; running means of a batch normalisation go on. None: all learn.

    Returns:
        The network.

    Raises:
        ValueError: weights other than the last layer's do not fit, or `frozen` fits none.
    """
    if weights is not None:
        state, own = read_weights(weights), network.state_dict()
        misfits = _misfits(own, state)
        anew = {name for name in misfits if name.startswith(LAST_LAYER) and name in state}
        _refuse([name for name in misfits if name not in anew], weights)
        network.load_state_dict({**state, **{name: own[name] for name in anew}})
    if frozen is not None:
        freeze_layers(network, freeze_vars=frozen)
        if all(parameter.requires_grad for parameter in network.parameters()):
            names = sorted({name.split(".")[0] for name, _ in network.named_parameters()})
            raise ValueError(f"frozen={frozen!r} fits no parameter; they begin with {names}")
    return network


def read_weights(path: str | os.PathLike[str], *, key: str | None = None) -> dict[str, Tensor]:
    """State dictionary of a file, on the CPU: tensors alone, never a program.

    Args:
        path: `.safetensors`, or what `torch.save` wrote: the dictionary itself, or a checkpoint
            that holds it as `"model"`, `"network"` or `"state_dict"`.
        key: of such a checkpoint, the entry that counts before these three, if it has it.

    Raises:
        ValueError: the file is missing, damaged, the state of a training to resume, or holds
            something else.
    """
    with refusing(path):
        if str(path).endswith(".safetensors"):
            return _read_safetensors(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state, Mapping):
        if RESUMED.issubset(state):
            raise ValueError(
                f"{path} is what a training resumes from, in the middle of its schedule: give the "
                "model.pt of the bundle"
            )
        names = (key, "model", "network", "state_dict")
        inner = (state[name] for name in names if name in state)
        state = next((value for value in inner if isinstance(value, Mapping)), state)
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no state dictionary: give the model.pt of a bundle")
    return dict(state)


@contextmanager
def refusing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any error that a file of weights causes into one sentence.

    Raises:
        ValueError: in place of the many errors of a damaged, foreign or unfit file.
    """
    try:
        yield
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f" (it calls {named[1]})" if named else ""
        raise ValueError(
            f"{path} holds more than tensors{what}: loading it could run a program, so it is "
            "refused"
        ) from error
    except (EOFError, KeyError, OSError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be loaded as weights of this network: {_short(error)}"
        ) from error


def _read_safetensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path, device="cpu"))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {_short(error)}") from error


def _short(error: Exception) -> str:
    """The start of an error's text in one line, and its kind."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


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
