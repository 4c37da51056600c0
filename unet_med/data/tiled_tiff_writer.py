"""OME-TIFF of images larger than memory: tiled, deflated, with halved copies.

A TIFF holds the tiles of one plane after another, but a chunk of the source spans many planes.
So each chunk is read once, its tiles are deflated into a temporary file, and from there they are
copied in the order of TIFF. Each halved copy is made from the tiles of the level before.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from tqdm.auto import tqdm

from unet_med.data.atomic import atomic_write
from unet_med.data.bars import no_bar
from unet_med.data.tiff_writer import TILE, halved, needs_bigtiff, ome_metadata, reductions

_WINDOW = 2**26  # bytes of pixels that are read at once
_BATCH = 256  # tiles of a halved copy that are made at once

Place = tuple[int, ...]  # of a tile: channel, plane, row and column of tiles
Make = Callable[[], np.ndarray]


def write_tiled_tiff(
    path: str | os.PathLike[str],
    pixels: Any,
    *,
    spacing: Sequence[float],
    unit: str | None,
    dtype: str | None = None,
    channel_names: tuple[str, ...] = (),
    progress: bool = False,
) -> None:
    """Write an image of any size as tiled OME-TIFF with halved copies, plane by plane.

    Memory holds a window of chunks, about 64 MB of pixels or one larger chunk, and 12 bytes for
    each tile of 256 x 256 px. Values, halved copies and metadata equal those of
    `unet_med.data.tiff_writer.write_tiff`; planes of all sizes are tiled.

    Args:
        path: file to write, in one step; a BigTIFF if 4 GB might not suffice. Meanwhile its
            folder needs twice the room.
        pixels: `([C,] [Z,] Y, X)`; a Zarr array, or an object with `shape`, `dtype`, `chunks`
            and slices.
        spacing: pixel size of each spatial axis, `([Z,] Y, X)`; other axes are channels.
        unit: of the spacing, `"um"` or `"mm"`; None: not known.
        dtype: of the samples; None: that of the pixels.
        channel_names: one name a channel.
        progress: whether to show bars.
    """
    import tifffile

    kind = np.dtype(dtype or pixels.dtype).newbyteorder("<")
    axes = "C" * (len(pixels.shape) - len(spacing)) + "ZYX"[-len(spacing) :]
    metadata, options = ome_metadata(axes, spacing, unit, channel_names)
    metadata["UUID"] = str(uuid4())  # tifffile's own has the address of the network card
    copies = reductions(pixels.shape[-2:])
    big = needs_bigtiff(math.prod(pixels.shape) * kind.itemsize, copies)
    layout: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", "dtype": kind}
    layout["tile"] = (TILE, TILE)
    with atomic_write(path) as part:
        ome = part.with_name("image.ome.tif")  # tifffile writes OME by this name
        with tifffile.TiffWriter(ome, bigtiff=big, byteorder="<") as tif:
            level = _Level(part.with_name("tiles"), pixels.shape, kind)
            level.put(_of_image(pixels), f"{Path(path).name}: tiles", progress)
            first = {"subifds": copies, "metadata": metadata, **options}
            tif.write(iter(level), shape=level.shape, **first, **layout)
            for number in range(1, copies + 1):
                below = _Level(part.with_name(f"tiles-{number}"), level.half_shape, kind)
                below.put(_of_level(level), f"{Path(path).name}: level {number}", progress)
                level.file.unlink()
                level = below
                tif.write(iter(level), shape=level.shape, subfiletype=1, metadata=None, **layout)
        ome.rename(part)


class _Level:
    """Deflated tiles of one level, written to a file in any order, read back in TIFF's order.

    Args:
        file: to write.
        shape: of the level, `([C,] [Z,] Y, X)`.
        dtype: of its samples.
    """

    def __init__(self, file: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.file = file
        self.shape = tuple(shape)
        self.dtype = dtype
        self.grid = (*self.shape[:-2], *(-(-side // TILE) for side in self.shape[-2:]))
        self.starts = np.zeros(self.grid, np.uint64)  # in the file, bytes
        self.sizes = np.zeros(self.grid, np.uint32)

    @property
    def half_shape(self) -> tuple[int, ...]:
        """Shape of the next level."""
        return *self.shape[:-2], *(max(1, side // 2) for side in self.shape[-2:])

    def put(self, batches: Iterator[list[tuple[Place, Make]]], name: str, progress: bool) -> None:
        """Deflate all tiles, batch after batch, each batch by all cores."""
        bar = tqdm(total=math.prod(self.grid), desc=name, unit="tile", disable=no_bar(progress))
        with bar, ThreadPoolExecutor() as pool, self.file.open("wb") as file:
            for batch in batches:
                deflated = pool.map(self._deflated, [make for _, make in batch])
                for (place, _), content in zip(batch, deflated, strict=True):
                    self.starts[place], self.sizes[place] = file.tell(), len(content)
                    file.write(content)
                bar.update(len(batch))

    def __iter__(self) -> Iterator[bytes]:
        """Deflated tiles in TIFF's order: plane by plane, row by row."""
        with self.file.open("rb") as file:
            for place in np.ndindex(self.grid):
                file.seek(int(self.starts[place]))
                yield file.read(int(self.sizes[place]))

    def halved_tile(self, place: Place) -> np.ndarray:
        """Pixels of a tile of the next level, made from up to four tiles of this one."""
        *plane, row, column = place
        window = np.zeros((2 * TILE, 2 * TILE), self.dtype)
        with self.file.open("rb") as file:
            for i, j in product((0, 1), repeat=2):
                tile = (*plane, 2 * row + i, 2 * column + j)
                if all(n < count for n, count in zip(tile, self.grid, strict=True)):
                    file.seek(int(self.starts[tile]))
                    samples = zlib.decompress(file.read(int(self.sizes[tile])))
                    part = np.frombuffer(samples, self.dtype).reshape(TILE, TILE)
                    window[i * TILE : (i + 1) * TILE, j * TILE : (j + 1) * TILE] = part
        height, width = self.shape[-2:]
        return halved(window[: height - 2 * TILE * row, : width - 2 * TILE * column])

    def _deflated(self, make: Make) -> bytes:
        pixels = make()
        tile = np.zeros((TILE, TILE), self.dtype)
        tile[: pixels.shape[0], : pixels.shape[1]] = pixels
        return zlib.compress(tile.data)


