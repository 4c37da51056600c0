"""The paper's overlap-tile strategy, stitched exactly.

Ronneberger et al. 2015, section 2, figure 2: tiles overlap by the context that the network
needs, beyond the image the input is mirrored. Here steps are multiples of the network's
stride, so that the stitched logits are those of one pass over the whole image.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import SlidingWindowInferer
from monai.utils.misc import ensure_tuple
from monai.utils.module import look_up_option
from torch import Tensor

from unet_med.geometry import Tile, tile_grid
from unet_med.inferers.batch_statistics import KINDS as STATISTICS
from unet_med.inferers.batch_statistics import BatchNorm, batch_norms, own_statistics, window_sides
from unet_med.inferers.stitch import BORDERS, Stitcher, WrongSizeError, read_window
from unet_med.inferers.test_time_augmentation import KINDS, views
from unet_med.inferers.tile_size import (
    TileSize,
    affordable_pixels,
    automatic_sides,
    requested_sides,
    smaller_sides,
)
from unet_med.inferers.tiling import Tiling, tiling_of
from unet_med.memory import free_memory, is_out_of_memory

_log = logging.getLogger(__name__)


class OverlapTileInferer(SlidingWindowInferer):
    """Runs a network over an image of any size, tile by tile, as if in one pass.

    The whole is one pass over the mirrored image: for a valid network mirrored by its margin
    before and by the margin plus what makes the size legal behind; for a same-padding network
    mirrored at the far ends up to a multiple of the stride. Tiles equal it up to the order in
    which a convolution library adds (1e-5 of the logits' standard deviation in float32, 1e-14
    in float64; TF32, torch's default for convolutions on recent GPUs, costs digits), and each
    output pixel is written once: nothing is blended, nothing counted. Two runs with one
    `tile_size` on one machine are equal to the bit.

    Where memory does not suffice for a tile, on a GPU or in main memory, a warning says so and
    smaller tiles take its place: the result is the same, to rounding.

    A 2-D network given a volume ``(B, C, X, Y, Z)`` runs slice by slice over the last axis,
    `sw_batch_size` slices at a time.

    Args:
        tile_size: side of the network's input, px: one number, or one an axis, where None or a
            number below 1 takes the whole axis. ``"auto"``: the tiles that read the fewest
            pixels within the free memory, and within about 700 x 700 px on a CPU in 2-D.
        sw_batch_size: tiles a pass of the network.
        roi_size: MONAI's name for `tile_size`, which it replaces when given.
        margin: context per side that exactness needs, px; asked of the network when None.
        stride: total down-sampling factor of the network; asked of the network when None.
        mode: what stands beyond the image: ``"reflect"``, a mirror that does not repeat the
            edge pixel, again and again where the border is wider than the image (the
            release); or ``"replicate"``, the edge pixel.
        tta: average of the logits over ``"flips"`` (the release) or ``"rotations"`` (the
            paper); see `unet_med.inferers.test_time_augmentation.views`.
        statistics: of batch normalisation: those of the training when None, or those of each
            ``"image"``, which take one more pass. They are the mean over windows of 512 px (96 px
            in 3-D), whatever the `tile_size`, and one window holds most images whole. Other
            networks stay as they are.
        sw_device: where the network runs; the input's device when None.
        device: where the result is put together; the input's device when None.
        progress: whether to show a progress bar over the tiles.

    Raises:
        ValueError: an option is unknown.

    Example::

        inferer = OverlapTileInferer(tile_size=572)
        logits = inferer(image, UNet())  # (1, 1, 512, 512) -> (1, 2, 512, 512)
    """

    def __init__(
        self,
        tile_size: TileSize = "auto",
        sw_batch_size: int = 1,
        *,
        roi_size: TileSize | None = None,
        margin: int | None = None,
        stride: int | None = None,
        mode: str = "reflect",
        tta: str | None = None,
        statistics: str | None = None,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        progress: bool = False,
    ) -> None:
        size = tile_size if roi_size is None else roi_size
        if isinstance(size, str) and size != "auto":
            raise ValueError(f"tile_size {size!r} is neither 'auto' nor a number of px")
        if sw_batch_size < 1:
            raise ValueError(f"sw_batch_size {sw_batch_size} is less than 1")
        super().__init__(
            roi_size=size,  # type: ignore[arg-type]
            sw_batch_size=sw_batch_size,
            padding_mode=look_up_option(mode, tuple(BORDERS)),
            sw_device=sw_device,
            device=device,
            progress=progress,
        )
        self.margin = margin
        self.stride = stride
        self.tta = look_up_option(tta, KINDS)
        self.statistics = look_up_option(statistics, STATISTICS)
        self._most_pixels: int | None = None  # of a tile, once memory did not suffice

    def __call__(
        self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Logits of a whole image.

        Args:
            inputs: images ``(B, C, *S)``, any sides from 1 px, any dtype: integers are cast
                to the network's.
            network: maps ``(b, C, *tile)`` to logits ``(b, K, *output)``. One that is not a
                `unet_med.networks.UNet` needs the inferer's `margin` and `stride`.
            args: passed on to `network`.
            kwargs: passed on to `network`, but for `device`, which stands in for the
                inferer's, as in MONAI.

        Returns:
            Logits ``(B, K, *S)`` of the network's dtype; a MetaTensor keeps its metadata.

        Raises:
            ValueError: the image, the tile size and the network do not go together; the
                message has the fix.
            TypeError: the network returns something else than one tensor.
            MemoryError: memory does not suffice for the smallest tiles.
        """
        device = torch.device(kwargs.pop("device", self.device) or inputs.device)
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        tiling = tiling_of(network, image, margin=self.margin, stride=self.stride)
        by_slice = tiling.spatial_dims == 2 and image.ndim == 5
        if (not by_slice and image.ndim != tiling.spatial_dims + 2) or image.numel() == 0:
            raise ValueError(
                f"input of shape {tuple(image.shape)} is no batch of {tiling.spatial_dims}-D "
                f"images (B, C, *S) for this network"
            )
        slices = image.shape[4:]
        if by_slice:
            image = image.movedim(-1, 1).flatten(0, 1)  # (B * Z, C, X, Y)

        stitcher = Stitcher(
            predict=lambda tiles: network(tiles, *args, **kwargs),
            batch_size=self.sw_batch_size,
            border=str(self.padding_mode),
            dtype=image.dtype if image.is_floating_point() else _float_type(network),
            run_on=torch.device(self.sw_device or image.device),
            device=device,
            progress=self.progress,
        )
        layers = batch_norms(network) if self.statistics == "image" else []
        if layers:
            by_image = [self._by_itself(one, tiling, stitcher, layers) for one in image.split(1)]
            logits = torch.cat(by_image)  # (B, K, *S)
        else:
            logits = self._average(image, tiling, stitcher)
        if by_slice:
            logits = logits.unflatten(0, (-1, *slices)).movedim(1, -1)  # (B, K, X, Y, Z)
        if isinstance(inputs, MetaTensor):
            return MetaTensor(logits).copy_meta_from(inputs, copy_attr=False)
        return logits

    def _by_itself(
        self, image: Tensor, tiling: Tiling, stitcher: Stitcher, layers: list[BatchNorm]
    ) -> Tensor:
        """Logits of one image `(1, C, *S)` under its own statistics."""
        # At the bottom a channel of a single pixel has no statistics: two at least.
        large = read_window(image[0], [(0, max(n, 2 * tiling.stride)) for n in image.shape[2:]])
        sides = window_sides(large.shape[1:], tiling)
        one_by_one = replace(stitcher, batch_size=1)
        look = partial(self._run, large[None], tiling, one_by_one, "statistics", sides)
        with torch.no_grad(), own_statistics(layers, look):
            return self._average(image, tiling, stitcher)

    def _average(self, image: Tensor, tiling: Tiling, stitcher: Stitcher) -> Tensor:
        """Mean of the logits over the views of `tta`."""
        ways = views(self.tta, tiling.spatial_dims)
        total: Tensor | None = None
        for number, view in enumerate(ways, start=1):
            note = f"view {number} of {len(ways)}" if len(ways) > 1 else ""
            logits = view.undo(self._run(view.apply(image), tiling, stitcher, note))
            total = logits if total is None else total.add_(logits)
        assert total is not None  # there is at least one view
        return total if len(ways) == 1 else total.div_(len(ways))

    def _run(
        self,
        image: Tensor,
        tiling: Tiling,
        stitcher: Stitcher,
        note: str,
        tile_size: TileSize | None = None,
    ) -> Tensor:
        """Logits of the image as it is; what a foreign network pads shows in its first tile."""
        size: TileSize = self.roi_size if tile_size is None else tile_size
        tried: WrongSizeError | None = None
        for known in _assumptions(tiling, size):
            tiles = self._plan(image, known, stitcher, size)
            try:
                if tile_size is not None:  # statistics are those of windows of one size
                    return stitcher.stitch(image, tiles, known.lost, note)
                return self._fitting(image, tiles, known, stitcher, note)
            except WrongSizeError as error:
                tried = error
        raise ValueError(
            f"{tried}; with a margin of {tiling.margin} px a valid network loses "
            f"{2 * tiling.margin} px an axis, and a same-padding one keeps its size, in tiles of "
            f"multiples of {tiling.stride} px: correct margin=, stride= or tile_size="
        )

    def _fitting(
        self, image: Tensor, tiles: list[Tile], tiling: Tiling, stitcher: Stitcher, note: str
    ) -> Tensor:
        """Logits by the given tiles, or by the largest smaller ones for which memory suffices."""
        while True:
            sides = [stop - start for start, stop in tiles[0].read]
            try:
                return stitcher.stitch(image, tiles, tiling.lost, note)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                free_memory(error)
            smaller = smaller_sides(sides, tiling)
            if smaller is None:
                raise MemoryError(
                    f"out of memory even in tiles of {sides} px, the smallest that this network "
                    f"takes: use another device, or fewer at a time (sw_batch_size)"
                )
            _log.warning("out of memory in tiles of %s px; going on with %s px", sides, smaller)
            self._most_pixels = prod(smaller)  # for the images to come, where the size is ours
            tiles = self._plan(image, tiling, stitcher, smaller)

    def _plan(
        self, image: Tensor, tiling: Tiling, stitcher: Stitcher, size: TileSize
    ) -> list[Tile]:
        """The grid for one image; refuses one that cannot be exact."""
        shape = image.shape[2:]
        if size == "auto":
            pixels, fast_pixels = affordable_pixels(
                tiling,
                stitcher.run_on,
                batch_size=self.sw_batch_size,
                itemsize=stitcher.dtype.itemsize,
            )
            pixels = min(pixels, self._most_pixels or pixels)
            sides = automatic_sides(shape, tiling, pixels=pixels, fast_pixels=fast_pixels)
        else:
            sides = requested_sides(shape, tiling, size)
        try:
            tiles = tile_grid(
                shape,
                sides,
                margin=tiling.margin,
                stride=tiling.stride,
                padding=tiling.padding or "",
            )
        except ValueError as error:
            raise ValueError(f"tile_size {size}: {error}") from None
        if len(tiles) > 1 and tiling.whole_image_layer:
            raise ValueError(
                f"{tiling.whole_image_layer} computes statistics over the whole image, so "
                f"{len(tiles)} tiles of {sides} px cannot equal one pass; use tile_size=-1 for one "
                f"pass, or a network without normalisation or with batch normalisation after eval()"
            )
        return tiles


def _assumptions(tiling: Tiling, size: TileSize) -> list[Tiling]:
    """What a network's padding may be, likeliest first; one that says so leaves no choice."""
    if tiling.padding is not None:
        return [tiling]
    given = [] if isinstance(size, str) else ensure_tuple(size)
    sides = [side for side in given if side is not None and side > 0]
    if not sides or min(sides) < 2 * tiling.margin + tiling.stride:
        return [tiling.assume("same")]
    if any(side % tiling.stride for side in sides):
        return [tiling.assume("valid", sides[0])]
    return [tiling.assume("same"), tiling.assume("valid", sides[0])]


def _float_type(network: Any) -> torch.dtype:
    """Type of a network's weights, for images of integers."""
    weights = network.parameters() if isinstance(network, torch.nn.Module) else ()
    return next((w.dtype for w in weights if w.is_floating_point()), torch.get_default_dtype())
