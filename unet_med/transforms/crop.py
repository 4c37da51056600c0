"""Random tiles of the network's input size; the image is mirrored beyond its border."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Randomizable, Transform
from monai.utils import TransformBackends, convert_to_tensor, ensure_tuple

from unet_med.data.entries import CENTRE, KNOWN
from unet_med.geometry.plain import whole
from unet_med.transforms.known import KnownPixels, NoteKnownd
from unet_med.transforms.shared_random_state import SharedRandomTransform, no_draw
from unet_med.transforms.tensors import AnyImage, as_tensor, with_metadata_of

GUESSES = 20


class RandTileCrop(Randomizable, Transform):
    """Cut a tile at a random place; the image is mirrored beyond its border.

    The tile's centre is uniform over the image, whatever the tile's size. With
    mirrored borders (Ronneberger et al. 2015, section 2) every pixel of the image
    is then trained on equally often, those next to the border too (the outermost,
    which the mirror does not repeat, about half as often), and no tile is ever
    filled up with zeros. An image smaller than the tile is mirrored as often as
    needed.

    Args:
        tile_size: sides of the tile, px: the network's input; one, or one an axis.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own convention

    def __init__(self, tile_size: int | Sequence[int]) -> None:
        self.tile_size = _checked_size("tile_size", tile_size)
        self._start: tuple[int, ...] | None = None

    def randomize(
        self,
        data: torch.Tensor,
        where: KnownPixels | None = None,
        window: int | Sequence[int] | None = None,
        pixel: Sequence[int] | None = None,
    ) -> None:
        """Draw the tile's first pixel for an image `(C, *S)`.

        Args:
            data: the image `(C, *S)`, for its shape.
            where: pixels of which the tile holds one; None, or none of them: all.
            window: sides of the tile's middle, px, in which that pixel lies; None: half the tile's.
            pixel: the pixel that lies there; None: one of `where`.
        """
        shape = data.shape[1:]
        sizes = _per_axis(self.tile_size, len(shape))
        even = [1 - n % 2 for n in sizes]
        if pixel is None and where is not None and len(where):
            pixel = self._one_of(where)
        if pixel is not None:
            middle = [max(1, n // 2) for n in sizes] if window is None else ensure_tuple(window)
            parts = zip(pixel, shape, sizes, _per_axis(middle, len(shape)), strict=True)
            centre = [self._around(*each) for each in parts]
        else:  # every pixel or, for even sides, every gap between two
            centre = [
                int(self.R.randint(max(side - e, 1))) + e
                for side, e in zip(shape, even, strict=True)
            ]
        self._start = tuple(c - size // 2 for c, size in zip(centre, sizes, strict=True))

    def _around(self, pixel: int, side: int, size: int, window: int) -> int:
        """A centre in the image with which a pixel lies anywhere in the tile's middle.

        Were it always the same place, a network that is given a plane of each volume would learn
        to answer in one plane of its output: what its poolings make of the others is not alike.
        """
        high = pixel + size // 2 - (size - window) // 2
        low = high - window + 1
        first = 1 - size % 2
        last = max(first, side - 1)  # a side of one pixel has no gap between two
        low, high = max(low, min(first, high)), min(high, max(last, low))
        return low + int(self.R.randint(high - low + 1))

    def _one_of(self, where: KnownPixels) -> list[int]:
        """One of these pixels, each as likely as any other."""
        for _ in range(GUESSES):  # of which most hit, where most is known
            centre = [int(self.R.randint(side)) for side in where.label.shape]
            if where.has(centre):
                return centre
        return where.place(int(self.R.randint(len(where))))

    def cut(self, img: torch.Tensor) -> torch.Tensor:
        """Cut the tile of the last draw.

        Args:
            img: `(C, *S)`.

        Returns:
            `(C, *tile_size)`, dtype kept, the affine moved along; a copy, whatever its size.

        Raises:
            RuntimeError: nothing was drawn yet.
        """
        if self._start is None:
            raise no_draw()
        return _window(img, self._start, _per_axis(self.tile_size, img.ndim - 1))

    def cut_lines(self, lines: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What the last draw's tile shows along each axis, of what the image has there.

        Args:
            lines: one an axis, as long as the image; see `unet_med.data.DeviceImages`.

        Raises:
            RuntimeError: nothing was drawn yet.
        """
        if self._start is None:
            raise no_draw()
        sizes = _per_axis(self.tile_size, len(lines))
        parts = zip(lines, self._start, sizes, strict=True)
        return [line[_mirrored(first, size, len(line))] for line, first, size in parts]

    def __call__(self, img: AnyImage, randomize: bool = True) -> torch.Tensor:
        """Cut a tile.

        Args:
            img: `(C, *S)`.
            randomize: draw anew; False repeats the last draw.

        Returns:
            `(C, *tile_size)`, dtype kept.
        """
        img = as_tensor(img)
        if randomize:
            self.randomize(img)
        return self.cut(img)


class RandTileCropd(SharedRandomTransform):
    """Cut all keys at one random place; see `RandTileCrop`.

    Args:
        keys: images, labels, weight maps `(C, *S)`, all of one spatial shape.
        tile_size: sides of the tile, px: the network's input; one, or one an axis.
        ignore: label of pixels without annotation, for partly annotated images (Çiçek et al.
            2016): in the middle of a tile the entry `"label"`, `(1, *S)`, has a pixel that is
            annotated. None: any tile will do.
        middle: its sides, px: those of the network's output; None: half the tile's, else with
            the same centre, so ``tile_size - middle`` is even. There lies also the pixel
            whose number an item has in its entry `CENTRE` (`unet_med.data.SeededDataset`).
        allow_missing_keys: no error when a key is absent.

    Labels keep the tile's size: a deformation that follows needs the surroundings of the output,
    and the losses crop by themselves.
    """

    backend = RandTileCrop.backend
    returns_copies = True  # its input stays unchanged, so callers need not copy it
    drawn: RandTileCrop

    def __init__(
        self,
        keys: KeysCollection,
        tile_size: int | Sequence[int],
        *,
        ignore: int | None = None,
        middle: int | Sequence[int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandTileCrop(tile_size), allow_missing_keys)
        self.ignore = ignore
        self.middle = None if middle is None else _checked_size("middle", middle)
        if self.middle is not None:
            _check_centred(self.drawn.tile_size, self.middle)

    @property
    def notes(self) -> NoteKnownd | None:
        """What notes `KNOWN` in an item, once for all of its tiles; None: all pixels are."""
        return None if self.ignore is None else NoteKnownd("label", self.ignore)

    def draw(self, image: torch.Tensor, data: Mapping[Hashable, Any]) -> None:
        """Draw one place for all keys.

        Args:
            image: `(C, *S)`, of which only the shape is read.
            data: dictionary with the `"label"`, which is read where `ignore` is given, and
                `CENTRE` is not; with `KNOWN`, as `notes` has it, only a few lines of it are.
        """
        where = pixel = None
        if CENTRE in data:
            pixel = [int(k) for k in np.unravel_index(data[CENTRE], image.shape[1:])]
        elif self.ignore is not None:
            label = data["label"]
            where = KnownPixels.of(label, self.ignore, data.get(KNOWN))
        self.drawn.randomize(image, where, self.middle, pixel)

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Cut every key.

        Args:
            data: dictionary with the keys.
            randomize: draw anew; False repeats the last draw.

        Raises:
            ValueError: spatial shapes differ.
        """
        d = dict(data)
        images = self.images_of_one_shape(d, "one place is cut from images of one shape")
        if images and randomize:
            self.draw(next(iter(images.values())), d)
        for entry in (CENTRE, KNOWN):
            d.pop(entry, None)
        for key, img in images.items():
            d[key] = self.drawn.cut(img)
        return d


def _mirrored(first: int, size: int, side: int) -> torch.Tensor:
    """`geometry.mirror_index` of `size` positions in a row."""
    at, period = torch.arange(first, first + size), max(1, 2 * (side - 1))
    return torch.minimum(at % period, -at % period)


def _window(img: torch.Tensor, start: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
    """`img` (C, *S) from `start`, mirrored beyond its border: (C, *sizes)."""
    out = convert_to_tensor(img, track_meta=False)
    mirrored = {}
    for axis, (first, size) in enumerate(zip(start, sizes, strict=True), start=1):
        side = out.shape[axis]
        if 0 <= first <= side - size:
            out = out.narrow(axis, first, size)  # a view: copy little below
            continue
        index = _mirrored(first, size, side)
        lowest = int(index.min())
        out = out.narrow(axis, lowest, int(index.max()) - lowest + 1)
        mirrored[axis] = index.to(img.device) - lowest
    for axis, order in mirrored.items():
        out = out.index_select(axis, order)
    if not mirrored:
        out = out.clone(memory_format=torch.contiguous_format)
    out = with_metadata_of(img, out)
    if isinstance(out, MetaTensor):
        shift = torch.eye(len(out.affine), dtype=out.affine.dtype)
        shift[: len(start), -1] = torch.tensor(start, dtype=shift.dtype)
        out.affine = out.affine @ shift
    return out


def _checked_size(name: str, size: int | Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(whole(name, n) for n in ensure_tuple(size))
    if min(sizes, default=0) < 1:
        raise ValueError(f"{name} {size} px is less than 1")
    return sizes


def _per_axis(size: Sequence[int], dims: int) -> tuple[int, ...]:
    """One size for each axis; a single one serves all axes."""
    if len(size) not in (1, dims):
        raise ValueError(f"size {tuple(size)} px has {len(size)} sides for {dims} image axes")
    return tuple(size) * (dims if len(size) == 1 else 1)


def _check_centred(tile: Sequence[int], middle: Sequence[int]) -> None:
    """Refuse a middle that does not share the tile's centre."""
    dims = max(len(tile), len(middle))
    for t, n in zip(_per_axis(tile, dims), _per_axis(middle, dims), strict=True):
        if n > t or (t - n) % 2:
            raise ValueError(
                f"middle {n} px does not lie in the middle of tile_size {t} px; "
                f"nearest that does: {min(n - (t - n) % 2, t)}"
            )


RandTileCropD = RandTileCropDict = RandTileCropd
