"""Generated data sets with known truth: crowded cells, and simple shapes.

Every item depends on `(seed, index)` alone: any number of workers, in any order,
sees the same images. Nothing is stored; `monai.data.CacheDataset` keeps items, and
`monai.data.Dataset` adds transforms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from numpy.random import Generator
from numpy.typing import NDArray
from torch.utils.data import Dataset

from unet_med.data.cell_drawing import LIGHT, expose, grow_cells


class SyntheticCells(Dataset[dict[str, MetaTensor]]):
    """Touching, noisy cells whose instances are known, in 2-D or 3-D.

    Groups of deformed ellipses press against each other along long contacts; only a
    faint membrane, two pixels wide, separates two neighbours. Without extra weight on
    these pixels a network merges the cells (Ronneberger et al. 2015, section 3,
    figure 3).

    Args:
        num_images: length of the data set.
        size: pixels along `(X, Y)` or `(X, Y, Z)`.
        num_cells: cells an image; their radius follows, so that they cover some 40 %.
        kind: `"dic"`, a relief as in differential interference contrast, or
            `"fluorescence"`, bright nuclei.
        touching: share of the cells placed against another one, 0..1.
        noise: 0 none, 1 as usual, proportional.
        spacing: pixel size along each axis, micrometres; unequal for thick slices.
        axial_blur: width of the microscope's blur along the last axis, the light's, of a volume,
            in widths of that in the plane; about 3 in a real one.
        seed: of the whole data set.

    Raises:
        ValueError: an unknown kind, a size that is not 2-D or 3-D, no cells, or a
            spacing or axial blur that does not fit the size; the message gives the rule.

    >>> cells = SyntheticCells(8, (96, 80), num_cells=6)
    >>> cells[0]["image"].shape, cells[0]["label"].dtype
    (torch.Size([1, 96, 80]), torch.int32)
    """

    def __init__(
        self,
        num_images: int,
        size: Sequence[int] = (256, 256),
        *,
        num_cells: int = 40,
        kind: Literal["dic", "fluorescence"] = "dic",
        touching: float = 0.85,
        noise: float = 1.0,
        spacing: Sequence[float] | None = None,
        axial_blur: float = 1.0,
        seed: int = 0,
    ) -> None:
        if kind not in LIGHT:
            raise ValueError(f"kind {kind!r}; it is one of {', '.join(map(repr, LIGHT))}")
        if len(size) not in (2, 3) or min(size) < 1:
            raise ValueError(f"size {tuple(size)}; it is (X, Y) or (X, Y, Z), in pixels")
        if num_cells < 1:
            raise ValueError(f"num_cells {num_cells}; an image has at least 1 cell")
        if spacing is not None and (len(spacing) != len(size) or min(spacing) <= 0):
            raise ValueError(
                f"spacing {tuple(spacing)} for {len(size)} axes; it is one positive number each"
            )
        if axial_blur < 0 or (axial_blur != 1 and len(size) != 3):
            raise ValueError(
                f"axial_blur {axial_blur} for {len(size)} axes; it is 0 or more, of volumes"
            )
        self.num_images = num_images
        self.size = tuple(size)
        self.num_cells = num_cells
        self.kind = kind
        self.touching = touching
        self.noise = noise
        self.spacing = (1.0,) * len(self.size) if spacing is None else tuple(spacing)
        self.axial_blur = axial_blur
        self.seed = seed

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> dict[str, MetaTensor]:
        """Image (float32 camera counts, whole numbers to 65535) and label (int32), `(1, *S)`."""
        index = range(self.num_images)[index]  # negative ones too; IndexError beyond
        rng = np.random.default_rng((self.seed, index))
        scene = grow_cells(rng, self.size, self.spacing, self.num_cells, self.touching)
        image = expose(rng, LIGHT[self.kind](rng, scene), scene, self.noise, self.axial_blur)
        return {"image": self._tensor(image), "label": self._tensor(scene.instances)}

    def _tensor(self, array: NDArray[np.generic]) -> MetaTensor:
        affine = torch.diag(torch.tensor([*self.spacing, *[1.0] * (4 - len(self.size))]))
        return MetaTensor(torch.from_numpy(array[None]), affine, meta={"spatial_unit": "um"})

    def write(self, folder: str | Path, suffix: str | None = None) -> list[tuple[Path, Path]]:
        """Write every item to `folder/images` and `folder/labels`, under the same names.

        Args:
            folder: made where it is missing; files of the same name are replaced.
            suffix: file type; `.tif` for images and `.nii.gz` for volumes unless given.

        Returns:
            Paths of image (uint16) and label (uint16, 0 background, 1..N), one pair an item.
        """
        from unet_med.data.files import save_image  # loads the file libraries

        suffix = suffix or (".tif" if len(self.size) == 2 else ".nii.gz")
        pairs = []
        for index in range(len(self)):
            item = self[index]
            name = f"cells_{index:03d}{suffix}"
            pair = Path(folder, "images", name), Path(folder, "labels", name)
            for path, data in zip(pair, (item["image"], item["label"]), strict=True):
                save_image(path, data.numpy().astype(np.uint16), data.affine)
            pairs.append(pair)
        return pairs


def _corners(count: int) -> NDArray[np.float64]:
    """Outward normals `(count, 2)` of a regular polygon's sides."""
    angles = 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


