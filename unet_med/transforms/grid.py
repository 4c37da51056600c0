"""Labels brought onto the grid of their image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from unet_med.data.grids import Grid, bring_onto
from unet_med.transforms.check import name_of

__all__ = ["ReorientToMatchD", "ReorientToMatchDict", "ReorientToMatchd"]


class ReorientToMatchd(MapTransform):
    """Bring labels onto the grid of their image, where flips and other orders of axes do that.

    No voxel changes its value. A label whose file states a pixel size alone, or nothing, lies
    on the grid of an image of its shape, whose affine it gets.

    Args:
        keys: entries `(C, *S)` to bring there.
        key_dst: entry of the image whose grid it is.
        allow_missing_keys: no error when a key is absent.

    Raises:
        ValueError: another shape, or another place; names both files and the difference.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        key_dst: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.key_dst = key_dst

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with every key on the grid of `key_dst`."""
        d = dict(data)
        image = d[self.key_dst]
        fixed = Grid.of_image(image, f"its {self.key_dst} {name_of(image, '')}".rstrip())
        for key in self.key_iterator(d):
            name = f"{key} {name_of(d[key], '')}".rstrip()
            grid = Grid.of_image(d[key], name)
            d[key] = _with_affine_of(image, bring_onto(d[key], grid, fixed), grid)
        return d


def _with_affine_of(image: Any, label: torch.Tensor, grid: Grid) -> torch.Tensor:
    """A label with the pixel size of its image, where its own file knows no better."""
    known = isinstance(image, MetaTensor) and image.meta.get("spacing_source") != "assumed"
    if not known or not isinstance(label, MetaTensor):
        return label
    label.affine = image.affine
    for key in ("spatial_unit", "spacing_source"):
        if key in image.meta:
            label.meta[key] = image.meta[key]
    return label


ReorientToMatchD = ReorientToMatchDict = ReorientToMatchd
