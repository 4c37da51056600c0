"""An opened volume as a segmenter works it, box by box, never in memory as a whole.

A box is what one pass over the whole volume gives there. Preprocessing is done window by window
(`unet_med.transforms.windowed`); what it must know of the whole is found by a first pass. Results
of another pixel size are brought back box by box.

Boxes are in MONAI's order, `(X, Y[, Z])`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property, partial
from itertools import product
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from unet_med.data.bars import no_bar
from unet_med.data.sources import DiskImage
from unet_med.devices import HOST
from unet_med.errors import is_out_of_memory
from unet_med.inferers.agreement import Votes
from unet_med.inferers.batch_statistics import batch_norms, use_statistics
from unet_med.memory import where_it_fits
from unet_med.segmentation.arrays import affine_of, files_of_channels, meta_of, native
from unet_med.segmentation.local import local_rules, local_steps, local_tiling
from unet_med.segmentation.segmenter import Segmenter
from unet_med.transforms.check import UnfitImageError
from unet_med.transforms.windowed import Box, Windowed

T = TypeVar("T")
Found = Mapping[str, np.ndarray]
"""What was found out about a whole volume by name.

`K.NAME` is what the K-th step of preprocessing found; `norm.K.NAME` are the statistics of the
K-th layer of batch normalisation that looks at the image, one row a plane or one for all.
"""


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
        classes: how the bundle makes the classes of a mask of probabilities.
        rules: how it makes instances of them, px of the own grid.
        confidence: how it says how sure it is; None: it does not.
        calibration: of the probabilities that are given out; None: there is none.

    Raises:
        ValueError: the volume does not fit the network; or a transform, the inferer or the
            network looks at the whole image in a way that boxes cannot follow.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        source: DiskImage,
        found: Found | None = None,
        *,
        progress: bool = False,
    ) -> None:
        self.segmenter = segmenter
        self.source = source
        self.tiling = local_tiling(segmenter.tiling)
        self.own = self.working = _opened(source, segmenter.dtype)
        self._regridded: list[tuple[Any, Windowed]] = []  # step, and the image before it
        if len(source.shape) < self.tiling.spatial_dims:
            raise ValueError(f"{source.path} is a plane {source.shape}, the network takes volumes")
        self.by_plane = self.tiling.spatial_dims == 2 and len(source.shape) == 3
        collected: dict[str, np.ndarray] = {}
        for number, step in enumerate(local_steps(segmenter)):
            if found is None and hasattr(step, "first_pass"):
                parts = _boxes(self.working.shape, self.by_plane)
                boxes = tqdm(parts, desc="first pass", unit="block", disable=no_bar(progress))
                own = self._first_pass(step, boxes)
                collected |= {f"{number}.{name}": value for name, value in own.items()}
            else:
                own = _with_prefix(found or {}, f"{number}.")
            after = step.by_window(self.working, own)
            if hasattr(step, "back_by_window") and after is not self.working:
                self._regridded.append((step, self.working))
            self.working = after
        self.classes, self.rules, self.confidence = local_rules(segmenter, self.own, self.working)
        self.calibration = segmenter.calibration
        self._layers = (
            batch_norms(segmenter.network) if segmenter.inferer.statistics == "image" else []
        )
        self.found: Found = collected | self._norms(progress) if found is None else found

    @property
    def same_grid(self) -> bool:
        """Whether the network sees the volume's own pixels."""
        return not self._regridded

    def predict(self, box: Box, tile: Sequence[int] | None = None) -> Tensor:
        """What one pass over the whole volume says of a box.

        Args:
            box: of the volume's own grid, px.
            tile: largest input sides of the network, `(X, Y[, Z])`, as many as it has axes, px.

        Returns:
            Probabilities of the classes, not calibrated, on the volume's own grid,
            `(K, X, Y[, Z])`.

        Raises:
            ValueError: a pixel is NaN or infinite, or a tile side does not fit the network.
        """
        return self.look(box, tile)[0]

    def look(self, box: Box, tile: Sequence[int] | None = None) -> tuple[Tensor, list[int] | None]:
        """What `predict` says of a box, and how far the views agree on it.

        Returns:
            Probabilities, and terms of the Dice of the views with their mean (of
            `unet_med.inferers.agreement`), of the pixels that the network sees and that are the
            box's own: those of boxes that cover the volume add up to those of the whole. None
            where there is one view.
        """
        own = self._owned(box)
        views: list[Tensor | None] = []

        def scores(needed: Box) -> Tensor:
            wide = _around(needed, own)
            found, terms = where_it_fits(
                partial(self._probabilities, wide, own, tile),
                torch.device(self.segmenter.inferer.device or self.segmenter.device),
                f"box {wide} and its result stay in main memory",
            )
            views.append(terms)
            inside: tuple[Any, ...] = (..., *_within(needed, wide))
            return found[inside].cpu() if self._regridded else found[inside]

        result = Windowed(
            scores, self.segmenter.out_channels, self.working.shape, self.working.affine, {}
        )
        for step, before in reversed(self._regridded):
            result = step.back_by_window(result, before, "bilinear")
        probabilities = result.read(box)
        (terms,) = views  # every step reads once
        return probabilities, None if terms is None else terms.tolist()

    def working_axis(self, axis: int) -> int:
        """The axis of the working grid that an axis of the own grid has become."""
        return int(np.abs(self._to_own[axis, :3]).argmax())

    def to_own_axes(self, values: Sequence[T]) -> list[T]:
        """A value for each axis of the working grid, in the order of the own grid's axes."""
        return [values[self.working_axis(axis)] for axis in range(len(self.own.shape))]

    def working_sides(self, sides: Sequence[int]) -> list[int]:
        """Sides that the network must see for a box of such sides, `(X, Y[, Z])`, px.

        Args:
            sides: along the own grid's axes.

        Returns:
            Sides along the working grid's axes.
        """
        needed = list(self.working.shape)
        ratios = [abs(self._to_own[axis, self.working_axis(axis)]) for axis in range(len(sides))]
        resampled = not np.allclose(ratios, 1)
        for axis, (side, ratio) in enumerate(zip(sides, ratios, strict=True)):
            way = self.working_axis(axis)
            seen = int(np.ceil(side / ratio)) + 2 if resampled else side
            needed[way] = side if self.same_grid else min(needed[way], seen)
        return needed

    @cached_property
    def _to_own(self) -> np.ndarray:
        """4x4, index of the working grid to index of the own one."""
        return np.linalg.solve(self.own.affine.numpy(), self.working.affine.numpy())

    def _owned(self, box: Box) -> Box:
        """The working grid's pixels whose centres lie in a box of the own grid; maybe none.

        So of boxes that cover the volume, and share no pixel, each pixel is one's.
        """
        owned = [(0, side) for side in self.working.shape]
        for axis, ((start, stop), length) in enumerate(zip(box, self.own.shape, strict=True)):
            way = self.working_axis(axis)
            ratio, offset = self._to_own[axis, [way, 3]]
            centres = ratio * np.arange(self.working.shape[way]) + offset
            after = centres >= start - 0.5 if start else np.ones_like(centres, bool)
            before = centres < stop - 0.5 if stop < length else np.ones_like(centres, bool)
            inside = np.flatnonzero(after & before).tolist()
            owned[way] = (inside[0], inside[-1] + 1) if inside else (0, 0)
        return tuple(owned)

    def _probabilities(
        self, box: Box, own: Box, tile: Sequence[int] | None, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Class probabilities of a box of the working grid, `(K, X, Y[, Z])`; terms of `own`."""
        if not self.by_plane:
            logits, terms = self._logits(box, own, None, tile, device)
            return torch.softmax(logits[0], dim=0), None if terms is None else terms[0]
        *plane, (first, last) = box
        # Statistics of its own make each plane a network of its own.
        step = 1 if self._layers else last - first
        groups = [(z, z + step) for z in range(first, last, step)]
        found = [self._logits(tuple(plane), own[:2], group, tile, device) for group in groups]
        logits = torch.cat([each for each, _ in found])
        rows = [terms for _, terms in found if terms is not None]
        (mine,) = _within(own[2:], box[2:])
        views = torch.cat(rows)[mine].sum(0) if rows else None
        return torch.softmax(logits, dim=1).movedim(0, -1), views

    def _logits(
        self,
        box: Box,
        own: Box,
        planes: tuple[int, int] | None,
        tile: Sequence[int] | None,
        device: torch.device,
    ) -> tuple[Tensor, Tensor | None]:
        """`(B, K, *sides)`, a row a plane; `(B, 2)`, terms of how far views agree on `own`."""
        shape = self.working.shape[: len(box)]
        row = planes[0] if planes else 0
        rows = [
            {
                name: torch.as_tensor(values[row])
                for name, values in _with_prefix(self.found, f"norm.{k}.").items()
            }
            for k in range(len(self._layers))
        ]
        votes, network = Votes(), self.segmenter.network
        beside = HOST if device == HOST else self.segmenter.device  # the pixels, as the result
        with torch.no_grad(), use_statistics(self._layers, rows) if rows else nullcontext():
            logits = self.segmenter.inferer.region(
                self._reader(planes, beside),
                shape,
                box,
                network,
                tile=tile,
                votes=votes,
                device=device,
            )
        return logits, votes.overlap(logits, _within(own, box)) if votes.views else None

    def _reader(self, planes: tuple[int, int] | None, device: torch.device) -> Any:
        """Pixels of the network's type on a device, `(B, C, *sides)`, by box of an image."""

        def read(box: Box) -> Tensor:
            pixels = self.working.read((*box, planes) if planes else box)
            pixels = pixels.to(device, self.segmenter.dtype)
            return pixels.movedim(-1, 0) if planes else pixels[None]

        return read

    def _first_pass(self, step: Any, boxes: Iterable[Box]) -> dict[str, np.ndarray]:
        before = self.working

        def read(box: Box) -> Tensor:
            try:
                return before.read(box)
            except (UnfitImageError, ImportError):
                raise  # the file is not to be repaired
            except Exception as error:
                reason = " ".join(str(error).split())
                fix = "make room in memory" if is_out_of_memory(error) else "repair it"
                raise ValueError(
                    f"{self.source.path} cannot be read at {box} ({reason}), and what "
                    f"standardises it needs every pixel: {fix} first"
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
                self._reader(image, self.segmenter.device),
                shape[: self.tiling.spatial_dims],
                network,
            )
            for image in tqdm(
                images, desc="batch statistics", unit="image", disable=no_bar(progress)
            )
        ]
        return {
            f"norm.{k}.{name}": np.stack([row[k][name].cpu().numpy() for row in rows])
            for k in range(len(self._layers))
            for name in rows[0][k]
        }


