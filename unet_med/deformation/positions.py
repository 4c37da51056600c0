"""Positions of pixels along the axes of an image."""

from __future__ import annotations

from functools import lru_cache

import torch


@lru_cache(maxsize=64)
def along(
    axis: int,
    shape: torch.Size,
    dtype: torch.dtype,
    device: torch.device,
    *,
    scale: float = 1,
    start: float = 0,
) -> torch.Tensor:
    """Positions along one axis, px by default, shaped to broadcast over the others."""
    with torch.inference_mode(False), torch.no_grad():  # cached: must serve any later caller
        line = torch.arange(shape[axis], dtype=dtype, device=device) * scale + start
    return line.view(-1, *[1] * (len(shape) - 1 - axis))
