"""An opened volume as a segmenter works it, box by box, never in memory as a whole.

A box is what one pass over the whole volume gives there. Preprocessing is done window by window
(`unet_med.transforms.windowed`); what it must know of the whole is found by a first pass. Results
of another pixel size are brought back box by box.

Boxes are in MONAI's order, `(X, Y[, Z])`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    CopyItemsd,
    Invertd,
    LoadImaged,
    MapLabelValued,
    SaveImaged,
)
from torch import Tensor
from tqdm.auto import tqdm

from unet_med.data.sources import Source
from unet_med.inferers.batch_statistics import batch_norms, use_statistics
from unet_med.inferers.tiling import Tiling
from unet_med.segmentation.arrays import affine_of, meta_of, native
from unet_med.segmentation.segmenter import Segmenter, target_of
from unet_med.transforms import InstancesFromLogits, InstancesFromLogitsd
from unet_med.transforms.windowed import Box, Windowed

__all__ = ["Found", "Prediction", "Volume"]

Found = Mapping[str, np.ndarray]
"""What was found out about a whole volume by name.

`K.NAME` is what the K-th step of preprocessing found; `norm.K.NAME` are the statistics of the
K-th layer of batch normalisation that looks at the image, one row a plane or one for all.
"""

_KNOWN = (
    *(Activationsd, CopyItemsd, Invertd, AsDiscreted, MapLabelValued),
    *(InstancesFromLogitsd, SaveImaged),
)


@dataclass(frozen=True)
class Prediction:
    """What the network says of a box.

    Attributes:
        probabilities: of the classes, on the volume's own grid, `(K, X, Y[, Z])`.
        objects: classes of which instances are made, of a box of the working grid,
            `(X, Y[, Z])`; None where they were not asked for.
    """

    probabilities: Tensor
    objects: np.ndarray | None


class Volume:
    """A volume, its segmenter, and what a first pass found.

    Args:
        segmenter: a trained bundle.
        source: of `unet_med.volumes.open_source`.
        found: of the first pass over it; None: it is made now.
        progress: whether to show the first pass.

    Attributes:
        own: the volume on its own grid.
        working: the volume as the network sees it.
        rules: how the bundle makes instances of probabilities.

    Raises:
        ValueError: the volume does not fit the network; or a transform, the inferer or the
            network looks at the whole image in a way that boxes cannot follow.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        source: Source,
        found: Found | None = None,
        *,
        progress: bool = False,
    ) -> None:
        self.segmenter = segmenter
        self.source = source
        self.tiling = _local(segmenter.tiling)
        self.rules = _rules(segmenter)
        self.own = self.working = _opened(source, segmenter.dtype)
        self._regridded: list[tuple[Any, Windowed]] = []  # step, and the image before it
        if len(source.shape) < self.tiling.spatial_dims:
            raise ValueError(f"{source.path} is a plane {source.shape}, the network takes volumes")
        self.by_plane = self.tiling.spatial_dims == 2 and len(source.shape) == 3
        collected: dict[str, np.ndarray] = {}
        for number, step in enumerate(_local_steps(segmenter)):
            if found is None and hasattr(step, "first_pass"):
                parts = _boxes(self.working.shape, self.by_plane)
                boxes = tqdm(parts, desc="first pass", unit="block", disable=not progress)
                own = self._first_pass(step, boxes)
                collected |= {f"{number}.{name}": value for name, value in own.items()}
            else:
                own = _with_prefix(found or {}, f"{number}.")
            if hasattr(step, "back_by_window"):
                self._regridded.append((step, self.working))
            self.working = step.by_window(self.working, own)
        self._layers = (
            batch_norms(segmenter.network) if segmenter.inferer.statistics == "image" else []
        )
        self.found: Found = collected | self._norms(progress) if found is None else found

    @property
    def same_grid(self) -> bool:
        """Whether the network sees the volume's own pixels."""
        return not self._regridded

    def predict(
        self, box: Box, tile: Sequence[int] | None = None, objects: Box | None = None
    ) -> Prediction:
        """What one pass over the whole volume says of a box.

        Args:
            box: of the volume's own grid, px.
            tile: largest input sides of the network, `(X, Y[, Z])`, as many as it has axes, px.
            objects: box of the working grid whose classes are wanted besides.

        Raises:
            ValueError: a pixel is NaN or infinite, or a tile side does not fit the network.
        """
        classes: np.ndarray | None = None

        def scores(needed: Box) -> Tensor:
            nonlocal classes
            boxes = [needed] if objects is None else [needed, objects]
            hull = tuple(
                (min(a for a, _ in axis), max(b for _, b in axis))
                for axis in zip(*boxes, strict=True)
            )
            found = self._probabilities(hull, tile)
            if objects is not None:
                classes = self.rules.classes(_part(found, objects, hull)).cpu().numpy()
            return _part(found, needed, hull).cpu() if self._regridded else found

        result = Windowed(
            scores, self.segmenter.out_channels, self.working.shape, self.working.affine, {}
        )
        for step, before in reversed(self._regridded):
            result = step.back_by_window(result, before, "bilinear")
        probabilities = result.read(box)
        if self.same_grid and objects not in (None, box):
            raise ValueError(f"objects are wanted of {objects}, probabilities of {box}")
        return Prediction(probabilities, classes)

    def labels_back(self, read: Any) -> Windowed:
        """Labels of the working grid, on the volume's own.

        Args:
            read: gives the labels of a box of the working grid, `(1, *sides)`.
        """
        result = Windowed(read, 1, self.working.shape, self.working.affine, {})
        for step, before in reversed(self._regridded):
            result = step.back_by_window(result, before, "nearest")
        return result

    def working_edges(self, axis: int, edges: Sequence[int]) -> list[int]:
        """Where the pixels begin that lie behind edges of the own grid: both grids are split alike.

        Args:
            axis: of `(X, Y[, Z])`.
            edges: px of the own grid.
        """
        to_own = np.linalg.solve(self.own.affine.numpy(), self.working.affine.numpy())
        ratio, offset, last = to_own[axis, axis], to_own[axis, -1], self.working.shape[axis]
        places = (int(np.ceil((edge - 0.5 - offset) / ratio - 1e-6)) for edge in edges)
        inner = [min(max(place, 0), last) for place in places]
        whole = zip(edges, inner, strict=True)
        return [
            0 if edge == 0 else last if edge == self.own.shape[axis] else place
            for edge, place in whole
        ]

    def working_sides(self, sides: Sequence[int]) -> list[int]:
        """Sides that the network must see for a box of such sides, `(X, Y[, Z])`, px."""
        to_own = np.linalg.solve(self.own.affine.numpy(), self.working.affine.numpy())
        return [
            side if self.same_grid else min(whole, int(np.ceil(side / to_own[axis, axis])) + 2)
            for axis, (side, whole) in enumerate(zip(sides, self.working.shape, strict=True))
        ]

    def _probabilities(self, box: Box, tile: Sequence[int] | None) -> Tensor:
        """Class probabilities of a box of the working grid, `(K, X, Y[, Z])`."""
        if not self.by_plane:
            return torch.softmax(self._logits(box, None, tile)[0], dim=0)
        *plane, (first, last) = box
        # Statistics of its own make each plane a network of its own.
        step = 1 if self._layers else last - first
        groups = [(z, z + step) for z in range(first, last, step)]
        logits = torch.cat([self._logits(tuple(plane), group, tile) for group in groups])
        return torch.softmax(logits, dim=1).movedim(0, -1)

    def _logits(
        self, box: Box, planes: tuple[int, int] | None, tile: Sequence[int] | None
    ) -> Tensor:
        """`(B, K, *sides)`, a row a plane."""
        shape = self.working.shape[: len(box)]
        row = planes[0] if planes else 0
        rows = [
            {
                name: torch.as_tensor(values[row])
                for name, values in _with_prefix(self.found, f"norm.{k}.").items()
            }
            for k in range(len(self._layers))
        ]
        with torch.no_grad(), use_statistics(self._layers, rows) if rows else nullcontext():
            return self.segmenter.inferer.region(
                self._reader(planes), shape, box, self.segmenter.network, tile=tile
            )

    def _reader(self, planes: tuple[int, int] | None) -> Any:
        """Pixels as the network wants them, `(B, C, *sides)`, by box of an image."""
        segmenter = self.segmenter

        def read(box: Box) -> Tensor:
            pixels = self.working.read((*box, planes) if planes else box)
            pixels = pixels.to(segmenter.device, segmenter.dtype)
            return pixels.movedim(-1, 0) if planes else pixels[None]

        return read

    def _first_pass(self, step: Any, boxes: Iterable[Box]) -> dict[str, np.ndarray]:
        before = self.working

        def read(box: Box) -> Tensor:
            try:
                return before.read(box)
            except Exception as error:
                reason = " ".join(str(error).split())
                raise ValueError(
                    f"{self.source.path} cannot be read at {box} ({reason}), and what "
                    "standardises it needs every pixel: repair it first"
                ) from error

        found: dict[str, np.ndarray] = step.first_pass(replace(before, read=read), boxes)
        return found

    def _norms(self, progress: bool) -> dict[str, np.ndarray]:
        """Statistics of batch normalisation, a row a plane: one pass of the network."""
        if not self._layers:
            return {}
        shape = self.working.shape
        images = [(z, z + 1) for z in range(shape[2])] if self.by_plane else [None]
        inferer, network = self.segmenter.inferer, self.segmenter.network
        rows = [
            inferer.image_statistics(
                self._reader(image), shape[: self.tiling.spatial_dims], network
            )
            for image in tqdm(images, desc="batch statistics", unit="image", disable=not progress)
        ]
        return {
            f"norm.{k}.{name}": np.stack([row[k][name].cpu().numpy() for row in rows])
            for k in range(len(self._layers))
            for name in rows[0][k]
        }


