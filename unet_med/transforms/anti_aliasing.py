"""An image without what larger pixels cannot hold: smoothed before it becomes smaller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from scipy import ndimage

from unet_med.transforms.tensors import with_metadata_of


def smoothed(img: MetaTensor, affine: torch.Tensor) -> MetaTensor:
    """An image without what pixels of the size of `affine` cannot hold."""
    widths = sigmas(img.affine, affine, img.ndim - 1)
    if not widths:
        return img
    return with_metadata_of(img, smooth(img, widths).to(img.device))


def sigmas(affine: torch.Tensor, new_affine: torch.Tensor, dims: int) -> list[float]:
    """Gaussian of each axis, px; none where the pixels do not become larger."""
    old, new = (affine_to_spacing(a, dims).tolist() for a in (affine, new_affine))
    widths = [max(0.0, (n / o - 1) / 2) for n, o in zip(new, old, strict=True)]
    return widths if any(sigma > 1e-3 for sigma in widths) else []


def smooth(img: torch.Tensor, widths: Sequence[float]) -> torch.Tensor:
    """Pixels `(C, *S)` in float32, smoothed by the Gaussians' `widths`, px, where there are any."""
    pixels = img.detach().cpu().numpy().astype(np.float32, copy=False)
    if widths:
        pixels = ndimage.gaussian_filter(pixels, [0.0, *widths], mode="nearest")
    return torch.from_numpy(pixels)
