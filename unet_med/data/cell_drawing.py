"""Drawing a field of crowded cells: place them, grow them into each other, light them.

All functions work on whole arrays of one, two or three dimensions; the only loop is over
cells, each in its own window. Lengths are physical (the unit of `spacing`), so that
anisotropic voxels show the same cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as connected_components

from unet_med.instances import ridge

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]

COVERAGE = 0.45  # total area of the cells as a share of the field, overlaps counted twice
TRIES = 64  # places looked at for each new cell
BEND = 0.12  # deviation of an outline from its ellipse, in radii
SMALLEST = 0.1  # least area of a cell at the edge of the field, as a share of a whole one
BLUR = 0.7  # of the microscope, in pixels along the finest axis
PHOTONS = 150.0  # at light 1
GAIN, OFFSET, READ_NOISE = 20.0, 400.0, 4.0  # counts a photon, dark counts, photons


class Scene(NamedTuple):
    """Cells with known truth, before any light.

    Attributes:
        instances: `(*S)`, 0 background, 1..N.
        level: `(*S)`, 0 in a cell's middle, 1 at its rim and on background.
        line: `(*S)`, the membrane between touching cells, two pixels wide.
        radius: mean radius of a cell, physical.
        spacing: size of a pixel along each axis, physical.
    """

    instances: Labels
    level: Floats
    line: NDArray[np.bool_]
    radius: float
    spacing: NDArray[np.float64]


def grow_cells(
    rng: Generator, size: Sequence[int], spacing: Sequence[float], num_cells: int, touching: float
) -> Scene:
    """Place deformed ellipses in groups and let neighbours share their overlap.

    If two cells overlap, a pixel belongs to the cell in which it lies deeper: the
    contact is a long, slightly curved line, as between real cells under pressure.

    Args:
        rng: the only source of randomness.
        size: pixels along each axis.
        spacing: size of a pixel along each axis, physical.
        num_cells: cells to place; in a full field fewer fit.
        touching: share of the cells that are placed against another one, 0..1.

    Returns:
        The scene; instances are connected and numbered without gaps.
    """
    pixel = np.asarray(spacing, float)
    extent = np.asarray(size) * pixel
    radius = _radius_for(extent, num_cells)
    radii = radius * rng.uniform(0.8, 1.2, num_cells)
    centres = _place(rng, extent, radii, touching)
    where = _warped_positions(rng, size, pixel, radius)  # (D, *S)
    shapes = [_ellipse(rng, r, len(size)) for r, _ in zip(radii, centres, strict=False)]
    owner, level = _share_out(where, centres, shapes, pixel, bend=4 * BEND * radius)
    instances = _tidy(owner, smallest=SMALLEST * COVERAGE * owner.size / num_cells)
    level[instances == 0] = 1.0
    return Scene(instances, level, ridge(instances), radius, pixel)


def _radius_for(extent: NDArray[np.float64], num_cells: int) -> float:
    """Radius at which `num_cells` discs (balls) fill `COVERAGE` of the field."""
    unit_ball = {1: 2.0, 2: np.pi, 3: 4 / 3 * np.pi}[len(extent)]
    return float((COVERAGE * extent.prod() / (num_cells * unit_ball)) ** (1 / len(extent)))


def _place(
    rng: Generator, extent: NDArray[np.float64], radii: NDArray[np.float64], touching: float
) -> NDArray[np.float64]:
    """Centres `(n, D)` of groups, grown cell by cell, and of single cells; n <= len(radii)."""
    centres = rng.uniform(0, extent)[None]
    for r in radii[1:]:
        placed = radii[: len(centres)]
        leans = rng.random() < touching
        if leans:
            host = rng.integers(len(centres), size=TRIES)
            way = rng.normal(size=(TRIES, len(extent)))
            way /= np.linalg.norm(way, axis=1, keepdims=True)
            reach = (r + placed[host]) * rng.uniform(0.7, 0.95, TRIES)
            spots = centres[host] + way * reach[:, None]
        else:
            spots = rng.uniform(0, extent, (TRIES, len(extent)))
        gaps = np.linalg.norm(spots[:, None] - centres, axis=2) / (r + placed)  # (TRIES, n)
        room = np.where(((spots >= 0) & (spots <= extent)).all(axis=1), gaps.min(axis=1), 0)
        enough = room >= (0.7 if leans else 1.25)
        best = int(enough.argmax() if enough.any() else room.argmax())
        if room[best] < 0.6:  # full: another cell would lie on top of one
            break
        centres = np.vstack([centres, spots[best]])
    return centres


def _warped_positions(
    rng: Generator, size: Sequence[int], pixel: NDArray[np.float64], radius: float
) -> Floats:
    """Position of each pixel `(D, *S)`, bent so that ellipses become irregular."""
    grid = np.meshgrid(*(np.arange(n) * p for n, p in zip(size, pixel, strict=True)), indexing="ij")
    bends = [smooth_noise(rng, size, 0.45 * radius / pixel) for _ in size]
    return np.stack([g + BEND * radius * b for g, b in zip(grid, bends, strict=True)]).astype(
        np.float32
    )


def smooth_noise(rng: Generator, size: Sequence[int], sigma_px: NDArray[np.float64]) -> Floats:
    """Gaussian random field of unit variance, `(*S)`, with grains of `sigma_px` per axis."""
    noise = ndimage.gaussian_filter(
        rng.standard_normal(tuple(size), np.float32), sigma_px, mode="wrap", truncate=3
    )
    return np.asarray(noise / (noise.std() + 1e-12), np.float32)


def _ellipse(rng: Generator, radius: float, dims: int) -> NDArray[np.float64]:
    """Matrix `(D, D)` that maps an ellipse of random stretch and turn to the unit ball."""
    stretch = rng.uniform(1.0, 1.5, dims)
    stretch /= stretch.prod() ** (1 / dims)
    turn = np.linalg.qr(rng.normal(size=(dims, dims))).Q
    return turn / (radius * stretch[:, None])


def _share_out(
    where: Floats,
    centres: NDArray[np.float64],
    shapes: Sequence[NDArray[np.float64]],
    pixel: NDArray[np.float64],
    bend: float,
) -> tuple[Labels, Floats]:
    """Give each pixel to the cell in which it lies deepest: owner and level, `(*S)`."""
    size = np.array(where.shape[1:])
    owner, level = np.zeros(size, np.int32), np.ones(size, np.float32)
    for number, (centre, to_ball) in enumerate(zip(centres, shapes, strict=True), start=1):
        reach = np.linalg.norm(np.linalg.inv(to_ball), axis=1) + bend  # half sides of its box
        start = np.clip(np.floor((centre - reach) / pixel), 0, size).astype(int)
        stop = np.clip(np.ceil((centre + reach) / pixel) + 1, 0, size).astype(int)
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        offset = where[(slice(None), *window)].T - centre.astype(np.float32)  # (*W reversed, D)
        depth = np.linalg.norm(offset @ to_ball.T.astype(np.float32), axis=-1).T  # (*W)
        deeper = depth < level[window]
        level[window][deeper] = depth[deeper]
        owner[window][deeper] = number
    return owner, level


def _tidy(owner: Labels, smallest: float) -> Labels:
    """Keep each cell's largest piece, drop slivers, number without gaps."""
    pieces = connected_components(owner, connectivity=1)  # touching cells stay apart
    area = np.bincount(pieces.ravel())
    cell = np.zeros(len(area), np.int32)  # which cell a piece belongs to
    cell[pieces.ravel()] = owner.ravel()
    order = np.argsort(area)
    main = np.zeros(cell.max() + 1, np.intp)
    main[cell[order]] = order  # the last write wins: the largest piece
    keep = np.zeros(len(area), bool)
    keep[main[1:]] = area[main[1:]] >= smallest
    keep &= cell > 0
    return np.asarray(np.where(keep, keep.cumsum(), 0)[pieces], np.int32)


