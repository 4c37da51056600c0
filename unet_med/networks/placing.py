"""Put a network on its device, in the layout in which it is fastest there."""

from __future__ import annotations

import torch
from torch import nn

from unet_med.devices import make_current
from unet_med.networks.ensemble import members_of

MEMORY_FORMATS = ("auto", "contiguous", "channels_last")
COMPILE = ("auto", True, False)

_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def place(
    network: nn.Module,
    device: torch.device | str,
    *,
    memory_format: str = "auto",
    compile: bool | str = "auto",
) -> nn.Module:
    """Put a network on a device, which becomes the current one; in place, as `Module.to`.

    Args:
        network: of 2 or 3 spatial dimensions.
        device: where to.
        memory_format: how its weights lie in memory, and so what lies between its layers:
            ``"contiguous"`` or ``"channels_last"``, the ``"auto"`` of 2-D and 3-D: a training
            step takes a tenth, in 3-D a third less of a CPU (`docs/reference/benchmarks.md`),
            and bfloat16 wants it.
        compile: whether `torch.compile` makes one program of it, which takes a minute or more
            and a compiler; ``"auto"`` does not.

    Returns:
        The network. Its parameters keep their names.

    Raises:
        ValueError: a choice is unknown.
    """
    if compile not in COMPILE:
        raise ValueError(f"compile {compile!r} is none of auto, true, false")
    layout = chosen_memory_format(network, memory_format)
    make_current(device)
    network.to(device)
    dims = spatial_dims_of(network)
    if dims in _CHANNELS_LAST:
        wanted = _CHANNELS_LAST[dims] if layout == "channels_last" else torch.contiguous_format
        network.to(memory_format=wanted)  # type: ignore[call-overload] # torch's own types lack it
    if compile is True:
        for member in members_of(network):  # each runs by itself
            member.compile(dynamic=False)
    return network


def chosen_memory_format(network: nn.Module, memory_format: str = "auto") -> str:
    """The memory format that a choice of `place` gives a network: contiguous or channels last.

    Raises:
        ValueError: the choice is unknown.
    """
    if memory_format not in MEMORY_FORMATS:
        known = ", ".join(MEMORY_FORMATS)
        raise ValueError(f"memory_format {memory_format!r} is none of {known}")
    dims = spatial_dims_of(network)
    if dims not in _CHANNELS_LAST:  # it has no convolutions, or others
        return "contiguous"
    if memory_format != "auto":
        return memory_format
    return "channels_last"


def spatial_dims_of(network: nn.Module) -> int:
    """Spatial dimensions of a network's first convolution; 0 where there is none."""
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    first = next((m for m in network.modules() if isinstance(m, convolutions)), None)
    return 0 if first is None else first.weight.ndim - 2
