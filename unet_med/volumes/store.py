"""The output: an OME-Zarr (NGFF 0.5) of which each block owns whole shards, at every level.

    out.ome.zarr/               image: the probabilities, else the mask again
        0 1 ...                 probabilities (C, [Z,] Y, X), where asked for
        labels/mask/0 1 ...     classes ([Z,] Y, X)
        labels/instances/0 ...  instances, where asked for
        uncertainty/0 ...       an image of its own ([Z,] Y, X), where asked for

Levels halve the sides, those of thick slices last. A label's level takes every second pixel, an
image's the mean of what a pixel covers; both stay inside a block, so that no second pass is needed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.zarr_reader import import_zarr
from unet_med.data.zarr_writer import chunk_sides, halve, halved_axes, multiscale
from unet_med.errors import is_full
from unet_med.volumes.blocks import Block


@dataclass(frozen=True)
class Layer:
    """One image or label image of the output.

    Attributes:
        name: `"probabilities"`, `"uncertainty"`, `"mask"` or `"instances"`.
        dtype: of its pixels; labels are whole numbers.
        channels: how many; 0 for what has no channel axis.
    """

    name: str
    dtype: str
    channels: int = 0

    @property
    def is_label(self) -> bool:
        """Whether it is a label image, which NGFF keeps apart."""
        return np.dtype(self.dtype).kind != "f"

    def path(self, level: int = 0) -> str:
        """Where a level lies in the output."""
        if self.channels:
            return str(level)
        return f"labels/{self.name}/{level}" if self.is_label else f"{self.name}/{level}"


@dataclass(frozen=True)
class Layout:
    """Sides of all levels, in the order `([Z,] Y, X)`.

    Attributes:
        shape: of the whole, px.
        block: of a block, px, which are those of a shard.
        pyramid: pixels of full resolution along a pixel of each level, by axis.
        spacing: pixel size of each axis.
        unit: of `spacing`, `"um"`, `"mm"` or None.
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]
    pyramid: tuple[tuple[int, ...], ...]
    spacing: tuple[float, ...]
    unit: str | None

    @property
    def levels(self) -> int:
        """Of the pyramid, 1 for full resolution alone."""
        return len(self.pyramid)

    def sides(self, of: Sequence[int], level: int) -> tuple[int, ...]:
        """Sides `of` something at a level, rounded up, px."""
        return tuple(-(-n // factor) for n, factor in zip(of, self.pyramid[level], strict=True))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes."""
        return ("z", "y", "x")[-len(self.shape) :]


def create_store(path: Path, layers: Sequence[Layer], layout: Layout) -> None:
    """Write the empty output, in one step; one that is there already stays."""
    if path.exists():
        return
    zarr = import_zarr()
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        part = folder / path.name
        with named_if_full(path):
            root = zarr.create_group(part, zarr_format=3)
            for layer in layers:
                for level in range(layout.levels):
                    _create_level(root, layer, level, layout)
            _describe(root, layers, layout)
        os.rename(part, path)
    except OSError:
        if not path.exists():  # else another process was as quick, with the same
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_whole(path: Path, layers: Sequence[Layer], layout: Layout) -> bool:
    """Whether an output has all arrays that `create_store` makes; which pixels is not asked."""
    levels = [layer.path(level) for layer in layers for level in range(layout.levels)]
    return all((path / level / "zarr.json").is_file() for level in levels)


def open_level(path: Path, layer: Layer, level: int = 0, mode: str = "r") -> Any:
    """The zarr array of one level of a layer, `([C,] [Z,] Y, X)`."""
    return import_zarr().open_array(path / layer.path(level), mode=mode)


def write_block(
    path: Path,
    layer: Layer,
    block: Block,
    pixels: np.ndarray,
    layout: Layout,
    *,
    since: int = 0,
) -> None:
    """Write a block of a layer, at every level.

    Args:
        path: the output.
        layer: which one.
        block: whose pixels they are.
        pixels: `([C,] [Z,] Y, X)`; without C where the layer has no channels.
        layout: sides of the output.
        since: first level to write, where those before it hold the block already.
    """
    for level in range(layout.levels):
        if level:
            pixels = halve(pixels, halved_axes(layout.pyramid, level), mean=not layer.is_label)
        if level < since:
            continue
        starts = layout.sides([part.start for part in block.slices], level)
        sides = pixels.shape[-len(starts) :]
        window = [slice(n, n + side) for n, side in zip(starts, sides, strict=True)]
        with named_if_full(path):
            open_level(path, layer, level, mode="r+")[(..., *window)] = pixels


@contextmanager
def named_if_full(path: Path) -> Iterator[None]:
    """Name an output that a full disk has no room for: of a chunk zarr's error names nothing."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or not is_full(error):
            raise
        raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from None


def _create_level(root: Any, layer: Layer, level: int, layout: Layout) -> None:
    shard = layout.sides(layout.block, level)
    chunk = [_part_of(*pair) for pair in zip(shard, chunk_sides(shard), strict=True)]
    channels = [layer.channels] if layer.channels else []
    root.create_array(
        layer.path(level),
        shape=(*channels, *layout.sides(layout.shape, level)),
        shards=(*channels, *shard),
        chunks=(*(1 for _ in channels), *chunk),
        dtype=layer.dtype,
        fill_value=0,
        dimension_names=[*("c" for _ in channels), *layout.axes],
    )


def _part_of(side: int, most: int) -> int:
    """Side of the chunks that a shard's side is whole chunks of: about `most` px, or all of it.

    >>> _part_of(2048, 512), _part_of(1000, 512), _part_of(1021, 512), _part_of(1042, 512)
    (512, 500, 1021, 521)
    """
    parts = [n for n in range(1, side + 1) if side % n == 0]
    below = max(n for n in parts if n <= most)
    # a block of 1021 px, such as an image that is resampled has, would be as many chunks
    return below if 4 * below >= most else min(n for n in parts if n >= most)


def _describe(root: Any, layers: Sequence[Layer], layout: Layout) -> None:
    """NGFF 0.5 metadata of the image and its labels."""
    image = next((layer for layer in layers if layer.channels), layers[0])
    # Without probabilities the image is the mask: the same arrays under a second name.
    prefix = "" if image.channels else f"labels/{image.name}/"
    root.attrs["ome"] = {"version": "0.5", "multiscales": [_multiscale(image, layout, prefix)]}
    for layer in layers:
        if not layer.channels and not layer.is_label:
            own = {"version": "0.5", "multiscales": [_multiscale(layer, layout)]}
            root[layer.name].attrs["ome"] = own
    labels = [layer for layer in layers if layer.is_label]
    root["labels"].attrs["ome"] = {"version": "0.5", "labels": [layer.name for layer in labels]}
    for layer in labels:
        root[f"labels/{layer.name}"].attrs["ome"] = {
            "version": "0.5",
            "multiscales": [_multiscale(layer, layout)],
            "image-label": {"source": {"image": "../../"}},
        }


def _multiscale(layer: Layer, layout: Layout, prefix: str = "") -> dict[str, Any]:
    return multiscale(
        layer.name,
        layout.axes,
        [f"{prefix}{level}" for level in range(layout.levels)],
        factors=layout.pyramid,
        spacing=layout.spacing,
        unit=layout.unit,
        has_channels=layer.channels > 0,
        mean=not layer.is_label,
    )
