"""Where files lie in space: whether two share a grid, and the turn that brings one onto it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_med.data.pixel_size import MICROMETRES

if TYPE_CHECKING:
    import torch
    from monai.data.meta_tensor import MetaTensor

    from unet_med.data.file_reader import Volume

ORIENTED = ("nifti", "header")  # sources of pixel sizes that state place and orientation as well
TOLERANCE = 0.1  # voxels at any corner: headers round to less, and other grids differ by more


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie.

    Attributes:
        name: what it is called in errors, such as `label a.nii.gz`.
        shape: `(X, Y[, Z])`, px.
        affine: 4x4, voxel to world in `unit`.
        unit: `"um"` or `"mm"`.
        oriented: the file states place and orientation, not only a pixel size.
    """

    name: str
    shape: tuple[int, ...]
    affine: np.ndarray
    unit: str
    oriented: bool

    @classmethod
    def of(cls, volume: Volume, name: str) -> Grid:
        """The grid of a file that a reader opened."""
        return cls._of(name, volume.spatial_shape, volume.affine, volume.meta())

    @classmethod
    def of_image(cls, image: torch.Tensor, name: str) -> Grid:
        """The grid of an image `(C, *S)` with MONAI's metadata; a plain tensor states none."""
        affine = np.asarray(getattr(image, "affine", np.eye(4)), dtype=np.float64)
        if affine.shape != (4, 4):
            whole = np.eye(4)
            whole[: len(affine) - 1, : len(affine) - 1] = affine[:-1, :-1]
            whole[: len(affine) - 1, 3] = affine[:-1, -1]
            affine = whole
        return cls._of(name, image.shape[1:], affine, getattr(image, "meta", {}))

    @classmethod
    def _of(cls, name: str, shape: Sequence[int], affine: np.ndarray, meta: Any) -> Grid:
        """Readers other than ours state no source; their affines count as stated."""
        source = meta.get("spacing_source", "header" if "original_affine" in meta else "assumed")
        known = source in ORIENTED and bool(np.linalg.det(affine[:3, :3]))
        unit = meta.get("spatial_unit") or "mm"
        return cls(name, tuple(map(int, shape)), affine, unit, known)

    @property
    def sides(self) -> tuple[int, int, int]:
        """`(X, Y, Z)`; a plane is one voxel thick."""
        x, y, z = (*self.shape, 1)[:3]
        return x, y, z

    @property
    def sizes(self) -> np.ndarray:
        """Voxel size along X, Y and Z, in `unit`."""
        sizes: np.ndarray = np.linalg.norm(self.affine[:3, :3], axis=0)
        return sizes


@dataclass(frozen=True)
class Turn:
    """Axes in another order and direction: no voxel changes its value.

    Attributes:
        order: which axis becomes X, Y and Z.
        flips: which of the new axes run the other way.
        dims: spatial axes of the outcome, 2 or 3.
    """

    order: tuple[int, ...]
    flips: tuple[bool, ...]
    dims: int

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The turned image, `(C, *S)`; the same object where there is nothing to do."""
        if self.order == (0, 1, 2) and not any(self.flips) and image.ndim == self.dims + 1:
            return image
        whole = image if image.ndim == 4 else image[..., None]
        turned = whole.permute(0, *(axis + 1 for axis in self.order))
        turned = turned.flip([axis + 1 for axis, flip in enumerate(self.flips) if flip])
        return (turned if self.dims == 3 else turned[..., 0]).contiguous()

    def sides(self, sides: Sequence[int]) -> tuple[int, ...]:
        """Sides of the outcome."""
        return tuple(sides[axis] for axis in self.order)

    def matrix(self, sides: Sequence[int]) -> np.ndarray:
        """4x4, voxel of the outcome to voxel of what was turned."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1.0
        for new, (old, flip) in enumerate(zip(self.order, self.flips, strict=True)):
            matrix[old, new] = -1.0 if flip else 1.0
            matrix[old, 3] = sides[old] - 1 if flip else 0.0
        return matrix


