"""The border weight map against one distance transform an instance, and against a single one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label

from benchmarks.timing import Limit, Race
from unet_med.weights import border_weight_map

OURS, ONE, NAIVE = "unet_med border_weight_map", "one scipy transform", "naive: one an instance"
SLICE = Path("../shared/data/isbi2012/label/0.png")
Labels = NDArray[np.int32]


def races(tiny: bool) -> Iterator[Race]:
    """An ISBI slice, larger generated images, the number of cells, a volume."""
    instances, name = membranes(tiny)
    yield race(f"{name}, {instances.max()} instances", instances, naive_at_least=80)
    for side, count, at_most in ((1024, 600, None), (2048, 5000, 15)):
        image = cells((64, 64) if tiny else (side, side), 9 if tiny else count)
        yield race(f"{side}^2, {image.max()} cells", image, transforms_at_most=at_most)
    few, many = (cells((64, 64) if tiny else (1024, 1024), n) for n in (10, 1000))
    names = [f"{OURS}, {n} cells" for n in (10, 1000)]
    yield Race(
        "Border weights, 1024^2, by the number of cells",
        dict(zip(names, (partial(border_weight_map, x) for x in (few, many)), strict=True)),
        [Limit(names[1], names[0], at_most=3)],
    )
    volume = cells((8, 24, 24) if tiny else (64, 192, 192), 4 if tiny else 76)
    yield race("64x192x192, 76 cells, pixel (2, 1, 1)", volume, pixel=(2.0, 1.0, 1.0))


def race(
    name: str,
    instances: Labels,
    *,
    naive_at_least: float | None = None,
    transforms_at_most: float | None = None,
    pixel: tuple[float, ...] | None = None,
) -> Race:
    tasks: dict[str, Any] = {
        OURS: partial(border_weight_map, instances, spacing=pixel),
        ONE: partial(distance_transform_edt, instances == 0, pixel),
    }
    limits = []
    if transforms_at_most is not None:
        limits.append(Limit(OURS, ONE, at_most=transforms_at_most))
    if naive_at_least is not None:
        tasks[NAIVE] = partial(naive, instances)
        limits.append(Limit(OURS, NAIVE, at_least=naive_at_least))
    return Race(f"Border weights, {name}", tasks, limits, seconds=4)


def naive(instances: Labels, w0: float = 10.0, sigma: float = 5.0) -> NDArray[Any]:
    """Equation 2 as published code has it: a transform an instance, two running minima."""
    first = np.full(instances.shape, np.inf)
    second = first.copy()
    for number in range(1, instances.max() + 1):
        distance = distance_transform_edt(instances != number)
        second = np.minimum(second, np.maximum(first, distance))
        first = np.minimum(first, distance)
    return w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2)) * (instances == 0)


def membranes(tiny: bool) -> tuple[Labels, str]:
    """An annotated ISBI 2012 slice where the data are, else cells in as fine a net."""
    if SLICE.is_file() and not tiny:
        from skimage import io

        return label(io.imread(SLICE) > 0)[0].astype(np.int32), "ISBI 2012 slice"
    return cells((64, 64) if tiny else (512, 512), 9 if tiny else 136), "512^2, no ISBI data here"


def cells(shape: tuple[int, ...], count: int) -> Labels:
    """Balls on a jittered lattice."""
    rng = np.random.default_rng(0)
    across = round(count ** (1 / len(shape)) + 0.5)
    radius = max(1, int(0.38 * min(shape) / across))
    ticks = [np.linspace(radius, side - radius - 1, across) for side in shape]
    centres = np.stack(np.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, len(shape))
    inside = sum(a**2 for a in np.ogrid[(slice(-radius, radius + 1),) * len(shape)]) <= radius**2
    instances = np.zeros(shape, np.int32)
    for number, centre in enumerate(rng.permutation(centres)[:count], start=1):
        jittered = centre + rng.normal(0, radius / 8, len(shape))
        middle = np.clip(jittered.astype(int), radius, np.array(shape) - radius - 1)
        window = tuple(slice(c - radius, c + radius + 1) for c in middle)
        instances[window][inside] = number
    return instances