def light_dic(rng: Generator, scene: Scene) -> Floats:
    """Differential interference contrast: the slope of thickness along one direction.

    Cells look like a relief lit from one side, with a nucleus, granules, and a
    faint crease and membrane where two touch.
    """
    inside = scene.instances > 0
    grain = smooth_noise(rng, scene.instances.shape, 0.10 * scene.radius / scene.spacing)
    dome = np.sqrt(1.02 - scene.level**2) - np.sqrt(0.02)
    nucleus = np.clip(1 - (scene.level / 0.5) ** 2, 0, None)
    thickness = scene.radius * (0.5 * dome + 0.18 * nucleus + 0.02 * grain * inside)
    angle = rng.uniform(0, 2 * np.pi)
    slopes = (  # the prism shears within the XY plane
        ndimage.correlate1d(thickness, [-0.5, 0, 0.5], axis) / scene.spacing[axis]
        for axis in (0, 1)
    )
    relief = sum(s * c for s, c in zip(slopes, (np.cos(angle), np.sin(angle)), strict=True))
    return np.asarray(3 * (1 + 0.4 * np.tanh(relief) - 0.32 * scene.line), np.float32)


def light_fluorescence(rng: Generator, scene: Scene) -> Floats:
    """Stained nuclei, each bright by its own uptake, with a fine dark gap between two."""
    uptake = np.append(0, rng.lognormal(0, 0.25, scene.instances.max()))
    chromatin = smooth_noise(rng, scene.instances.shape, 0.12 * scene.radius / scene.spacing)
    body = 0.7 + 0.3 * np.sqrt(1 - scene.level**2) + 0.10 * chromatin
    return np.asarray(0.1 + uptake[scene.instances] * body * (1 - 0.3 * scene.line), np.float32)


LIGHT: dict[str, Callable[[Generator, Scene], Floats]] = {
    "dic": light_dic,
    "fluorescence": light_fluorescence,
}


def expose(
    rng: Generator, light: Floats, scene: Scene, noise: float, axial_blur: float = 1.0
) -> Floats:
    """Counts of a camera: uneven light, blur, photons and read-out.

    Args:
        rng: the only source of randomness.
        light: `(*S)`, about 1 in bright places.
        scene: gives the pixel size for the blur.
        noise: 0 none, 1 as usual; the noise's standard deviation is proportional to it.
        axial_blur: width of the blur along the last axis, in widths of that along the others.

    Returns:
        Whole counts 0..65535 as float32, `(*S)`: a uint16 file holds them exactly.
    """
    slope = rng.normal(size=light.ndim)
    slope *= 0.25 / np.linalg.norm(slope)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in light.shape), indexing="ij", sparse=True)
    lamp = 1 + sum(s * a for s, a in zip(slope, axes, strict=True))
    blur_px = BLUR * scene.spacing.min() / scene.spacing
    blur_px[-1] *= axial_blur
    photons = PHOTONS * np.clip(ndimage.gaussian_filter(light, blur_px) * lamp, 0, None)
    grain = rng.poisson(photons) - photons + rng.normal(0, READ_NOISE, light.shape)
    counts = OFFSET + GAIN * (photons + noise * grain)
    return np.asarray(np.clip(np.rint(counts), 0, 65535), np.float32)
