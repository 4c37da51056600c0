"""Networks inside others that change how they run, and not what they are."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

_BY_MODULE = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrapped(network: Any) -> Any:
    """The network inside DataParallel, DistributedDataParallel, AveragedModel and `torch.compile`.

    It has the state dictionary that `load_weights` takes: in theirs names begin with `module.` or
    `_orig_mod.`. Any other network is itself.
    """
    while isinstance(network, nn.Module):
        compiled = dict(network.named_children()).get("_orig_mod")
        inner = network.module if isinstance(network, _BY_MODULE) else compiled
        if inner is None:
            break
        network = inner
    return network
