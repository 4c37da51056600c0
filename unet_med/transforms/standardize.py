"""Zero mean and unit standard deviation, by the statistics of the whole image."""

from __future__ import annotations

import torch
from monai.config import KeysCollection
from monai.transforms import Transform

from unet_med.transforms.keywise import KeywiseTransform


class Standardize(Transform):
    """Subtract the mean and divide by the standard deviation of each channel.

    The paper's networks have no normalisation layers and He's initialisation
    expects inputs of unit variance. The statistics are the whole image's: a
    tile's own would make neighbouring tiles disagree. A volume given to a 2-D
    network is a stack of images, each with its own statistics.

    Args:
        spatial_dims: of the network; None: of the image.

    A constant image becomes 0.
    """

    def __init__(self, spatial_dims: int | None = None) -> None:
        self.spatial_dims = spatial_dims

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Standardise `(C, *S)`; float32 out."""
        image = image.to(torch.float32)
        axes = list(range(1, 1 + (self.spatial_dims or image.ndim - 1)))
        mean = image.mean(dim=axes, keepdim=True)
        std = image.std(dim=axes, keepdim=True, correction=0)
        return (image - mean) / torch.where(std > 0, std, torch.ones_like(std))


class Standardized(KeywiseTransform):
    """Dictionary version of `Standardize`.

    Args:
        keys: images `(C, *S)`.
        spatial_dims: of the network; None: of the image.
        allow_missing_keys: no error when a key is absent.
    """

    transform: Standardize

    def __init__(
        self,
        keys: KeysCollection,
        spatial_dims: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, Standardize(spatial_dims), allow_missing_keys=allow_missing_keys)


StandardizeD = StandardizeDict = Standardized
