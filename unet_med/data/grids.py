"""Where files lie in space: whether two share a grid, and the turn that brings one onto it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from unet_med.data.pixel_size import MICROMETRES, source_of

if TYPE_CHECKING:
    import torch
    from monai.data.meta_tensor import MetaTensor

    from unet_med.data.file_reader import Volume

T = TypeVar("T")
Box = tuple[tuple[int, int], ...]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # the world of DICOM and ITK, in that of NIfTI
ORIENTED = ("nifti", "header")  # sources of pixel sizes that state place and orientation as well
ENDS = ("LR", "PA", "IS")  # where axes of the world begin and end, as in nibabel and MONAI
TOLERANCE = 0.1  # voxels at any corner: headers round to less, and other grids differ by more
RAS = "RAS"
DIGITS = 6  # of cosines: those that agree so far were rounded by a header


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie.

    Attributes:
        name: what it is called in errors, such as `label a.nii.gz`.
        shape: `(X, Y[, Z])`, px.
        affine: 4x4, voxel to world in `unit`.
        unit: `"um"` or `"mm"`.
        oriented: the file states place and orientation, not only a pixel size.
        unnamed: the file does not say which of its axes is x.
        other_affine: a second place that the header states, which other programs read.
    """

    name: str
    shape: tuple[int, ...]
    affine: np.ndarray
    unit: str
    oriented: bool
    unnamed: bool = False
    other_affine: np.ndarray | None = None

    @classmethod
    def of(cls, volume: Volume, name: str) -> Grid:
        """The grid of a file that a reader opened."""
        grid = cls.stated(name, volume.spatial_shape, volume.affine, volume.meta())
        return replace(grid, other_affine=volume.other_affine)

    @classmethod
    def of_image(cls, image: torch.Tensor, name: str) -> Grid:
        """The grid of an image `(C, *S)` with MONAI's metadata; a plain tensor states none."""
        affine = np.asarray(getattr(image, "affine", np.eye(4)), dtype=np.float64)
        if affine.shape != (4, 4):
            whole = np.eye(4)
            whole[: len(affine) - 1, : len(affine) - 1] = affine[:-1, :-1]
            whole[: len(affine) - 1, 3] = affine[:-1, -1]
            affine = whole
        return cls.stated(name, image.shape[1:], affine, getattr(image, "meta", {}))

    @classmethod
    def stated(cls, name: str, shape: Sequence[int], affine: np.ndarray, meta: Any) -> Grid:
        """The grid of a 4x4 affine, and of what metadata say of it; see `source_of`."""
        source = source_of(meta)
        known = source in ORIENTED and bool(np.linalg.det(affine[:3, :3]))
        unit = meta.get("spatial_unit") or "mm"
        unnamed = bool(meta.get("unnamed", False))
        return cls(name, tuple(map(int, shape)), affine, unit, known, unnamed)

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

    @property
    def keeps(self) -> bool:
        """Whether all stays as it is."""
        return self.order == (0, 1, 2) and not any(self.flips)

    @property
    def inverse(self) -> Turn:
        """The turn back."""
        places = [self.order.index(axis) for axis in range(3)]
        return Turn(tuple(places), tuple(self.flips[place] for place in places), self.dims)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The turned image, `(C, *S)`; the same object where there is nothing to do."""
        if self.keeps and image.ndim == self.dims + 1:
            return image
        whole = image if image.ndim == 4 else image[..., None]
        turned = whole.permute(0, *(axis + 1 for axis in self.order))
        turned = turned.flip([axis + 1 for axis, flip in enumerate(self.flips) if flip])
        return (turned if self.dims == 3 else turned[..., 0]).contiguous()

    def of_array(self, array: np.ndarray) -> np.ndarray:
        """The turned array, `(X, Y[, Z])`."""
        whole = array if array.ndim == 3 else array[..., None]
        axes = tuple(axis for axis, flip in enumerate(self.flips) if flip)
        turned = np.flip(whole.transpose(self.order), axes)
        return np.ascontiguousarray(turned if self.dims == 3 else turned[..., 0])

    def sides(self, sides: Sequence[T]) -> tuple[T, ...]:
        """Sides of the outcome, as many as are given: `(X, Y[, Z])`."""
        return tuple(sides[axis] for axis in self.order[: len(sides)])

    def source(self, box: Box, sides: Sequence[int]) -> Box:
        """The box of what is turned that becomes a box of the outcome.

        Args:
            box: start and stop along `(X, Y[, Z])`, px.
            sides: of what is turned, px.
        """
        parts = [
            (sides[old] - stop, sides[old] - start) if flip else (start, stop)
            for (start, stop), old, flip in zip(box, self.order, self.flips, strict=False)
        ]
        return tuple(parts[self.order.index(axis)] for axis in range(len(parts)))

    def matrix(self, sides: Sequence[int]) -> np.ndarray:
        """4x4, voxel of the outcome to voxel of what was turned."""
        sides = (*sides, 1)[:3]
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1.0
        for new, (old, flip) in enumerate(zip(self.order, self.flips, strict=True)):
            matrix[old, new] = -1.0 if flip else 1.0
            matrix[old, 3] = sides[old] - 1 if flip else 0.0
        return matrix


def no_turn(dims: int) -> Turn:
    """The turn that keeps all as it is."""
    return Turn((0, 1, 2), (False, False, False), dims)


def turn_onto(moving: Grid, fixed: Grid) -> Turn:
    """The turn that brings an image onto the grid of another, to the voxel.

    Where one of them states no place, equal shapes are one grid. Numbers that agree in
    different units are one grid too: programs that drop the unit of a file keep its numbers.

    Raises:
        ValueError: no turn does, or nobody can tell; names both files and what differs.
    """
    _require_named(moving, fixed)
    keep = no_turn(len(fixed.shape))
    if not (moving.oriented and fixed.oriented):
        if moving.sides != fixed.sides:
            raise ValueError(_about_shapes(moving, fixed))
        return keep
    fitting = [t for t in _turns(len(fixed.shape)) if t.sides(moving.sides) == fixed.sides]
    if not fitting:
        raise ValueError(_about_shapes(moving, fixed))
    if turn := _fit(moving, fixed, fitting):
        return turn
    difference = _difference(_in_unit(moving, fixed.unit), fixed)
    way = _about_two_places(moving, fixed, fitting) or (
        "resample it to that grid (labels by nearest neighbour), or, where their voxels do match "
        "one by one, save it with the other's affine"
    )
    raise ValueError(f"{moving.name} does not lie on the grid of {fixed.name}: {difference}; {way}")


def _fit(moving: Grid, fixed: Grid, turns: Sequence[Turn]) -> Turn | None:
    """The turn that brings a grid onto another; None: none of these does."""
    for grid in (_in_unit(moving, fixed.unit), moving):
        for turn in turns:
            if _off(grid, fixed, turn) <= TOLERANCE:
                return turn
    return None


def _about_two_places(moving: Grid, fixed: Grid, turns: Sequence[Turn]) -> str | None:
    """What to do where one header states two places, and the other file lies at the second."""
    at_second = [
        replace(grid, affine=grid.affine if grid.other_affine is None else grid.other_affine)
        for grid in (moving, fixed)
    ]
    for own, pair in ((fixed, (moving, at_second[1])), (moving, (at_second[0], fixed))):
        if own.other_affine is not None and _fit(*pair, turns):
            return (
                f"but it does by the qform of {own.name}, which some programs read; its sform, "
                "which is read here, is another: make both equal in that file, such as by "
                "fslorient -copyqform2sform, or save the label with the image's sform"
            )
    return None


def _require_named(moving: Grid, fixed: Grid) -> None:
    """Refuse axes without names beside those of a scanner, which programs order in two ways.

    nibabel and MONAI give a NIfTI as `(X, Y, Z)`, SimpleITK as `(Z, Y, X)`.
    """
    for own, other in ((moving, fixed), (fixed, moving)):
        if own.unnamed and not other.unnamed and (other.oriented or other.unit == "mm"):
            raise ValueError(
                f"{own.name} does not say which of its axes is x, which {other.name} does: save it "
                f"as NIfTI, with the affine of {other.name}"
            )


def same_grid(grid: Grid, other: Grid) -> bool:
    """Whether two files share every voxel as they are stored, pixel sizes included."""
    if grid.shape != other.shape:
        return False
    return _off(_in_unit(grid, other.unit), other, no_turn(3)) <= TOLERANCE


def turn_of_channel(grid: Grid, first: Grid) -> Turn:
    """The turn that brings one file of an image onto the grid of its first file.

    Raises:
        ValueError: there is none; names both files, and their affines or shapes.
    """
    if same_grid(grid, first):
        return no_turn(len(first.shape))
    if grid.oriented and first.oriented and len(grid.shape) == len(first.shape):
        with suppress(ValueError):
            return turn_onto(grid, first)
    places = f"affines {grid.affine.tolist()} and {first.affine.tolist()}"
    shapes = f"shapes {grid.shape} and {first.shape}"
    raise ValueError(
        f"{grid.name} and {first.name} are not channels of one image: they have "
        f"{places if grid.shape == first.shape else shapes}, which must be equal, or differ by "
        "the order and direction of their axes alone: resample the others onto the grid of one"
    )


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


def axes_of(affine: np.ndarray) -> str:
    """Orientation of a grid, the closest one where its axes lie askew.

    Of all assignments of file axes to those of the world the one with the largest cosines; of
    two alike (slices tilted by 45 degrees) one that the world's axes decide. Thus it does not
    depend on the order in which a file keeps its axes.

    Args:
        affine: voxel to world, `(4, 4)`, not singular.

    >>> axes_of(np.diag([-1.0, -1.0, 3.0, 1.0]))
    'LPS'
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)

    def fit(axes: tuple[int, ...]) -> tuple[float, ...]:
        """Of file axes that become R, A and S, each in its better direction."""
        found = np.array(
            [cosines[:, k] * np.copysign(1, cosines[w, k]) for w, k in enumerate(axes)]
        )
        return tuple(np.round([found.trace(), *found.ravel()], DIGITS).tolist())

    best = max(permutations(range(3)), key=fit)
    letters = {k: ENDS[w][int(cosines[w, k] > 0)] for w, k in enumerate(best)}
    return "".join(letters[k] for k in range(3))


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
    cosines = grid.affine[:3, :3] / grid.sizes
    letters = axes_of(grid.affine)
    straight = np.abs(np.abs(cosines).max(axis=0) - 1).max() < 1e-6
    return letters if straight else f"{letters} {np.round(cosines.T, 4).tolist()}"


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values + 0.0) + ")"


def _about_shapes(moving: Grid, fixed: Grid) -> str:
    text = f"{moving.name} has shape {moving.shape}, {fixed.name} {fixed.shape}: they must be equal"
    dims = len(moving.shape), len(fixed.shape)
    if dims == (2, 3):
        pages = (
            f"the {fixed.shape[2]} pages of that are taken for z: if they are channels, say so "
            "with --axes, such as CYX or YXC; "
        )
        return (
            f"{text}; {'' if fixed.oriented else pages}if one plane is annotated, give that plane "
            "as image, or a label of all planes with -1 in the others"
        )
    if dims == (3, 2):
        pages = (
            f"; the {moving.shape[2]} pages of {moving.name} are taken for z: if they are times, "
            "as in a movie of which --time takes one, say so with --axes, such as TYX"
        )
        return text + pages * (not moving.oriented)
    x, y, z = moving.sides
    if (y, x, z) == fixed.sides:
        return f"{text}; it lies on its side: transpose it"
    return (
        f"{text}; one of them was cropped or resampled: export both anew from one image (labels "
        "by nearest neighbour)"
    )
