"""The weighted cross-entropy against torch's own, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import Limit, Race
from unet_med.losses import WeightedCrossEntropyLoss

OURS, PLAIN = "unet_med WeightedCrossEntropyLoss", "torch cross_entropy"


def races(tiny: bool) -> Iterator[Race]:
    """The paper's output tile with weights packed, and four tiles of `modern`."""
    for shape in ((1, 2, 388, 388), (4, 2, 192, 192), (1, 10, 388, 388)):
        yield race((*shape[:2], 16, 16) if tiny else shape)


def race(shape: tuple[int, ...]) -> Race:
    torch.manual_seed(0)
    logits = torch.randn(shape, requires_grad=True)
    label = torch.randint(0, shape[1], (shape[0], 1, *shape[2:]))
    packed = torch.cat([label.float(), torch.rand_like(label, dtype=torch.float32)], dim=1)
    loss = WeightedCrossEntropyLoss()
    return Race(
        f"Loss, logits {shape}, forward and backward",
        {
            OURS: step(logits, lambda: loss(logits, packed)),
            PLAIN: step(logits, lambda: F.cross_entropy(logits, label[:, 0])),
        },
        [Limit(OURS, PLAIN, at_most=1.3)],
        seconds=3,
    )


def step(logits: Tensor, loss: Callable[[], Tensor]) -> Callable[[], object]:
    def run() -> None:
        logits.grad = None
        loss().backward()

    return run