def _opened(source: DiskImage, dtype: torch.dtype) -> Windowed:
    """The pixels of a source, in a network's type."""

    def read(box: Box) -> Tensor:
        window = [slice(*side) for side in box[::-1]]
        pixels = torch.as_tensor(native(source.read(window))).to(dtype)  # (C, [Z,] Y, X)
        return pixels.swapaxes(1, -1)  # (C, X, Y[, Z])

    shape = source.shape[::-1]
    meta: dict[str, Any] = {**meta_of(source), **files_of_channels(source)}
    return Windowed(read, source.channels, shape, affine_of(source), meta)


def _boxes(shape: Sequence[int], by_plane: bool) -> list[Box]:
    """Boxes that together are an image, as blocks are: whole planes where planes are images."""
    sides = (2048, 2048, 4) if by_plane or len(shape) < 3 else (256, 256, 256)
    axes = [
        [(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(shape, sides, strict=False)
    ]
    return list(product(*axes))


def _around(box: Box, other: Box) -> Box:
    """The smallest box that holds both; the other may be empty."""
    pairs = zip(box, other, strict=True)
    if any(start == stop for start, stop in other):
        return box
    return tuple((min(a, c), max(b, d)) for (a, b), (c, d) in pairs)


def _within(part: Box, box: Box) -> tuple[slice, ...]:
    """Where a part of a box lies in it; an empty part anywhere."""
    pairs = zip(part, box, strict=True)
    return tuple(
        slice(0, 0) if start == stop else slice(start - first, stop - first)
        for (start, stop), (first, _) in pairs
    )


def _with_prefix(found: Found, prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