def _of_image(pixels: Any) -> Iterator[list[tuple[Place, Make]]]:
    """Tiles of the image, a window of whole chunks after another."""
    steps = _window_sides(pixels.chunks, pixels.dtype.itemsize)
    starts = (range(0, side, step) for side, step in zip(pixels.shape, steps, strict=True))
    for corner in product(*starts):
        window = tuple(
            slice(start, start + step) for start, step in zip(corner, steps, strict=True)
        )
        part = np.asarray(pixels[window])
        rows, columns = (range(0, side, TILE) for side in part.shape[-2:])
        batch: list[tuple[Place, Make]] = []
        for *plane, y, x in product(*map(range, part.shape[:-2]), rows, columns):
            tile = (*plane, slice(y, y + TILE), slice(x, x + TILE))
            first = [start + n for start, n in zip(corner, plane, strict=False)]
            place = (*first, (corner[-2] + y) // TILE, (corner[-1] + x) // TILE)
            batch.append((place, partial(part.__getitem__, tile)))
        yield batch


def _of_level(level: _Level) -> Iterator[list[tuple[Place, Make]]]:
    """Tiles of the next level."""
    sides = (-(-side // TILE) for side in level.half_shape[-2:])
    places = np.ndindex(*level.half_shape[:-2], *sides)
    while batch := list(islice(places, _BATCH)):
        yield [(place, partial(level.halved_tile, place)) for place in batch]


def _window_sides(chunks: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Sides of a window: whole chunks and tiles, as wide as memory allows; few planes if thick.

    >>> _window_sides((128, 128, 128), 1)
    (128, 256, 2048)
    >>> _window_sides((512, 512), 4)
    (512, 32768)
    """
    *lead, height, width = chunks
    rows, columns = (-(-side // TILE) * TILE for side in (height, width))
    planes = 1
    steps = []
    for side in lead[::-1]:
        steps.append(max(1, min(side, _WINDOW // (rows * columns * itemsize * planes))))
        planes *= steps[-1]
    wide = max(1, _WINDOW // (planes * rows * columns * itemsize)) * columns
    return *steps[::-1], rows, wide