def _opened(source: Source, dtype: torch.dtype) -> Windowed:
    """The pixels of a source, in a network's type."""

    def read(box: Box) -> Tensor:
        window = [slice(*side) for side in box[::-1]]
        pixels = torch.as_tensor(native(source.read(window))).to(dtype)  # (C, [Z,] Y, X)
        return pixels.permute(0, *range(pixels.ndim - 1, 0, -1))

    shape = source.shape[::-1]
    return Windowed(read, source.channels, shape, affine_of(source), meta_of(source))


def _local(tiling: Tiling) -> Tiling:
    if tiling.whole_image_layer:
        raise ValueError(
            f"{tiling.whole_image_layer} computes statistics over the whole image, so blocks "
            f"cannot equal one pass; use a network with batch normalisation, or with none"
        )
    return tiling


def _local_steps(segmenter: Segmenter) -> list[Any]:
    """Preprocessing after loading; refuses what is not known to be local."""
    steps = [t for t in segmenter.preprocessing.transforms if not isinstance(t, LoadImaged)]
    for step in steps:
        if not hasattr(step, "by_window"):
            raise ValueError(
                f"preprocessing of inference.json has {target_of(step)}, which is not known to "
                f"work block by block; apply it to the source beforehand"
            )
    return steps


def _rules(segmenter: Segmenter) -> InstancesFromLogits:
    """The bundle's step from probabilities to instances; refuses what is not known."""
    steps = segmenter.postprocessing(["mask", "instances"])
    for step in steps:
        other = isinstance(step, AsDiscreted) and not all(step.argmax)
        if other or not isinstance(step, _KNOWN):
            raise ValueError(
                f"postprocessing of inference.json has {target_of(step)}, which is not known to "
                f"work block by block; take it out there and apply it to the result"
            )
    for step in steps:
        if isinstance(step, InstancesFromLogitsd):
            return step.rule
    return InstancesFromLogits(softmax=False)


def _boxes(shape: Sequence[int], by_plane: bool) -> list[Box]:
    """Boxes that together are an image, as blocks are: whole planes where planes are images."""
    sides = (2048, 2048, 4) if by_plane or len(shape) < 3 else (256, 256, 256)
    axes = [
        [(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(shape, sides, strict=False)
    ]
    return list(product(*axes))


def _with_prefix(found: Found, prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}


def _part(values: Tensor, box: Box, within: Box) -> Tensor:
    places = zip(box, within, strict=True)
    index: tuple[Any, ...] = (..., *(slice(a - first, b - first) for (a, b), (first, _) in places))
    return values[index]
