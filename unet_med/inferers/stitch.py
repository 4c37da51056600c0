"""Runs a network on windows of images, and puts the results together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from unet_med.data.bars import no_bar
from unet_med.errors import is_out_of_memory
from unet_med.geometry import PerAxis, Tile, per_axis
from unet_med.inferers.pixels import Box, Pixels
from unet_med.inferers.test_time_augmentation import View
from unet_med.precision import autocast, repeatable, rounding


class WrongSizeError(ValueError):
    """A network returned another size than its padding allows."""


class NoRoomError(MemoryError):
    """Memory does not suffice for a whole result: no smaller tile helps."""


@dataclass(frozen=True)
class Stitcher:
    """Runs a network over the tiles of images.

    Attributes:
        predict: the network with its further arguments.
        batch_size: tiles a pass.
        dtype: type of the network's input.
        run_on: where the network runs.
        precision: in which, of `chosen_precision`.
        device: where the result is put together.
        progress: whether to show a bar.
    """

    predict: Callable[[Tensor], Any]
    batch_size: int
    dtype: torch.dtype
    run_on: torch.device
    precision: str
    device: torch.device
    progress: bool

    def stitch(
        self,
        pixels: Pixels,
        box: Box,
        view: View,
        tiles: Sequence[Tile],
        lost: PerAxis,
        note: str = "",
    ) -> Tensor:
        """Logits of a box of the images in one tensor, each pixel written once.

        Args:
            pixels: all that shows in the tiles.
            box: inside the images, px.
            view: how the network sees the images.
            tiles: in the images seen this way; together they write the box.
            lost: px by which outputs are smaller than inputs, per side; one, or one an axis.
            note: text of the progress bar.

        Returns:
            ``(B, K, *sides of the box)``, in the images' own order.

        Raises:
            WrongSizeError: the network's output has another size.
            NoRoomError: memory does not suffice for the result.
            TypeError: the network returns something else than a tensor.
        """
        count = len(pixels.values)
        jobs = iter(product(range(count), tiles))
        logits: Tensor | None = None
        hidden = no_bar(self.progress)  # and taken away when done, inside another bar
        total = count * len(tiles)
        with tqdm(total=total, desc=note, unit="tile", disable=hidden, leave=None) as bar:
            while batch := list(islice(jobs, self.batch_size)):
                scores = self.run(pixels, view, batch, lost)  # (b, K, *output)
                if logits is None:
                    sides = [stop - start for start, stop in box]
                    logits = self._room((count, scores.shape[1], *sides), scores.dtype)
                for (item, tile), score in zip(batch, scores, strict=True):
                    part = score[(..., *tile.crop(lost))]  # (K, *write)
                    write = view.find_back(tile.write, pixels.shape)
                    _part(logits[item], write, box).copy_(view.undo(part[None])[0])
                bar.update(len(batch))
        assert logits is not None  # a box has at least one tile
        return logits

    def _room(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory for the whole result, `(B, K, *S)`."""
        try:
            return torch.empty(shape, dtype=dtype, device=self.device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        raise NoRoomError(
            f"out of memory on {self.device} for {prod(shape) * dtype.itemsize / 1e9:.3g} GB of "
            f"logits {tuple(shape)}: predict in blocks, as unet-med does with --output X.ome.zarr, "
            "or in smaller ones"
        )

    def run(
        self, pixels: Pixels, view: View, batch: Sequence[tuple[int, Tile]], lost: PerAxis
    ) -> Tensor:
        """The network's answer to some windows, `(b, K, *output)`, of the right size.

        Args:
            pixels: all that shows in the windows.
            view: how the network sees the images.
            batch: the image and the tile of each window.
            lost: as in `stitch`.
        """
        windows = self._gather(pixels, view, batch)  # (b, C, *tile)
        precision, device = self.precision, self.run_on
        with repeatable(device), rounding(precision, device), autocast(precision, device):
            scores = self.predict(windows)
        return _checked(scores, windows, lost)

    def _gather(self, pixels: Pixels, view: View, batch: Sequence[tuple[int, Tile]]) -> Tensor:
        """The windows of a batch, where and how the network wants them."""
        sides = [stop - start for start, stop in batch[0][1].read]
        # 2-D convolutions on a CPU run 1.5 times faster on channels-last memory.
        fast = len(sides) == 2 and self.run_on.type == "cpu"
        windows = torch.empty(
            (len(batch), pixels.values.shape[1], *sides),
            dtype=self.dtype,
            device=self.run_on,
            memory_format=torch.channels_last if fast else torch.contiguous_format,
        )
        for place, (item, tile) in enumerate(batch):
            seen = pixels.window(item, view.find_back(tile.read, pixels.shape))
            # By index: gradients do not flow into what iterating over a tensor gives.
            windows[place].copy_(view.apply(seen[None])[0])
        return windows


def _part(x: Tensor, window: Box, box: Box) -> Tensor:
    """View of a window of ``(C, *S)``, whose first pixel is that of the box."""
    places = zip(window, box, strict=True)
    index: tuple[Any, ...] = (..., *(slice(a - first, b - first) for (a, b), (first, _) in places))
    return x[index]


def _checked(scores: Any, windows: Tensor, lost: PerAxis) -> Tensor:
    """The network's answer, if it is one tensor of the right size."""
    if not isinstance(scores, Tensor):
        raise TypeError(
            f"the network returned {type(scores).__name__}, not one tensor; wrap it so that it "
            f"returns the logits alone"
        )
    got, sides = tuple(scores.shape[2:]), tuple(windows.shape[2:])
    less = per_axis("lost", lost, len(sides))
    if got != tuple(side - 2 * px for side, px in zip(sides, less, strict=True)):
        raise WrongSizeError(f"the network turns a tile of {sides} px into {got} px")
    if len(scores) != len(windows):
        raise ValueError(
            f"the network turns {len(windows)} tiles into {len(scores)} results: what is passed on "
            "to it goes with every batch of tiles; give one that has an entry for each image with "
            "one image at a time, or as condition= if it lies on the pixels"
        )
    rounded = scores.dtype in (torch.bfloat16, torch.float16)
    return scores.to(windows.dtype) if rounded else scores  # of an autocast, ours or another
