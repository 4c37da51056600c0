"""Stitching within the memory that there is: where tiles are too large, smaller ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import prod

from torch import Tensor

from unet_med.errors import is_out_of_memory
from unet_med.inferers.passes import Pass, tiles_for
from unet_med.inferers.region import spans_of
from unet_med.inferers.stitch import NoRoomError, Stitcher
from unet_med.inferers.tile_size import (
    affordable_pixels,
    automatic_sides,
    requested_sides,
    smaller_sides,
)
from unet_med.inferers.tiling import Tiling
from unet_med.memory import free_memory

_log = logging.getLogger(__name__)


class WithinMemory:
    """Stitches by tiles of the size that was asked for, or by the largest that memory allows.

    What did not fit is remembered: tiles whose size is ours begin smaller in the images to come.

    Attributes:
        sides: of the tiles of the last run, px.
    """

    def __init__(self) -> None:
        self.sides: list[int] = []
        self._most_pixels: int | None = None  # of a tile that fitted where larger did not

    def stitch(self, work: Pass, tiling: Tiling) -> Tensor:
        """Logits of a pass, `(B, K, *sides of its box)`.

        Raises:
            ValueError: the tiles that were asked for do not fit the network.
            MemoryError: memory does not suffice for the smallest tiles, or for the result.
        """
        shape = work.view.shape(work.pixels.shape)
        box = work.view.find(work.box, work.pixels.shape)
        spans = spans_of(shape, box, tiling)
        lengths = [stop - start for start, stop in spans]
        asked, sides = work.size, self._sides(work, lengths, tiling)
        most = self._most_pixels
        while True:
            tiles = tiles_for(spans, box, sides, tiling, asked)
            self.sides = sides = [stop - start for start, stop in tiles[0].read]
            try:
                logits = work.stitcher.stitch(
                    work.pixels, work.box, work.view, tiles, tiling.lost, work.note
                )
                self._most_pixels = most
                return logits
            except Exception as error:
                if isinstance(error, NoRoomError) or not is_out_of_memory(error):
                    raise
                free_memory(error)
            smaller = smaller_sides(sides, tiling)
            if smaller is None:
                raise MemoryError(
                    f"out of memory even in tiles of {sides} px, the smallest that this network "
                    f"takes: use another device, or fewer at a time (sw_batch_size)"
                )
            _log.warning("out of memory in tiles of %s px; going on with %s px", sides, smaller)
            most = prod(smaller)
            asked = sides = smaller

    def _sides(self, work: Pass, lengths: Sequence[int], tiling: Tiling) -> list[int]:
        """Input sides of the network: what was asked for, or the cheapest within the memory."""
        if work.size != "auto":
            sides = requested_sides(lengths, tiling, work.size)
            if work.cut:
                whole = tiling.whole_sides(lengths)
                sides = [min(pair) for pair in zip(sides, whole, strict=True)]
            return sides
        pixels, fast_pixels = work.room(tiling)
        pixels = min(pixels, self._most_pixels or pixels)
        return automatic_sides(lengths, tiling, pixels=pixels, fast_pixels=fast_pixels)


def room_for(stitcher: Stitcher, tiling: Tiling) -> tuple[int, int]:
    """Most pixels of a tile that a stitcher runs, for memory and for speed."""
    return affordable_pixels(
        tiling,
        stitcher.run_on,
        batch_size=stitcher.batch_size,
        itemsize=stitcher.dtype.itemsize,
    )
