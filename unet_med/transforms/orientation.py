"""One orientation for the network, whatever order and direction of axes a file has, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TransformBackends

from unet_med.data.grids import Grid, Turn, same_grid
from unet_med.data.orientation import require_orientation, turn_towards
from unet_med.transforms.check import name_of
from unet_med.transforms.tensors import with_metadata_of
from unet_med.transforms.windowed import Box, Found, Windowed


class Orientd(MapTransform, InvertibleTransform):
    """Bring images and labels into one orientation; no voxel changes its value.

    Axes are permuted and flipped, to the closest where they lie askew, and memory is laid out
    anew, so that the outcome does not depend on how a file keeps its axes. A plane stays one: its
    own two axes follow the orientation without the third. What states no place (microscopy, plain
    arrays) stays as it is. MONAI's `Orientationd` differs in all four.

    Args:
        keys: entries `(C, *S)`. One that states another place than the first is turned by that,
            as by MONAI's `Orientationd`; one on its grid, or that states none, as the first is.
        orientation: such as ``"RAS"``, whose axes run to the right, the front and the head.
        allow_missing_keys: no error when a key is absent.

    Raises:
        ValueError: the orientation is none.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own convention

    def __init__(
        self, keys: KeysCollection, orientation: str, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.orientation = require_orientation(orientation)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with every key turned."""
        d = dict(data)
        first: Grid | None = None
        for key in self.key_iterator(d):
            grid = Grid.of_image(d[key], name_of(d[key], str(key)))
            first = first or grid
            own = grid.oriented and first.oriented and not same_grid(grid, first)
            d[key] = self._turned(d[key], turn_towards(grid if own else first, self.orientation))
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Every key back to the axes and the affine that it had."""
        d = dict(data)
        for key in self.key_iterator(d):
            if not isinstance(d[key], MetaTensor):
                continue
            before = self.pop_transform(d[key])["extra_info"]
            turn = Turn(tuple(before["order"]), tuple(before["flips"]), d[key].ndim - 1)
            d[key] = turn.inverse(d[key])
            d[key].affine = torch.tensor(before["affine"], dtype=torch.float64)
        return d

    def by_window(self, image: Windowed, found: Found) -> Windowed:
        """The turned image, window by window; the same object where there is nothing to do."""
        turn = self._turn_of(image)
        if turn.keeps:
            return image
        affine = image.affine @ torch.from_numpy(turn.matrix(image.shape))
        shape = turn.sides(image.shape)
        return replace(image, read=partial(_turned_box, image, turn), shape=shape, affine=affine)

    def back_by_window(self, image: Windowed, to: Windowed, mode: str) -> Windowed:
        """A result in the network's orientation, brought back window by window.

        Args:
            image: the result, on the grid of `by_window`.
            to: the image that `by_window` was given.
            mode: of transforms that resample; of no effect here.
        """
        read = partial(_turned_box, image, self._turn_of(to).inverse)
        return replace(image, read=read, shape=to.shape, affine=to.affine)

    def _turn_of(self, image: Windowed) -> Turn:
        affine = np.asarray(image.affine, dtype=np.float64)
        grid = Grid.stated(name_of(image, "image"), image.shape, affine, image.meta)
        return turn_towards(grid, self.orientation)

    def _turned(self, img: Any, turn: Turn) -> Any:
        if isinstance(img, np.ndarray):
            return np.stack([turn.of_array(channel) for channel in img])
        if not isinstance(img, MetaTensor):
            return turn(img).contiguous()
        out = with_metadata_of(img, turn(img.as_tensor()).contiguous())
        before = {"order": list(turn.order), "flips": list(turn.flips)}
        before["affine"] = img.affine.tolist()
        out.affine = _affine_after(img, turn)
        sides = tuple(img.shape[1:])
        found: torch.Tensor = self.push_transform(out, orig_size=sides, extra_info=before)
        return found


def _turned_box(image: Windowed, turn: Turn, box: Box) -> torch.Tensor:
    """Pixels of a box of what becomes of an image by a turn."""
    return turn(image.read(turn.source(box, image.shape)))


def _affine_after(img: MetaTensor, turn: Turn) -> torch.Tensor:
    """Voxel to world after a turn, of as many axes as before."""
    if turn.keeps:
        return img.affine
    matrix = torch.from_numpy(turn.matrix(img.shape[1:]))
    if len(img.affine) == 3:  # a plane's flat axis stays in its place
        matrix = matrix[[0, 1, 3]][:, [0, 1, 3]]
    return img.affine.to(matrix) @ matrix


OrientD = OrientDict = Orientd
