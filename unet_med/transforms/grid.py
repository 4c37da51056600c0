"""Labels brought onto the grid of their image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeGuard

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from unet_med.data.grids import Grid, bring_onto
from unet_med.data.pixel_size import states_size
from unet_med.transforms.check import name_of
from unet_med.transforms.tensors import tensor_of, tracked, with_metadata_of

# what metadata say of an affine, and by what it counts as stated (`source_of`)
_OF_GRID = ("spatial_unit", "spacing_source", "unknown_axes", "original_affine")


class ReorientToMatchd(MapTransform):
    """Bring labels onto the grid of their image, where flips and other orders of axes do that.

    No voxel changes its value. A label whose file states a pixel size alone, or nothing, lies
    on the grid of an image of its shape, and an image that knows its pixel size says that of both.

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
            label = bring_onto(d[key], Grid.of_image(d[key], name), fixed)
            meant = knows_pixel_size(image) and isinstance(label, MetaTensor)
            d[key] = on_grid_of(image, label) if meant else label
        return d


def on_grid_of(image: MetaTensor, label: torch.Tensor) -> MetaTensor:
    """A label with the affine of its image, its unit and what told it; the pixels are shared."""
    own = tracked(tensor_of(label))
    placed = with_metadata_of(own, own.as_tensor())
    placed.affine = image.affine.clone()
    for key in _OF_GRID:
        placed.meta.pop(key, None)
        if key in image.meta:
            placed.meta[key] = image.meta[key]
    return placed


def knows_pixel_size(img: object) -> TypeGuard[MetaTensor]:
    """Whether the affine of an image is stated, not assumed; see `source_of`."""
    return isinstance(img, MetaTensor) and states_size(img.meta)


ReorientToMatchD = ReorientToMatchDict = ReorientToMatchd
