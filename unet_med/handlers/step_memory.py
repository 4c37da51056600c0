"""Memory of a training step, counted without taking it: the step runs on torch's meta device."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def step_bytes(network: nn.Module, shape: Sequence[int]) -> int:
    """Most bytes that tensors take at a time in one training step, weights left out.

    Activations that wait for the backward pass, gradients of activations and weights, and what
    an operation makes on the way; not what its kernel takes inside.

    Args:
        network: the network that is trained; it is not changed.
        shape: of its input, `(B, C, *S)`.
    """
    weights = {
        name: torch.empty_like(weight, device="meta").requires_grad_(weight.requires_grad)
        for name, weight in network.named_parameters()
    }
    weights |= {name: torch.empty_like(b, device="meta") for name, b in network.named_buffers()}
    dtype = next(network.parameters()).dtype
    with LiveBytes() as live:
        image = torch.empty(tuple(shape), device="meta", dtype=dtype)
        target = torch.empty((shape[0], 4, *shape[2:]), device="meta")  # classes are 8 bytes each
        logits = torch.func.functional_call(network, weights, (image,))
        loss = logits.float().log_softmax(dim=1).square().mean()
        loss.backward()
        del target
    return live.peak


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()

        def forget(_: Any) -> None:
            del self._seen[key]
            self.now -= size

        self._seen[key] = weakref.ref(storage, forget)
        self.now += size
        self.peak = max(self.peak, self.now)