def turn_onto(moving: Grid, fixed: Grid) -> Turn:
    """The turn that brings an image onto the grid of another, to the voxel.

    Where one of them states no place, equal shapes are one grid. Numbers that agree in
    different units are one grid too: programs that drop the unit of a file keep its numbers.

    Raises:
        ValueError: no turn does; names both files and what differs.
    """
    keep = next(_turns(len(fixed.shape)))
    if not (moving.oriented and fixed.oriented):
        if moving.sides != fixed.sides:
            raise ValueError(_about_shapes(moving, fixed))
        return keep
    fitting = [t for t in _turns(len(fixed.shape)) if t.sides(moving.sides) == fixed.sides]
    if not fitting:
        raise ValueError(_about_shapes(moving, fixed))
    scaled = _in_unit(moving, fixed.unit)
    for grid in (scaled, moving):
        for turn in fitting:
            if _off(grid, fixed, turn) <= TOLERANCE:
                return turn
    raise ValueError(
        f"{moving.name} does not lie on the grid of {fixed.name}: {_difference(scaled, fixed)}; "
        "resample it to that grid (labels by nearest neighbour), or, where their voxels do "
        "match one by one, save it with the other's affine"
    )


def same_grid(grid: Grid, other: Grid) -> bool:
    """Whether two files share every voxel as they are stored, pixel sizes included."""
    if grid.shape != other.shape:
        return False
    return _off(_in_unit(grid, other.unit), other, next(_turns(3))) <= TOLERANCE


def bring_onto(image: torch.Tensor, grid: Grid, fixed: Grid) -> torch.Tensor:
    """An image of `grid`, turned onto another grid, whose affine it gets where it has its own.

    Raises:
        ValueError: see `turn_onto`.
    """
    turned: MetaTensor = turn_onto(grid, fixed)(image)  # type: ignore[assignment]
    if turned is not image:
        import torch

        turned.affine = torch.as_tensor(fixed.affine)
    return turned


def _turns(dims: int) -> Iterator[Turn]:
    """All 48 of them, the one that does nothing first."""
    for order in permutations(range(3)):
        for flips in product((False, True), repeat=3):
            yield Turn(order, flips, dims)


def _in_unit(grid: Grid, unit: str) -> Grid:
    factor = MICROMETRES[grid.unit] / MICROMETRES[unit]
    return replace(grid, affine=np.diag([factor, factor, factor, 1.0]) @ grid.affine, unit=unit)


def _off(moving: Grid, fixed: Grid, turn: Turn) -> float:
    """How far corners of the turned grid lie from those of the other, in voxels of that one."""
    corners = np.array([(*c, 1) for c in product(*((0, side - 1) for side in fixed.sides))]).T
    places = moving.affine @ turn.matrix(moving.sides) @ corners
    return float(np.abs(np.linalg.solve(fixed.affine, places) - corners).max())


def _difference(moving: Grid, fixed: Grid) -> str:
    """What two affines of one unit state otherwise: voxel size, orientation, origin."""
    unit = fixed.unit
    facts = [
        ("voxel size", f"{_numbers(moving.sizes)} {unit}", f"{_numbers(fixed.sizes)} {unit}"),
        ("directions", _directions(moving), _directions(fixed)),
        ("origin", *(f"{_numbers(grid.affine[:3, 3])} {unit}" for grid in (moving, fixed))),
    ]
    return ", ".join(f"{name} {its}, not {other}" for name, its, other in facts if its != other)


def _directions(grid: Grid) -> str:
    """`RAS` and the like, with the cosines where the axes lie askew."""
    from nibabel.orientations import aff2axcodes

    cosines = grid.affine[:3, :3] / grid.sizes
    letters = "".join(map(str, aff2axcodes(grid.affine)))
    straight = np.abs(np.abs(cosines).max(axis=0) - 1).max() < 1e-6
    return letters if straight else f"{letters} {np.round(cosines.T, 4).tolist()}"


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values + 0.0) + ")"


def _about_shapes(moving: Grid, fixed: Grid) -> str:
    text = f"{moving.name} has shape {moving.shape}, {fixed.name} {fixed.shape}: they must be equal"
    if len(fixed.shape) == 3 and len(moving.shape) == 2 and not fixed.oriented:
        text += (
            f"; the {fixed.shape[2]} pages of that are taken for z: if they are channels, say so "
            "with --axes, such as CYX or YXC"
        )
    return text