# Which points `(u, v)` lie inside a shape of size 1, about its middle.
_Inside = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]
SHAPES: dict[str, _Inside] = {
    "triangle": lambda u, v: np.max(np.tensordot(_corners(3), [u, v], 1), axis=0) < 0.6,
    "circle": lambda u, v: np.hypot(u, v) < 0.9,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) < 0.8,
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) < 0.25) & (np.maximum(abs(u), abs(v)) < 1),
    "ellipse": lambda u, v: np.hypot(u, v / 0.5) < 1,
    "ring": lambda u, v: abs(np.hypot(u, v) - 0.8) < 0.15,
}


class SyntheticShapes(Dataset[dict[str, MetaTensor]]):
    """Six kinds of shape, a label channel each, added up in one noisy image.

    A first test for a multi-channel network: shapes of random place, turn and size
    overlap, so that a pixel can belong to several channels. The channels are those of
    `SHAPES`: triangle, circle, square, cross, ellipse, ring.

    Args:
        num_images: length of the data set.
        size: side of the square image, px.
        shapes_per_channel: of each kind in one image.
        noise: standard deviation added to shapes of brightness 0.5 to 1.
        seed: of the whole data set.

    Raises:
        ValueError: the size is below 1 px.

    >>> SyntheticShapes(4)[0]["label"].shape
    torch.Size([6, 192, 192])
    """

    def __init__(
        self,
        num_images: int,
        size: int = 192,
        *,
        shapes_per_channel: int = 1,
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        if size < 1:
            raise ValueError(f"size {size} px; an image has at least 1 px a side")
        self.num_images = num_images
        self.size = size
        self.shapes_per_channel = shapes_per_channel
        self.noise = noise
        self.seed = seed

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> dict[str, MetaTensor]:
        """Image (float32), `(1, X, Y)`, and label (uint8, 0 or 1), `(6, X, Y)`."""
        rng = np.random.default_rng((self.seed, range(self.num_images)[index]))
        label = np.zeros((len(SHAPES), self.size, self.size), np.uint8)
        image = rng.normal(0, self.noise, (1, self.size, self.size))
        for channel, inside in zip(label, SHAPES.values(), strict=True):
            for _ in range(self.shapes_per_channel):
                shape = inside(*self._pose(rng))  # (X, Y)
                channel |= shape
                image[0] += rng.uniform(0.5, 1) * shape
        return {
            "image": MetaTensor(torch.from_numpy(image.astype(np.float32))),
            "label": MetaTensor(torch.from_numpy(label)),
        }

    def _pose(self, rng: Generator) -> NDArray[np.float64]:
        """Coordinates `(2, X, Y)` seen from a shape of random place, turn and size."""
        scale = self.size * rng.uniform(0.08, 0.18)
        centre = rng.uniform(scale, self.size - scale, 2)
        c, s = np.cos(angle := rng.uniform(0, 2 * np.pi)), np.sin(angle)
        x, y = (np.mgrid[: self.size, : self.size] - centre[:, None, None]) / scale
        return np.stack([c * x + s * y, c * y - s * x])
