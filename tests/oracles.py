"""Slow, obvious versions of what the package computes; the tests compare against them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F


def walk_valid_unet(
    side: int, depth: int, convs_per_level: int, pool: int, upsample_crop: int
) -> int | None:
    """Output side of a valid U-Net, one layer after the other; None where it cannot run."""
    for _ in range(depth):
        for _ in range(convs_per_level):
            side -= 2
        if side < 1 or side % pool:
            return None
        side //= pool
    for _ in range(convs_per_level):
        side -= 2
    for _ in range(depth):
        if side < 1:
            return None
        side = side * pool - 2 * upsample_crop
        for _ in range(convs_per_level):
            side -= 2
    return side if side > 0 else None


def reach_of_padded_unet(depth: int, convs_per_level: int, pool: int, upsample_crop: int) -> int:
    """Distance of the furthest input pixel an output pixel sees, traced back layer by layer."""
    furthest = 0
    for pixel in range(pool**depth):  # every position within a cell of the lowest level
        left = right = pixel
        for _ in range(depth):
            left -= convs_per_level + upsample_crop
            right += convs_per_level + upsample_crop
            left, right = left // pool, right // pool
        left, right = left - convs_per_level, right + convs_per_level
        for _ in range(depth):
            left, right = left * pool - convs_per_level, right * pool + pool - 1 + convs_per_level
        furthest = max(furthest, pixel - left, right - pixel)
    return furthest


def figure_1(x: torch.Tensor, layers: list[torch.Tensor]) -> torch.Tensor:
    """Figure 1 of the paper, one line an arrow; `layers` is weight, bias, weight, ... in order."""
    parameters = iter(layers)

    def conv(x: torch.Tensor) -> torch.Tensor:
        return F.relu(F.conv2d(x, next(parameters), next(parameters)))

    x1 = conv(conv(x))
    x2 = conv(conv(F.max_pool2d(x1, 2)))
    x3 = conv(conv(F.max_pool2d(x2, 2)))
    x4 = conv(conv(F.max_pool2d(x3, 2)))
    y = conv(conv(F.max_pool2d(x4, 2)))
    for skip in (x4, x3, x2, x1):
        y = F.conv_transpose2d(y, next(parameters), next(parameters), stride=2)
        lost = (skip.shape[2] - y.shape[2]) // 2
        skip = skip[:, :, lost:-lost, lost:-lost]
        y = conv(conv(torch.cat([y, skip], dim=1)))
    return F.conv2d(y, next(parameters), next(parameters))


def weighted_cross_entropy(
    logits: np.ndarray, label: np.ndarray, weight: np.ndarray, ignore_index: int = 255
) -> tuple[float, float]:
    """Eq. 1 of the paper, pixel by pixel: `(sum of w * -log p, sum of w)`.

    Args:
        logits: `(B, K, H, W)`.
        label: `(B, H, W)`.
        weight: `(B, H, W)`.
    """
    energy = total = 0.0
    for b, y, x in np.ndindex(label.shape):
        if label[b, y, x] == ignore_index:
            continue
        a = [float(value) for value in logits[b, :, y, x]]
        p = math.exp(a[int(label[b, y, x])]) / sum(math.exp(value) for value in a)
        energy -= float(weight[b, y, x]) * math.log(p)
        total += float(weight[b, y, x])
    return energy, total


def by_letter(array: np.ndarray, axes: str, index: dict[str, int]) -> np.generic:
    """One sample of an array whose axes have letters; letters it lacks do not matter."""
    return array[tuple(index[letter] for letter in axes)]


def deepest_cell(
    where: np.ndarray, centres: np.ndarray, shapes: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Owner and level of each pixel: all cells measured everywhere, the deepest (below 1) wins."""
    size = where.shape[1:]
    owner, level = np.zeros(size, np.int32), np.ones(size)
    for pixel in np.ndindex(size):
        position = where[(slice(None), *pixel)]
        depths = [np.linalg.norm(m @ (position - c)) for c, m in zip(centres, shapes, strict=True)]
        if min(depths) < 1:
            owner[pixel], level[pixel] = np.argmin(depths) + 1, min(depths)
    return owner, level
