"""The paper's overlap-tile strategy, stitched exactly.

Ronneberger et al. 2015, section 2, figure 2: tiles overlap by the context that the network
needs, beyond the image the input is mirrored. Here steps are multiples of the network's
stride, so that the stitched logits are those of one pass over the whole image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import product
from types import MappingProxyType
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import SlidingWindowInferer
from monai.utils.module import look_up_option
from torch import Tensor
from tqdm.auto import tqdm

from unet_med.data.bars import no_bar
from unet_med.data.entries import AGREEMENT
from unet_med.geometry import PerAxis
from unet_med.inferers.agreement import Votes, agreement
from unet_med.inferers.batch_statistics import KINDS as STATISTICS
from unet_med.inferers.batch_statistics import (
    BatchNorm,
    Statistics,
    batch_norms,
    find_statistics,
    use_statistics,
    window_sides,
)
from unet_med.inferers.passes import (
    Net,
    Pass,
    Predict,
    assuming,
    call,
    float_weight,
    tiles_for,
    with_condition,
)
from unet_med.inferers.pixels import BORDERS, Box, Pixels, Read, enlarged, in_memory
from unet_med.inferers.region import needed_for, spans_of
from unet_med.inferers.stitch import Stitcher
from unet_med.inferers.test_time_augmentation import KINDS, View, require_axes, views
from unet_med.inferers.tile_size import TileSize, asked_size
from unet_med.inferers.tiling import Tiling, tiling_of
from unet_med.inferers.within_memory import WithinMemory, room_for
from unet_med.memory import where_it_fits
from unet_med.networks.ensemble import members_of
from unet_med.precision import PRECISIONS, chosen_precision

Terms = list[Tensor]  # of how far the views agree, by which `agreement` is found


class OverlapTileInferer(SlidingWindowInferer):
    """Runs a network over an image of any size, tile by tile, as if in one pass.

    The whole is one pass over the mirrored image: for a valid network mirrored by its margin
    before and by the margin plus what makes the size legal behind; for a same-padding network
    mirrored at the far ends up to a multiple of the stride. Tiles equal it up to the order in
    which a convolution library adds (1e-5 of the logits' standard deviation in float32, 1e-14
    in float64; in TF32 or bfloat16 that takes digits, see `precision`), and each
    output pixel is written once: nothing is blended, nothing counted, and the overlap follows
    from the margin. Two runs with one `tile_size` on one machine are equal to the bit: cuDNN is
    held to deterministic kernels.

    Where memory does not suffice for a tile, on a GPU or in main memory, a warning says so and
    smaller tiles take its place: the result is the same, to rounding. Where that of a GPU does not
    suffice for the result, a warning says so and it is put together in main memory; the network
    stays on the GPU. Images may lie in main memory as well.

    Gradients flow to the images and to the network's weights where they require them, at the
    memory of all tiles: use `torch.no_grad()` where none are asked for.

    A 2-D network given a volume ``(B, C, X, Y, Z)`` runs slice by slice over the last axis,
    `sw_batch_size` slices at a time.

    Args:
        tile_size: side of the network's input, px: one number, or one an axis, where None or a
            number below 1 takes the whole axis. ``"auto"``: the tiles that read the fewest
            pixels within the free memory, and within about 700 x 700 px on a CPU in 2-D.
        sw_batch_size: tiles a pass of the network.
        roi_size: MONAI's name for `tile_size`, which it replaces when given.
        margin: context per side that exactness needs, px, one or one an axis; asked of the
            network when None.
        stride: total down-sampling factor of the network, likewise.
        mode: what stands beyond the image: ``"reflect"``, a mirror that does not repeat the
            edge pixel, again and again where the border is wider than the image (the
            release); or ``"replicate"``, the edge pixel.
        tta: average of the logits over ``"flips"`` (the release) or ``"rotations"`` (the
            paper); see `unet_med.inferers.test_time_augmentation.views`.
        mirror_axes: spatial axes, from 0 on, that `tta` may mirror or turn away; None: all.
        statistics: of batch normalisation: those of the training when None, or those of each
            ``"image"``, which take one more pass. They are the mean over windows of 512 px (96 px
            in 3-D), whatever the `tile_size`, and one window holds most images whole. Other
            networks stay as they are.
        precision: in which the network computes on a GPU: float32 without TF32 when
            ``"auto"``; see `unet_med.precision.chosen_precision`. Logits, and what is averaged,
            are of the type of its weights, averages at least float32.
        sw_device: where the network runs; when None, where its weights are, or where the input is
            if it has none.
        device: where the result is put together; the input's device when None.
        progress: whether to show a progress bar over the tiles.

    Raises:
        ValueError: an option is unknown, or an axis is none.
        TypeError: a side of `tile_size` is neither a whole number nor None.

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
        margin: PerAxis | None = None,
        stride: PerAxis | None = None,
        mode: str = "reflect",
        tta: str | None = None,
        mirror_axes: Sequence[int] | None = None,
        statistics: str | None = None,
        precision: str = "auto",
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        progress: bool = False,
    ) -> None:
        size = asked_size(tile_size if roi_size is None else roi_size)
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
        require_axes(mirror_axes)
        self.mirror_axes = mirror_axes
        self.statistics = look_up_option(statistics, STATISTICS)
        self.precision = look_up_option(precision, PRECISIONS)
        self._within_memory = WithinMemory()

    @property
    def sides(self) -> list[int]:
        """Input sides of the tiles of the last run, px."""
        return self._within_memory.sides

    def __call__(self, inputs: Tensor, network: Predict, *args: Any, **kwargs: Any) -> Tensor:
        """Logits of a whole image.

        Args:
            inputs: images ``(B, C, *S)``, any sides from 1 px, any dtype: they are cast to the
                network's.
            network: maps ``(b, C, *tile)`` to logits ``(b, K, *output)``. One that is not a
                `unet_med.networks.UNet` needs the inferer's `margin` and `stride`.
            args: passed on to `network` as they are, with every batch of tiles.
            kwargs: likewise, but for two, as in MONAI: `device` stands in for the inferer's, and
                a `condition`, images ``(B, C', *S)``, is cut, mirrored and cast as `inputs` are.

        Returns:
            Logits ``(B, K, *S)`` of the network's dtype, of an `unet_med.networks.Ensemble` the
            mean of its networks', on the device that was asked for, or in main memory where that
            of a GPU does not suffice; a MetaTensor keeps its metadata, and with several views, or
            networks, has in `agreement` how far they agree on each image, as `inputs` has then.

        Raises:
            ValueError: the image, the tile size and the network do not go together; the
                message has the fix.
            TypeError: the network returns something else than one tensor.
            MemoryError: memory does not suffice for the smallest tiles, or for the result.
        """
        device, condition = kwargs.pop("device", None), kwargs.pop("condition", None)
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        channels = None if condition is None else image.shape[1]
        net = self._net(network, image.ndim - 2, args, kwargs, channels, device)
        by_slice = net.tiling.spatial_dims == 2 and image.ndim == 5
        if (not by_slice and image.ndim != net.tiling.spatial_dims + 2) or image.numel() == 0:
            raise ValueError(
                f"input of shape {tuple(image.shape)} is no batch of {net.tiling.spatial_dims}-D "
                f"images (B, C, *S) for this network"
            )
        slices, image = image.shape[4:], with_condition(image, condition)
        if by_slice:
            image = image.movedim(-1, 1).flatten(0, 1)  # (B * Z, C, X, Y)
        layers = batch_norms(network) if self.statistics == "image" else []
        logits, terms = where_it_fits(
            lambda there: self._images(image, layers, replace(net, device=there)),
            net.device or image.device,
            "logits are put together in main memory, and the network stays where it is",
        )
        if by_slice:
            logits = logits.unflatten(0, (-1, *slices)).movedim(1, -1)  # (B, K, X, Y, Z)
        if isinstance(inputs, MetaTensor):
            found = MetaTensor(logits).copy_meta_from(inputs)
            for each in (found, inputs):  # MONAI's `Invertd` gives logits their image's metadata
                each.meta.pop(AGREEMENT, None)  # of another prediction
                if terms:
                    each.meta[AGREEMENT] = agreement(torch.cat(terms).cpu(), len(inputs))
            return found
        return logits

    def region(
        self,
        read: Read,
        shape: Sequence[int],
        box: Box,
        network: Predict,
        *,
        tile: TileSize | None = None,
        votes: Votes | None = None,
        device: torch.device | None = None,
    ) -> Tensor:
        """Logits of a box of images that need not be in memory, equal to those of the whole.

        Batch normalisation keeps the statistics that it has: for those of the image, find them
        with `image_statistics` and run this within `use_statistics`.

        Args:
            read: gives the pixels of a box inside the images, ``(B, C, *sides)``; asked once.
            shape: sides of the whole images, px.
            box: the box, ``(start, stop)`` an axis, px, inside the images.
            network: as in a call.
            tile: largest input sides of the network, px, turned with the image and cut to what
                the box needs; None: the inferer's `tile_size`.
            votes: counts how the views see the box, where there are several.
            device: as in a call.

        Returns:
            ``(B, K, *sides of the box)``.

        Raises:
            ValueError: see a call.
            MemoryError: memory does not suffice for the smallest tiles, or for the result.
        """
        net = self._net(network, len(shape), device=device)
        size = self.roi_size if tile is None else tile
        return self._logits(read, shape, box, net, size, votes)

    def image_statistics(
        self, read: Read, shape: Sequence[int], network: Predict
    ) -> list[Statistics]:
        """Statistics of one image in the network's layers of batch normalisation.

        Args:
            read: as in `region`, of one image; asked once a window.
            shape: sides of the image, px.
            network: as in a call.

        Returns:
            For `use_statistics`; empty where the inferer takes those of the training.
        """
        layers = batch_norms(network) if self.statistics == "image" else []
        net = self._net(network, len(shape))
        return find_statistics(layers, partial(self._look, read, shape, net)) if layers else []

    def _net(
        self,
        network: Predict,
        dims: int,
        args: Any = (),
        kwargs: Mapping[str, Any] = MappingProxyType({}),
        channels: int | None = None,
        device: Any = None,
    ) -> Net:
        image = torch.empty([1] * (2 + dims))
        tiling = tiling_of(network, image, margin=self.margin, stride=self.stride)
        whole, *members = (
            partial(call, each, args, kwargs, channels) for each in (network, *members_of(network))
        )
        weight, device = float_weight(network), device or self.device
        dtype, home = (None, None) if weight is None else (weight.dtype, weight.device)
        there = None if device is None else torch.device(device)
        return Net(whole, tuple(members), tiling, dtype, home, there)

    def _images(self, images: Tensor, layers: list[BatchNorm], net: Net) -> tuple[Tensor, Terms]:
        """Logits of images in memory, `(B, K, *S)`; of several views, how far they agree.

        Args:
            images: `(B, C, *S)`.
            layers: that have the statistics of each image; none: those of the training.
            net: the network.
        """
        if not layers:
            return self._whole(images, net)
        found = [self._by_itself(image, layers, net) for image in images.split(1)]
        logits = [each for each, _ in found]
        whole = torch.cat(logits) if len(logits) > 1 else logits[0]  # of one it would be a copy
        return whole, [each for _, terms in found for each in terms]

    def _by_itself(self, image: Tensor, layers: list[BatchNorm], net: Net) -> tuple[Tensor, Terms]:
        """`_images` of one image `(1, C, *S)` under its own statistics."""
        look = partial(self._look, in_memory(image), tuple(image.shape[2:]), net)
        with use_statistics(layers, find_statistics(layers, look)):
            return self._whole(image, net)

    def _whole(self, images: Tensor, net: Net) -> tuple[Tensor, Terms]:
        """`_images` under the statistics that the network has."""
        shape, votes = tuple(images.shape[2:]), Votes()
        whole = tuple((0, length) for length in shape)
        logits = self._logits(in_memory(images), shape, whole, net, votes=votes)
        return logits, [votes.overlap(logits)] if votes.views else []

    def _look(self, read: Read, shape: Sequence[int], net: Net) -> None:
        """Run the network over an image for its statistics alone, in windows of one size."""
        # At the bottom a single pixel a channel has no statistics.
        least = [2 * axis.stride for axis in net.tiling.axes]
        large = [max(pair) for pair in zip(shape, least, strict=True)]
        sides = window_sides(large, net.tiling)
        mirror = BORDERS[str(self.padding_mode)]
        borders = [enlarged(mirror, side) for side in least]

        def look(tiling: Tiling) -> None:
            whole = tuple((0, length) for length in large)
            tiles = tiles_for(spans_of(large, whole, tiling), whole, sides, tiling, sides)
            hidden = no_bar(self.progress)
            for tile in tqdm(tiles, "statistics", unit="tile", disable=hidden, leave=None):
                pixels = Pixels.load(read, shape, tile.read, borders)
                stitcher = self._stitcher(pixels, net)
                stitcher.run(pixels, View(), [(0, tile)], tiling.lost)

        assuming(net.tiling, sides, look)

    def _logits(
        self,
        read: Read,
        shape: Sequence[int],
        box: Box,
        net: Net,
        tile: TileSize | None = None,
        votes: Votes | None = None,
    ) -> Tensor:
        """Mean of the logits of a box over views and networks; its pixels are read once.

        A view is what one network says of the images seen one way, of `tta`.
        """
        ways = views(self.tta, net.tiling.spatial_dims, self.mirror_axes)
        first, second, *_ = net.tiling.axes
        if first != second:  # a network that pools X and Y otherwise has seen no quarter turn
            ways = [view for view in ways if view.turns % 2 == 0]
        needed = needed_for(shape, box, net.tiling, ways)
        pixels = Pixels.load(read, shape, needed, BORDERS[str(self.padding_mode)])
        stitcher = self._stitcher(pixels, net)
        room = cache(partial(room_for, stitcher))  # one grid for all views, whatever else runs
        total: Tensor | None = None
        seen = list(product(ways, net.members))
        for number, (view, member) in enumerate(seen, start=1):
            note = f"view {number} of {len(seen)}" if len(seen) > 1 else ""
            by = replace(stitcher, predict=member)
            cut = tile is not None
            size = asked_size(self.roi_size if tile is None else tile)  # it may be set anew
            if cut and isinstance(size, Sequence) and not isinstance(size, str):
                size = _turned(size, view, net.tiling)
            work = Pass(pixels, box, view, by, size, cut, room, note)
            logits = assuming(net.tiling, size, partial(self._within_memory.stitch, work))
            if len(seen) == 1:
                return logits
            wide = torch.promote_types(logits.dtype, torch.float32)  # 7 bits do not add up
            if votes is not None:
                votes.add(logits)
            total = logits.to(wide) if total is None else total.add_(logits)
        assert total is not None  # there is at least one view
        return total.div_(len(seen)).to(logits.dtype)

    def _stitcher(self, pixels: Pixels, net: Net) -> Stitcher:
        here, dtype = pixels.values.device, pixels.values.dtype
        keeps = net.dtype is None and dtype.is_floating_point
        return Stitcher(
            predict=net.predict,
            batch_size=self.sw_batch_size,
            dtype=dtype if keeps else net.dtype or torch.get_default_dtype(),
            run_on=(run_on := torch.device(self.sw_device or net.home or here)),
            precision=chosen_precision(self.precision, run_on),
            device=net.device or here,
            progress=self.progress,
        )


def _turned(size: Sequence[int | None], view: View, tiling: Tiling) -> list[int | None]:
    """Sides of tiles that turn with the image, where the network's axes are alike."""
    turned = view.shape(tiling.axes) == tiling.axes
    return list(view.shape(size) if turned else size)
