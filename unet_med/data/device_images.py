"""Images of a training in the memory of a GPU, where tiles are cut for a whole batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import accumulate
from math import prod
from typing import Any

import torch

from unet_med.data.entries import LINES, Item
from unet_med.data.item_file import Types
from unet_med.instances import as_int32

Shape = tuple[int, ...]  # (C, *S)


class DeviceImages:
    """Images and labels of a data list in the memory of a GPU.

    In place of its pixels an item has lines, `LINES`, one an axis: pixel `(i, j[, k])` is number
    ``lines[0][i] + lines[1][j] [+ lines[2][k]]`` of all. A crop takes parts of the lines, a flip
    turns one of them around, a quarter turn swaps two; so a worker sends kilobytes, and what it
    drew is cut from the images at once.

    It may go to other processes, and leaves the pixels behind.

    Args:
        items: images, as `ImageCache` keeps them.
        shapes: theirs, as `shapes_alike` found them.
        device: a GPU.
        reads: entries that a worker looks at to draw a tile; main memory keeps them.

    Attributes:
        pixels: `(C + 1, number of pixels)`, int32: the bits of all images' floats, and all labels.
    """

    def __init__(
        self,
        items: Iterable[Item],
        shapes: Sequence[Shape],
        device: torch.device | str,
        reads: Sequence[str] = (),
    ) -> None:
        self.sides = [shape[1:] for shape in shapes]
        *self.starts, total = accumulate(map(prod, self.sides), initial=0)
        self.pixels = torch.empty(shapes[0][0] + 1, total, dtype=torch.int32, device=device)
        self.kept: list[Item] = []
        for item, start in zip(items, self.starts, strict=True):
            both = _as_integers(item)
            self.pixels[:, start : start + both.shape[1]] = both.to(device)
            self.kept.append({key: item[key] for key in reads})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "pixels": None}

    def take(self, index: int, cut: Sequence[str] = ()) -> tuple[Item, Types]:
        """The lines of a whole image, and what is read of it; see `InFiles.take`."""
        lines, step = [], 1
        for side in reversed(self.sides[index]):
            lines.append(torch.arange(0, side * step, step))
            step *= side
        lines[-1] += self.starts[index]
        return {LINES: lines[::-1], **self.kept[index]}, {}

    def tiles(self, lines: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """The pixels of a batch of tiles; the host waits for nothing.

        Args:
            lines: of each axis `(B, side)`, int64, on the host.

        Returns:
            `image` `(B, C, *S)`, float32, and `label` `(B, 1, *S)`, int32.
        """
        number = reduce(torch.add, map(self._along, range(len(lines)), lines))  # (B, *S)
        found = self.pixels[:, number]  # (C + 1, B, *S)
        image, label = found[:-1].view(torch.float32), found[-1:]
        return {"image": image.transpose(0, 1).contiguous(), "label": label.transpose(0, 1)}

    def _along(self, axis: int, line: torch.Tensor) -> torch.Tensor:
        """A line `(B, side)` on the device, as it broadcasts over the other axes."""
        others = range(len(self.sides[0]))
        line = line.to(self.pixels.device, non_blocking=True)
        return line.view(len(line), *(-1 if k == axis else 1 for k in others))


def shapes_alike(items: Iterable[Item]) -> list[Shape] | None:
    """Shapes `(C, *S)` of images that `DeviceImages` can hold together; None: it cannot.

    Each has a float32 `image`, all of as many channels and axes, and a `label` `(1, *S)`.
    """
    shapes: list[Shape] = []
    for item in items:
        image, label = item.get("image"), item.get("label")
        if not isinstance(image, torch.Tensor) or not isinstance(label, torch.Tensor):
            return None
        if image.dtype != torch.float32 or label.shape != (1, *image.shape[1:]):
            return None
        shapes.append(tuple(image.shape))
    return shapes if len({(shape[0], len(shape)) for shape in shapes}) == 1 else None


def bytes_on_device(shapes: Iterable[Shape]) -> int:
    """What `DeviceImages` takes there: four bytes for each channel and label of a pixel."""
    return sum(4 * (channels + 1) * prod(sides) for channels, *sides in shapes)


def _as_integers(item: Item) -> torch.Tensor:
    """Bits of the image and label, `(C + 1, pixels)`, int32."""
    image, label = (item[key].detach().as_subclass(torch.Tensor) for key in ("image", "label"))
    bits = image.flatten(1).contiguous().view(torch.int32)
    return torch.cat([bits, torch.from_numpy(as_int32(label.flatten(1).numpy()))])
